//! `mode: evidence`, from outside: what is one incident and what is not, whatever order records come in, over a restart,
//! through a night of noise and through a storm.

use std::collections::{BTreeMap, BTreeSet};

use harbinger::engine::{
    correlate::{Change, Correlator, CorrelatorState, Ending, Event, Happened, IncidentId, Node, Settings, Status},
    embed::{DIMENSIONS, Embedding},
    text::TemplateKey,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_763_800_000 * SECOND;

/// Sentence `number`: like none of the others.
fn embedding(number: usize) -> Embedding {
    let mut values = vec![0.0; DIMENSIONS];
    values[number % DIMENSIONS] = 1.0;
    values[(number / DIMENSIONS + 7 * number + 1) % DIMENSIONS] += 0.3;
    Embedding::new(values).unwrap()
}

/// A record by its time, service and template.
type Which = (u64, usize, usize);

#[derive(Clone, Debug)]
struct Record {
    time: u64,
    service: usize,
    template: usize,
    ids: Vec<u64>,
    anomalous: bool,
}

impl Record {
    fn at(seconds: f64, service: usize, template: usize) -> Self {
        Self {
            time: START + (seconds * 1e9) as u64,
            service,
            template,
            ids: Vec::new(),
            anomalous: true,
        }
    }
}

fn observe(correlator: &mut Correlator, record: &Record) -> Option<IncidentId> {
    let embedding = embedding(record.template);
    correlator.observe(&Node {
        time_unix_nano: record.time,
        service: &format!("service-{}", record.service),
        template: TemplateKey(record.template as u64 * 7919 + 1),
        text: &format!("sentence {}", record.template),
        embedding: Some(&embedding),
        anomalous: record.anomalous,
        severity_number: 17,
        ids: &record.ids,
        delayed: false,
        reason: if record.anomalous { "unheard of" } else { "" },
    })
}

fn all(correlator: &mut Correlator, records: &[Record]) -> Vec<Option<IncidentId>> {
    records.iter().map(|record| observe(correlator, record)).collect()
}

fn changes(correlator: &mut Correlator) -> Vec<Change> {
    let mut changes = Vec::new();
    correlator.drain_changes(&mut changes);
    changes
}

/// Where each record is by the end, as the first record of its incident: what a partition is, without names.
fn partition(correlator: &Correlator, records: &[Record]) -> BTreeMap<Which, BTreeSet<Which>> {
    let Correlator::Evidence(evidence) = correlator else {
        panic!("evidence is the default")
    };
    let mut groups: BTreeMap<IncidentId, BTreeSet<Which>> = BTreeMap::new();
    for record in records {
        let template = TemplateKey(record.template as u64 * 7919 + 1);
        let id = evidence.incident_at(template, &format!("service-{}", record.service), record.time);
        let id = id.expect("what is no later than allowed is in the log");
        groups
            .entry(id)
            .or_default()
            .insert((record.time, record.service, record.template));
    }
    groups
        .into_values()
        .map(|group| (*group.first().unwrap(), group))
        .collect()
}

/// Records of up to a hundred seconds, less than may be late, in bursts.
fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        0u64..100_000,
        0usize..3,
        0usize..6,
        prop::collection::vec(1u64..6, 0..2),
    )
        .prop_map(|(millisecond, service, template, ids)| Record {
            time: START + millisecond * 1_000_000,
            service,
            template,
            ids,
            anomalous: true,
        });
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        rng_seed: proptest::test_runner::RngSeed::Fixed(4),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the order within the allowed lateness, the same records end in the same incidents.
    #[test]
    fn order_does_not_matter(records in records().prop_flat_map(|records| {
        let shuffled = Just(records.clone()).prop_shuffle();
        (Just(records), shuffled)
    })) {
        let (mut in_order, shuffled) = records;
        in_order.sort_by_key(|record| (record.time, record.template, record.service));
        let (mut one, mut other) = (Correlator::new(Settings::default()), Correlator::new(Settings::default()));
        let given = all(&mut one, &in_order);
        all(&mut other, &shuffled);
        prop_assert_eq!(partition(&one, &in_order), partition(&other, &in_order));
        // In order, what was forwarded is what is known at the end, up to aliases.
        let Correlator::Evidence(evidence) = &one else { unreachable!() };
        for (record, given) in in_order.iter().zip(given) {
            let template = TemplateKey(record.template as u64 * 7919 + 1);
            let now = evidence.incident_at(template, &format!("service-{}", record.service), record.time);
            prop_assert_eq!(given.map(|id| one.resolve(id)), now);
        }
    }

    /// What is shown of an incident adds up: every record is in its course once, in its service's and its template's count, and
    /// whatever did not open it is tied to something that it said before.
    #[test]
    fn what_is_shown_adds_up(records in records()) {
        let mut records = records;
        records.sort_by_key(|record| record.time);
        for (place, record) in records.iter_mut().enumerate() {
            record.anomalous = place % 5 != 4;
        }
        let mut correlator = Correlator::new(Settings::default());
        all(&mut correlator, &records);
        for incident in correlator.incidents() {
            prop_assert_eq!(incident.course.records().iter().sum::<u64>(), incident.records);
            let by_service: u64 = incident.service_counts.iter().map(|count| count.records).sum();
            prop_assert_eq!(by_service + incident.records_of_other_services, incident.records);
            let firsts: Vec<u64> = incident.service_counts.iter().map(|count| count.first_time_unix_nano).collect();
            prop_assert!(firsts.is_sorted() && firsts.first() == Some(&incident.first_time_unix_nano));
            prop_assert_eq!(&*incident.leading_edge.reason, "unheard of");
            let mut spans = vec![0; incident.course.records().len()];
            let mut openers = 0;
            for template in &incident.templates {
                prop_assert_eq!(template.course.records().iter().sum::<u64>(), template.records);
                let within = template.course.within(&incident.course);
                spans.iter_mut().zip(within).for_each(|(sum, records)| *sum += records);
                prop_assert_eq!(template.first_episode.is_none(), template.anomalous_records == 0);
                match template.first_episode.as_ref().map(|first| (first.time_unix_nano, &first.link)) {
                    Some((_, None)) => openers += 1,
                    Some((time, Some(link))) => {
                        prop_assert!(link.weight >= 0.0 && link.first_time_unix_nano <= time);
                        prop_assert!(incident.templates.iter().any(|other| other.template == link.template));
                    }
                    None => {}
                }
            }
            prop_assert_eq!(spans, incident.course.records());
            prop_assert_eq!(openers, 1);
        }
    }

    /// A snapshot taken anywhere, and a journal from anywhere, go on as if nothing had been.
    #[test]
    fn a_restart_changes_nothing(records in records(), at in any::<prop::sample::Index>()) {
        let mut records = records;
        records.sort_by_key(|record| record.time);
        let at = at.index(records.len());
        let (before, after) = records.split_at(at);
        let mut whole = Correlator::new(Settings::default());
        all(&mut whole, before);
        let mut events: Vec<Event> = Vec::new();
        whole.drain(&mut events);
        let mut restored = Correlator::restore(Settings::default(), whole.export());
        prop_assert_eq!(restored.incidents(), whole.incidents());
        let mut replayed = Correlator::restore(Settings::default(), CorrelatorState::default());
        for event in events.iter().chain(&events) {
            replayed.apply(event);
        }
        let ids = |it: &Correlator| it.incidents().iter().map(|incident| incident.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&replayed), ids(&whole));
        let given = all(&mut whole, after);
        prop_assert_eq!(all(&mut restored, after), given.clone());
        prop_assert_eq!(restored.export(), whole.export());
    }
}

