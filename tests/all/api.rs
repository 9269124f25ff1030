//! The API as its clients meet it: a real server on a real port, asked by tonic's client and by the command line.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use harbinger::{
    commands::forget,
    edge::{
        Desk, Store,
        api::{
            Api, ApiError, Settings,
            proto::{self, incidents_client::IncidentsClient},
        },
        store::StateDirectory,
    },
    engine::{
        self,
        correlate::{
            Change, Course, Ending, Event, Happened, Incident, IncidentId, KeyRecord, Merged, Status, TemplateCount,
        },
        snapshot::{self, JournalEntry, Snapshot, TenantSection},
        tenant::Tenant,
        text::TemplateKey,
    },
    pipeline::{Mode, Pipeline, recovery},
};
use tokio::task::JoinHandle;
use tonic::{Code, Streaming, transport::Channel};

use super::end_to_end::{Model, pipeline, request, send, warm_up};

/// The same for browsers.
mod page;

const FIRST_S: u64 = 1_731_924_000;

/// The id of an incident that opened `second` seconds after ten o'clock, the first of them being 0.
fn id(second: u64) -> IncidentId {
    IncidentId::from_raw((FIRST_S + second) << 30 | 7)
}

/// A closed incident of `cart` that began at this second and took ten.
fn incident(second: u64) -> Incident {
    let first = (FIRST_S + second) * 1_000_000_000;
    let record = |text: &str, severity_number| KeyRecord {
        time_unix_nano: first,
        service: Arc::from("cart"),
        template: TemplateKey(9),
        text: Arc::from(text),
        severity_number,
        reason: Arc::from(""),
    };
    Incident {
        id: id(second),
        aliases: Vec::new(),
        parent: None,
        status: Status::Closed { by: Ending::Silence },
        announced: true,
        leading_edge: record("card declined", 13),
        worst: record("disk vanished", 17),
        records: 12,
        anomalous_records: 10,
        first_time_unix_nano: first,
        last_time_unix_nano: first + 10_000_000_000,
        services: vec![Arc::from("cart")],
        records_of_other_services: 0,
        service_counts: Vec::new(),
        course: Course::default(),
        templates: vec![TemplateCount {
            template: TemplateKey(9),
            text: Arc::from("card declined"),
            records: 12,
            anomalous_records: 10,
            first_time_unix_nano: 0,
            service: Arc::from(""),
            severity_number: 0,
            course: Course::default(),
            first_episode: None,
        }],
        records_of_other_templates: 0,
        ties: [0; 5],
    }
}

fn merged(second: u64, into: u64) -> Incident {
    Incident {
        status: Status::Merged { into: id(into) },
        ..incident(second)
    }
}

fn tell(pipeline: &Pipeline, tenant: &Tenant, incidents: Vec<Incident>) {
    let change = |incident: Incident| Change {
        happened: match incident.status {
            Status::Open => Happened::Opened,
            Status::Merged { .. } => Happened::Merged,
            Status::Closed { .. } => Happened::Closed,
        },
        time_unix_nano: incident.last_time_unix_nano,
        incident,
    };
    let changes = incidents.into_iter().map(change).collect();
    pipeline.incidents().tell(vec![(tenant.clone(), changes)]);
}

/// An agent's API, and a client of it.
struct Served {
    pipeline: Arc<Pipeline>,
    address: SocketAddr,
    client: IncidentsClient<Channel>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

async fn serve(pipeline: Arc<Pipeline>) -> Served {
    let settings = Settings {
        endpoint: "127.0.0.1:0".to_owned(),
    };
    let api = Api::bind(&settings).await.unwrap();
    let address = api.address();
    let desk: Arc<dyn Desk> = Arc::clone(&pipeline) as _;
    let task = tokio::spawn(async move { api.serve(desk, "incident_id".to_owned()).await.unwrap() });
    Served {
        pipeline,
        address,
        client: IncidentsClient::new(channel(address).await),
        task,
    }
}

/// An agent that has seen no record.
async fn fresh() -> Served {
    serve(pipeline(None, Mode::Mark).0).await
}

impl Served {
    async fn list(&mut self, which: proto::ListIncidentsRequest) -> proto::ListIncidentsResponse {
        self.client.list_incidents(which).await.unwrap().into_inner()
    }

