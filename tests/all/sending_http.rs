//! What a next hop gets from the HTTP exporter, alone and behind the HTTP receiver.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use axum::{body::Body, extract::State, http::Response};
use bytes::Bytes;
use harbinger::edge::{
    BoxFuture, Exporter, Intake, Metadata, Refusal, Request,
    export_http::{CompressionSetting, Encoding, FromContext, HeaderSource, HttpExporter, RetrySettings, Settings},
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use crate::{
    otlp::{logs, request},
    receiving_http::{JSON, PROTOBUF, export, start},
};

/// A request that a next hop has seen.
struct Seen {
    head: http::request::Parts,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A next hop that answers from a list, then takes everything as Loki does.
#[derive(Clone, Default)]
struct Hop {
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Hop {
    fn answering(answers: impl IntoIterator<Item = Response<Body>>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            ..Self::default()
        }
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve(listener);
        address
    }

    fn serve(&self, listener: TcpListener) {
        let router = axum::Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn take(State(hop): State<Hop>, request: axum::extract::Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    hop.seen.lock().unwrap().push(Seen { head, body });
    let answer = hop.answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| answer_of(204, &[], ""))
}

fn answer_of(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

fn settings(address: impl std::fmt::Display) -> Settings {
    Settings {
        endpoint: format!("http://{address}"),
        retry_on_failure: RetrySettings {
            initial_interval: Duration::from_millis(1),
            ..RetrySettings::default()
        },
        ..Settings::default()
    }
}

async fn exporter(hop: &Hop) -> HttpExporter {
    HttpExporter::new(&settings(hop.start().await), 1).unwrap()
}

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn partial() -> ExportLogsServiceResponse {
    ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 7,
            error_message: "too old".into(),
        }),
    }
}

#[tokio::test]
async fn item_16_each_status_is_retried_or_not_as_specified() {
    for (status, code) in [
        (429, None),
        (502, None),
        (503, None),
        (504, None),
        (301, Some(2)),
        (400, Some(3)),
        (401, Some(16)),
        (403, Some(7)),
        (404, Some(5)),
        (408, Some(2)),
        (413, Some(8)),
        (500, Some(13)),
        (501, Some(12)),
        (505, Some(13)),
    ] {
        let hop = Hop::answering([answer_of(status, &[], "why")]);
        let exporter = exporter(&hop).await;
        let result = exporter.export(request(logs("x"))).await;
        let counters = exporter.counters();
        let counts = [
            &counters.sent_requests,
            &counters.send_failed_requests,
            &counters.retries,
        ]
        .map(load);
        match (code, result) {
            (None, result) => assert_eq!(
                (result, hop.attempts(), counts),
                (Ok(Bytes::new()), 2, [1, 0, 1]),
                "{status}"
            ),
            (Some(expected), Err(Refusal::Permanent { code, message, .. })) => {
                assert_eq!((code, hop.attempts(), counts), (expected, 1, [0, 1, 0]), "{status}");
                assert!(
                    message.contains(&status.to_string()) && message.ends_with("why"),
                    "{message}"
                );
            }
            (_, result) => panic!("{status}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn item_17_a_wait_that_the_caller_has_no_time_for_is_handed_to_it() {
    let date = (jiff::Timestamp::now() + Duration::from_secs(7200)).strftime("%a, %d %b %Y %H:%M:%S GMT");
    for (header, at_least) in [("3600", 3600), (&*date.to_string(), 7000)] {
        let hop = Hop::answering([answer_of(503, &[("retry-after", header)], "busy")]);
        let exporter = exporter(&hop).await;
        let refusal = exporter.export(request(logs("x"))).await.unwrap_err();
        let Refusal::Unavailable { message, retry_after } = refusal else {
            panic!("{refusal}")
        };
        assert!(retry_after.unwrap() >= Duration::from_secs(at_least), "{retry_after:?}");
        assert!(
            message.contains("next hop 127.0.0.1:") && message.contains("HTTP 503") && message.contains("busy"),
            "{message}"
        );
        assert_eq!(
            (hop.attempts(), load(&exporter.counters().unavailable_requests)),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn item_17_connect_failures_are_retried_until_somebody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap(); // closed again
    let exporter = Arc::new(HttpExporter::new(&settings(address), 1).unwrap());
    let sending = tokio::spawn({
        let exporter = exporter.clone();
        async move { exporter.export(request(logs("x"))).await }
    });
    while load(&exporter.counters().retries) < 2 {
        tokio::task::yield_now().await;
    }
    let hop = Hop::default();
    hop.serve(TcpListener::bind(address).await.unwrap());
    assert_eq!(sending.await.unwrap(), Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 1);
}

#[tokio::test]
async fn item_17_a_connect_failure_says_why() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = Settings {
        retry_on_failure: RetrySettings {
            enabled: false,
            ..RetrySettings::default()
        },
        ..settings(address)
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    let refusal = exporter.export(request(logs("x"))).await.unwrap_err();
    let message = refusal.to_string();
    assert!(
        message.contains(&address.to_string()) && message.contains("Connection refused"),
        "{message}"
    );
    assert!(matches!(refusal, Refusal::Unavailable { .. }));
}

#[tokio::test]
async fn item_17_a_disconnect_without_an_answer_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exporter = HttpExporter::new(&settings(listener.local_addr().unwrap()), 1).unwrap();
    let hop = Hop::default();
    let serving = hop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 100]).await; // then hangs up
        }
        serving.serve(listener);
    });
    assert_eq!(exporter.export(request(logs("x"))).await, Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 1);
}

