//! Streaming incidents are the connected components of the graph of all pairs, whatever the order, the batches, the
//! restarts; and the work does not grow with the records of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harbinger::edge::Store;
use harbinger::edge::store::StateDirectory;
use harbinger::engine::correlate::{
    Components, ComponentsState, Correlator, Event, IncidentId, Mode, Node, Scope, Settings, components,
};
use harbinger::engine::embed::{DIMENSIONS, Embedding};
use harbinger::engine::score::ScorerState;
use harbinger::engine::snapshot::{self, Journal, JournalEntry, Snapshot, TenantSection};
use harbinger::engine::tenant::Tenant;
use harbinger::engine::text::TemplateKey;
use proptest::prelude::*;
use prost::Message;

const WINDOW: u64 = 300_000_000_000;
/// Times in the streams are multiples of this, give or take a nanosecond: gaps of exactly a window are common.
const STEP: u64 = WINDOW / 10;
const START: u64 = 1_700_000_000_000_000_000;

#[derive(Clone, Debug)]
struct Record {
    time: u64,
    template: usize,
    anomalous: bool,
    /// Whether its template's embedding is known when it arrives.
    embedded: bool,
}

#[derive(Clone, Debug)]
struct Stream {
    records: Vec<Record>,
    embeddings: Vec<Embedding>,
    lateness: u64,
    similarity: f32,
}

fn embedding(low: &[i8]) -> Embedding {
    let mut values = vec![0.0; DIMENSIONS];
    for (value, low) in values.iter_mut().zip(low) {
        *value = f32::from(*low);
    }
    Embedding::new(values).unwrap()
}

impl Stream {
    fn settings(&self, scope: Scope) -> Settings {
        Settings {
            window: Duration::from_nanos(WINDOW),
            similarity: self.similarity,
            scope,
            allowed_lateness: Duration::from_nanos(self.lateness),
            ..Settings::default()
        }
    }

    fn alike(&self, one: usize, two: usize) -> bool {
        if one == two {
            return 1.0 > self.similarity;
        }
        self.embeddings[one].cosine(&self.embeddings[two]) > self.similarity
    }

    /// Every record is of a service of its own, so that a leading edge names its record.
    fn observe(&self, correlator: &mut Components, index: usize) -> Option<IncidentId> {
        let record = &self.records[index];
        correlator.observe(&Node {
            time_unix_nano: record.time,
            service: &format!("service-{index}"),
            template: TemplateKey(record.template as u64 * 7919),
            text: &format!("template {}", record.template),
            embedding: record.embedded.then(|| &self.embeddings[record.template]),
            anomalous: record.anomalous,
            severity_number: 9,
            ids: &[],
            delayed: false,
            reason: "",
        })
    }

    /// The graph of all pairs: for each record that is a node, the first such record of its component.
    fn brute_force(&self, is_node: impl Fn(&Record) -> bool) -> Vec<Option<usize>> {
        let nodes: Vec<usize> = (0..self.records.len()).filter(|i| is_node(&self.records[*i])).collect();
        let mut component: Vec<Option<usize>> = vec![None; self.records.len()];
        for first in &nodes {
            if component[*first].is_some() {
                continue;
            }
            let mut reached = vec![*first];
            component[*first] = Some(*first);
            while let Some(one) = reached.pop() {
                for two in &nodes {
                    let (a, b) = (&self.records[one], &self.records[*two]);
                    let edge = a.time.abs_diff(b.time) < WINDOW && self.alike(a.template, b.template);
                    if edge && component[*two].is_none() {
                        component[*two] = Some(*first);
                        reached.push(*two);
                    }
                }
            }
        }
        component
    }
}

