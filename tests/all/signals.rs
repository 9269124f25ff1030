//! Traces and metrics pass unjudged, as safely as logs do: in by gRPC and HTTP, out by both, through queues and in halves.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::State, http::Response};
use bytes::Bytes;
use harbinger::{
    edge::{
        Exporter, Intake, Intakes, Metadata, Refusal, Request, Signal,
        export_file::{FileExporter, Settings as FileSettings},
        export_http::{Encoding, HttpExporter, Settings as HttpSettings},
        export_otlp::{OtlpExporter, Settings as GrpcSettings},
        halving::Halving,
        queue::{Queue, Settings as QueueSettings, Storage, StorageSettings, dead_letters::DeadLetters},
        receive_grpc::Settings as ReceiverSettings,
        receive_http::Settings as HttpReceiverSettings,
    },
    pipeline::{
        counted::Counted,
        fan_out::FanOut,
        items::{OfExporter, OfReceiver},
        pass_through::PassThrough,
        received::Received,
    },
    telemetry::{Metrics, Traces},
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest,
        metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse},
        trace::v1::ExportTraceServiceRequest,
    },
    metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point::Value,
    },
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc, time::Instant};
use tonic::Code;

use crate::{
    otlp::{Answer, Client, EXPORT, EXPORT_METRICS, EXPORT_TRACES, Gate, Hop, Recorder, Serving, logs},
    receiving_http::{JSON, PROTOBUF, export_to, start_signals},
};

/// Those that pass unjudged, with their names on the wire.
const UNJUDGED: [(Signal, &str, &str); 2] = [
    (Signal::Traces, EXPORT_TRACES, "/v1/traces"),
    (Signal::Metrics, EXPORT_METRICS, "/v1/metrics"),
];
/// Fields that no schema has: of the request, and of a resource of its own.
const UNKNOWN: &[u8] = b"\xc2\x3e\x03abc\x0a\x05\x9a\x06\x02hi";

fn spans(names: &[&str]) -> ExportTraceServiceRequest {
    let span = |name: &&str| Span {
        trace_id: vec![0xab; 16],
        span_id: vec![0xcd; 8],
        name: (*name).to_owned(),
        start_time_unix_nano: 1_700_000_000_000_000_001,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans: names.iter().map(span).collect(),
        ..ScopeSpans::default()
    }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

/// One metric with a point for each value.
fn points(values: impl IntoIterator<Item = i64>) -> ExportMetricsServiceRequest {
    let point = |value| NumberDataPoint {
        value: Some(Value::AsInt(value)),
        ..NumberDataPoint::default()
    };
    let metric = Metric {
        name: "requests".to_owned(),
        unit: "1".to_owned(),
        data: Some(Data::Gauge(Gauge {
            data_points: values.into_iter().map(point).collect(),
        })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics {
        metrics: vec![metric],
        ..ScopeMetrics::default()
    }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics,
            ..ResourceMetrics::default()
        }],
    }
}

fn values(request: &ExportMetricsServiceRequest) -> Vec<i64> {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    let points = metrics.flat_map(|metric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.clone(),
        other => panic!("{other:?}"),
    });
    points
        .map(|point| match point.value {
            Some(Value::AsInt(value)) => value,
            other => panic!("{other:?}"),
        })
        .collect()
}

const RECEIVER: [&str; 2] = ["otlp", "grpc"];
const EXPORTER: &str = "otlp_grpc";

/// A request of so many items, with what no schema has.
fn body(signal: Signal, items: usize) -> Bytes {
    let message = match signal {
        Signal::Logs => (0..items).flat_map(|n| logs(&n.to_string())).collect(),
        Signal::Traces => spans(&vec!["GET /"; items]).encode_to_vec(),
        Signal::Metrics => points(0..items as i64).encode_to_vec(),
    };
    [&message[..], UNKNOWN].concat().into()
}

