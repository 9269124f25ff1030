//! What the agent says of itself, as others read it: the table of metrics, OTLP endpoints that metrics and traces are pushed
//! to (made of tonic and axum), and what is counted where.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harbinger::{
    edge::{
        self, Intake, Metadata, Refusal,
        export_otlp::{OtlpExporter, RetrySettings, Settings as OtlpSettings},
        push_otlp::Settings as PushSettings,
        receive_grpc::Settings as GrpcSettings,
    },
    pipeline::{Mode, Pipeline, counted::Counted, received::Received},
    telemetry::{self, Batching, DECLARATIONS, Metrics, PREFIX, Push, Sampler, Series, Traces, Value},
};
use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use opentelemetry_sdk::{error::OTelSdkError, trace::SpanData};
use prost::Message;
use tonic::Status;

use super::{
    end_to_end::{self, Model, healthy, warm_up},
    otlp::{Answer, Client, EXPORT, Gate, Hop, Recorder, Seen, Serving, logs, request},
};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing is sent before the end.
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn the_page_of_metrics_is_written_from_the_declarations() {
    const PAGE: &str = "config-examples/guide/metrics.md";
    let page = telemetry::page();
    if std::env::var_os("HARBINGER_WRITE").is_some() {
        fs::create_dir_all("config-examples/guide").unwrap();
        fs::write(PAGE, &page).unwrap();
    }
    assert!(
        fs::read_to_string(PAGE).is_ok_and(|written| written == page),
        "{PAGE} is not what src/telemetry.rs declares; write it anew: HARBINGER_WRITE=1 cargo test --locked --test all page_of_metrics"
    );
}

/// Something that takes OTLP, by gRPC and by HTTP, and keeps it.
struct Backend {
    hop: Hop,
    grpc: String,
    posted: Arc<Mutex<Vec<Seen>>>,
    http: String,
}

impl Backend {
    async fn start() -> Self {
        let hop = Hop::default();
        let grpc = format!("http://{}", hop.start().await);
        let posted: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let kept = Arc::clone(&posted);
        let take = async move |request: axum::extract::Request| {
            let (parts, body) = request.into_parts();
            let seen = Seen {
                path: parts.uri.path().to_owned(),
                headers: parts.headers,
                message: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
            };
            kept.lock().unwrap().push(seen);
            ""
        };
        let router = axum::Router::new().fallback(take);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            hop,
            grpc,
            posted,
            http,
        }
    }

    fn settings(&self, protocol: &str) -> PushSettings {
        let endpoint = if protocol == "grpc" { &self.grpc } else { &self.http };
        let yaml =
            format!("{{protocol: {protocol}, endpoint: \"{endpoint}\", headers: [{{name: X-Token, value: open}}]}}");
        serde_yaml::from_str(&yaml).unwrap()
    }

    /// What has come of one signal, with the headers it came with; nothing else has.
    fn taken<M: Message + Default>(&self, protocol: &str, service: &str, path: &str) -> Vec<(HeaderMap, M)> {
        let (seen, path) = match protocol {
            "grpc" => (
                &self.hop.seen,
                format!("/opentelemetry.proto.collector.{service}/Export"),
            ),
            _ => (&self.posted, path.to_owned()),
        };
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|seen| seen.path == path));
        let decode = |seen: &Seen| (seen.headers.clone(), M::decode(seen.message.clone()).unwrap());
        seen.iter().map(decode).collect()
    }
}

/// The sum of a metric over all its labels.
pub fn sum(metrics: &Metrics, name: &str) -> u64 {
    let readings = metrics.read();
    let found = readings.iter().find(|reading| reading.declared.name == name).unwrap();
    let whole = |series: &Series| match series.value {
        Value::Whole(value) => value,
        _ => panic!("{name} has no whole numbers"),
    };
    found.series.iter().map(whole).sum()
}

fn text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(written: &[KeyValue]) -> BTreeMap<String, String> {
    written
        .iter()
        .map(|attribute| (attribute.key.clone(), text(&attribute.value)))
        .collect()
}