/// A night: an error family repeats every half minute for ten hours; four short faults come two hours apart. None of the
/// faults is in one incident with another or with the noise, each is one, and the noise is a bounded row of children.
#[test]
fn noise_glues_nothing() {
    let mut records: Vec<(Record, Option<usize>)> = (0..1200)
        .map(|n| (Record::at(f64::from(n) * 30.0, 0, 0), None))
        .collect();
    for fault in 0..4usize {
        let begin = 5400.0 + 7200.0 * fault as f64;
        for n in 0..40usize {
            let record = Record::at(begin + 0.7 * n as f64, 1 + (fault + n) % 3, 10 + 5 * fault + n % 4);
            records.push((record, Some(fault)));
        }
    }
    records.sort_by_key(|(record, _)| record.time);
    let mut correlator = Correlator::new(Settings::default());
    let mut of: BTreeMap<Option<usize>, BTreeSet<IncidentId>> = BTreeMap::new();
    for (record, fault) in &records {
        of.entry(*fault).or_default().extend(observe(&mut correlator, record));
    }
    let noise = of.remove(&None).unwrap();
    assert!(noise.len() <= 21, "ten hours are twenty half hours: {noise:?}");
    let faults: BTreeSet<IncidentId> = of.values().flatten().copied().collect();
    assert_eq!(of.values().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(faults.len(), 4);
    assert!(faults.is_disjoint(&noise));
}

/// An outage of forty minutes with an error every three seconds is one incident and its child, which says so.
#[test]
fn a_long_outage_is_one_with_its_children() {
    let mut correlator = Correlator::new(Settings::default());
    let records: Vec<Record> = (0..800).map(|n| Record::at(f64::from(n) * 3.0, 0, 0)).collect();
    let ids: BTreeSet<IncidentId> = all(&mut correlator, &records).into_iter().flatten().collect();
    let ids: Vec<IncidentId> = ids.into_iter().collect();
    let [parent, child] = ids.as_slice() else {
        panic!("{ids:?}")
    };
    assert_eq!(correlator.incident(*child).unwrap().parent, Some(*parent));
    let told: Vec<(Happened, IncidentId)> = changes(&mut correlator)
        .into_iter()
        .filter(|change| change.happened != Happened::Updated)
        .map(|change| (change.happened, change.incident.id))
        .collect();
    assert_eq!(
        told,
        [
            (Happened::Opened, *parent),
            (Happened::Opened, *child),
            (Happened::Closed, *parent)
        ]
    );
}

/// Small incidents are not told; a grave one is told by its first record; silence closes, and nothing reopens.
#[test]
fn an_incident_is_told_when_it_is_one() {
    let mut correlator = Correlator::new(Settings::default());
    let first = observe(&mut correlator, &Record::at(0.0, 0, 0)).unwrap();
    observe(&mut correlator, &Record::at(5.0, 0, 0));
    assert!(changes(&mut correlator).is_empty());
    observe(&mut correlator, &Record::at(9.0, 0, 0));
    let told = changes(&mut correlator);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].happened, told[0].incident.id), (Happened::Opened, first));
    assert_eq!(told[0].incident.records, 3);
    let calm = Record {
        anomalous: false,
        ..Record::at(900.0, 3, 40)
    };
    // One record far ahead may have a wrong clock; eight have not.
    all(&mut correlator, &vec![calm; 8]);
    let told = changes(&mut correlator);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].incident.status, Status::Closed { by: Ending::Silence });
    let again = observe(&mut correlator, &Record::at(905.0, 0, 0)).unwrap();
    assert_ne!(again, first);
}

