//! What is fuzzed: one function a target, which panics when a promise is broken.
//!
//! What enters: any bytes. What leaves: nothing. The same functions run in `make test` over every input that is kept
//! (`fuzz/corpus/TARGET`, `fuzz/finds/TARGET`), so that a find stays a regression test; `make fuzz` looks for more.
//! Absent on purpose: generators. libFuzzer mutates bytes, guided by coverage; properties with generators are in tests/.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::Write,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use harbinger::{
    config,
    edge::{
        BoxFuture, Intake, Intakes, Refusal, Request as OtlpRequest, Signal,
        receive_http::{Handler, Settings as HttpSettings},
    },
    engine::{
        self,
        annotate::{Annotation, Settings as AnnotateSettings, annotate},
        front::Front,
        snapshot::{self, Journal, Snapshot},
        view::{View, halve, item_count},
    },
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceRequest, logs::v1::LogRecord};
use prost::Message;

/// A name and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by the name of its binary and of its inputs.
pub const TARGETS: [Target; 7] = [
    ("view", view),
    ("splice", splice),
    ("halve", halves),
    ("json", json),
    ("http", http_requests),
    ("config", configuration),
    ("snapshot", snapshots),
];

fn front() -> &'static Front {
    static FRONT: OnceLock<Front> = OnceLock::new();
    FRONT.get_or_init(|| engine::Settings::default().front())
}

fn records(request: &ExportLogsServiceRequest) -> Vec<LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records.clone()).collect()
}

/// Whatever prost can read the view reads too, with as many records; and reading never panics.
pub fn view(bytes: &[u8]) {
    let view = View::parse(bytes);
    if let Ok(decoded) = ExportLogsServiceRequest::decode(bytes) {
        let view = view.as_ref().expect("prost reads what the view refuses");
        assert_eq!(view.len(), records(&decoded).len());
    }
    if let Ok(view) = view {
        let batch = front().prepare(&view, 1_700_000_000_000_000_000);
        assert_eq!(batch.records.len(), view.len());
    }
}

/// What is spliced in is all that is added: prost reads the same records, with our attributes behind theirs.
pub fn splice(bytes: &[u8]) {
    let Ok(view) = View::parse(bytes) else { return };
    let annotation = Annotation {
        is_anomaly: Some(true),
        incident_id: Some("20261122-092254-bjsz0q".into()),
        ..Annotation::default()
    };
    let annotated = annotate(&view, &vec![annotation; view.len()], &AnnotateSettings::default()).expect("one each");
    let before = ExportLogsServiceRequest::decode(bytes);
    let after = ExportLogsServiceRequest::decode(&*annotated.bytes);
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (records(&before), records(&after)),
        (Ok(_), Err(problem)) => panic!("what could be read cannot any more: {problem}"),
        _ => return,
    };
    assert_eq!(before.len(), after.len());
    for (before, mut after) in before.into_iter().zip(after) {
        let ours = |key: &str| key == "is_anomaly" || key == "incident_id";
        assert_eq!(after.attributes.iter().filter(|it| ours(&it.key)).count(), 2);
        after.attributes.retain(|it| !ours(&it.key));
        let mut before = before;
        before.attributes.retain(|it| !ours(&it.key));
        // By bytes, because NaN is not equal to itself.
        assert_eq!(before.encode_to_vec(), after.encode_to_vec());
    }
}

/// No item is lost or doubled where a request is cut, and both halves can be read if the whole can.
pub fn halves(bytes: &[u8]) {
    for signal in [Signal::Traces, Signal::Metrics] {
        if let Some([first, second]) = halve(signal, bytes) {
            let count = |bytes: &[u8]| item_count(signal, bytes).expect("it can be counted");
            assert_eq!(count(&first) + count(&second), count(bytes));
        }
    }
    let Some([first, second]) = halve(Signal::Logs, bytes) else {
        return;
    };
    let Ok(whole) = ExportLogsServiceRequest::decode(bytes) else {
        return;
    };
    let count = |bytes: &[u8]| item_count(Signal::Logs, bytes).expect("a half can be read");
    assert!(count(&first) > 0 && count(&second) > 0);
    let decoded = |bytes: &[u8]| ExportLogsServiceRequest::decode(bytes).expect("a half can be read");
    let halves: Vec<LogRecord> = [decoded(&first), decoded(&second)].iter().flat_map(records).collect();
    let bytes_of = |records: Vec<LogRecord>| -> Vec<Vec<u8>> { records.iter().map(Message::encode_to_vec).collect() };
    assert_eq!(bytes_of(records(&whole)), bytes_of(halves));
}

/// Takes what the agent takes: of logs what the engine can read, of the others what can be counted.
struct Reader;