    async fn get(&mut self, id: IncidentId) -> Result<proto::GetIncidentResponse, tonic::Status> {
        let request = proto::GetIncidentRequest { id: id.to_string() };
        self.client.get_incident(request).await.map(tonic::Response::into_inner)
    }

    async fn watch(&mut self, after_sequence: Option<u64>) -> Streaming<proto::WatchIncidentsResponse> {
        let request = proto::WatchIncidentsRequest {
            after_sequence,
            tenant: None,
        };
        self.client.watch_incidents(request).await.unwrap().into_inner()
    }
}

async fn next(stream: &mut Streaming<proto::WatchIncidentsResponse>) -> proto::WatchIncidentsResponse {
    stream.message().await.unwrap().unwrap()
}

fn ids(incidents: &[proto::Incident]) -> Vec<String> {
    incidents.iter().map(|incident| incident.id.clone()).collect()
}

#[tokio::test]
async fn pages_have_every_incident_once_newest_first() {
    let mut served = fresh().await;
    let (one, other) = (Tenant::default(), Tenant::named("acme"));
    for second in 0..25 {
        let tenant = if second % 3 == 0 { &other } else { &one };
        tell(&served.pipeline, tenant, vec![incident(second)]);
    }
    let mut request = proto::ListIncidentsRequest {
        page_size: 10,
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let page = served.list(request.clone()).await;
        pages.push(ids(&page.incidents));
        // What ends meanwhile is newer than what was listed and moves nothing.
        tell(&served.pipeline, &one, vec![incident(100 + pages.len() as u64)]);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let expected: Vec<String> = (0..25).rev().map(|second| id(second).to_string()).collect();
    assert_eq!(pages.concat(), expected);
    request.page_token = "nonsense".to_owned();
    let refusal = served.client.list_incidents(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn every_filter_leaves_out_what_it_should() {
    let mut served = fresh().await;
    let acme = Tenant::named("acme");
    let mut quiet = incident(200);
    quiet.worst.severity_number = 9;
    quiet.worst.text = Arc::from("Basket Emptied");
    quiet.services = vec![Arc::from("basket"), Arc::from("cart")];
    tell(&served.pipeline, &Tenant::default(), vec![incident(0), merged(100, 0)]);
    tell(&served.pipeline, &acme, vec![quiet]);
    let all = proto::ListIncidentsRequest::default;
    let at = |second: u64| {
        Some(prost_types::Timestamp {
            seconds: (FIRST_S + second) as i64,
            nanos: 0,
        })
    };
    let cases = [
        (all(), vec![200, 100, 0]),
        (
            proto::ListIncidentsRequest {
                state: proto::IncidentState::Open.into(),
                ..all()
            },
            vec![],
        ),
        (
            proto::ListIncidentsRequest {
                state: proto::IncidentState::Closed.into(),
                ..all()
            },
            vec![200, 0],
        ),
        (
            proto::ListIncidentsRequest {
                state: proto::IncidentState::Merged.into(),
                ..all()
            },
            vec![100],
        ),
        (
            proto::ListIncidentsRequest {
                service: "basket".into(),
                ..all()
            },
            vec![200],
        ),
        (
            proto::ListIncidentsRequest { since: at(10), ..all() },
            vec![200, 100, 0],
        ),
        (proto::ListIncidentsRequest { since: at(11), ..all() }, vec![200, 100]),
        (
            proto::ListIncidentsRequest {
                until: at(100),
                ..all()
            },
            vec![0],
        ),
        (
            proto::ListIncidentsRequest {
                min_severity_number: 10,
                ..all()
            },
            vec![100, 0],
        ),
        (
            proto::ListIncidentsRequest {
                text_contains: "basket empt".into(),
                ..all()
            },
            vec![200],
        ),
        (
            proto::ListIncidentsRequest {
                tenant: Some("acme".into()),
                ..all()
            },
            vec![200],
        ),
        (
            proto::ListIncidentsRequest {
                tenant: Some(String::new()),
                ..all()
            },
            vec![100, 0],
        ),
    ];
    for (which, expected) in cases {
        let found = served.list(which.clone()).await;
        let expected: Vec<String> = expected.into_iter().map(|second| id(second).to_string()).collect();
        assert_eq!(ids(&found.incidents), expected, "{which:?}");
    }
}

#[tokio::test]
async fn an_alias_leads_to_the_incident_that_goes_on() {
    let mut served = fresh().await;
    let mut oldest = incident(0);
    // The one at 300 was never announced: it is known by its alias alone.
    oldest.aliases = vec![id(100), id(200), id(300)];
    tell(
        &served.pipeline,
        &Tenant::default(),
        vec![merged(200, 100), merged(100, 0), oldest],
    );
    let own = served.get(id(0)).await.unwrap();
    assert_eq!(
        (own.incident.unwrap().id, own.merged_into, own.merged),
        (id(0).to_string(), String::new(), None)
    );
    for second in [100, 200, 300] {
        let found = served.get(id(second)).await.unwrap();
        let incident = found.incident.unwrap();
        assert_eq!(
            (&incident.id, &found.merged_into),
            (&id(0).to_string(), &id(0).to_string())
        );
        assert!(incident.logql.unwrap().logql.contains(&id(second).to_string()));
        let younger = found.merged.map(|younger| younger.id);
        assert_eq!(younger, (second != 300).then(|| id(second).to_string()));
    }
    let refusal = served.get(id(400)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
    let request = proto::GetIncidentRequest { id: "seven".to_owned() };
    let refusal = served.client.get_incident(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("20241118-100000-k7f3qa"), "{refusal:?}");
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was_left() {
    let mut served = fresh().await;
    let one = Tenant::default();
    let mut stream = served.watch(None).await;
    let beginning = next(&mut stream).await;
    assert!(!beginning.missed && beginning.incident.is_none());
    tell(&served.pipeline, &one, vec![incident(0), incident(1)]);
    let (first, second) = (next(&mut stream).await, next(&mut stream).await);
    assert_eq!(
        (first.sequence, second.sequence),
        (beginning.sequence + 1, beginning.sequence + 2)
    );
    assert_eq!(first.happened(), proto::Happened::Closed);
    drop(stream);
    tell(&served.pipeline, &one, vec![incident(2)]);

    let mut stream = served.watch(Some(first.sequence)).await;
    let beginning = next(&mut stream).await;
    assert_eq!((beginning.sequence, beginning.missed), (first.sequence, false));
    tell(&served.pipeline, &one, vec![incident(3)]);
    for expected in 1..4 {
        let change = next(&mut stream).await;
        assert_eq!(change.incident.unwrap().id, id(expected).to_string());
        assert_eq!(change.sequence, first.sequence + expected);
    }

    // Numbers of another process, or of so long ago that not everything is kept.
    let mut stream = served.watch(Some(1)).await;
    let beginning = next(&mut stream).await;
    assert!(beginning.missed);
    assert_eq!(next(&mut stream).await.incident.unwrap().id, id(0).to_string());
    (4..2000).for_each(|second| tell(&served.pipeline, &one, vec![incident(second)]));
    let mut stream = served.watch(Some(first.sequence)).await;
    let beginning = next(&mut stream).await;
    assert!(beginning.missed && beginning.sequence > first.sequence);
    assert_eq!(next(&mut stream).await.sequence, beginning.sequence + 1);
}

#[tokio::test]
async fn a_watcher_of_one_tenant_hears_nothing_of_others() {
    let mut served = fresh().await;
    let request = proto::WatchIncidentsRequest {
        after_sequence: None,
        tenant: Some("acme".to_owned()),
    };
    let mut stream = served.client.watch_incidents(request).await.unwrap().into_inner();
    assert!(next(&mut stream).await.incident.is_none());
    tell(&served.pipeline, &Tenant::named("other"), vec![incident(0)]);
    tell(&served.pipeline, &Tenant::named("acme"), vec![incident(1)]);
    let heard = next(&mut stream).await.incident.unwrap();
    assert_eq!((heard.id, heard.tenant), (id(1).to_string(), "acme".to_owned()));
}

#[tokio::test]
async fn there_are_so_many_places_for_watchers() {
    let mut served = fresh().await;
    let mut streams = Vec::new();
    // On connections of their own: one has no room for all.
    for _ in 0..64 {
        let mut client = IncidentsClient::new(channel(served.address).await);
        let request = proto::WatchIncidentsRequest::default();
        streams.push(client.watch_incidents(request).await.unwrap().into_inner());
    }
    let request = proto::WatchIncidentsRequest::default();
    let refusal = served.client.watch_incidents(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_thinks_now_is_what_is_answered() {
    let mut served = serve(pipeline(Some(Model { fails: false }), Mode::Mark).0).await;
    let status = served
        .client
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.phase(), status.mode()),
        (proto::Phase::WarmingUp, proto::Mode::Mark)
    );
    assert_eq!(
        (status.model_version.as_str(), status.version.as_str()),
        ("words", env!("CARGO_PKG_VERSION"))
    );
    warm_up(&served.pipeline).await;
    let failure = |n: u64| format!("Segmentation fault, core dumped. volume {n}");
    let bodies: Vec<String> = (0..20).map(failure).collect();
    send(&served.pipeline, request(10_000, &bodies)).await.unwrap();

    let found = served.list(proto::ListIncidentsRequest::default()).await.incidents;
    let [open] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((open.state(), open.records), (proto::IncidentState::Open, 20));
    send(&served.pipeline, request(10_001, &[failure(7)])).await.unwrap();
    let again = served.get(open.id.parse().unwrap()).await.unwrap().incident.unwrap();
    assert_eq!(again.records, 21, "as of now, not of the last change that was told");
    let status = served
        .client
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((status.phase(), status.open_incidents), (proto::Phase::Ready, 1));

    let mut which = proto::ListTemplatesRequest {
        flagged_only: true,
        ..Default::default()
    };
    let flagged = served
        .client
        .list_templates(which.clone())
        .await
        .unwrap()
        .into_inner()
        .templates;
    assert_eq!(flagged.len(), 1, "{flagged:?}");
    assert_eq!((flagged[0].records, flagged[0].anomalous), (21, true));
    assert_eq!(flagged[0].services, ["shop"]);
    which.flagged_only = false;
    which.page_size = 7;
    let mut keys = Vec::new();
    loop {
        let page = served.client.list_templates(which.clone()).await.unwrap().into_inner();
        keys.extend(page.templates.into_iter().map(|template| {
            let first_seen = template.first_seen.unwrap();
            (first_seen.seconds, first_seen.nanos, template.key)
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        which.page_token = page.next_page_token;
    }
    assert_eq!(keys.len(), 31, "thirty healthy sentences and the failure");
    assert_eq!(keys[0].2, flagged[0].key);
    assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "{keys:?}");
}

#[tokio::test]
async fn health_is_served_beside_and_nothing_but_loopback() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let served = fresh().await;
    let mut health = HealthClient::new(channel(served.address).await);
    for service in ["", "harbinger.v1.Incidents"] {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    let endpoint = "0.0.0.0:0".to_owned();
    let refused = Api::bind(&Settings { endpoint }).await.unwrap_err();
    assert!(matches!(refused, ApiError::NotLoopback { .. }), "{refused}");
}

/// What a snapshot of an agent with these past incidents holds.
fn snapshot_of(tenant: &Tenant, past: &[Incident]) -> Vec<u8> {
    let section = TenantSection::new(tenant, &Default::default(), &Default::default());
    snapshot::encode(&Snapshot {
        model_version: "words".to_owned(),
        tenants: vec![section.with_past(past.iter())],
        ..Snapshot::default()
    })
}

#[test]
fn what_is_over_is_known_after_a_restart_also_after_a_crash() {
    let tenant = Tenant::default();
    let with = engine::Settings::default();
    let past = [merged(5, 0), incident(0)];
    let bytes = snapshot_of(&tenant, &past);
    let told = |past: &[(Tenant, Incident)]| past.iter().map(|(_, it)| it.clone()).collect::<Vec<_>>();
    assert_eq!(
        told(&recovery::recover(&with, Some(&bytes), &[], Some("words")).past),
        past
    );

    // Without texts in memory there are none in it, whatever was written before.
    let mut without = engine::Settings::default();
    without.text.store_text = false;
    let silent = recovery::recover(&without, Some(&bytes), &[], Some("words")).past;
    assert!(
        silent
            .iter()
            .all(|(_, it)| it.leading_edge.text.is_empty() && it.templates[0].text.is_empty())
    );

    // Two that opened and were merged since the snapshot: the journal alone tells.
    let opened = |second: u64, key: u64| {
        Event::Opened(engine::correlate::Opened {
            id: id(second).to_raw(),
            origin: Some(engine::correlate::Origin {
                time_unix_nano: (FIRST_S + second) * 1_000_000_000,
                service: "cart".to_owned(),
                template: key,
                text: format!("said {key}"),
                anomalous: true,
                ..Default::default()
            }),
        })
    };
    let merge = Event::Merged(Merged {
        from: id(31).to_raw(),
        into: id(30).to_raw(),
    });
    let mut journal = Vec::new();
    JournalEntry::new(&tenant, vec![opened(30, 1), opened(31, 2), merge], "words").frame(&mut journal);
    // The notebook's rule: by evidence the two, a second apart, would be one from the start.
    let mut apart = with;
    apart.correlate.mode = engine::correlate::Mode::Components;
    let recovered = recovery::recover(&apart, Some(&bytes), &[(1, journal)], Some("words"));
    let past = told(&recovered.past);
    assert_eq!(past.len(), 3);
    assert_eq!((past[2].id, past[2].status), (id(31), Status::Merged { into: id(30) }));
    assert_eq!(past[2].leading_edge.text.as_ref(), "said 2");
}

#[test]
fn what_is_forgotten_is_not_in_the_history_either() {
    let directory = tempfile::tempdir().unwrap();
    let store = StateDirectory::open(directory.path()).unwrap();
    store
        .save_snapshot(&snapshot_of(&Tenant::default(), &[incident(0)]))
        .unwrap();
    drop(store);
    let args = forget::Args {
        pattern: "card".to_owned(),
        state: directory.path().to_owned(),
        tenant: None,
        dry_run: false,
    };
    forget::run(&args).unwrap();
    let store = StateDirectory::open(directory.path()).unwrap();
    let bytes = store.load().unwrap().snapshot.unwrap();
    let past = recovery::recover(&engine::Settings::default(), Some(&bytes), &[], None).past;
    let (_, left) = past.into_iter().next().unwrap();
    assert_eq!(
        (left.leading_edge.text.as_ref(), left.templates[0].text.as_ref()),
        ("", "")
    );
    assert_eq!((left.worst.text.as_ref(), left.records), ("disk vanished", 12));
}

async fn harbinger(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harbinger"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_command_line_speaks_it() {
    let served = fresh().await;
    let mut oldest = incident(0);
    oldest.aliases = vec![id(100)];
    tell(&served.pipeline, &Tenant::default(), vec![merged(100, 0), oldest]);
    let api = format!("http://{}", served.address);
    let ask = async |arguments: &[&str]| {
        let output = harbinger(&[&["incidents"], arguments, &["--api", &api]].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let table = ask(&["list", "--state", "closed", "--severity", "error"]).await;
    let rows: Vec<&str> = table.lines().collect();
    let (oldest, youngest) = (id(0).to_string(), id(100).to_string());
    let [head, row, "", summary] = rows.as_slice() else {
        panic!("{table}")
    };
    assert!(
        head.starts_with("BEGAN (UTC)") && head.ends_with("LEADING LINE"),
        "{table}"
    );
    let cells: Vec<&str> = row.split_whitespace().collect();
    let began = ["2024-11-18", "10:00:00", "+10s", "closed", "ERROR", "12", "(10)"];
    assert_eq!(
        (&cells[..7], &cells[8..]),
        (&began[..], &["cart", &oldest, "card", "declined"][..]),
        "{table}"
    );
    assert_eq!(*summary, "1 incident since 2024-11-18 10:00:00 UTC: 1 closed");
    assert!(!table.contains('\u{1b}'), "colours are for terminals: {table:?}");
    let colored = ask(&["list", "--color", "always", "--severity", "error"]).await;
    assert!(colored.contains("\u{1b}[31mERROR\u{1b}[0m"), "{colored:?}");
    let none = ask(&["list", "--service", "nobody"]).await;
    assert!(none.starts_with("no incidents match; no working model"), "{none}");

    let shown = ask(&["show", &oldest, "--brief"]).await;
    assert!(
        shown.contains(
            "\n\nIt began in cart at 2024-11-18 10:00:00 UTC and was over after 10s: 10 anomalous records, 2 usual"
        ),
        "{shown}"
    );
    assert!(
        !shown.contains("LogQL") && !shown.contains("harbinger feedback"),
        "{shown}"
    );
    let shown = ask(&["show", &youngest]).await;
    assert!(
        shown.starts_with(&format!("{youngest} was merged into {oldest}:")),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("| incident_id=~\"{oldest}|{youngest}\"")),
        "{shown}"
    );
    let to_copy = format!("\n  harbinger feedback mute --incident {oldest} --until 2h --api {api}\n");
    assert!(shown.contains(&to_copy), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&ask(&["show", &youngest, "--json"]).await).unwrap();
    assert_eq!(
        (&json["merged_into"], &json["incident"]["records"]),
        (&oldest.into(), &12.into())
    );

    let csv = ask(&["export"]).await;
    assert!(
        csv.starts_with("incident_id,leading_edge,timestamp,related_logs,"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 3);
    let lines = ask(&["export", "--format", "json", "--state", "merged"]).await;
    let json: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(json["state"], "INCIDENT_STATE_MERGED");
}

/// Whoever watches sees the head at once, then what happens; Ctrl-C is an end like any other.
#[tokio::test(flavor = "multi_thread")]
async fn watching_tells_what_happens_and_ends_by_ctrl_c() {
    let served = fresh().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_harbinger"))
        .args(["incidents", "watch", "--api", &format!("http://{}", served.address)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let head = tokio::task::block_in_place(&mut line);
    assert!(
        head.starts_with("TOLD (UTC)") && head.ends_with("LEADING LINE"),
        "{head}"
    );
    tell(&served.pipeline, &Tenant::default(), vec![incident(0), merged(100, 0)]);
    let told = tokio::task::block_in_place(|| [line(), line()]);
    let row = told[0].split_whitespace().collect::<Vec<_>>();
    let when = [
        "2024-11-18",
        "10:00:10",
        "2024-11-18",
        "10:00:00",
        "+10s",
        "closed",
        "ERROR",
    ];
    assert_eq!((&row[..7], row.last()), (&when[..], Some(&"declined")), "{told:?}");
    assert!(
        told[1].contains("merged") && told[1].contains(&format!("→ {}: card", id(0))),
        "{told:?}"
    );

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = tokio::task::block_in_place(|| child.wait_with_output()).unwrap();
    assert_eq!((ended.status.code(), text(&ended.stderr)), (Some(0), String::new()));
}

#[tokio::test]
async fn the_command_line_says_what_to_do_without_an_agent() {
    // A port that was free a moment ago.
    let any = Settings {
        endpoint: "127.0.0.1:0".to_owned(),
    };
    let address = Api::bind(&any).await.unwrap().address();
    let output = harbinger(&["incidents", "list", "--api", &format!("http://{address}")]).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(&format!("no agent answers at http://{address}")),
        "{error}"
    );
    assert!(error.contains("extensions: {harbinger_api: {}}"), "{error}");

    let output = harbinger(&["incidents", "lst"]).await;
    assert!(
        text(&output.stderr).contains("no such subcommand (those are list,"),
        "{}",
        text(&output.stderr)
    );
}