#[tokio::test]
async fn item_17_the_deadline_of_the_caller_ends_everything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap(); // never answers
    let exporter = HttpExporter::new(&settings(listener.local_addr().unwrap()), 1).unwrap();
    let request = Request {
        deadline: Instant::now() + Duration::from_millis(50),
        ..request(logs("x"))
    };
    let refusal = exporter.export(request).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unavailable { message, .. } if message.contains("no answer in time")),
        "{refusal}"
    );
}

#[tokio::test]
async fn item_18_a_refusal_for_good_comes_back_in_the_next_hops_own_words() {
    let status = tonic_types::Status {
        code: 3,
        message: "entry too far behind".into(),
        details: Vec::new(),
    }
    .encode_to_vec();
    for (media_type, body, details) in [
        ("application/x-protobuf", Bytes::from(status.clone()), status.clone()),
        (
            "application/json",
            Bytes::from_static(br#"{"code":3,"message":"entry too far behind"}"#),
            vec![],
        ),
        ("text/plain", Bytes::from_static(b"entry too far behind\n"), vec![]),
    ] {
        let hop = Hop::answering([answer_of(400, &[("content-type", media_type)], body)]);
        let result = exporter(&hop).await.export(request(logs("x"))).await;
        let expected = Refusal::Permanent {
            code: 3,
            message: "HTTP 400 Bad Request: entry too far behind".into(),
            details: details.into(),
        };
        assert_eq!((result, hop.attempts()), (Err(expected), 1));
    }
}

#[tokio::test]
async fn item_18_a_partial_success_is_counted_passed_back_and_never_retried() {
    let response = partial().encode_to_vec();
    for (media_type, body) in [
        ("application/x-protobuf", Bytes::from(response.clone())),
        (
            "application/json",
            Bytes::from_static(br#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"too old"}}"#),
        ),
    ] {
        let hop = Hop::answering([
            answer_of(200, &[("content-type", media_type)], body),
            answer_of(200, &[("content-type", "application/json")], r#"{"partialSuccess":{}}"#),
        ]);
        let exporter = exporter(&hop).await;
        assert_eq!(exporter.export(request(logs("x"))).await.unwrap(), response);
        exporter.export(request(logs("y"))).await.unwrap();
        let counters = exporter.counters();
        let counts = [
            &counters.sent_requests,
            &counters.partial_successes,
            &counters.rejected_records,
        ]
        .map(load);
        assert_eq!((hop.attempts(), counts), (2, [2, 1, 7]));
    }
}

#[tokio::test]
async fn item_19_any_2xx_is_success_whatever_its_body() {
    let huge = vec![b' '; 5 << 20];
    let gzipped = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&huge).unwrap();
        encoder.finish().unwrap()
    };
    let json = ("content-type", "application/json");
    for answer in [
        answer_of(204, &[], ""),
        answer_of(200, &[], ""),
        answer_of(202, &[json], ""),
        answer_of(200, &[json], "not JSON"),
        answer_of(200, &[("content-type", "application/x-protobuf")], &b"\xff\xff\xff"[..]),
        answer_of(200, &[json], huge),
        answer_of(200, &[json, ("content-encoding", "gzip")], gzipped),
        answer_of(200, &[json, ("content-encoding", "gzip")], "not gzip"),
        answer_of(200, &[json, ("content-encoding", "br")], "?"),
    ] {
        let hop = Hop::answering([answer]);
        let result = exporter(&hop).await.export(request(logs("x"))).await;
        assert_eq!((result, hop.attempts()), (Ok(Bytes::new()), 1));
    }
}

#[tokio::test]
async fn item_19_an_answer_that_breaks_off_behind_its_status_is_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        timeout: Duration::from_millis(200),
        ..settings(listener.local_addr().unwrap())
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        for hangs_up in [true, false] {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 4096]).await;
            _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
                .await;
            if !hangs_up {
                kept.push(stream);
            }
        }
        std::future::pending::<()>().await;
    });
    for _ in 0..2 {
        assert_eq!(exporter.export(request(logs("x"))).await, Ok(Bytes::new()));
    }
    assert_eq!(load(&exporter.counters().retries), 0);
}

