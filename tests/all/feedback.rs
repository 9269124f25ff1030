//! What people say of verdicts: it decides from the next record on, is kept apart from what was learned, and is theirs to
//! edit; and the way back to what was learned before.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use harbinger::{
    edge::{Desk, Exporter, WhichTemplates, store::StateDirectory},
    engine::{
        self,
        correlate::{CorrelatorState, Ending, Happened, IncidentId, Status},
        embed::{Embedder, Embedding},
        feedback::{Book, Feedback, Opinion, Subject},
        score::{Committee, ScorerState},
        snapshot,
        tenant::Tenant,
        tenants::Tenants,
        text::TemplateKey,
        view::View,
    },
    pipeline::{Mode, Parts, Pipeline, embedding, feedback::FeedbackError, recovery},
    telemetry::Metrics,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::prelude::*;
use prost::Message;

use super::{
    end_to_end::{Model, Sink, attribute, healthy, request, send, warm_up},
    words::{self, Words},
};

const FAULT: &str = "Segmentation fault, core dumped. volume";

/// An agent that goes on from what lies in a directory.
fn agent(directory: &Path) -> (Arc<Pipeline>, Arc<Sink>) {
    let settings = engine::Settings::default();
    let store = StateDirectory::open(directory).unwrap().keeping(5);
    let loaded = store.load().unwrap();
    let recovered = recovery::recover(&settings, loaded.snapshot.as_deref(), &loaded.journals, Some("words"));
    assert!(recovered.problem.is_none());
    let mut state = recovered.state;
    state.appoint(Committee::embed(&Words).unwrap());
    let sink = Arc::new(Sink::default());
    let parts = Parts {
        front: settings.front(),
        state,
        tenant_header: None,
        embedder: Some(Arc::new(Model { fails: false }) as Arc<dyn Embedder>),
        embedding: embedding::Settings {
            deadline: Duration::from_secs(60),
            ..Default::default()
        },
        mode: Mode::Mark,
        exporter: Arc::clone(&sink) as Arc<dyn Exporter>,
        epoch: loaded.next_epoch(),
        cluster: None,
        store: Some(Arc::new(store)),
        metrics: Arc::new(Metrics::default()),
    };
    let pipeline = Pipeline::start(parts).unwrap();
    pipeline.incidents().remember(recovered.past);
    (Arc::new(pipeline), sink)
}

/// What a crash would leave of a directory, elsewhere; the lock goes with the process.
fn crashed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "lock" {
            fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    copy
}

/// Sends the fault once at this second; whether it is marked, and its incident.
async fn say(pipeline: &Pipeline, sink: &Sink, second: u64) -> (bool, Option<IncidentId>, Option<String>) {
    let before = sink.records().len();
    send(pipeline, request(second, &[format!("{FAULT} {second}")]))
        .await
        .unwrap();
    let records = sink.records();
    let [record] = &records[before..] else { panic!() };
    let text = |key| match attribute(record, key) {
        Some(Value::StringValue(text)) => Some(text.clone()),
        _ => None,
    };
    let is_marked = attribute(record, "is_anomaly") == Some(&Value::BoolValue(true));
    let incident = text("incident_id").map(|id| id.parse().unwrap());
    (is_marked, incident, text("harbinger.anomaly.reason"))
}

fn fault(pipeline: &Pipeline) -> TemplateKey {
    let which = WhichTemplates {
        text_contains: Some("Segmentation".to_owned()),
        ..WhichTemplates::default()
    };
    pipeline.templates(&which, None, 1)[0].1.key
}

fn said(subject: Subject, opinion: Opinion) -> Feedback {
    Feedback {
        subject,
        service: None,
        opinion,
        comment: "says so on every deploy".to_owned(),
        author: "ada".to_owned(),
    }
}

