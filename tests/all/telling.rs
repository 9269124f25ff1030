//! Who is told of incidents: events by an exporter, alerts and documents by HTTP, against a server in this process; and that
//! no log ever waits for any of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::post};
use bytes::Bytes;
use harbinger::{
    edge::{
        BoxFuture, Exporter, Intake, Listener, Refusal, Request, Signal,
        notify_alertmanager::{self, Alertmanager},
        notify_webhook::{self, Webhook},
    },
    engine::{
        self,
        correlate::{Change, Course, Ending, Happened, Incident, IncidentId, KeyRecord, Status},
        front::Treatment,
        tell::{self, Report},
        tenant::Tenant,
        text::TemplateKey,
        view::View,
    },
    pipeline::{
        Mode, Parts, Pipeline,
        events::{self, Events, Sender},
        telling::{Counted, Telling},
    },
    telemetry::Metrics,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value, logs::v1::LogRecord,
};
use prost::Message;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

const START: u64 = 1_731_924_000_000_000_000;

pub fn id(second: u64) -> IncidentId {
    format!("20241118-1000{second:02}-k7f3qa").parse().unwrap()
}

fn key_record(text: &str, severity_number: i32) -> KeyRecord {
    KeyRecord {
        time_unix_nano: START,
        service: Arc::from("db"),
        template: TemplateKey::of(text),
        text: Arc::from(text),
        severity_number,
        reason: Arc::from(""),
    }
}

pub fn incident(id: IncidentId) -> Incident {
    Incident {
        id,
        aliases: Vec::new(),
        parent: None,
        status: Status::Open,
        announced: true,
        leading_edge: key_record("disk full", 17),
        worst: key_record("disk full", 17),
        records: 1,
        anomalous_records: 1,
        first_time_unix_nano: START,
        last_time_unix_nano: START,
        services: vec![Arc::from("db")],
        records_of_other_services: 0,
        service_counts: Vec::new(),
        course: Course::default(),
        templates: Vec::new(),
        records_of_other_templates: 0,
        ties: [0; 5],
    }
}

pub fn change(happened: Happened, incident: Incident) -> Change {
    Change {
        happened,
        time_unix_nano: START,
        incident,
    }
}

fn opened(second: u64) -> Change {
    change(Happened::Opened, incident(id(second)))
}

fn closed(second: u64) -> Change {
    let status = Status::Closed { by: Ending::Silence };
    let incident = Incident {
        status,
        ..incident(id(second))
    };
    change(Happened::Closed, incident)
}

fn merged(second: u64, into: u64) -> Change {
    let status = Status::Merged { into: id(into) };
    let incident = Incident {
        status,
        ..incident(id(second))
    };
    change(Happened::Merged, incident)
}

/// An HTTP server that keeps what it is posted and answers as it is told, 200 once it has nothing more to say.
#[derive(Clone, Default)]
struct Server {
    posted: Arc<Mutex<Vec<serde_json::Value>>>,
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
    firing: Arc<Mutex<serde_json::Value>>,
}

impl Server {
    async fn start() -> (Self, String) {
        let server = Self::default();
        *server.firing.lock().unwrap() = json!([]);
        let (posts, lists) = (server.clone(), server.clone());
        let take = async move |body: Bytes| {
            posts
                .posted
                .lock()
                .unwrap()
                .push(serde_json::from_slice(&body).unwrap());
            posts.answers.lock().unwrap().pop_front().unwrap_or(StatusCode::OK)
        };
        let list = async move || lists.firing.lock().unwrap().to_string();
        let router = Router::new()
            .route("/api/v2/alerts", post(take.clone()).get(list))
            .route("/hook", post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, format!("http://{address}"))
    }

    fn take(&self) -> Vec<serde_json::Value> {
        std::mem::take(&mut self.posted.lock().unwrap())
    }

    fn answer(&self, codes: &[u16]) {
        let codes = codes.iter().map(|code| StatusCode::from_u16(*code).unwrap());
        self.answers.lock().unwrap().extend(codes);
    }
}

