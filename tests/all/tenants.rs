//! What one tenant says is nobody else's: the same verdicts as alone, no quotation of another, a place of its own on the
//! disk; and what is to be forgotten is gone from there.

use std::{path::Path, sync::Arc};

use harbinger::{
    commands::forget,
    edge::{Store, store::StateDirectory},
    engine::{
        self,
        correlate::IncidentId,
        score::{Anomaly, Committee},
        snapshot::{self, JournalEntry, Snapshot, TenantSection},
        tenant::{self, Tenant},
        tenants::{Note, Tenants},
        view::View,
    },
    pipeline::recovery,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::prelude::*;
use prost::Message;

use super::words::{Words, embedding};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const WARM_UP: u64 = 48;

/// A line: whose, and what of it is said.
type Line = (usize, usize);

/// What is said of one record.
type Said = (Option<Arc<Anomaly>>, Option<IncidentId>, Option<&'static str>);

pub fn settings(max_tenants: usize, store_text: bool) -> engine::Settings {
    let mut settings = engine::Settings {
        tenant: tenant::Settings {
            resource_attribute: Some("tenant.id".to_owned()),
            max_tenants,
            ..tenant::Settings::default()
        },
        ..engine::Settings::default()
    };
    settings.text.store_text = store_text;
    settings.score.warm_up_records = WARM_UP;
    settings
}

/// Usual lines are the first sixteen, the others speak of failure; every tenant's are the same but for its own name.
fn text(tenant: usize, line: usize) -> String {
    let name = NAMES[tenant];
    let verbs = ["listed", "added", "paid", "shipped"];
    let things = ["order", "basket", "invoice", "parcel"];
    match line {
        0..16 => format!("{name} customer {} {} quietly", verbs[line % 4], things[line / 4]),
        16 => format!("{name} customer listed nowhere quietly"),
        17 => format!("Data corruption was detected on the disk. {name}"),
        18 => format!("Executor lost, the stage cannot be completed. {name}"),
        _ => "Broken pipe while sending data to the replica".to_owned(),
    }
}

/// Tenants who hear what sounds like failure.
pub fn hearing(mut tenants: Tenants) -> Tenants {
    tenants.appoint(Committee::embed(&Words).unwrap());
    tenants
}

fn request(second: u64, lines: &[Line]) -> Vec<u8> {
    let text_value = |text: &str| {
        Some(AnyValue {
            value: Some(Value::StringValue(text.to_owned())),
        })
    };
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.to_owned(),
        value: text_value(value),
        ..KeyValue::default()
    };
    let resource_logs = lines.iter().map(|(tenant, line)| ResourceLogs {
        resource: Some(Resource {
            attributes: vec![
                attribute("service.name", "shop"),
                attribute("tenant.id", NAMES[*tenant]),
            ],
            ..Resource::default()
        }),
        scope_logs: vec![ScopeLogs {
            log_records: vec![LogRecord {
                time_unix_nano: (1_700_000_000 + second) * 1_000_000_000,
                severity_number: if *line < 16 { 9 } else { 17 },
                body: text_value(&text(*tenant, *line)),
                ..LogRecord::default()
            }],
            ..ScopeLogs::default()
        }],
        ..ResourceLogs::default()
    });
    ExportLogsServiceRequest {
        resource_logs: resource_logs.collect(),
    }
    .encode_to_vec()
}

/// One request through both halves of the engine, and every training that is due.
pub fn send(settings: &engine::Settings, tenants: &mut Tenants, second: u64, lines: &[Line]) -> Vec<Said> {
    let bytes = request(second, lines);
    let view = View::parse(&bytes).unwrap();
    let batch = settings.front().prepare(&view, u64::MAX);
    let embeddings: Vec<_> = batch
        .templates
        .iter()
        .map(|template| Some(embedding(&template.text)))
        .collect();
    let verdicts = tenants.commit(&batch, &embeddings).verdicts;
    while let Some((tenant, job)) = tenants.take_fit() {
        tenants.install(&tenant, job.run());
    }
    let unjudged = verdicts.unjudged_by_template(batch.templates.len());
    let anomalies = verdicts.anomaly_by_record(lines.len());
    let incidents = verdicts.incident_by_record(lines.len());
    (batch.records.iter().zip(anomalies).zip(incidents))
        .map(|((record, anomaly), incident)| (anomaly.cloned(), incident, unjudged[record.template().unwrap()]))
        .collect()
}

/// What a tenant says until its first training, line by line.
fn warm_up() -> impl Iterator<Item = usize> {
    (0..WARM_UP as usize + 4).map(|line| line % 16)
}

fn stream() -> impl Strategy<Value = Vec<Vec<Line>>> {
    let line = prop_oneof![8 => 0usize..16, 1 => 16usize..20];
    let lines = prop::collection::vec((0usize..2, line), 1..12);
    prop::collection::vec(lines, 4..10)
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), cases: 2, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_gets_the_verdicts_it_would_get_alone(stream in stream()) {
        let settings = settings(3, true);
        let first = warm_up().map(|line| (0..2).map(|tenant| (tenant, line)).collect::<Vec<Line>>());
        let last = vec![vec![(0, 17), (1, 18), (0, 19), (1, 19)]];
        let stream: Vec<Vec<Line>> = first.chain(stream).chain(last).collect();

        let mut together = hearing(settings.tenants());
        let mut of_each: [Vec<Said>; 2] = Default::default();
        for (second, lines) in (0..).zip(&stream) {
            for ((tenant, _), said) in lines.iter().zip(send(&settings, &mut together, second, lines)) {
                of_each[*tenant].push(said);
            }
        }
        prop_assert_eq!(together.count(), (2, 2));
        for (tenant, said) in of_each.into_iter().enumerate() {
            let mut alone = hearing(settings.tenants());
            let mut said_alone = Vec::new();
            for (second, lines) in (0..).zip(&stream) {
                let own: Vec<Line> = lines.iter().copied().filter(|(of, _)| *of == tenant).collect();
                if !own.is_empty() {
                    said_alone.extend(send(&settings, &mut alone, second, &own));
                }
            }
            prop_assert!(said.iter().any(|(anomaly, ..)| anomaly.is_some()));
            for (anomaly, ..) in &said {
                let reason = anomaly.as_ref().map_or("", |anomaly| &anomaly.reason);
                let others = NAMES.iter().filter(|name| **name != NAMES[tenant]);
                prop_assert!(others.clone().all(|name| !reason.contains(name)), "{}", reason);
            }
            prop_assert_eq!(said, said_alone);
        }
    }
}