fn request(signal: Signal, body: Bytes) -> Request {
    Request {
        signal,
        body,
        metadata: Metadata::default(),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

/// The way past the engine as the agent wires it, for all that is not logs.
fn past_the_engine(exporter: Arc<dyn Exporter>) -> (Intakes, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let halving = Arc::new(Halving::around(exporter));
    let counted = Counted::new(halving, EXPORTER, &Signal::ALL, &metrics, Traces::default());
    let way: Arc<dyn Intake> = Arc::new(PassThrough::new(Arc::new(counted), Arc::clone(&metrics)));
    let received = |signal| {
        Arc::new(Received::new(
            Arc::clone(&way),
            signal,
            RECEIVER,
            &metrics,
            Traces::default(),
        ))
    };
    let intakes = Intakes::default().with(Signal::Traces, received(Signal::Traces));
    (intakes.with(Signal::Metrics, received(Signal::Metrics)), metrics)
}

async fn to(hop: &Hop) -> OtlpExporter {
    let settings = GrpcSettings {
        endpoint: format!("http://{}", hop.start().await),
        ..GrpcSettings::default()
    };
    OtlpExporter::new(&settings, 1).unwrap()
}

/// Accepted and refused by receivers, sent and rejected by exporters.
fn counts(metrics: &Metrics, signal: Signal) -> [u64; 4] {
    let OfReceiver { accepted, refused } = OfReceiver::new(metrics, signal, RECEIVER);
    let OfExporter { sent, rejected, .. } = OfExporter::new(metrics, signal, EXPORTER);
    [accepted, refused, sent, rejected].map(|counter| counter.get())
}

#[tokio::test]
async fn item_15_traces_and_metrics_leave_byte_for_byte_by_their_own_path_and_are_counted() {
    let hop = Hop::default();
    let (intakes, metrics) = past_the_engine(Arc::new(to(&hop).await));
    let serving = Serving::start_signals(ReceiverSettings::default(), intakes).await;
    let mut client = Client::to(serving.address).await;
    for (signal, path, _) in UNJUDGED {
        for message in [body(signal, 5), Bytes::from_static(UNKNOWN)] {
            let answer = client.call(path, tonic::Request::new(message.clone())).await;
            assert_eq!(answer.unwrap().into_inner(), Bytes::new());
            let seen = hop.seen.lock().unwrap().pop().unwrap();
            assert_eq!((seen.path.as_str(), seen.message), (path, message));
        }
        assert_eq!(counts(&metrics, signal), [5, 0, 5, 0], "{signal}");
        let answer = client.call(path, tonic::Request::new(Bytes::new())).await;
        assert_eq!(answer.unwrap().into_inner(), Bytes::new(), "an empty request succeeds");
    }
    assert_eq!(counts(&metrics, Signal::Logs), [0; 4]);
    assert!(hop.seen.lock().unwrap().is_empty(), "nothing is sent of nothing");
}

#[tokio::test]
async fn item_02_a_receiver_serves_the_signals_whose_pipelines_name_it() {
    let recorder = Arc::new(Recorder::default());
    let intakes = Intakes::default().with(Signal::Traces, recorder.clone());
    let grpc = Serving::start_signals(ReceiverSettings::default(), intakes.clone()).await;
    let http = start_signals(HttpReceiverSettings::default(), intakes).await;
    let mut client = Client::to(grpc.address).await;
    for (path, url, says) in [
        (
            EXPORT,
            "/v1/logs",
            "`service.pipelines.logs: {receivers: [otlp], processors: [harbinger], exporters: [...]}`",
        ),
        (
            EXPORT_METRICS,
            "/v1/metrics",
            "`service.pipelines.metrics: {receivers: [otlp], exporters: [...]}`",
        ),
    ] {
        let status = client.call(path, tonic::Request::new(logs("x"))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(says), "{status}");
        for (media_type, body) in [(PROTOBUF, &logs("x")[..]), (JSON, b"{}")] {
            let reply = export_to(&http, url, media_type, body).await;
            let (code, message) = reply.status();
            assert_eq!((reply.status, code), (404, 5));
            assert!(message.contains(says), "{message}");
        }
    }
    client
        .call(EXPORT_TRACES, tonic::Request::new(body(Signal::Traces, 1)))
        .await
        .unwrap();
    assert_eq!(export_to(&http, "/v1/traces", JSON, b"{}").await.status, 200);
    let reply = export_to(&http, "/elsewhere", JSON, b"{}").await;
    assert!(reply.status().1.ends_with("; traces go to /v1/traces"), "{reply:?}");
    let requests = recorder.requests.lock().unwrap();
    assert!(requests.iter().all(|request| request.signal == Signal::Traces) && requests.len() == 2);
}

#[tokio::test]
async fn item_03_json_and_protobuf_of_every_signal_by_http_at_the_paths_that_are_set() {
    let hop = Hop::default();
    let (intakes, metrics) = past_the_engine(Arc::new(to(&hop).await));
    let settings = HttpReceiverSettings {
        metrics_url_path: "/otlp/v1/metrics".into(),
        ..HttpReceiverSettings::default()
    };
    let serving = start_signals(settings, intakes).await;
    let paths = [(Signal::Traces, "/v1/traces"), (Signal::Metrics, "/otlp/v1/metrics")];
    for (signal, path) in paths {
        let reply = export_to(&serving, path, PROTOBUF, &body(signal, 2)).await;
        assert_eq!((reply.status, &*reply.text()), (200, ""));
        assert_eq!(hop.seen.lock().unwrap().pop().unwrap().message, body(signal, 2));
        let reply = export_to(&serving, path, JSON, b"{\"resourceSpans\": [{]").await;
        assert_eq!((reply.status, reply.status().0), (400, 3));
    }
    let json = serde_json::to_vec(&spans(&["GET /", "POST /"])).unwrap();
    let reply = export_to(&serving, "/v1/traces", JSON, &json).await;
    assert_eq!((reply.status, &*reply.text()), (200, "{}"));
    let sent = hop.seen.lock().unwrap().pop().unwrap().message;
    assert_eq!(
        ExportTraceServiceRequest::decode(sent).unwrap(),
        spans(&["GET /", "POST /"])
    );
    let json = serde_json::to_vec(&points(0..3)).unwrap();
    assert_eq!(export_to(&serving, "/otlp/v1/metrics", JSON, &json).await.status, 200);
    let sent = hop.seen.lock().unwrap().pop().unwrap().message;
    assert_eq!(ExportMetricsServiceRequest::decode(sent).unwrap(), points(0..3));
    assert_eq!(counts(&metrics, Signal::Traces)[..3], [4, 0, 4]);
    assert_eq!(counts(&metrics, Signal::Metrics)[..3], [5, 0, 5]);
    // The usual path is not the one that is set, and says which is.
    let reply = export_to(&serving, "/v1/metrics", JSON, b"{}").await;
    assert!(
        reply.status == 404 && reply.text().contains("metrics go to /otlp/v1/metrics"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn item_06_bytes_that_cannot_be_framed_are_refused_and_go_nowhere() {
    let hop = Hop::default();
    let (intakes, metrics) = past_the_engine(Arc::new(to(&hop).await));
    let serving = Serving::start_signals(ReceiverSettings::default(), intakes).await;
    let mut client = Client::to(serving.address).await;
    for (_, path, _) in UNJUDGED {
        let status = client
            .call(path, tonic::Request::new(Bytes::from_static(b"\x0a\xff")))
            .await;
        assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(
        (metrics.receiver_malformed_requests.of(RECEIVER).get(), hop.attempts()),
        (2, 0)
    );
}

#[tokio::test]
async fn item_18_a_partial_success_of_metrics_is_passed_back_and_counted_in_data_points() {
    let partial: Bytes = ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess {
            rejected_data_points: 2,
            error_message: "too old".into(),
        }),
    }
    .encode_to_vec()
    .into();
    let hop = Hop::answering([Answer::Take(partial.clone()), Answer::Take(partial.clone())]);
    let (intakes, metrics) = past_the_engine(Arc::new(to(&hop).await));
    let serving = Serving::start_signals(ReceiverSettings::default(), intakes.clone()).await;
    let mut client = Client::to(serving.address).await;
    let answer = client
        .call(EXPORT_METRICS, tonic::Request::new(body(Signal::Metrics, 5)))
        .await;
    assert_eq!(answer.unwrap().into_inner(), partial);
    assert_eq!(counts(&metrics, Signal::Metrics), [5, 0, 3, 2]);
    let by_http = start_signals(HttpReceiverSettings::default(), intakes).await;
    let json = serde_json::to_vec(&points(0..5)).unwrap();
    assert_eq!(
        export_to(&by_http, "/v1/metrics", JSON, &json).await.text(),
        r#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}"#
    );
}

/// The path and the body of each request.
async fn http_hop() -> (String, mpsc::UnboundedReceiver<(String, Bytes)>) {
    type Told = mpsc::UnboundedSender<(String, Bytes)>;
    async fn take(State(told): State<Told>, request: axum::extract::Request) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        told.send((head.uri.path().to_owned(), body)).unwrap();
        Response::new(Body::empty())
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, seen) = mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(take).with_state(told);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), seen)
}

#[tokio::test]
async fn item_20_each_signal_goes_to_its_path_behind_the_base_or_to_its_own_url_as_it_stands() {
    let (base, mut at_base) = http_hop().await;
    let (other, mut at_other) = http_hop().await;
    let settings = HttpSettings {
        endpoint: format!("{base}/otlp"),
        metrics_endpoint: format!("{other}/api/v2/write"),
        compression: harbinger::edge::export_http::CompressionSetting::None,
        ..HttpSettings::default()
    };
    let exporter = HttpExporter::new(&settings, 1).unwrap();
    for signal in Signal::ALL {
        exporter.export(request(signal, body(signal, 2))).await.unwrap();
    }
    let expected = |path: &str, signal| (path.to_owned(), body(signal, 2));
    assert_eq!(at_base.recv().await.unwrap(), expected("/otlp/v1/logs", Signal::Logs));
    assert_eq!(
        at_base.recv().await.unwrap(),
        expected("/otlp/v1/traces", Signal::Traces)
    );
    assert_eq!(
        at_other.recv().await.unwrap(),
        expected("/api/v2/write", Signal::Metrics)
    );
    let json = HttpExporter::new(
        &HttpSettings {
            encoding: Encoding::Json,
            ..settings
        },
        1,
    );
    let traces = spans(&["GET /"]);
    let sent = request(Signal::Traces, traces.encode_to_vec().into());
    json.unwrap().export(sent).await.unwrap();
    let (path, body) = at_base.recv().await.unwrap();
    assert_eq!(path, "/otlp/v1/traces");
    assert_eq!(
        serde_json::from_slice::<ExportTraceServiceRequest>(&body).unwrap(),
        traces
    );
}

#[tokio::test]
async fn a_file_has_a_line_of_its_signals_otlp_json_for_each_request() {
    let directory = tempfile::tempdir().unwrap();
    let settings = FileSettings {
        path: directory.path().join("all.jsonl"),
        ..FileSettings::default()
    };
    let exporter = FileExporter::open(&settings).unwrap();
    let (traces, metrics) = (spans(&["GET /"]), points(0..2));
    for (signal, body) in [
        (Signal::Logs, logs("x")),
        (Signal::Traces, traces.encode_to_vec().into()),
        (Signal::Metrics, metrics.encode_to_vec().into()),
    ] {
        exporter.export(request(signal, body)).await.unwrap();
    }
    let written = std::fs::read_to_string(&settings.path).unwrap();
    let [first, second, third] = written.lines().collect::<Vec<_>>()[..] else {
        panic!("{written}")
    };
    let read = serde_json::from_str::<ExportLogsServiceRequest>(first).unwrap();
    assert_eq!(read.encode_to_vec(), logs("x"));
    assert_eq!(
        serde_json::from_str::<ExportTraceServiceRequest>(second).unwrap(),
        traces
    );
    assert_eq!(
        serde_json::from_str::<ExportMetricsServiceRequest>(third).unwrap(),
        metrics
    );
}

/// Takes what is at most so long; remembers what it took.
struct Small(usize, std::sync::Mutex<Vec<Request>>);

impl Exporter for Small {
    fn export(&self, request: Request) -> harbinger::edge::BoxFuture<'_, Result<Bytes, Refusal>> {
        let fits = request.body.len() <= self.0;
        if fits {
            self.1.lock().unwrap().push(request);
        }
        Box::pin(async move {
            fits.then(Bytes::new).ok_or(Refusal::Permanent {
                code: 8,
                message: "larger than max".into(),
                details: Bytes::new(),
            })
        })
    }
}