fn tenant() -> Tenant {
    Tenant::default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opinion_decides_from_the_next_record_on_and_outlives_the_snapshot() {
    let home = tempfile::tempdir().unwrap();
    let (pipeline, sink) = agent(home.path());
    warm_up(&pipeline).await;
    assert!(say(&pipeline, &sink, 10_000).await.0);
    let key = fault(&pipeline);

    let given = pipeline
        .give_feedback(&tenant(), said(Subject::Template(key), Opinion::Normal))
        .unwrap();
    assert_eq!(
        (given.templates, given.incidents, given.kept),
        (vec![key], vec![], true)
    );
    assert!(!say(&pipeline, &sink, 10_001).await.0, "the open episode has ended");

    let written = fs::read_to_string(home.path().join("feedback.yaml")).unwrap();
    for part in [
        "opinion: normal",
        "author: ada",
        "text: Segmentation fault",
        &key.to_string(),
    ] {
        assert!(written.contains(part), "{part} in {written}");
    }

    // No snapshot was ever saved; what was said is all that is left.
    let copy = crashed(home.path());
    fs::remove_file(copy.path().join("snapshot")).ok();
    let (pipeline, sink) = agent(copy.path());
    assert_eq!(pipeline.feedback().len(), 1);
    warm_up(&pipeline).await;
    assert!(!say(&pipeline, &sink, 20_000).await.0);

    pipeline.withdraw_feedback(&tenant(), key, None).unwrap();
    assert!(say(&pipeline, &sink, 20_001).await.0, "detectors decide again");
    let error = pipeline.withdraw_feedback(&tenant(), key, None).unwrap_err();
    assert!(error.to_string().contains("no opinion was given"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dismissed_incident_is_closed_and_told_and_one_that_is_over_can_still_be_spoken_of() {
    let home = tempfile::tempdir().unwrap();
    let (pipeline, sink) = agent(home.path());
    warm_up(&pipeline).await;
    let mut notices = pipeline.incidents().subscribe();
    let (_, Some(id), _) = say(&pipeline, &sink, 10_000).await else {
        panic!()
    };

    let until = (1_700_000_000 + 10_010) * 1_000_000_000;
    let muted = said(Subject::Incident(id), Opinion::MuteUntil { time_unix_nano: until });
    let given = pipeline.give_feedback(&tenant(), muted).unwrap();
    assert_eq!(given.incidents, [id]);
    let mut told = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        told.push((
            notice.change.happened,
            notice.change.incident.id,
            notice.change.incident.status,
        ));
    }
    let dismissed = Status::Closed { by: Ending::Dismissed };
    assert_eq!(told.last(), Some(&(Happened::Closed, id, dismissed)), "{told:?}");
    assert_eq!(Desk::incident(&*pipeline, id).unwrap().told.incident.status, dismissed);
    assert_eq!(pipeline.status().open_incidents, 0);
    let (is_marked, incident, _) = say(&pipeline, &sink, 10_009).await;
    assert!(!is_marked && incident.is_none(), "muted");
    let (is_marked, incident, _) = say(&pipeline, &sink, 10_010).await;
    assert!(
        is_marked && incident.is_some_and(|new| new != id),
        "the mute is over; an id is not given twice"
    );

    // The journal knows that it is over.
    let (restarted, _) = agent(crashed(home.path()).path());
    assert!(!matches!(
        Desk::incident(&*restarted, id).unwrap().told.incident.status,
        Status::Open
    ));

    let given = pipeline
        .give_feedback(&tenant(), said(Subject::Incident(id), Opinion::Real))
        .unwrap();
    assert_eq!((given.templates.len(), given.incidents.len()), (1, 0));
    let (is_marked, _, reason) = say(&pipeline, &sink, 10_011).await;
    assert!(is_marked);
    assert_eq!(reason.as_deref(), Some("someone said that it is real"));

    let never = Subject::Incident(IncidentId::from_raw(7));
    let error = pipeline
        .give_feedback(&tenant(), said(never, Opinion::Normal))
        .unwrap_err();
    assert!(error.to_string().contains("is not known"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_edit_is_never_lost_and_a_broken_file_never_written_over() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("feedback.yaml");
    let broken = "tenants:\n- opinions:\n  - template: 00000000000000ff\n    opinion: dull\n";
    fs::write(&file, broken).unwrap();
    let (pipeline, sink) = agent(home.path());
    send(&pipeline, request(0, &healthy(10))).await.unwrap();
    assert_eq!(sink.records().len(), 10, "it starts, and delivers");

    let key = pipeline.templates(&WhichTemplates::default(), None, 1)[0].1.key;
    let give = |opinion| pipeline.give_feedback(&tenant(), said(Subject::Template(key), opinion));
    let error = give(Opinion::Normal).unwrap_err();
    assert!(matches!(error, FeedbackError::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("line 4, column 14: "), "{error}");
    assert!(pipeline.reread_feedback().is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), broken);

    fs::write(&file, broken.replace("dull", "real")).unwrap();
    assert_eq!(pipeline.reread_feedback().unwrap(), 1);
    // Edited once more, and nobody says so before the next opinion comes.
    fs::write(&file, broken.replace("dull", "real\n    service: shop")).unwrap();
    give(Opinion::Normal).unwrap();
    let book = Book::from_yaml(&fs::read_to_string(&file).unwrap()).unwrap();
    let opinions = book.opinions(&tenant());
    assert_eq!(opinions.of(TemplateKey(255), "shop", 0), Some(Opinion::Real));
    assert_eq!(opinions.of(TemplateKey(255), "bank", 0), None);
    assert_eq!(opinions.of(key, "bank", 0), Some(Opinion::Normal));
    assert_eq!(pipeline.feedback(), book);
}

fn harbinger(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harbinger"))
        .args(arguments)
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_can_be_taken_back_and_incidents_and_ids_stay() {
    let home = tempfile::tempdir().unwrap();
    let (pipeline, sink) = agent(home.path());
    warm_up(&pipeline).await;
    pipeline.save();
    let (_, Some(id), _) = say(&pipeline, &sink, 10_000).await else {
        panic!()
    };
    pipeline.save();

    let listed = harbinger(&["snapshot", "list", "--state", home.path().to_str().unwrap()]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let listed = harbinger(&["snapshot", "list", "--json", "--state", home.path().to_str().unwrap()]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (listed.len(), &listed[0]["name"]),
        (2, &"snapshot".into()),
        "{listed:?}"
    );
    assert!(
        listed[0]["records"].as_u64() > Some(0) && listed[0]["problem"].is_null(),
        "{listed:?}"
    );
    let in_use = harbinger(&["snapshot", "rollback", "--state", home.path().to_str().unwrap()]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&in_use.stderr).contains("stop it, roll back, start it"));

    let copy = crashed(home.path());
    let state = copy.path().to_str().unwrap();
    let learned = || {
        let bytes = fs::read(copy.path().join("snapshot")).unwrap();
        let snapshot = snapshot::decode(&bytes, Some("words")).unwrap();
        (snapshot.learned().unwrap(), snapshot.journal_epoch)
    };
    let (before, epoch) = learned();
    let done = harbinger(&["snapshot", "rollback", "--state", state]);
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{told}{}", String::from_utf8_lossy(&done.stderr));
    let (after, same_epoch) = learned();
    assert_eq!(after.0.records + 1, before.0.records);
    assert_eq!(
        (after.1, same_epoch),
        (1, epoch),
        "the open incident and the journal stay"
    );
    let replaced = told
        .split_whitespace()
        .find(|word| word.ends_with(".replaced"))
        .unwrap();

    // Nothing older is left; what was replaced is.
    assert_eq!(
        harbinger(&["snapshot", "rollback", "--state", state]).status.code(),
        Some(1)
    );
    let undone = harbinger(&["snapshot", "rollback", "--state", state, "--to", replaced]);
    assert!(undone.status.success());
    assert_eq!(learned().0, before);

    let (pipeline, _) = agent(copy.path());
    assert_eq!(
        Desk::incident(&*pipeline, id).unwrap().told.incident.status,
        Status::Open
    );
}

#[test]
fn texts_of_opinions_are_kept_only_where_texts_are_and_can_be_taken_out() {
    let mut settings = engine::Settings::default();
    settings.text.store_text = false;
    let mut tenants = settings.tenants();
    let mut book = Book::default();
    let meant = [(TemplateKey(1), "card declined".to_owned())];
    let feedback = said(Subject::Template(TemplateKey(1)), Opinion::Real);
    book.enter(&tenant(), &meant, &feedback, 1).unwrap();
    tenants.hold(book.clone());
    assert!(!tenants.book().to_yaml().unwrap().contains("card"));
    assert_eq!(tenants.book().len(), 1);

    assert_eq!(book.forget(|_| true, |text| text.contains("nobody")), 0);
    assert_eq!(
        book.forget(|_| true, |text| text.contains("card") || text.contains("deploy")),
        2
    );
    assert_eq!(book.opinions(&tenant()).of(TemplateKey(1), "", 0), Some(Opinion::Real));
    let long = Feedback {
        comment: "x".repeat(1025),
        ..feedback
    };
    let refused = book.enter(&tenant(), &meant, &long, 1).unwrap_err();
    assert!(refused.to_string().contains("shorten it"), "{refused}");
}

/// A record: which of the texts, which service, seconds since the one before. Or somebody says something.
#[derive(Clone, Debug)]
enum Step {
    Say(usize, usize, u64),
    Opine(usize, Option<usize>, u8),
}

const TEXTS: [&str; 4] = [
    "customer listed order in ms",
    "Segmentation fault, core dumped. volume",
    "odd thing happened never before",
    "Segmentation fault, core dumped. disk",
];
const SERVICES: [&str; 2] = ["shop", "bank"];
const START: u64 = 1_800_000_000;

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let say = (0..4usize, 0..2usize, prop_oneof![4 => 0..20u64, 1 => 61..2000u64]);
    let opine = (0..4usize, proptest::option::of(0..2usize), 0..4u8);
    let step = prop_oneof![
        5 => say.prop_map(|(text, service, seconds)| Step::Say(text, service, seconds)),
        1 => opine.prop_map(|(text, service, opinion)| Step::Opine(text, service, opinion)),
    ];
    // And whether the batch ends behind it.
    proptest::collection::vec((step, any::<bool>()), 1..60)
}

fn batch(records: &[(usize, usize, u64)]) -> Bytes {
    let text = |text: &str| {
        Some(AnyValue {
            value: Some(Value::StringValue(text.to_owned())),
        })
    };
    let resource = |(said, service, second): &(usize, usize, u64)| ResourceLogs {
        resource: Some(Resource {
            attributes: vec![KeyValue {
                key: "service.name".to_owned(),
                value: text(SERVICES[*service]),
                ..KeyValue::default()
            }],
            ..Resource::default()
        }),
        scope_logs: vec![ScopeLogs {
            log_records: vec![LogRecord {
                time_unix_nano: second * 1_000_000_000,
                severity_number: 9,
                body: text(TEXTS[*said]),
                ..LogRecord::default()
            }],
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: records.iter().map(resource).collect(),
    };
    Bytes::from(request.encode_to_vec())
}

/// What is said of each record: score and reason, where it is anomalous.
type Verdicts = Vec<Option<(u64, Arc<str>)>>;

fn commit(tenants: &mut Tenants, body: &Bytes) -> (Verdicts, Vec<(u32, IncidentId)>) {
    let front = engine::Settings::default().front();
    let view = View::parse(body).unwrap();
    let batch = front.prepare(&view, u64::MAX / 4);
    let embeddings: Vec<Option<Embedding>> = (batch.templates.iter())
        .map(|template| Some(words::embedding(&template.text)))
        .collect();
    let verdicts = tenants.commit(&batch, &embeddings).verdicts;
    let anomalies = verdicts.anomaly_by_record(batch.records.len()).into_iter();
    let anomalies = anomalies.map(|anomaly| anomaly.map(|it| (it.score.to_bits(), Arc::clone(&it.reason))));
    (anomalies.collect(), verdicts.incidents.clone())
}

/// What is left of a warm-up, made once for all cases.
fn trained() -> Tenants {
    static TRAINED: OnceLock<(ScorerState, CorrelatorState)> = OnceLock::new();
    let (scorer, correlator) = TRAINED.get_or_init(|| {
        let mut tenants = engine::Settings::default().tenants();
        tenants.appoint(Committee::embed(&Words).unwrap());
        for round in 0..20 {
            commit(&mut tenants, &request(round, &healthy(100)));
        }
        let (tenant, job) = tenants.take_fit().unwrap();
        tenants.install(&tenant, job.run());
        let (_, scorer, correlator) = tenants.export().remove(0);
        (scorer, correlator)
    });
    let mut tenants = engine::Settings::default().tenants();
    tenants.restore(tenant(), scorer.clone(), correlator.clone()).unwrap();
    tenants.appoint(Committee::embed(&Words).unwrap());
    tenants
}

fn opinion(kind: u8, second: u64) -> Opinion {
    match kind {
        0 => Opinion::Normal,
        1 => Opinion::Real,
        minutes => Opinion::MuteUntil {
            time_unix_nano: (second + 60 * u64::from(minutes)) * 1_000_000_000,
        },
    }
}

/// Goes through the steps; a batch ends where `ends` says so, and where somebody says something.
fn go(steps: &[(Step, bool)], ends: impl Fn(bool) -> bool) -> Verdicts {
    let mut tenants = trained();
    let (mut second, mut pending) = (START, Vec::new());
    let mut verdicts = Verdicts::new();
    let mut flush = |tenants: &mut Tenants, pending: &mut Vec<_>| {
        if !pending.is_empty() {
            let (anomalies, _) = commit(tenants, &batch(&std::mem::take(pending)));
            verdicts.extend(anomalies);
        }
    };
    for (step, end) in steps {
        match step {
            Step::Say(text, service, seconds) => {
                second += seconds + 1;
                pending.push((*text, *service, second));
                if ends(*end) {
                    flush(&mut tenants, &mut pending);
                }
            }
            Step::Opine(text, service, kind) => {
                flush(&mut tenants, &mut pending);
                let subject = Subject::Template(TemplateKey::of(TEXTS[*text]));
                let feedback = Feedback {
                    service: service.map(|service| Arc::from(SERVICES[service])),
                    ..said(subject, opinion(*kind, second))
                };
                let mut book = tenants.book().clone();
                let meant = [(TemplateKey::of(TEXTS[*text]), String::new())];
                book.enter(&tenant(), &meant, &feedback, second).unwrap();
                tenants.hold(book);
            }
        }
    }
    flush(&mut tenants, &mut pending);
    verdicts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: proptest::test_runner::RngSeed::Fixed(12), failure_persistence: None, ..ProptestConfig::default() })]

    /// However the records between two opinions are batched, the same is said of each; and what was said last decides.
    #[test]
    fn opinions_mean_the_same_in_any_batching(steps in steps()) {
        let one_by_one = go(&steps, |_| true);
        // Of which incident a normal record is context may depend on what it came with.
        prop_assert_eq!(&one_by_one, &go(&steps, |end| end));

        let mut opinions = Book::default();
        let mut verdicts = one_by_one.iter();
        let mut second = START;
        for (step, _) in &steps {
            match step {
                Step::Opine(text, service, kind) => {
                    let subject = Subject::Template(TemplateKey::of(TEXTS[*text]));
                    let service = service.map(|service| Arc::from(SERVICES[service]));
                    let feedback = Feedback { service, ..said(subject, opinion(*kind, second)) };
                    let meant = [(TemplateKey::of(TEXTS[*text]), String::new())];
                    opinions.enter(&tenant(), &meant, &feedback, 0).unwrap();
                }
                Step::Say(text, service, seconds) => {
                    second += seconds + 1;
                    let verdict = verdicts.next().unwrap();
                    let key = TemplateKey::of(TEXTS[*text]);
                    let opinion = opinions.opinions(&tenant()).of(key, SERVICES[*service], second * 1_000_000_000);
                    match opinion {
                        Some(Opinion::Real) => {
                            let said = verdict.as_ref().map(|(score, reason)| (f64::from_bits(*score), &**reason));
                            prop_assert_eq!(said, Some((1.0, "someone said that it is real")));
                        }
                        Some(_) => prop_assert!(verdict.is_none()),
                        None => {
                            let by_person = |(_, reason): &(u64, Arc<str>)| reason.contains("someone");
                            prop_assert!(!verdict.as_ref().is_some_and(by_person));
                        }
                    }
                }
            }
        }
    }
}
