//! Records in at the gRPC port, out at the next hop: the whole way in one process, with real OTLP clients and servers,
//! and an embedder that is exact and fast (hashed words) in place of the model.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use harbinger::{
    edge::{BoxFuture, Exporter, Refusal, Request, Signal},
    engine::{
        self,
        embed::{EmbedError, Embedder, Embedding},
        score::Committee,
    },
    pipeline::{Mode, Parts, Pipeline, embedding},
    telemetry::Metrics,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use tokio::time::Instant;

use super::{own_telemetry::sum, words::Words};

/// The model for tests, which can be told to fail.
pub(super) struct Model {
    pub(super) fails: bool,
}

impl Embedder for Model {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        if self.fails {
            return Err(EmbedError::Failed("told to".to_owned()));
        }
        Words.embed(texts)
    }

    fn model_version(&self) -> &str {
        Words.model_version()
    }
}

/// Keeps what it is sent; refuses while told to.
#[derive(Default)]
pub(super) struct Sink {
    requests: Mutex<Vec<ExportLogsServiceRequest>>,
    refusal: Mutex<Option<Refusal>>,
}

impl Exporter for Sink {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        let refusal = self.refusal.lock().unwrap().clone();
        Box::pin(async move {
            match refusal {
                Some(refusal) => Err(refusal),
                None => {
                    let decoded = ExportLogsServiceRequest::decode(request.body).unwrap();
                    self.requests.lock().unwrap().push(decoded);
                    Ok(Bytes::new())
                }
            }
        })
    }
}

impl Sink {
    pub(super) fn records(&self) -> Vec<LogRecord> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_logs);
        resources
            .flat_map(|resource| &resource.scope_logs)
            .flat_map(|scope| scope.log_records.clone())
            .collect()
    }
}

pub(super) fn pipeline(embedder: Option<Model>, mode: Mode) -> (Arc<Pipeline>, Arc<Sink>, Arc<Metrics>) {
    let (parts, sink) = parts(embedder, mode);
    let metrics = Arc::clone(&parts.metrics);
    (Arc::new(Pipeline::start(parts).unwrap()), sink, metrics)
}

/// What such a pipeline is made of.
pub(super) fn parts(embedder: Option<Model>, mode: Mode) -> (Parts, Arc<Sink>) {
    let settings = engine::Settings::default();
    let sink = Arc::new(Sink::default());
    let mut state = settings.tenants();
    if let Some(words) = &embedder
        && !words.fails
    {
        state.appoint(Committee::embed(words).unwrap());
    }
    let parts = Parts {
        front: settings.front(),
        state,
        tenant_header: None,
        embedder: embedder.map(|words| Arc::new(words) as Arc<dyn Embedder>),
        embedding: embedding::Settings {
            deadline: Duration::from_secs(60),
            ..Default::default()
        },
        mode,
        exporter: Arc::clone(&sink) as Arc<dyn Exporter>,
        store: None,
        epoch: 0,
        cluster: None,
        metrics: Arc::default(),
    };
    (parts, sink)
}

pub(super) fn request(start_s: u64, bodies: &[String]) -> Bytes {
    let text = |text: &str| {
        Some(AnyValue {
            value: Some(Value::StringValue(text.to_owned())),
        })
    };
    let log_records = (0..)
        .zip(bodies)
        .map(|(index, body)| LogRecord {
            time_unix_nano: (1_700_000_000 + start_s) * 1_000_000_000 + index,
            severity_number: 9,
            body: text(body),
            ..LogRecord::default()
        })
        .collect();
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: text("shop"),
        ..KeyValue::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![service],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                log_records,
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    Bytes::from(request.encode_to_vec())
}

pub(super) async fn send(pipeline: &Pipeline, body: Bytes) -> Result<Bytes, Refusal> {
    use harbinger::edge::Intake;
    let deadline = Instant::now() + Duration::from_secs(120);
    pipeline
        .accept(Request {
            signal: Signal::Logs,
            body,
            metadata: Default::default(),
            deadline,
        })
        .await
}

pub(super) fn attribute<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Value> {
    record
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()
}

/// Healthy talk of a shop: a few dozen sentences, with numbers that masking takes out.
pub(super) fn healthy(count: usize) -> Vec<String> {
    let verbs = ["listed", "added", "removed", "paid", "shipped", "viewed"];
    let things = ["order", "basket", "invoice", "parcel", "catalogue"];
    (0..count)
        .map(|n| {
            format!(
                "customer {n} {} {} in {} ms",
                verbs[n % verbs.len()],
                things[n % things.len()],
                n % 97
            )
        })
        .collect()
}