fn alertmanager(endpoint: &str) -> Alertmanager {
    let settings = notify_alertmanager::Settings {
        endpoint: Some(endpoint.to_owned()),
        labels: [("team".to_owned(), "shop".to_owned())].into(),
        generator_url: Some("http://grafana/{incident_id}".to_owned()),
        ..Default::default()
    };
    Alertmanager::new(&settings, "incident_id").unwrap().unwrap()
}

fn webhook(endpoint: &str) -> Webhook {
    let settings = notify_webhook::Settings {
        endpoint: Some(format!("{endpoint}/hook")),
        ..Default::default()
    };
    Webhook::new(&settings, "incident_id").unwrap().unwrap()
}

fn time(alert: &serde_json::Value, key: &str) -> jiff::Timestamp {
    alert[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_alert_is_refreshed_with_the_same_labels_and_ends_with_its_incident() {
    let (server, endpoint) = Server::start().await;
    let mut listener = alertmanager(&endpoint);
    let tenant = Tenant::named("acme");
    listener.hear(&tenant, &opened(0));
    let told = listener.tell().await;
    assert_eq!((told.sent, told.failed), (1, 0));
    assert!(told.next.unwrap() > Instant::now(), "the next round is later");
    let first = server.take().remove(0).as_array().unwrap().first().unwrap().clone();
    assert_eq!(
        first["labels"],
        json!({
            "alertname": "HarbingerIncident", "incident_id": id(0).to_string(), "service": "db", "severity": "error",
            "tenant": "acme", "team": "shop",
        })
    );
    assert_eq!(time(&first, "startsAt").to_string(), "2024-11-18T10:00:00Z");
    assert_eq!(first["generatorURL"], format!("http://grafana/{}", id(0)));
    let (now, ends) = (jiff::Timestamp::now(), time(&first, "endsAt"));
    assert!(
        ends > now && ends < now + jiff::SignedDuration::from_secs(241),
        "it ends when the agent is gone"
    );
    assert!(first["annotations"]["summary"].as_str().unwrap().contains("disk full"));
    assert!(
        !first["labels"].to_string().contains("disk full"),
        "text of logs is in annotations only"
    );

    // It grows and gets worse: another annotation, the same labels.
    let mut grown = incident(id(0));
    (grown.records, grown.worst) = (7, key_record("panic", 21));
    grown.leading_edge.service = Arc::from("another");
    listener.hear(&tenant, &change(Happened::Updated, grown));
    listener.tell().await;
    let second = server.take().remove(0)[0].clone();
    assert_eq!(second["labels"], first["labels"]);
    assert_eq!(second["annotations"]["records"], "7");

    listener.hear(&tenant, &closed(0));
    let told = listener.tell().await;
    assert_eq!((told.sent, told.next), (1, None), "nothing is left to refresh");
    let last = server.take().remove(0)[0].clone();
    assert_eq!(last["labels"], first["labels"]);
    assert!(time(&last, "endsAt") <= jiff::Timestamp::now());
    assert_eq!(last["annotations"]["closed_by"], "silence");
}

#[tokio::test]
async fn open_alerts_are_sent_again_each_round() {
    let (server, endpoint) = Server::start().await;
    let settings = notify_alertmanager::Settings {
        endpoint: Some(endpoint),
        resend_interval: Duration::from_secs(1),
        ..Default::default()
    };
    let mut listener = Alertmanager::new(&settings, "incident_id").unwrap().unwrap();
    listener.hear(&Tenant::default(), &opened(0));
    for _ in 0..2 {
        let told = listener.tell().await;
        tokio::time::sleep_until(told.next.unwrap()).await;
    }
    assert_eq!(server.take().len(), 2);
}

#[tokio::test]
async fn a_merge_resolves_the_younger_and_says_into_what() {
    let (server, endpoint) = Server::start().await;
    let mut listener = alertmanager(&endpoint);
    listener.hear(&Tenant::default(), &opened(0));
    listener.hear(&Tenant::default(), &opened(1));
    listener.hear(&Tenant::default(), &merged(1, 0));
    listener.tell().await;
    let alerts = server.take().remove(0);
    let now = jiff::Timestamp::now();
    assert!(time(&alerts[0], "endsAt") > now && time(&alerts[1], "endsAt") <= now);
    assert_eq!(alerts[1]["annotations"]["merged_into"], id(0).to_string());
    assert!(alerts[0]["labels"].get("tenant").is_none(), "no tenant, no label");
}

#[tokio::test]
async fn what_alertmanager_did_not_take_is_sent_with_the_next_round_as_it_stands_then() {
    let (server, endpoint) = Server::start().await;
    let mut listener = alertmanager(&endpoint);
    server.answer(&[503, 400]);
    listener.hear(&Tenant::default(), &opened(0));
    let before = Instant::now();
    let told = listener.tell().await;
    assert_eq!((told.sent, told.failed), (0, 1));
    let again = told.next.unwrap();
    assert!(
        again > before && again < Instant::now() + Duration::from_secs(1),
        "soon"
    );
    listener.hear(&Tenant::default(), &opened(1));
    let early = listener.tell().await;
    if Instant::now() < again {
        assert_eq!(
            (early.failed, server.take().len()),
            (0, 1),
            "no attempt before its time, whatever is heard"
        );
    } else {
        return; // the machine was busy for so long that it was time
    }
    tokio::time::sleep_until(told.next.unwrap()).await;
    // Refused for good: not before the next round.
    let told = listener.tell().await;
    assert_eq!((told.sent, told.failed), (0, 2));
    assert!(told.next.unwrap() - Instant::now() > Duration::from_secs(30));
    listener.hear(&Tenant::default(), &closed(0));
    assert_eq!(listener.tell().await.sent, 1);
    assert_eq!(server.take().last().unwrap().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_restart_open_incidents_go_on_under_the_labels_that_alertmanager_has() {
    let (server, endpoint) = Server::start().await;
    let labels = json!({"alertname": "HarbingerIncident", "incident_id": id(0).to_string(), "service": "first", "severity": "warning"});
    *server.firing.lock().unwrap() = json!([{"labels": labels, "status": {"state": "active"}}]);
    let mut listener = alertmanager(&endpoint);
    let open = vec![
        (Tenant::default(), incident(id(0))),
        (Tenant::default(), incident(id(1))),
    ];
    listener.hear_open(open);
    assert_eq!(listener.tell().await.sent, 2);
    let alerts = server.take().remove(0);
    assert_eq!(alerts[0]["labels"], labels);
    assert_eq!(alerts[1]["labels"]["service"], "db");
    // Changes were missed: what is open no more is over.
    listener.hear_open(vec![(Tenant::default(), incident(id(1)))]);
    listener.tell().await;
    let alerts = server.take().remove(0);
    assert!(time(&alerts[0], "endsAt") <= jiff::Timestamp::now());
}

#[tokio::test]
async fn the_webhook_posts_each_change_in_order_and_again_where_that_can_help() {
    let (server, endpoint) = Server::start().await;
    let mut listener = webhook(&endpoint);
    listener.hear(&Tenant::named("acme"), &opened(0));
    listener.hear(&Tenant::default(), &change(Happened::Updated, incident(id(0))));
    listener.hear(&Tenant::default(), &merged(1, 0));
    listener.hear(&Tenant::default(), &closed(0));
    server.answer(&[500, 200, 404]);
    let mut told = Vec::new();
    loop {
        let step = listener.tell().await;
        told.push((step.sent, step.failed));
        match step.next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => break,
        }
    }
    assert_eq!(
        told,
        [(0, 0), (1, 0), (0, 1), (1, 0)],
        "busy, taken, refused for good, taken"
    );
    let posted = server.take();
    let events: Vec<&str> = posted
        .iter()
        .map(|document| document["event"].as_str().unwrap())
        .collect();
    let name = |happened| tell::event_name(happened);
    assert_eq!(
        events,
        [Happened::Opened, Happened::Opened, Happened::Merged, Happened::Closed].map(name),
        "growth is not told by default"
    );
    assert_eq!(posted[0]["tenant"], "acme");
    assert_eq!(
        posted[0]["leading_edge"]["time_unix_nano"],
        START.to_string(),
        "no digit is lost"
    );
    assert_eq!(posted[2]["merged_into"], id(0).to_string());
}

#[tokio::test]
async fn what_a_dead_webhook_cannot_be_told_is_bounded_and_counted() {
    let mut listener = webhook("http://127.0.0.1:9");
    for _ in 0..1030 {
        listener.hear(&Tenant::default(), &opened(0));
    }
    let told = listener.tell().await;
    assert_eq!((told.sent, told.failed, told.dropped), (0, 0, 6));
    assert!(told.next.is_some());
}

/// Keeps what it is sent, once it is let.
#[derive(Default)]
struct Sink {
    requests: Mutex<Vec<Request>>,
    refuses: bool,
}

impl Exporter for Sink {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            if self.refuses {
                let message = "down".to_owned();
                return Err(Refusal::Unavailable {
                    message,
                    retry_after: None,
                });
            }
            self.requests.lock().unwrap().push(request);
            Ok(Bytes::new())
        })
    }
}