/// Blocks, as the SDK's own shutdown does.
async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// Every metric that is fetched is pushed, by both protocols: under the name that Prometheus makes the same of, with the same
/// unit, labels and values, and with the headers that the configuration wants.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_what_is_fetched() {
    for protocol in ["grpc", "http/protobuf"] {
        let backend = Backend::start().await;
        let metrics = Arc::new(Metrics::default());
        metrics.follow(|metrics| metrics.process_uptime.follow(Duration::from_millis(1500)));
        metrics.judged_log_records.of(["shop", "normal"]).add(3);
        let before = metrics.exporter_send_duration.of(["otlp_grpc"]);
        let exporter = backend.settings(protocol).metrics(TIMEOUT).unwrap();
        let resource = telemetry::resource(&BTreeMap::from([("deployment".to_owned(), "blue".to_owned())]));
        let push = Push::start(&metrics, [(exporter, NEVER)], resource);
        // Also of services, and of series of histograms, that come later.
        metrics.judged_log_records.of(["cart", "anomalous"]).add(2);
        before.record(Duration::from_millis(7));
        metrics.receiver_request_log_records.of(["otlp", "http"]).record(26);
        metrics.requests_in_flight.set(4);
        blocking(move || drop(push)).await;

        let taken = backend.taken::<ExportMetricsServiceRequest>(protocol, "metrics.v1.MetricsService", "/v1/metrics");
        let [(headers, pushed)] = taken.as_slice() else {
            panic!("{} pushes by {protocol}", taken.len())
        };
        assert_eq!(headers.get("x-token"), Some(&HeaderValue::from_static("open")));
        let [resource] = pushed.resource_metrics.as_slice() else {
            panic!()
        };
        let said = attributes(&resource.resource.as_ref().unwrap().attributes);
        assert_eq!(
            (said["service.name"].as_str(), said["deployment"].as_str()),
            ("harbinger", "blue")
        );
        assert_eq!(said["service.version"], env!("CARGO_PKG_VERSION"));
        let pushed: BTreeMap<&str, &Metric> = resource
            .scope_metrics
            .iter()
            .flat_map(|scope| &scope.metrics)
            .map(|metric| (metric.name.as_str(), metric))
            .collect();
        let fetched = metrics.read();
        assert_eq!(fetched.len(), DECLARATIONS.len());
        for reading in fetched {
            let declared = reading.declared;
            let has_values = reading.series.iter().any(|series| match &series.value {
                Value::Distribution { counts, .. } => counts.iter().any(|count| *count > 0),
                _ => true,
            });
            let Some(metric) = pushed.get(format!("{PREFIX}{}", declared.name).as_str()) else {
                assert!(!has_values, "{} is not pushed", declared.name);
                continue;
            };
            assert_eq!(
                (metric.unit.as_str(), metric.description.as_str()),
                (declared.unit, declared.description)
            );
            let pushed: BTreeSet<(Vec<String>, String)> = points(metric);
            let fetched = reading
                .series
                .into_iter()
                .map(|series| (labels(&series.labels), shown(&series.value)));
            assert_eq!(pushed, fetched.collect(), "{}", declared.name);
        }
    }
}

fn labels(values: &[Arc<str>]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Whole(count) => count.to_string(),
        Value::Seconds(seconds) => seconds.to_string(),
        Value::Distribution { bounds, counts, sum } => format!("{bounds:?} {counts:?} {sum}"),
    }
}

/// The points of a metric in the order of its labels, and what they show.
fn points(metric: &Metric) -> BTreeSet<(Vec<String>, String)> {
    let declared = DECLARATIONS.iter().find(|declared| {
        metric.name.ends_with(declared.name) && metric.name.len() == PREFIX.len() + declared.name.len()
    });
    let order = |written: &[KeyValue]| {
        let all = attributes(written);
        assert_eq!(all.len(), declared.unwrap().labels.len());
        declared
            .unwrap()
            .labels
            .iter()
            .map(|label| all[*label].clone())
            .collect::<Vec<_>>()
    };
    let number = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(count)) => count.to_string(),
        Some(number_data_point::Value::AsDouble(seconds)) => seconds.to_string(),
        None => String::new(),
    };
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{}", metric.name);
            sum.data_points
                .iter()
                .map(|point| (order(&point.attributes), number(&point.value)))
                .collect()
        }
        Data::Gauge(gauge) => {
            let points = gauge.data_points.iter();
            points
                .map(|point| (order(&point.attributes), number(&point.value)))
                .collect()
        }
        Data::Histogram(histogram) => {
            let points = histogram.data_points.iter();
            let points = points.map(|point| {
                let shown = format!(
                    "{:?} {:?} {}",
                    point.explicit_bounds,
                    point.bucket_counts,
                    point.sum.unwrap()
                );
                (order(&point.attributes), shown)
            });
            points.collect()
        }
        other => panic!("{other:?}"),
    }
}