/// Of more incidents than may be open the quietest ends, and whoever was told of it is told that; also when the log is folded
/// again meanwhile, and nothing becomes an alias of itself.
#[test]
fn what_a_bound_ends_is_told() {
    let mut correlator = Correlator::new(Settings {
        max_open_incidents: 2,
        ..Settings::default()
    });
    let mut ids = Vec::new();
    for fault in 0..3usize {
        let begin = 100.0 * fault as f64;
        for n in 0..3 {
            ids.push(observe(&mut correlator, &Record::at(begin + f64::from(n), fault, fault)).unwrap());
        }
    }
    observe(&mut correlator, &Record::at(150.0, 1, 1));
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    let calm = Record {
        anomalous: false,
        ..Record::at(500.0, 5, 40)
    };
    all(&mut correlator, &vec![calm; 8]);
    let ended: Vec<(IncidentId, Status)> = changes(&mut correlator)
        .into_iter()
        .filter(|change| change.happened == Happened::Closed)
        .map(|change| (change.incident.id, change.incident.status))
        .collect();
    assert!(
        ended.contains(&(ids[0], Status::Closed { by: Ending::Bound })),
        "{ended:?}"
    );
    let mut events = Vec::new();
    correlator.drain(&mut events);
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Merged(it) if it.from == it.into))
    );
    assert!(ids.iter().all(|id| correlator.resolve(*id) == *id));
}