/// Warms up the tenants one after another, and lets each say something strange.
pub fn taught(settings: &engine::Settings, names: usize) -> (Tenants, Vec<Said>) {
    let mut tenants = hearing(settings.tenants());
    for (second, line) in (0..).zip(warm_up()) {
        let lines: Vec<Line> = (0..names).map(|tenant| (tenant, line)).collect();
        send(settings, &mut tenants, second, &lines);
    }
    let strange: Vec<Line> = (0..names).flat_map(|tenant| [(tenant, 17), (tenant, 18)]).collect();
    let said = send(settings, &mut tenants, 100, &strange);
    (tenants, said)
}

fn reasons(said: &[Said]) -> Vec<String> {
    let anomalies = said.iter().filter_map(|(anomaly, ..)| anomaly.as_ref());
    anomalies.map(|anomaly| anomaly.reason.to_string()).collect()
}

#[test]
fn ids_of_two_tenants_differ_though_all_else_is_equal() {
    let settings = settings(3, true);
    let (mut tenants, _) = taught(&settings, 2);
    let said = send(&settings, &mut tenants, 1000, &[(0, 19), (1, 19)]);
    let ids: Vec<_> = said.iter().filter_map(|(_, incident, _)| *incident).collect();
    assert_eq!(ids.len(), 2, "{said:?}");
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn the_same_bytes_of_two_callers_are_two_requests() {
    let settings = settings(3, true);
    let bytes = request(0, &[(0, 0)]);
    let view = View::parse(&bytes).unwrap();
    let front = engine::Settings::default().front();
    let hash = |name: &str| front.prepare_of(&Tenant::named(name), &view, 1).request_hash;
    assert_ne!(hash("alpha"), hash("beta"));
    assert_eq!(hash(""), front.prepare(&view, 1).request_hash);
    assert_eq!(settings.front().prepare(&view, 1).tenants, [Tenant::named("alpha")]);
}

#[test]
fn beyond_the_bound_tenants_share_a_place_where_nothing_is_quoted() {
    let settings = settings(1, true);
    let (mut tenants, said) = taught(&settings, 3);
    assert_eq!(tenants.count().0, 2);
    let notes = tenants.drain_notes();
    let too_many = notes
        .iter()
        .filter(|note| matches!(note, Note::TooMany { max_tenants: 1 }));
    assert_eq!(too_many.count(), 1, "{notes:?}");
    let of_others = reasons(&said[2..]);
    assert!(!of_others.is_empty());
    assert!(of_others.iter().all(|reason| !reason.contains('"')), "{of_others:?}");
    let bytes = request(2000, &[(0, 0), (1, 0), (2, 0)]);
    let view = View::parse(&bytes).unwrap();
    let batch = settings.front().prepare(&view, u64::MAX);
    assert_eq!(tenants.commit(&batch, &[None, None, None]).overflow_records, 2);
    assert!(tenants.commit(&batch, &[None, None, None]).repeated);
}

/// The tenants as a snapshot and the journal of what they told.
pub fn on_disk(tenants: &mut Tenants) -> (Vec<u8>, Vec<u8>) {
    let mut journal = Vec::new();
    for (tenant, events) in tenants.drain_events() {
        JournalEntry::new(&tenant, events, "words").frame(&mut journal);
    }
    let states = tenants.export();
    let sections = states
        .iter()
        .map(|(tenant, scorer, correlator)| TenantSection::new(tenant, scorer, correlator));
    let snapshot = Snapshot {
        model_version: "words".to_owned(),
        journal_epoch: 1,
        tenants: sections.collect(),
        ..Snapshot::default()
    };
    (snapshot::encode(&snapshot), journal)
}

#[test]
fn what_was_learned_of_each_survives_a_restart() {
    let settings = settings(3, true);
    let (mut tenants, _) = taught(&settings, 3);
    let (snapshot, journal) = on_disk(&mut tenants);
    let recovered = recovery::recover(&settings, Some(&snapshot), &[(0, journal.clone())], Some("words"));
    assert!(recovered.from_snapshot && recovered.problem.is_none());
    let mut restored = hearing(recovered.state);
    assert!(restored.export() == tenants.export(), "a snapshot holds everything");
    let lines: Vec<Line> = vec![(0, 17), (1, 19), (2, 3), (0, 16)];
    assert_eq!(
        send(&settings, &mut restored, 300, &lines),
        send(&settings, &mut tenants, 300, &lines)
    );
    // From the journals alone each has its incidents again, and nobody else's.
    let (tenants, _) = taught(&settings, 3);
    let replayed = recovery::recover(&settings, None, &[(1, journal)], Some("words")).state;
    let ids = |tenants: &Tenants| {
        let all = tenants.incidents();
        all.map(|(tenant, incidents)| (tenant.clone(), incidents.iter().map(|incident| incident.id).collect()))
            .collect::<Vec<(Tenant, Vec<IncidentId>)>>()
    };
    assert_eq!(ids(&replayed), ids(&tenants));
    // Without tenants what was learned of them is nobody's.
    let one = engine::Settings::default();
    let recovered = recovery::recover(&one, Some(&snapshot), &[], Some("words"));
    assert_eq!(recovered.state.count().0, 0);
}

const WORDS: [&str; 6] = [
    "customer",
    "quietly",
    "invoice",
    "corruption",
    "Executor",
    "alpha customer",
];

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn without_store_text_no_text_is_kept_or_quoted() {
    let with = settings(3, true);
    let (mut tenants, said) = taught(&with, 2);
    let (snapshot, journal) = on_disk(&mut tenants);
    assert!(WORDS.iter().all(|word| holds(&snapshot, word) || holds(&journal, word)));

    let without = settings(3, false);
    let (mut silent, said_silently) = taught(&without, 2);
    assert!(reasons(&said_silently).iter().all(|reason| !reason.contains('"')));
    assert_eq!(
        reasons(&said).len(),
        reasons(&said_silently).len(),
        "the verdicts are the same"
    );
    let (silent_snapshot, silent_journal) = on_disk(&mut silent);
    // What was written before the texts were unwanted is not kept either.
    let mut stripped = recovery::recover(&without, Some(&snapshot), &[(1, journal)], Some("words")).state;
    let (stripped_snapshot, stripped_journal) = on_disk(&mut stripped);
    for bytes in [silent_snapshot, silent_journal, stripped_snapshot, stripped_journal] {
        for word in WORDS {
            assert!(!holds(&bytes, word), "{word}");
        }
    }
}

fn forget(state: &Path, pattern: &str, tenant: Option<&str>, dry_run: bool) -> anyhow::Result<()> {
    forget::run(&forget::Args {
        pattern: pattern.to_owned(),
        state: state.to_owned(),
        tenant: tenant.map(str::to_owned),
        dry_run,
    })
    .map(drop)
}

#[test]
fn what_is_forgotten_is_gone_from_snapshot_and_journals_and_the_rest_goes_on() {
    let settings = settings(3, true);
    let (mut tenants, _) = taught(&settings, 2);
    let (snapshot, journal) = on_disk(&mut tenants);
    let home = tempfile::tempdir().unwrap();
    {
        let store = StateDirectory::open(home.path()).unwrap();
        store.save_snapshot(&snapshot).unwrap();
        store.begin_epoch(1).unwrap();
        store.append_journal(&journal, true).unwrap();
        let refusal = forget(home.path(), "x", None, false).unwrap_err();
        assert!(format!("{refusal:#}").contains("stop it"), "{refusal:#}");
    }
    let on_disk = || {
        let files = std::fs::read_dir(home.path()).unwrap();
        files
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect::<Vec<u8>>()
    };
    forget(home.path(), "corruption", None, true).unwrap();
    assert!(holds(&on_disk(), "corruption"), "a dry run changes nothing");
    forget(home.path(), "Executor", Some("beta"), false).unwrap();
    assert!(holds(&on_disk(), "completed. alpha") && !holds(&on_disk(), "completed. beta"));
    forget(home.path(), "corruption|invoice", None, false).unwrap();
    assert!(!holds(&on_disk(), "corruption") && !holds(&on_disk(), "invoice"));
    assert!(holds(&on_disk(), "basket"));

    let loaded = StateDirectory::open(home.path()).unwrap().load().unwrap();
    let recovered = recovery::recover(&settings, loaded.snapshot.as_deref(), &loaded.journals, Some("words"));
    assert!(recovered.from_snapshot && recovered.problem.is_none(), "{recovered:?}");
    let mut restored = hearing(recovered.state);
    assert_eq!(restored.count(), (2, 2));
    let ids = |tenants: &Tenants| tenants.incidents().map(|(_, of)| of.len()).collect::<Vec<_>>();
    assert_eq!(
        ids(&restored),
        ids(&tenants),
        "incidents keep their ids, only their words are gone"
    );
    let said = send(&settings, &mut restored, 400, &[(0, 17), (0, 1)]);
    assert!(said[0].0.is_some() && said[1].0.is_none(), "{said:?}");
    assert!(forget(&home.path().join("nowhere"), "x", None, false).is_err());
    assert!(forget(home.path(), "(", None, false).is_err());
}