impl Intake for Reader {
    fn accept(&self, request: OtlpRequest) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        let read = match request.signal {
            Signal::Logs => View::parse(&request.body).map(|view| view.len()),
            signal => item_count(signal, &request.body),
        };
        let outcome = match read {
            Ok(_) => Ok(Bytes::new()),
            Err(malformed) => Err(Refusal::Malformed(malformed.to_string())),
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn answer(request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
    static HANDLER: OnceLock<(tokio::runtime::Runtime, Handler)> = OnceLock::new();
    let (runtime, handler) = HANDLER.get_or_init(|| {
        let settings = HttpSettings {
            max_request_body_size: 1 << 20,
            ..HttpSettings::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let all = Signal::ALL.into_iter();
        let intakes = all.fold(Intakes::default(), |intakes, signal| {
            intakes.with(signal, Arc::new(Reader))
        });
        (runtime.expect("a runtime"), Handler::alone(&settings, intakes))
    });
    runtime.block_on(async {
        let (parts, body) = handler.call(request).await.into_parts();
        (parts.status, body.collect().await.expect("a body in memory").to_bytes())
    })
}

/// Any text is OTLP JSON of each signal, which the agent can read once it is translated, or refused with what is wrong.
pub fn json(bytes: &[u8]) {
    for path in ["/v1/logs", "/v1/traces", "/v1/metrics"] {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request
            .body(Full::new(Bytes::copy_from_slice(bytes)))
            .expect("a request");
        let (status, body) = answer(request);
        match status {
            StatusCode::OK => assert_eq!(&*body, b"{}"),
            StatusCode::BAD_REQUEST => {
                let text = String::from_utf8(body.to_vec()).expect("JSON is UTF-8");
                // What was translated and is not understood is a mistake of ours.
                assert!(text.contains("line "), "{text}");
            }
            other => panic!("{path}: {other}"),
        }
    }
}

/// Any method, path, media type, encoding and body has an answer that says what to do, never a 5xx.
pub fn http_requests(bytes: &[u8]) {
    let Some(([how], body)) = bytes.split_first_chunk::<1>() else {
        return;
    };
    let pick = |from: &[&'static str], shift: u32| from[usize::from(how >> shift) & 3];
    let request = Request::builder()
        .method(pick(&["POST", "POST", "POST", "GET"], 0))
        .uri(pick(&["/v1/logs", "/v1/logs", "/v1/metrics", "/v1/traces"], 2))
        .header(
            "content-type",
            pick(
                &[
                    "application/x-protobuf",
                    "application/json; a=b",
                    "application/x-protobuf",
                    "text/plain",
                ],
                4,
            ),
        )
        .header("content-encoding", pick(&["identity", "gzip", "zstd", "deflate"], 6));
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body)))
        .expect("a request");
    let (status, body) = answer(request);
    assert!(!status.is_server_error(), "{status}");
    assert!(status.is_success() || !body.is_empty(), "{status} says nothing");
}

/// Any text is a configuration, or refused with at least one finding; what is read can be printed and read again.
pub fn configuration(bytes: &[u8]) {
    let load = |bytes: &[u8]| {
        let mut file = tempfile::NamedTempFile::new().expect("a directory for temporary files");
        file.write_all(bytes).expect("room for a file");
        let path = file.path().display().to_string();
        config::load(&[path], &[], &|_| None)
    };
    match load(bytes) {
        Err(refused) => assert!(!refused.0.is_empty()),
        Ok(loaded) => {
            let printed = config::print(&loaded.config).expect("what was read can be printed");
            // Secrets are not printed, so what has some is another configuration.
            if !printed.contains(config::REDACTED) {
                let again = load(printed.as_bytes()).expect("what was printed can be read");
                assert_eq!(again.config, loaded.config);
            }
        }
    }
}

/// A snapshot or a journal with any content is taken or refused; what is taken can be gone on from.
pub fn snapshots(bytes: &[u8]) {
    let mut state = engine::Settings::default().tenants();
    let _ = snapshot::decode(bytes, None);
    // With a checksum that fits, or nothing but checksums would be tried.
    if let Ok(content) = Snapshot::decode(bytes) {
        let read = snapshot::decode(&snapshot::encode(&content), None).expect("its own encoding");
        for section in &read.tenants {
            if let Ok((scorer, correlator)) = section.states() {
                let _ = state.restore(section.tenant(), scorer, correlator);
            }
            for past in &section.past {
                let _ = state.past(&section.tenant(), past.clone());
            }
        }
    }
    if let Ok(entry) = snapshot::JournalEntry::decode(bytes) {
        let mut framed = Vec::new();
        entry.frame(&mut framed);
        for entry in Journal::new(&framed) {
            for event in entry.events() {
                state.replay(&entry.tenant(), event);
            }
        }
    }
    for _ in Journal::new(bytes) {}
    state.pass(1_800_000_000_000_000_000);
    let _ = (state.export(), state.drain_events(), state.drain_changes());
}