fn decode(request: &Request) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(request.body.clone()).unwrap()
}

fn attribute<'a>(record: &'a LogRecord, key: &str) -> Option<&'a Value> {
    let found = record.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[tokio::test]
async fn events_are_log_records_of_their_own_named_as_the_tenants_records_are() {
    let sink = Arc::new(Sink::default());
    let tenants = engine::tenant::Settings {
        from_context: Some("X-Scope-OrgID".to_owned()),
        ..Default::default()
    };
    let mut listener = Events::new(
        events::Settings::default(),
        Arc::clone(&sink) as _,
        "my.incident".to_owned(),
        tenants,
    );
    listener.hear(&Tenant::named("acme"), &opened(0));
    listener.hear(&Tenant::named("acme"), &change(Happened::Updated, incident(id(0))));
    listener.hear(&Tenant::named("acme"), &merged(1, 0));
    listener.hear(&Tenant::named("other"), &closed(2));
    let told = listener.tell().await;
    assert_eq!((told.sent, told.next.is_some()), (2, true));
    assert_eq!((listener.tell().await.sent, listener.tell().await.next), (1, None));
    let requests = sink.requests.lock().unwrap();
    let tenants: Vec<&str> = requests
        .iter()
        .flat_map(|request| request.metadata.values("x-scope-orgid"))
        .collect();
    assert_eq!(tenants, ["acme", "other"]);

    let resource_logs = decode(&requests[0]).resource_logs.remove(0);
    let resource = resource_logs.resource.unwrap();
    assert_eq!(
        (resource.attributes[0].key.as_str(), &resource.attributes[0].value),
        (
            "service.name",
            &Some(opentelemetry_proto::tonic::common::v1::AnyValue {
                value: Some(string("harbinger"))
            })
        )
    );
    let scope_logs = &resource_logs.scope_logs[0];
    assert_eq!(scope_logs.scope.as_ref().unwrap().name, "harbinger.incidents");
    let [opened, merged] = scope_logs.log_records.as_slice() else {
        panic!("growth is not told by default")
    };
    assert_eq!(opened.event_name, "harbinger.incident.opened");
    assert_eq!(
        attribute(opened, "harbinger.event"),
        Some(&string("harbinger.incident.opened"))
    );
    assert_eq!(attribute(opened, "my.incident"), Some(&string(&id(0).to_string())));
    assert_eq!(attribute(opened, "tenant"), Some(&string("acme")));
    assert_eq!((opened.severity_number, opened.severity_text.as_str()), (17, "ERROR"));
    assert_eq!((merged.severity_number, merged.severity_text.as_str()), (9, "INFO"));
    assert_eq!(opened.time_unix_nano, START);
    assert!(opened.observed_time_unix_nano > START);
    assert_eq!(
        attribute(merged, "harbinger.incident.merged_into"),
        Some(&string(&id(0).to_string()))
    );
}