/// Sends healthy records until there are enough to train on, and waits for the training.
pub(super) async fn warm_up(pipeline: &Pipeline) {
    for round in 0..20 {
        send(pipeline, request(round, &healthy(100))).await.unwrap();
    }
    let trained = async {
        while !matches!(pipeline.phase(), engine::score::Phase::Ready { .. }) {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, trained)
        .await
        .unwrap_or_else(|_| panic!("never ready: {:?}", pipeline.phase()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_kind_of_failure_is_marked_and_gets_one_incident() {
    let (pipeline, sink, metrics) = pipeline(Some(Model { fails: false }), Mode::Mark);
    warm_up(&pipeline).await;
    let before = sink.records().len();
    assert!(
        sink.records()
            .iter()
            .take(100)
            .all(|r| attribute(r, "harbinger.verdict").is_some()),
        "warming up is said"
    );

    let failure: Vec<String> = (0..20)
        .map(|n| format!("Segmentation fault, core dumped. volume {n}"))
        .collect();
    send(&pipeline, request(10_000, &failure)).await.unwrap();
    let marked = sink.records().split_off(before);
    assert_eq!(marked.len(), 20);
    let ids: Vec<_> = marked
        .iter()
        .filter_map(|record| attribute(record, "incident_id"))
        .collect();
    assert_eq!(ids.len(), 20, "every record of the failure carries an incident");
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "the same one: {ids:?}");
    assert!(
        marked
            .iter()
            .all(|record| attribute(record, "is_anomaly") == Some(&Value::BoolValue(true)))
    );
    assert_eq!(metrics.judged_log_records.of(["shop", "anomalous"]).get(), 20);
    assert_eq!(metrics.opened_incidents.get(), 1);

    send(&pipeline, request(10_001, &healthy(50))).await.unwrap();
    let healthy = sink.records().split_off(before + 20);
    assert!(
        healthy
            .iter()
            .all(|record| attribute(record, "is_anomaly") == Some(&Value::BoolValue(false)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identical_retry_gets_the_same_bytes_and_changes_nothing() {
    let (pipeline, sink, metrics) = pipeline(Some(Model { fails: false }), Mode::Mark);
    warm_up(&pipeline).await;
    let body = request(10_000, &["Segmentation fault, core dumped. somewhere".to_owned()]);
    *sink.refusal.lock().unwrap() = Some(Refusal::Unavailable {
        message: "down".to_owned(),
        retry_after: None,
    });
    send(&pipeline, body.clone()).await.unwrap_err();
    let opened = metrics.opened_incidents.get();
    *sink.refusal.lock().unwrap() = None;
    send(&pipeline, body.clone()).await.unwrap();
    send(&pipeline, body).await.unwrap();
    let records = sink.records();
    let [.., second, third] = records.as_slice() else {
        panic!()
    };
    assert_eq!(second, third);
    assert_eq!(metrics.opened_incidents.get(), opened);
    assert_eq!(metrics.repeated_requests.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_or_with_one_that_fails_records_are_delivered_degraded() {
    for embedder in [None, Some(Model { fails: true })] {
        let (pipeline, sink, metrics) = pipeline(embedder, Mode::Mark);
        send(&pipeline, request(0, &healthy(10))).await.unwrap();
        let degraded = Value::StringValue("degraded".to_owned());
        assert!(
            sink.records()
                .iter()
                .all(|record| attribute(record, "harbinger.verdict") == Some(&degraded))
        );
        assert_eq!(sink.records().len(), 10);
        assert_eq!(metrics.judged_log_records.of(["shop", "degraded"]).get(), 10);
        assert!(!pipeline.model_healthy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_counts_and_off_does_nothing_and_both_leave_records_untouched() {
    let (pipeline, sink, metrics) = pipeline(Some(Model { fails: false }), Mode::Shadow);
    warm_up(&pipeline).await;
    send(
        &pipeline,
        request(10_000, &["Segmentation fault, core dumped. somewhere".to_owned()]),
    )
    .await
    .unwrap();
    let anomalous = metrics.shadow_log_records.of(["shop", "anomalous"]);
    assert_eq!(anomalous.get(), 1);
    assert_eq!(metrics.judged_log_records.of(["shop", "bypassed"]).get(), 2001);
    assert!(metrics.templates.get() > 1 && metrics.open_incidents.get() == metrics.opened_incidents.get());
    pipeline.set_mode(Mode::Off);
    send(&pipeline, request(10_001, &["another thing nobody said".to_owned()]))
        .await
        .unwrap();
    assert_eq!(anomalous.get(), 1);
    let bypassed = metrics.judged_log_records.of(["shop", "bypassed"]).get();
    assert_eq!((bypassed, sum(&metrics, "judged_log_records")), (2002, 2002));
    assert!(sink.records().iter().all(|record| record.attributes.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_are_refused_and_the_next_request_is_unharmed() {
    let (pipeline, sink, _) = pipeline(None, Mode::Mark);
    let refusal = send(&pipeline, Bytes::from_static(b"\x0a\xff\xff\xff\xff\x0f"))
        .await
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    send(&pipeline, request(0, &healthy(1))).await.unwrap();
    assert_eq!(sink.records().len(), 1);
}