/// Normal records that are alike and near carry the id, are counted apart, and keep nothing open.
#[test]
fn context_is_no_member() {
    let mut correlator = Correlator::new(Settings::default());
    let id = observe(&mut correlator, &Record::at(0.0, 0, 0));
    let calm = |seconds: f64, template: usize| Record {
        anomalous: false,
        ..Record::at(seconds, 0, template)
    };
    assert_eq!(observe(&mut correlator, &calm(20.0, 0)), id);
    assert_eq!(observe(&mut correlator, &calm(60.0, 0)), None, "alike, but not near");
    let incident = correlator.incident(id.unwrap()).unwrap();
    assert_eq!((incident.records, incident.anomalous_records), (2, 1));
}

/// One id in two young incidents makes them one: the older name goes on, the younger is told to be its alias.
#[test]
fn a_shared_id_unites() {
    let mut correlator = Correlator::new(Settings::default());
    let with_ids = |seconds: f64, service: usize, template: usize, ids: &[u64]| Record {
        ids: ids.to_vec(),
        ..Record::at(seconds, service, template)
    };
    let older = observe(&mut correlator, &with_ids(0.0, 0, 0, &[77])).unwrap();
    let younger = observe(&mut correlator, &with_ids(200.0, 1, 1, &[88])).unwrap();
    assert_ne!(older, younger, "two hundred seconds are long for what is not linked");
    let both = observe(&mut correlator, &with_ids(201.0, 2, 2, &[77, 88])).unwrap();
    assert_eq!(correlator.resolve(younger), older);
    assert_eq!(both, older);
    assert_eq!(correlator.incident(younger).unwrap().aliases, [younger]);
}

/// A million anomalous records within a minute, of two faults and of much noise: bounded, and still told apart.
#[test]
fn a_storm_is_bounded() {
    let mut correlator = Correlator::new(Settings {
        max_live_templates: 512,
        max_open_incidents: 64,
        ..Settings::default()
    });
    let embeddings: Vec<Embedding> = (0..400).map(embedding).collect();
    let services = ["api", "db", "queue"];
    let mut ids: BTreeMap<usize, BTreeSet<IncidentId>> = BTreeMap::new();
    for n in 0..1_000_000usize {
        let template = n * 31 % 400;
        let id = correlator.observe(&Node {
            time_unix_nano: START + n as u64 * 60_000,
            service: services[template % 3],
            template: TemplateKey(template as u64),
            text: "storm",
            embedding: Some(&embeddings[template]),
            anomalous: true,
            severity_number: 17,
            ids: &[],
            delayed: false,
            reason: "",
        });
        ids.entry(template).or_default().extend(id);
    }
    assert!(
        ids.values().all(|ids| !ids.is_empty()),
        "every record is in an incident"
    );
    assert!(correlator.open_incidents() <= 64);
    let Correlator::Evidence(evidence) = &correlator else {
        unreachable!()
    };
    assert!(evidence.unsettled() <= 1024, "{}", evidence.unsettled());
    assert!(evidence.counters().runs < 10_000, "{:?}", evidence.counters());
}