#[tokio::test]
async fn known_loss_one_metric_of_too_many_points_goes_in_parts_with_all_that_is_said_of_it() {
    let small = Arc::new(Small(120, std::sync::Mutex::default()));
    let (intakes, metrics) = past_the_engine(Arc::clone(&small) as _);
    let intake = intakes.of(Signal::Metrics).unwrap();
    let sent = request(Signal::Metrics, points(0..100).encode_to_vec().into());
    assert_eq!(intake.accept(sent).await, Ok(Bytes::new()));
    let taken = small.1.lock().unwrap();
    let parts = taken
        .iter()
        .map(|part| ExportMetricsServiceRequest::decode(part.body.clone()).unwrap());
    let parts: Vec<_> = parts.collect();
    assert!(parts.len() > 10 && taken.iter().all(|part| part.signal == Signal::Metrics));
    for part in &parts {
        let metric = &part.resource_metrics[0].scope_metrics[0].metrics[0];
        assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("requests", "1"));
    }
    assert_eq!(
        parts.iter().flat_map(values).collect::<Vec<_>>(),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!(counts(&metrics, Signal::Metrics), [100, 0, 100, 0]);
}

fn queue(storage: &Arc<Storage>, destination: Arc<dyn Exporter>) -> Queue {
    Queue::open(
        "otlp_grpc",
        &QueueSettings::default(),
        storage.file("otlp_grpc"),
        destination,
    )
    .unwrap()
}