/// Times jump about in steps of a tenth of the window, exact or a nanosecond off, and sometimes far.
fn stream(exact: bool, all_embedded: bool) -> impl Strategy<Value = Stream> {
    let similarity = prop::sample::select(vec![0.8f32, 0.5, 0.95, 0.0, -1.0, 1.0]);
    let templates = prop::collection::vec(prop::collection::vec(-3i8..=3, 3), 1..7);
    let lateness = prop::sample::select(vec![0, STEP * 2, WINDOW, WINDOW * 3]);
    (similarity, templates, lateness).prop_flat_map(move |(similarity, templates, lateness)| {
        let gap = prop_oneof![6 => 0u64..4, 3 => 8u64..12, 1 => 20u64..90];
        let off = if exact {
            (0u64..1).boxed()
        } else {
            prop::sample::select(vec![0u64, 0, 1, 2]).boxed()
        };
        let delay = 0..=lateness / STEP;
        let record = (gap, off, delay, 0..templates.len(), any::<bool>(), any::<bool>());
        let embeddings: Vec<Embedding> = (templates.iter())
            .map(|low| {
                if low.iter().all(|v| *v == 0) {
                    embedding(&[1])
                } else {
                    embedding(low)
                }
            })
            .collect();
        prop::collection::vec(record, 1..70).prop_map(move |drawn| {
            let mut time = START;
            let mut arrivals = Vec::new();
            for (gap, off, delay, template, anomalous, embedded) in drawn {
                time += gap * STEP;
                let record = Record {
                    time: time + off,
                    template,
                    anomalous,
                    embedded: embedded || all_embedded,
                };
                // Arriving up to the lateness after its time, no record is later than that behind another.
                arrivals.push((record.time + (delay * STEP).min(lateness), record));
            }
            arrivals.sort_by_key(|(arrival, _)| *arrival);
            Stream {
                records: arrivals.into_iter().map(|(_, record)| record).collect(),
                embeddings: embeddings.clone(),
                lateness,
                similarity,
            }
        })
    })
}

fn run(stream: &Stream, scope: Scope) -> (Components, Vec<Option<IncidentId>>, Vec<Event>) {
    let mut correlator = Components::new(stream.settings(scope));
    let ids = (0..stream.records.len())
        .map(|index| stream.observe(&mut correlator, index))
        .collect();
    let mut events = Vec::new();
    correlator.drain(&mut events);
    (correlator, ids, events)
}

fn assert_partition(stream: &Stream, correlator: &Components, ids: &[Option<IncidentId>], expected: &[Option<usize>]) {
    let mut id_of: BTreeMap<usize, IncidentId> = BTreeMap::new();
    let mut component_of: BTreeMap<IncidentId, usize> = BTreeMap::new();
    for (index, component) in expected.iter().enumerate() {
        let Some(component) = *component else { continue };
        let id = correlator.resolve(ids[index].unwrap());
        assert_eq!(
            *id_of.entry(component).or_insert(id),
            id,
            "record {index} split off: {stream:?}"
        );
        assert_eq!(
            *component_of.entry(id).or_insert(component),
            component,
            "record {index} glued on: {stream:?}"
        );
    }
    // The leading edge of what is open is the earliest record, of equal ones the first to come.
    for incident in correlator.incidents() {
        let component = component_of[&incident.id];
        let leading = (0..expected.len())
            .filter(|index| expected[*index] == Some(component))
            .min_by_key(|index| (stream.records[*index].time, *index))
            .unwrap();
        assert_eq!(incident.leading_edge.time_unix_nano, stream.records[leading].time);
        assert_eq!(*incident.leading_edge.service, format!("service-{leading}"));
        let carried = ids
            .iter()
            .flatten()
            .filter(|id| correlator.resolve(**id) == incident.id)
            .count();
        assert_eq!(incident.records, carried as u64);
        let listed: u64 = incident.templates.iter().map(|count| count.records).sum();
        assert_eq!(listed + incident.records_of_other_templates, incident.records);
    }
}