#[tokio::test]
async fn events_that_are_not_taken_are_counted_and_the_next_are_sent() {
    let sink = Arc::new(Sink {
        refuses: true,
        ..Sink::default()
    });
    let mut listener = Events::new(events::Settings::default(), sink, String::new(), Default::default());
    listener.hear(&Tenant::default(), &opened(0));
    let told = listener.tell().await;
    assert_eq!((told.sent, told.failed, told.next), (0, 1, None));
}

/// The request that tells of an incident, with records of others beside it in the same resource.
fn loop_back(with_scope: bool) -> Vec<u8> {
    let report = Report::of(&Tenant::default(), &opened(0), "incident_id");
    let sender = Sender {
        version: "1".to_owned(),
        incident_id: "incident_id".to_owned(),
        ..Sender::default()
    };
    let mut request = ExportLogsServiceRequest::decode(&*events::event(&sender, &[(report, 7)])).unwrap();
    let logs = &mut request.resource_logs[0].scope_logs;
    if with_scope {
        // Something on the way took the attribute away.
        logs[0].log_records[0]
            .attributes
            .retain(|attribute| attribute.key != "harbinger.event");
    } else {
        logs[0].scope = None;
    }
    let mut others = logs[0].clone();
    others.scope = None;
    others.log_records[0].attributes.clear();
    logs.insert(0, others.clone());
    logs.push(others);
    request.encode_to_vec()
}