/// Hangs for ever.
struct Down;

impl Exporter for Down {
    fn export(&self, _: Request) -> harbinger::edge::BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_queue_keeps_every_signal_over_a_restart_in_order_and_its_dead_letters_say_which_they_are() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::open(&StorageSettings {
        directory: home.path().join("queue"),
        create_directory: true,
    })
    .unwrap();
    let signals = [Signal::Metrics, Signal::Logs, Signal::Traces, Signal::Metrics];
    let before = queue(&storage, Arc::new(Down));
    for signal in signals {
        before.export(request(signal, body(signal, 3))).await.unwrap();
    }
    assert_eq!(before.status().records, 12);
    assert_eq!(before.drain(Instant::now()).await, 4);
    // What comes back is refused for good when it is a trace, which is longest.
    let limit = body(Signal::Traces, 3).len() - 1;
    assert!(body(Signal::Metrics, 3).len() <= limit);
    let small = Arc::new(Small(limit, std::sync::Mutex::default()));
    let after = queue(&storage, Arc::clone(&small) as _);
    assert_eq!(after.drain(Instant::now() + Duration::from_secs(60)).await, 0);
    let taken: Vec<(Signal, Bytes)> = small
        .1
        .lock()
        .unwrap()
        .drain(..)
        .map(|it| (it.signal, it.body))
        .collect();
    let whole = |signal| (signal, body(signal, 3));
    assert_eq!(taken.first(), Some(&whole(Signal::Metrics)));
    assert_eq!(taken.get(1), Some(&whole(Signal::Logs)));
    assert_eq!(taken.last(), Some(&whole(Signal::Metrics)));
    let halves = &taken[2..taken.len() - 1];
    assert!(halves.len() == 2 && halves.iter().all(|(signal, _)| *signal == Signal::Traces));
    // A dead letter knows its signal, and is written as it.
    drop(after);
    let refuses = queue(&storage, Arc::new(Small(0, std::sync::Mutex::default())));
    refuses
        .export(request(Signal::Traces, spans(&["alone"]).encode_to_vec().into()))
        .await
        .unwrap();
    assert_eq!(refuses.drain(Instant::now() + Duration::from_secs(60)).await, 0);
    assert_eq!(refuses.counters().dead_letter_items.get(Signal::Traces), 1);
    assert_eq!(refuses.counters().dead_letter_items.get(Signal::Logs), 0);
    drop(refuses);
    let letters = DeadLetters::open(&storage, "otlp_grpc").unwrap();
    let mut shown = Vec::new();
    letters
        .each(|letter| {
            let refused = letter.refused.unwrap();
            shown.push((letter.number, refused.signal, refused.to_json().unwrap()));
            true
        })
        .unwrap();
    let [(number, Signal::Traces, json)] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    assert_eq!(
        serde_json::from_slice::<ExportTraceServiceRequest>(json).unwrap(),
        spans(&["alone"])
    );
    letters.requeue(*number).unwrap();
    drop(letters);
    let large = Arc::new(Small(usize::MAX, std::sync::Mutex::default()));
    let again = queue(&storage, Arc::clone(&large) as _);
    assert_eq!(again.drain(Instant::now() + Duration::from_secs(60)).await, 0);
    let taken = large.1.lock().unwrap();
    assert_eq!((taken.len(), taken[0].signal), (1, Signal::Traces));
}