/// Ids that were opened, each once.
fn opened(events: &[Event]) -> BTreeSet<IncidentId> {
    let mut ids = BTreeSet::new();
    for event in events {
        if matches!(event, Event::Opened(_)) {
            assert!(ids.insert(event.id()), "given twice: {}", event.id());
        }
    }
    ids
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn scope_all_equals_the_graph_of_all_pairs(stream in stream(false, true)) {
        let (correlator, ids, events) = run(&stream, Scope::All);
        assert_partition(&stream, &correlator, &ids, &stream.brute_force(|_| true));
        let given = opened(&events);
        prop_assert!(ids.iter().flatten().all(|id| given.contains(id)));
        prop_assert_eq!(correlator.counters().late_unplaced, 0);
    }

    /// Anomalous records are the graph; a normal one has an id exactly when it is alike and near to an anomalous one
    /// that came before it, and then that one's.
    #[test]
    fn scope_anomalous_equals_the_graph_of_anomalous_pairs(stream in stream(false, true)) {
        let (correlator, ids, _) = run(&stream, Scope::Anomalous);
        let expected = stream.brute_force(|record| record.anomalous);
        assert_partition(&stream, &correlator, &ids, &expected);
        for (index, record) in stream.records.iter().enumerate().filter(|(_, record)| !record.anomalous) {
            let hosts: Vec<IncidentId> = (0..index)
                .filter(|other| {
                    let other = &stream.records[*other];
                    other.anomalous
                        && other.time.abs_diff(record.time) < WINDOW
                        && stream.alike(other.template, record.template)
                })
                .map(|other| correlator.resolve(ids[other].unwrap()))
                .collect();
            match ids[index] {
                None => prop_assert!(hosts.is_empty(), "record {} should attach", index),
                Some(id) => prop_assert!(hosts.contains(&correlator.resolve(id)), "record {} attached wrongly", index),
            }
        }
    }

    /// An embedding that is known late counts from then on for every run still retained.
    #[test]
    fn late_embeddings_join_what_is_retained(stream in stream(false, false), told in any::<bool>()) {
        let stream = Stream { lateness: WINDOW * 1000, ..stream };
        let (mut correlator, ids, _) = run(&stream, Scope::All);
        if told {
            for (template, embedding) in stream.embeddings.iter().enumerate() {
                correlator.learn(TemplateKey(template as u64 * 7919), embedding);
            }
        }
        let known: BTreeSet<usize> =
            stream.records.iter().filter(|record| record.embedded || told).map(|record| record.template).collect();
        // An unknown template is like itself only: give it a direction of its own.
        let mut seen = stream.clone();
        for (template, embedding) in seen.embeddings.iter_mut().enumerate() {
            if !known.contains(&template) {
                let mut low = vec![0; 40 + template];
                low.push(1);
                *embedding = self::embedding(&low);
            }
        }
        if stream.similarity >= 0.0 {
            assert_partition(&stream, &correlator, &ids, &seen.brute_force(|_| true));
        }
    }

    /// Encoding and restoring the state between any two records changes nothing that can be seen, to the bit.
    #[test]
    fn a_restart_between_records_changes_nothing(
        stream in stream(false, false),
        cuts in prop::collection::vec(any::<bool>(), 70),
        all in any::<bool>(),
    ) {
        let scope = if all { Scope::All } else { Scope::Anomalous };
        let (whole, ids, events) = run(&stream, scope);
        let mut cut = Components::new(stream.settings(scope));
        let (mut cut_ids, mut cut_events) = (Vec::new(), Vec::new());
        for (index, restart) in cuts.iter().enumerate().take(stream.records.len()) {
            if *restart {
                cut.drain(&mut cut_events);
                let bytes = cut.export().encode_to_vec();
                cut = Components::restore(stream.settings(scope), ComponentsState::decode(&bytes[..]).unwrap());
            }
            cut_ids.push(stream.observe(&mut cut, index));
        }
        cut.drain(&mut cut_events);
        prop_assert_eq!(ids, cut_ids);
        prop_assert_eq!(events, cut_events);
        prop_assert_eq!(whole.incidents(), cut.incidents());
        prop_assert_eq!(whole.export().encode_to_vec(), cut.export().encode_to_vec());
    }

    /// After a crash, an older snapshot and the journal since give the open incidents their ids, aliases and leading
    /// edges again, and the stream goes on with the same ids. (Times are multiples of a tenth of the window, so that
    /// every move is told.)
    #[test]
    fn snapshot_and_journal_give_the_same_ids(
        stream in stream(true, true),
        saved_at in 0usize..70,
        crash_after in 0usize..70,
        all in any::<bool>(),
    ) {
        let scope = if all { Scope::All } else { Scope::Anomalous };
        let saved_at = saved_at.min(stream.records.len());
        let crash_at = (saved_at + crash_after).min(stream.records.len());
        let mut live = Components::new(stream.settings(scope));
        let mut given: BTreeSet<IncidentId> = BTreeSet::new();
        let mut told = Vec::new();
        for index in 0..saved_at {
            given.extend(stream.observe(&mut live, index));
        }
        live.drain(&mut told);
        let snapshot = live.export();
        for index in saved_at..crash_at {
            given.extend(stream.observe(&mut live, index));
        }
        let mut journal = Vec::new();
        live.drain(&mut journal);

        let mut back = Components::restore(stream.settings(scope), snapshot);
        for event in &journal {
            back.apply(event);
        }
        let mut again = back.clone();
        for event in &journal {
            again.apply(event); // a journal read twice is harmless
        }
        let names = |correlator: &Components| -> Vec<_> {
            let describe = |it: harbinger::engine::correlate::Incident| (it.id, it.aliases, it.leading_edge);
            correlator.incidents().into_iter().map(describe).collect()
        };
        prop_assert_eq!(names(&live), names(&back));
        prop_assert_eq!(names(&live), names(&again));
        for id in &given {
            prop_assert_eq!(live.resolve(*id), back.resolve(*id));
        }
        let mut silent = Vec::new();
        back.drain(&mut silent);
        prop_assert!(silent.is_empty(), "replay tells nothing: {:?}", silent);
        for index in crash_at..stream.records.len() {
            prop_assert_eq!(stream.observe(&mut live, index), stream.observe(&mut back, index), "record {}", index);
        }
        told.extend(journal);
        back.drain(&mut told);
        opened(&told); // none twice
    }

    /// The partition of a whole file, rows in any order, some without a time.
    #[test]
    fn components_of_rows_equal_the_graph_of_all_pairs(
        stream in stream(false, true),
        timed in prop::collection::vec(prop::bool::weighted(0.9), 70),
        order in any::<prop::sample::Index>(),
    ) {
        let mut stream = stream;
        let middle = order.index(stream.records.len());
        stream.records.rotate_left(middle);
        let rows: Vec<(Option<u64>, usize)> = (stream.records.iter())
            .zip(&timed)
            .map(|(record, timed)| (timed.then_some(record.time), record.template))
            .collect();
        let found = components(&rows, &stream.embeddings, Duration::from_nanos(WINDOW), stream.similarity);
        for (record, timed) in stream.records.iter_mut().zip(&timed) {
            record.anomalous = *timed;
        }
        let mut number_of = BTreeMap::new();
        let expected: Vec<usize> = (stream.brute_force(|record| record.anomalous).into_iter().enumerate())
            .map(|(row, component)| {
                let next = number_of.len();
                *number_of.entry(component.unwrap_or(row)).or_insert(next)
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}

/// Snapshot, journal and directory together: an agent killed while it wrote finds its open incidents under their ids, and
/// loses only the entry whose records had not left.
#[test]
fn a_killed_agent_finds_its_incidents_again() {
    let home = tempfile::tempdir().unwrap();
    let embeddings = [embedding(&[1]), embedding(&[0, 1]), embedding(&[0, 0, 1])];
    let observe = |correlator: &mut Correlator, second: u64, template: usize| {
        correlator.observe(&Node {
            time_unix_nano: START + second * 1_000_000_000,
            service: "api",
            template: TemplateKey(template as u64),
            text: ["boom", "bang", "crash"][template],
            embedding: Some(&embeddings[template]),
            anomalous: true,
            severity_number: 17,
            ids: &[],
            delayed: false,
            reason: "",
        })
    };
    let settings = || Settings {
        mode: Mode::Components,
        ..Settings::default()
    };
    let frame = |correlator: &mut Correlator| {
        let (mut events, mut bytes) = (Vec::new(), Vec::new());
        correlator.drain(&mut events);
        JournalEntry::new(&Tenant::default(), events, "model").frame(&mut bytes);
        bytes
    };
    let (boom, bang) = {
        let store = StateDirectory::open(home.path()).unwrap();
        let mut correlator = Correlator::new(settings());
        let boom = observe(&mut correlator, 0, 0);
        frame(&mut correlator);
        store.begin_epoch(1).unwrap();
        let section = TenantSection::new(&Tenant::default(), &ScorerState::default(), &correlator.export());
        let snapshot = Snapshot {
            model_version: "model".into(),
            journal_epoch: 1,
            tenants: vec![section],
            ..Snapshot::default()
        };
        store.save_snapshot(&snapshot::encode(&snapshot)).unwrap();
        let bang = observe(&mut correlator, 10, 1);
        store.append_journal(&frame(&mut correlator), true).unwrap();
        observe(&mut correlator, 20, 2);
        let torn = frame(&mut correlator);
        store.append_journal(&torn[..torn.len() / 2], false).unwrap();
        (boom, bang)
    };
    let store = StateDirectory::open(home.path()).unwrap();
    let loaded = store.load().unwrap();
    let snapshot = snapshot::decode(&loaded.snapshot.clone().unwrap(), Some("model")).unwrap();
    let (_, state) = snapshot.tenants[0].states().unwrap();
    let mut correlator = Correlator::restore(settings(), state);
    for (epoch, bytes) in &loaded.journals {
        assert!(*epoch >= snapshot.journal_epoch);
        let mut journal = Journal::new(bytes);
        for entry in journal.by_ref() {
            entry.events().for_each(|event| correlator.apply(event));
        }
        assert!(journal.ignored_bytes() > 0);
    }
    assert_eq!(loaded.next_epoch(), 2);
    assert_eq!(correlator.open_incidents(), 2);
    assert_eq!(observe(&mut correlator, 30, 0), boom);
    assert_eq!(observe(&mut correlator, 30, 1), bang);
}

/// The notebook's example: two log-in failures a minute apart are one incident, another sentence is not.
#[test]
fn the_notebooks_example_gives_two_incidents() {
    let minute = 60_000_000_000;
    let embeddings = [embedding(&[100]), embedding(&[82, 57]), embedding(&[40, 0, 92])];
    let rows = [
        (Some(START), 0),
        (Some(START + minute), 1),
        (Some(START + 5 * minute), 2),
    ];
    assert_eq!(components(&rows, &embeddings, Duration::from_secs(300), 0.8), [0, 0, 1]);
}

/// A stream of `records` over `templates` unlike, all in one run each, in order.
fn long_runs(records: u64, templates: usize) -> (Components, u64) {
    let embeddings: Vec<Embedding> = (0..templates)
        .map(|t| {
            let mut values: Vec<f32> = (0..DIMENSIONS)
                .map(|d| ((t * 31 + d * 17) % 97) as f32 - 48.0)
                .collect();
            values[t % DIMENSIONS] += 100.0;
            Embedding::new(values).unwrap()
        })
        .collect();
    let texts: Vec<String> = (0..templates).map(|t| format!("template {t}")).collect();
    let mut correlator = Components::new(Settings {
        scope: Scope::All,
        ..Settings::default()
    });
    let mut with_id = 0;
    for record in 0..records {
        let t = (record * 7919 % templates as u64) as usize;
        let id = correlator.observe(&Node {
            time_unix_nano: START + record * 1_000_000,
            service: "api",
            template: TemplateKey((t as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            text: &texts[t],
            embedding: Some(&embeddings[t]),
            anomalous: record % 10 == 0,
            severity_number: 9,
            ids: &[],
            delayed: false,
            reason: "",
        });
        with_id += u64::from(id.is_some());
    }
    (correlator, with_id)
}

/// A million records of a thousand templates: a thousand runs, each of which looks at its like once; no record does.
#[test]
fn work_grows_with_runs_not_with_records() {
    let (correlator, with_id) = long_runs(1_000_000, 1000);
    let counters = correlator.counters();
    assert_eq!(with_id, 1_000_000);
    assert_eq!(counters.runs, 1000);
    assert!(counters.cosine_evaluations <= 1000 * 999 / 2, "{counters:?}");
    assert!(counters.link_evaluations <= 1000 * 999 / 2, "{counters:?}");
    assert_eq!(
        correlator
            .incidents()
            .iter()
            .map(|incident| incident.records)
            .sum::<u64>(),
        1_000_000
    );
}

/// `cargo test --release --test all -- --ignored --nocapture cost_per_record`
#[test]
#[ignore = "a measurement, not a test"]
#[allow(clippy::print_stdout, reason = "it is what a measurement is for")]
fn cost_per_record() {
    for templates in [1, 1000] {
        let began = std::time::Instant::now();
        let (correlator, _) = long_runs(1_000_000, templates);
        let each = began.elapsed().as_nanos() / 1_000_000;
        println!("{templates} templates: {each} ns a record, {:?}", correlator.counters());
    }
}