#[test]
fn what_a_harbinger_says_of_incidents_is_never_judged_by_one() {
    for with_scope in [true, false] {
        let bytes = loop_back(with_scope);
        let view = View::parse(&bytes).unwrap();
        let front = engine::Settings::default().front();
        let batch = front.prepare(&view, START + 1);
        let treatments: Vec<bool> = batch
            .records
            .iter()
            .map(|record| record.treatment == Treatment::Exclude)
            .collect();
        assert_eq!(
            treatments,
            [false, true, false],
            "by its {}",
            if with_scope { "scope" } else { "attribute" }
        );
        let annotated = front
            .annotate(&view, &batch, &Default::default(), &Arc::from(""))
            .unwrap();
        let [before, after] =
            [&bytes, &annotated.bytes].map(|bytes| ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap());
        let event = |request: &ExportLogsServiceRequest| request.resource_logs[0].scope_logs[1].encode_to_vec();
        assert_eq!(event(&before), event(&after));
        let marked = &after.resource_logs[0].scope_logs[2].log_records[0];
        assert_eq!(attribute(marked, "is_anomaly"), Some(&Value::BoolValue(false)));
    }
}

#[test]
fn events_alone_pass_byte_for_byte() {
    let reports: Vec<(Report, u64)> = [opened(0), merged(1, 0), closed(0)]
        .map(|change| (Report::of(&Tenant::default(), &change, "incident_id"), 7))
        .into();
    let bytes = events::event(&Sender::default(), &reports);
    let front = engine::Settings::default().front();
    let view = View::parse(&bytes).unwrap();
    let batch = front.prepare(&view, START);
    assert!(batch.templates.is_empty());
    let annotated = front
        .annotate(&view, &batch, &Default::default(), &Arc::from(""))
        .unwrap();
    assert_eq!(annotated.bytes, bytes);
}

/// A listener whose other side never answers.
struct Mute(watch::Sender<u64>);