/// A pipeline whose requests go to `hop` by a real exporter and come by a real receiver, traced.
struct Traced {
    traces: Traces,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    receiver: Serving,
}

impl Traced {
    async fn start(hop: &Hop, exporter: impl FnOnce() -> opentelemetry_otlp::SpanExporter, sampler: Sampler) -> Self {
        let (mut parts, _) = end_to_end::parts(Some(Model { fails: false }), Mode::Mark);
        let metrics = Arc::clone(&parts.metrics);
        let traces = Traces::start(
            &metrics,
            [(exporter(), unhurried(2048))],
            sampler,
            telemetry::resource(&BTreeMap::new()),
        );
        let settings = OtlpSettings {
            endpoint: format!("http://{}", hop.start().await),
            retry_on_failure: RetrySettings {
                initial_interval: Duration::from_millis(1),
                ..RetrySettings::default()
            },
            ..OtlpSettings::default()
        };
        let destination = Arc::new(OtlpExporter::new(&settings, 1).unwrap());
        parts.exporter = Arc::new(Counted::new(
            destination,
            "otlp_grpc",
            &[edge::Signal::Logs],
            &metrics,
            traces.clone(),
        ));
        let pipeline = Arc::new(Pipeline::start(parts).unwrap().traced_by(traces.clone()));
        let received = Received::new(
            Arc::clone(&pipeline) as _,
            edge::Signal::Logs,
            ["otlp", "grpc"],
            &metrics,
            traces.clone(),
        );
        let receiver = Serving::start(GrpcSettings::default(), Arc::new(received)).await;
        Self {
            traces,
            pipeline,
            metrics,
            receiver,
        }
    }

    async fn send(&self, body: Bytes, traceparent: Option<&'static str>) {
        let mut call = tonic::Request::new(body);
        if let Some(traceparent) = traceparent {
            call.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        }
        Client::to(self.receiver.address)
            .await
            .call(EXPORT, call)
            .await
            .unwrap();
    }

    async fn finish(&self) {
        let traces = self.traces.clone();
        blocking(move || traces.finish()).await;
    }
}

fn unhurried(max_queue_size: usize) -> Batching {
    Batching {
        schedule_delay: NEVER,
        max_queue_size,
        max_export_batch_size: max_queue_size,
    }
}