#[tokio::test]
async fn several_exporters_of_one_pipeline_each_get_the_request() {
    let home = tempfile::tempdir().unwrap();
    let storage = Storage::open(&StorageSettings {
        directory: home.path().join("queue"),
        create_directory: true,
    })
    .unwrap();
    let large = || Arc::new(Small(usize::MAX, std::sync::Mutex::default()));
    let (direct, queued) = (large(), large());
    let queue = Arc::new(queue(&storage, Arc::clone(&queued) as _));
    let both = FanOut::new(vec![Arc::clone(&direct) as _], vec![Arc::clone(&queue) as _]);
    both.export(request(Signal::Traces, body(Signal::Traces, 2)))
        .await
        .unwrap();
    assert_eq!(queue.drain(Instant::now() + Duration::from_secs(60)).await, 0);
    for destination in [direct, queued] {
        let taken = destination.1.lock().unwrap();
        assert_eq!((taken.len(), taken[0].signal), (1, Signal::Traces));
        assert_eq!(taken[0].body, body(Signal::Traces, 2));
    }
}

#[tokio::test]
async fn at_the_end_what_is_in_flight_is_finished_or_its_caller_told_to_send_again() {
    let metrics = Arc::new(Metrics::default());
    let way = Arc::new(PassThrough::new(Arc::new(Down), Arc::clone(&metrics)));
    let sending = tokio::spawn({
        let way = Arc::clone(&way);
        async move { way.accept(request(Signal::Traces, body(Signal::Traces, 1))).await }
    });
    while metrics.requests_in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    way.give_up();
    let refusal = sending.await.unwrap().unwrap_err();
    assert!(
        matches!(
            &refusal,
            Refusal::Unavailable {
                retry_after: Some(_),
                ..
            }
        ),
        "{refusal}"
    );
    // The receiver waits for those that are on their way.
    let gate = Gate::shut();
    let intakes = Intakes::default().with(Signal::Traces, gate.clone());
    let serving = Serving::start_signals(ReceiverSettings::default(), intakes).await;
    let mut client = Client::to(serving.address).await;
    let call = tokio::spawn(async move {
        let message = tonic::Request::new(body(Signal::Traces, 1));
        client.call(EXPORT_TRACES, message).await
    });
    gate.arrived.acquire().await.unwrap().forget();
    let stopped = serving.stop();
    gate.open.add_permits(1);
    assert!(call.await.unwrap().is_ok());
    stopped.await.unwrap();
}