impl Listener for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }

    fn hear(&mut self, _: &Tenant, _: &Change) {
        self.0.send_modify(|heard| *heard += 1);
    }

    fn tell(&mut self) -> BoxFuture<'_, harbinger::edge::Tellings> {
        let heard = *self.0.borrow() > 0;
        Box::pin(async move {
            if heard {
                std::future::pending::<()>().await;
            }
            harbinger::edge::Tellings::default()
        })
    }

    fn waiting(&self) -> usize {
        0
    }
}

fn pipeline(mode: Mode) -> (Arc<Pipeline>, Arc<Sink>, Arc<Metrics>) {
    let settings = engine::Settings::default();
    let (sink, metrics) = (Arc::new(Sink::default()), Arc::new(Metrics::default()));
    let parts = Parts {
        front: settings.front(),
        state: settings.tenants(),
        tenant_header: None,
        embedder: None,
        embedding: Default::default(),
        mode,
        exporter: Arc::clone(&sink) as Arc<dyn Exporter>,
        store: None,
        epoch: 0,
        cluster: None,
        metrics: Arc::clone(&metrics),
    };
    (Arc::new(Pipeline::start(parts).unwrap()), sink, metrics)
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_answers_delays_no_log_and_what_it_misses_is_counted() {
    let (pipeline, sink, metrics) = pipeline(Mode::Mark);
    let (heard, mut hears) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Telling::new(Arc::clone(&pipeline), Box::new(Mute(heard)), Counted::Events).run(stopped));
    let tell = |count: usize| {
        let changes = std::iter::repeat_with(|| opened(0)).take(count).collect();
        pipeline.incidents().tell(vec![(Tenant::default(), changes)]);
    };
    tell(1);
    hears.wait_for(|heard| *heard == 1).await.unwrap();
    // It hangs in its first telling now. A flood of changes, and logs, go on.
    tell(5000);
    let body = Bytes::from(loop_back(true));
    let deadline = Instant::now() + Duration::from_secs(5);
    let request = Request {
        signal: Signal::Logs,
        body: body.clone(),
        metadata: Default::default(),
        deadline,
    };
    pipeline.accept(request).await.unwrap();
    assert_eq!(sink.requests.lock().unwrap().len(), 1);
    // Nor does it keep the agent from stopping; time is paused, so this waits for nobody.
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(*hears.borrow(), 1);
    assert_eq!(metrics.incident_events_sent.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn notices_go_the_whole_way_and_the_last_are_told_before_the_end() {
    let (pipeline, _, metrics) = pipeline(Mode::Mark);
    let sink = Arc::new(Sink::default());
    let events = Events::new(
        events::Settings::default(),
        Arc::clone(&sink) as _,
        "incident_id".to_owned(),
        Default::default(),
    );
    let (stop, stopped) = watch::channel(false);
    let telling = Telling::new(Arc::clone(&pipeline), Box::new(events), Counted::Events);
    // More than may be behind: the oldest are missed, and that is counted.
    pipeline
        .incidents()
        .tell(vec![(Tenant::default(), vec![opened(0); 1030])]);
    stop.send(true).unwrap();
    telling.run(stopped).await;
    let (sent, dropped) = (
        metrics.incident_events_sent.get(),
        metrics.incident_events_dropped.get(),
    );
    assert_eq!((sent, dropped), (1024, 6));
}

#[tokio::test(start_paused = true)]
async fn in_shadow_nobody_is_told() {
    let (pipeline, _, metrics) = pipeline(Mode::Shadow);
    let sink = Arc::new(Sink::default());
    let events = Events::new(
        events::Settings::default(),
        Arc::clone(&sink) as _,
        "incident_id".to_owned(),
        Default::default(),
    );
    let (stop, stopped) = watch::channel(false);
    let telling = Telling::new(Arc::clone(&pipeline), Box::new(events), Counted::Events);
    pipeline.incidents().tell(vec![(Tenant::default(), vec![opened(0)])]);
    stop.send(true).unwrap();
    telling.run(stopped).await;
    assert_eq!(
        (sink.requests.lock().unwrap().len(), metrics.incident_events_sent.get()),
        (0, 0)
    );
}