fn parent_based(root: Sampler) -> Sampler {
    Sampler::ParentBased(Box::new(root))
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// One request's way, by both protocols: in the trace of its caller, a span for the receiver and below it one for each room
/// and for the exporter, which says how often it tried; and nothing of what the records say.
#[tokio::test(flavor = "multi_thread")]
async fn a_traced_request_shows_its_way_through_the_rooms() {
    for protocol in ["grpc", "http/protobuf"] {
        let backend = Backend::start().await;
        let hop = Hop::default();
        let exporter = || backend.settings(protocol).spans(TIMEOUT).unwrap();
        let agent = Traced::start(&hop, exporter, parent_based(Sampler::AlwaysOff)).await;
        // Once is enough to see an incident; untrained, the way is the same.
        let (anomalous, incidents) = if protocol == "grpc" {
            warm_up(&agent.pipeline).await;
            ("4", "1")
        } else {
            ("0", "0")
        };
        hop.answers
            .lock()
            .unwrap()
            .push_back(Answer::Refuse(Status::unavailable("busy")));
        let failure: Vec<String> = (0..4)
            .map(|n| format!("Segmentation fault, core dumped. volume {n}"))
            .collect();
        agent.send(end_to_end::request(10_000, &failure), Some(SAMPLED)).await;
        // Those that nobody wants to see leave no trace, not even in part.
        agent
            .send(end_to_end::request(10_001, &healthy(5)), Some(NOT_SAMPLED))
            .await;
        agent.send(end_to_end::request(10_002, &healthy(6)), None).await;
        agent
            .send(end_to_end::request(10_003, &healthy(7)), Some("not a traceparent"))
            .await;
        agent.finish().await;

        let taken = backend.taken::<ExportTraceServiceRequest>(protocol, "trace.v1.TraceService", "/v1/traces");
        let [(headers, sent)] = taken.as_slice() else {
            panic!("{} batches by {protocol}", taken.len())
        };
        assert_eq!(headers.get("x-token"), Some(&HeaderValue::from_static("open")));
        let spans: BTreeMap<&str, &Span> = sent
            .resource_spans
            .iter()
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
            .map(|span| (span.name.as_str(), span))
            .collect();
        let names: Vec<&str> = spans.keys().copied().collect();
        assert_eq!(
            names,
            [
                "exporter/otlp_grpc/logs",
                "processor/harbinger/annotate",
                "processor/harbinger/commit",
                "processor/harbinger/embed",
                "processor/harbinger/prepare",
                "receiver/otlp/LogsDataReceived",
            ]
        );
        assert_eq!(agent.metrics.self_trace_sent_spans.get(), 6);
        let root = spans["receiver/otlp/LogsDataReceived"];
        assert_eq!(
            (hex(&root.parent_span_id).as_str(), root.kind()),
            ("00f067aa0ba902b7", SpanKind::Server)
        );
        for span in spans.values() {
            assert_eq!(hex(&span.trace_id), TRACE);
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            if span.name != root.name {
                assert_eq!(span.parent_span_id, root.span_id, "{}", span.name);
            }
        }
        let said = |name: &str| attributes(&spans[name].attributes);
        let root = said("receiver/otlp/LogsDataReceived");
        assert_eq!(
            (root["receiver"].as_str(), root["transport"].as_str()),
            ("otlp", "grpc")
        );
        assert_eq!(root["accepted_log_records"], "4");
        let embed = said("processor/harbinger/embed");
        assert_eq!(
            (
                embed["harbinger.templates.missed"].as_str(),
                embed["harbinger.templates.without_embedding"].as_str()
            ),
            ("1", "0")
        );
        let commit = said("processor/harbinger/commit");
        assert_eq!(commit["harbinger.anomalous_log_records"], anomalous);
        assert_eq!(commit["harbinger.incidents"], incidents);
        let export = said("exporter/otlp_grpc/logs");
        assert_eq!(
            (
                export["harbinger.attempts"].as_str(),
                export["sent_log_records"].as_str()
            ),
            ("2", "4")
        );
        assert_eq!(spans["exporter/otlp_grpc/logs"].kind(), SpanKind::Client);
        assert!(!String::from_utf8_lossy(&sent.encode_to_vec()).contains("Segmentation"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without a caller's decision the sampler's share counts; what was refused says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_ones_own_begins_at_the_receiver_and_tells_of_a_refusal() {
    let backend = Backend::start().await;
    let hop = Hop::default();
    let exporter = || backend.settings("grpc").spans(TIMEOUT).unwrap();
    let agent = Traced::start(&hop, exporter, parent_based(Sampler::TraceIdRatioBased(1.0))).await;
    hop.answers
        .lock()
        .unwrap()
        .push_back(Answer::Refuse(Status::permission_denied("go away")));
    let mut client = Client::to(agent.receiver.address).await;
    client.export(logs("x")).await.unwrap_err();
    agent.finish().await;
    let taken = backend.taken::<ExportTraceServiceRequest>("grpc", "trace.v1.TraceService", "/v1/traces");
    let spans: Vec<&Span> = taken
        .iter()
        .flat_map(|(_, sent)| &sent.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    assert_eq!(spans.len(), 6);
    let root = spans
        .iter()
        .find(|span| span.name == "receiver/otlp/LogsDataReceived")
        .unwrap();
    assert!(root.parent_span_id.is_empty() && spans.iter().all(|span| span.trace_id == root.trace_id));
    for name in ["receiver/otlp/LogsDataReceived", "exporter/otlp_grpc/logs"] {
        let span = spans.iter().find(|span| span.name == name).unwrap();
        assert_eq!(attributes(&span.attributes)["error.type"], "refused");
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    }
    let refused = agent.metrics.receiver_refused_log_records.of(["otlp", "grpc"]);
    assert_eq!(
        (refused.get(), sum(&agent.metrics, "receiver_accepted_log_records")),
        (1, 0)
    );
}

/// Holds every batch until it is told, then fails.
#[derive(Debug)]
struct Stuck(Arc<tokio::sync::Semaphore>);

impl opentelemetry_sdk::trace::SpanExporter for Stuck {
    async fn export(&self, _: Vec<SpanData>) -> Result<(), OTelSdkError> {
        self.0.acquire().await.unwrap().forget();
        Err(OTelSdkError::InternalFailure("told to".to_owned()))
    }
}

/// Spans that nobody takes wait, up to the bound; more are dropped at once, and every one that is lost is counted.
#[tokio::test(flavor = "multi_thread")]
async fn spans_that_cannot_be_sent_hold_nobody_up_and_are_counted() {
    let metrics = Arc::new(Metrics::default());
    let told = Arc::new(tokio::sync::Semaphore::new(0));
    let exporter = [(Stuck(Arc::clone(&told)), unhurried(4))];
    let traces = Traces::start(
        &metrics,
        exporter,
        Sampler::AlwaysOn,
        telemetry::resource(&BTreeMap::new()),
    );
    let intake = Received::new(
        Arc::new(Recorder::default()),
        edge::Signal::Logs,
        ["otlp", "grpc"],
        &metrics,
        traces.clone(),
    );
    for _ in 0..10 {
        intake.accept(request(logs("x"))).await.unwrap();
    }
    assert_eq!(metrics.self_trace_dropped_spans.get(), 6);
    told.add_permits(10);
    blocking(move || traces.finish()).await;
    assert_eq!(
        (
            metrics.self_trace_dropped_spans.get(),
            metrics.self_trace_sent_spans.get()
        ),
        (10, 0)
    );
}

/// A record is accepted or refused, never both and never neither.
#[tokio::test]
async fn every_record_that_comes_is_accepted_or_refused() {
    let metrics = Metrics::default();
    let received = |intake: Arc<dyn Intake>, transport| {
        Received::new(
            intake,
            edge::Signal::Logs,
            ["otlp/a", transport],
            &metrics,
            Traces::default(),
        )
    };
    let counts = |transport| {
        let labels = ["otlp/a", transport];
        let accepted = metrics.receiver_accepted_log_records.of(labels).get();
        (
            accepted,
            metrics.receiver_refused_log_records.of(labels).get(),
            metrics.receiver_malformed_requests.of(labels).get(),
        )
    };
    let taken = received(Arc::new(Recorder::default()), "grpc");
    taken.accept(request(logs("x"))).await.unwrap();
    assert_eq!(counts("grpc"), (1, 0, 0));
    let refused = received(
        Recorder::answering(Err(Refusal::Malformed("told to".to_owned()))),
        "http",
    );
    refused.accept(request(logs("x"))).await.unwrap_err();
    assert_eq!(counts("http"), (0, 1, 1));
    // A caller that hangs up drops its request.
    let gate = Gate::shut();
    let waiting = received(Arc::clone(&gate) as _, "grpc");
    let mut under_way = waiting.accept(request(logs("y")));
    tokio::select! {
        biased;
        _ = &mut under_way => panic!("the gate is shut"),
        () = async { gate.arrived.acquire().await.unwrap().forget() } => {}
    }
    drop(under_way);
    assert_eq!(counts("grpc"), (1, 1, 0));
    let text = metrics.prometheus();
    assert!(
        text.contains("harbinger_receiver_request_duration_seconds_count{receiver=\"otlp/a\",transport=\"grpc\"} 2\n"),
        "{text}"
    );
}

/// The caller's own `traceparent` is not touched where nothing is traced, and goes as far as its other headers.
#[tokio::test]
async fn without_traces_a_request_passes_as_it_came() {
    let recorder = Arc::new(Recorder::default());
    let metrics = Metrics::default();
    let received = Received::new(
        Arc::clone(&recorder) as _,
        edge::Signal::Logs,
        ["otlp", "grpc"],
        &metrics,
        Traces::default(),
    );
    let metadata = Metadata([("traceparent".to_owned(), SAMPLED.to_owned())].into());
    let with = |metadata| edge::Request {
        metadata,
        ..request(logs("x"))
    };
    received.accept(with(metadata.clone())).await.unwrap();
    assert_eq!(recorder.requests.lock().unwrap()[0].metadata, metadata);
}

/// Callers can make up any number of services; only so many are counted apart, and no record is left out.
#[tokio::test(flavor = "multi_thread")]
async fn services_are_counted_apart_up_to_a_bound() {
    let (pipeline, _, metrics) = end_to_end::pipeline(None, Mode::Off);
    let one = ExportLogsServiceRequest::decode(end_to_end::request(0, &healthy(2))).unwrap();
    let of_service = |name: String| {
        let mut resource = one.resource_logs[0].clone();
        resource.resource = Some(Resource {
            attributes: vec![KeyValue {
                key: "service.name".to_owned(),
                value: Some(AnyValue {
                    value: Some(any_value::Value::StringValue(name)),
                }),
                ..KeyValue::default()
            }],
            ..Resource::default()
        });
        resource
    };
    let long = "ä".repeat(200);
    let names = [long.clone()]
        .into_iter()
        .chain((0..204).map(|n| format!("service {n}")));
    let all = ExportLogsServiceRequest {
        resource_logs: names.map(of_service).collect(),
    };
    for _ in 0..2 {
        end_to_end::send(&pipeline, all.encode_to_vec().into()).await.unwrap();
    }
    let reading = metrics
        .read()
        .into_iter()
        .find(|reading| reading.declared.name == "judged_log_records")
        .unwrap();
    let services: BTreeSet<Arc<str>> = reading
        .series
        .iter()
        .map(|series| Arc::clone(&series.labels[0]))
        .collect();
    assert_eq!(services.len(), 201);
    let bypassed = |name: &str| metrics.judged_log_records.of([name, "bypassed"]).get();
    assert_eq!((bypassed("service 0"), bypassed("_other")), (4, 2 * 2 * 5));
    assert_eq!(bypassed(&long[..256]), 4, "a long name is cut");
    assert_eq!(sum(&metrics, "judged_log_records"), 2 * 2 * 205);
}

/// What is said of the records of one request, each in its service.
#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_counted_under_what_was_said_of_it() {
    let (mut parts, _) = end_to_end::parts(Some(Model { fails: false }), Mode::Mark);
    let metrics = Arc::clone(&parts.metrics);
    let settings = harbinger::engine::Settings {
        text: serde_yaml::from_str("{ignore: [{pattern: \"^heartbeat\"}], exclude: [{pattern: \"^secret\"}]}").unwrap(),
        ..harbinger::engine::Settings::default()
    };
    parts.front = settings.front();
    let pipeline = Pipeline::start(parts).unwrap();
    warm_up(&pipeline).await;
    let of = |verdict| metrics.judged_log_records.of(["shop", verdict]).get();
    assert_eq!(
        (of("warming_up") + of("normal"), sum(&metrics, "judged_log_records")),
        (2000, 2000)
    );
    let normal = of("normal");
    let said = [
        "heartbeat 7",
        "secret thing",
        "Segmentation fault, core dumped. volume 1",
        "customer 3 paid order in 4 ms",
    ];
    end_to_end::send(&pipeline, end_to_end::request(10_000, &said.map(str::to_owned)))
        .await
        .unwrap();
    assert_eq!((of("normal") - normal, of("anomalous"), of("bypassed")), (2, 1, 1));
}

/// Whoever looks sees how learning stands now: at once when training is done, and never where there is no model.
#[tokio::test(flavor = "multi_thread")]
async fn the_gauges_of_learning_tell_how_it_stands_when_they_are_read() {
    let (pipeline, _, metrics) = end_to_end::pipeline(Some(Model { fails: false }), Mode::Mark);
    pipeline.show_phase();
    let shown = || {
        metrics.prometheus();
        (
            metrics.detection_ready.get(),
            metrics.warm_up_remaining_log_records.get(),
        )
    };
    assert!(matches!(shown(), (0, 1..)));
    warm_up(&pipeline).await;
    assert_eq!(shown(), (1, 0));
    let (lost, _, metrics) = end_to_end::pipeline(None, Mode::Mark);
    lost.show_phase();
    metrics.prometheus();
    assert_eq!(metrics.detection_ready.get(), 0);
}