#[tokio::test]
async fn item_20_a_path_is_put_behind_the_base_and_a_whole_url_stands_as_it_is() {
    let hop = Hop::default();
    let address = hop.start().await;
    for (endpoint, logs_endpoint, expected) in [
        (format!("http://{address}"), String::new(), "/v1/logs"),
        (format!("http://{address}/otlp/"), String::new(), "/otlp/v1/logs"),
        (
            "http://unused:1".to_owned(),
            format!("http://{address}/any/where/?at=all"),
            "/any/where/?at=all",
        ),
    ] {
        let settings = Settings {
            endpoint,
            logs_endpoint,
            ..settings(address)
        };
        let exporter = HttpExporter::new(&settings, 1).unwrap();
        exporter.export(request(logs("x"))).await.unwrap();
        let seen = hop.seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            (seen.head.method.as_str(), seen.head.uri.to_string()),
            ("POST", expected.to_owned())
        );
    }
    let settings = Settings {
        endpoint: "https://loki:3100/otlp".into(),
        ..Settings::default()
    };
    let (_, _, is_encrypted) = settings.endpoints().next().unwrap();
    assert!(is_encrypted && settings.validate().is_ok());
}

#[tokio::test]
async fn item_21_requests_carry_name_and_version_and_no_envelope_is_empty() {
    let hop = Hop::default();
    let exporter = exporter(&hop).await;
    assert_eq!(exporter.export(request(Bytes::new())).await, Ok(Bytes::new()));
    assert_eq!(hop.attempts(), 0);
    exporter.export(request(logs("x"))).await.unwrap();
    let seen = hop.seen.lock().unwrap();
    assert_eq!(
        seen[0].header("user-agent"),
        Some(concat!("harbinger/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(seen[0].header("content-encoding"), Some("gzip"));
}

#[tokio::test]
async fn item_22_the_content_type_is_exactly_what_loki_compares() {
    let hop = Hop::default();
    exporter(&hop).await.export(request(logs("x"))).await.unwrap();
    assert_eq!(
        hop.seen.lock().unwrap()[0].header("content-type"),
        Some("application/x-protobuf")
    );
}

#[tokio::test]
async fn every_compression_arrives_and_every_attempt_sends_the_same_bytes() {
    let message = logs(&"some line of text\n".repeat(100_000));
    for compression in [
        CompressionSetting::Gzip,
        CompressionSetting::Zstd,
        CompressionSetting::None,
    ] {
        let hop = Hop::answering([answer_of(503, &[], ""), answer_of(429, &[], "")]);
        let settings = Settings {
            compression,
            ..settings(hop.start().await)
        };
        let exporter = HttpExporter::new(&settings, 1).unwrap();
        exporter.export(request(message.clone())).await.unwrap();
        let seen = hop.seen.lock().unwrap();
        assert_eq!(seen.len(), 3);
        assert!(seen.iter().all(|attempt| attempt.body == seen[0].body));
        let body = match seen[0].header("content-encoding") {
            Some("gzip") => std::io::Read::bytes(flate2::read::GzDecoder::new(&*seen[0].body))
                .collect::<Result<Vec<u8>, _>>()
                .unwrap(),
            Some("zstd") => zstd::bulk::decompress(&seen[0].body, 4 << 20).unwrap(),
            _ => seen[0].body.to_vec(),
        };
        assert!(body == message, "{compression:?}");
        assert_eq!(load(&exporter.counters().sent_bytes), message.len() as u64);
    }
}

#[tokio::test]
async fn item_10_json_goes_out_when_asked_for() {
    let hop = Hop::default();
    let settings = Settings {
        encoding: Encoding::Json,
        compression: CompressionSetting::None,
        ..settings(hop.start().await)
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    exporter.export(request(logs("x"))).await.unwrap();
    {
        let seen = hop.seen.lock().unwrap();
        assert_eq!(seen[0].header("content-type"), Some("application/json"));
        let read: ExportLogsServiceRequest = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(read.encode_to_vec(), logs("x"), "as another implementation reads it");
    }
    let refusal = exporter.export(request(Bytes::from_static(b"\xff"))).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Malformed(message) if message.contains("encoding: proto")),
        "{refusal}"
    );
    assert_eq!(
        (hop.attempts(), load(&exporter.counters().send_failed_requests)),
        (1, 1)
    );
}

#[tokio::test]
async fn headers_of_the_caller_reach_the_next_hop() {
    let hop = Hop::default();
    let caller = FromContext {
        from_context: "X-Scope-OrgID".into(),
    };
    let settings = Settings {
        headers: BTreeMap::from([
            ("X-Scope-OrgID".to_owned(), HeaderSource::Caller(caller)),
            ("X-Plain".to_owned(), HeaderSource::Value("as written".into())),
        ]),
        ..settings(hop.start().await)
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    let metadata = Metadata([("x-scope-orgid".to_owned(), "tenant-a".to_owned())].into());
    exporter
        .export(Request {
            metadata,
            ..request(logs("x"))
        })
        .await
        .unwrap();
    let seen = hop.seen.lock().unwrap();
    assert_eq!(
        (seen[0].header("x-scope-orgid"), seen[0].header("x-plain")),
        (Some("tenant-a"), Some("as written"))
    );
}

#[tokio::test]
async fn item_15_unknown_fields_pass_byte_for_byte() {
    let hop = Hop::default();
    let settings = Settings {
        compression: CompressionSetting::None,
        ..settings(hop.start().await)
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    for message in [&b"\xc2\x3e\x03abc\x0a\x05\x9a\x06\x02hi\x0a\x00"[..], b"\xff\xfe"] {
        exporter.export(request(Bytes::from_static(message))).await.unwrap();
        assert_eq!(hop.seen.lock().unwrap().pop().unwrap().body, message);
    }
}

/// The receiver's intake that is nothing but an exporter.
struct Through(HttpExporter);

impl Intake for Through {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        self.0.export(request)
    }
}

#[tokio::test]
async fn the_next_hops_answer_reaches_the_caller() {
    let hop = Hop::answering([
        answer_of(413, &[("content-type", "text/plain")], "larger than my limit"),
        answer_of(503, &[("retry-after", "3000")], "busy"),
        answer_of(401, &[], "no token"),
        answer_of(500, &[], "bug"),
        answer_of(200, &[("content-type", PROTOBUF)], partial().encode_to_vec()),
    ]);
    let exporter = exporter(&hop).await;
    let serving = start(Default::default(), Arc::new(Through(exporter))).await;
    for (status, retry_after, says) in [
        (413, None, "larger than my limit"),
        (503, Some("3000"), "busy"),
        (401, None, "no token"),
        (500, None, "bug"),
    ] {
        let reply = export(&serving, PROTOBUF, &logs("x")).await;
        assert_eq!((reply.status, reply.header("retry-after")), (status, retry_after));
        assert!(reply.status().1.contains(says), "{reply:?}");
    }
    let reply = export(&serving, JSON, br#"{"resourceLogs":[{}]}"#).await;
    assert_eq!(
        (reply.status, &*reply.text()),
        (
            200,
            r#"{"partialSuccess":{"rejectedLogRecords":"7","errorMessage":"too old"}}"#
        )
    );
    assert_eq!(hop.attempts(), 5);
}
