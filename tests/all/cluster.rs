//! Agents that fold one log, by simulation: with delays, losses, copies, outages, deaths and late comers they end with the same incidents.
//!
//! In: seeds; `HARBINGER_SIMULATED` says how many. Out: worlds (`world`) in which agents read a stream with faults (`stream`), and what is
//! asked of them at the end. Absent on purpose: Kafka and the pipeline, which are tested where they are; what it costs is in `measured`.

mod measured;
mod stream;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use harbinger::engine::{correlate::IncidentId, tenant::Tenant, tenants::Tenants};

use stream::tenants;
use world::{Deal, Plan, World};

const DEALS: [Deal; 3] = [Deal::Record, Deal::Service, Deal::Trace];

fn plan(seed: u64, calm: bool) -> Plan {
    Plan {
        seed,
        agents: 2 + (seed % 6) as usize,
        deal: DEALS[(seed / 6 % 3) as usize],
        calm,
    }
}

/// An incident as far as it is everybody's: its id and aliases, its anomalous records, in all and by template.
type Open = (IncidentId, Vec<IncidentId>, u64, BTreeMap<u64, u64>);

/// Open incidents.
fn open(tenants: &Tenants) -> Vec<Open> {
    let all = tenants
        .of(&Tenant::default())
        .map(|state| state.incidents())
        .unwrap_or_default();
    let said = |incident: harbinger::engine::correlate::Incident| {
        let templates = (incident.templates.iter())
            .filter(|template| template.anomalous_records > 0)
            .map(|template| (template.template.0, template.anomalous_records))
            .collect();
        (incident.id, incident.aliases, incident.anomalous_records, templates)
    };
    all.into_iter().map(said).collect()
}

fn resolve(tenants: &Tenants, id: IncidentId) -> IncidentId {
    tenants.of(&Tenant::default()).map_or(id, |state| state.resolve(id))
}

/// How the incidents of all stand, without what is one agent's own: as one who comes later takes it up.
fn shared(world: &World, of: &Tenants) -> Vec<u8> {
    let mut later = tenants(&world.stream);
    later.join("later", 1);
    if let Some((_, written)) = of.write_down() {
        later.adopt(&written).unwrap();
    }
    later.write_down().map(|(_, written)| written).unwrap_or_default()
}

/// One who reads all of the log at the end; each entry as often as `times` says.
fn reader(world: &World, mut times: impl FnMut() -> usize) -> Tenants {
    let mut reader = tenants(&world.stream);
    reader.join("reader", 1);
    for (offset, logged) in world.log.iter().enumerate() {
        for _ in 0..times() {
            assert!(reader.fold(offset as u64, logged.time, &logged.body).is_some());
        }
    }
    reader.caught_up();
    reader
}

fn agree(world: &World, seed: u64) {
    let all = reader(world, || 1);
    let mut random = fastrand::Rng::with_seed(seed);
    let often = reader(world, || 1 + usize::from(random.u8(..3) == 0));
    let (open_to_all, of_all) = (open(&all), shared(world, &all));
    assert!(
        of_all == shared(world, &often),
        "seed {seed}: an entry that is there twice counts once"
    );
    for (number, agent) in &world.agents {
        assert!(
            !agent.tenants.is_alone(),
            "seed {seed}: {} is alone at the end",
            agent.name
        );
        for id in world.ids() {
            assert_eq!(
                resolve(&agent.tenants, id),
                resolve(&all, id),
                "seed {seed}: {id} at {number}"
            );
        }
        assert_eq!(open(&agent.tenants), open_to_all, "seed {seed}: open at {number}");
        assert!(
            shared(world, &agent.tenants) == of_all,
            "seed {seed}: agent {number} is to write down the same"
        );
    }
}

/// Whatever happens between agents, when all was delivered all say the same of every id that anybody has given.
#[test]
fn agents_converge_whatever_happens() {
    let (mut aliases, mut alone, mut given) = (0, 0, 0);
    for seed in 0..seeds(20) {
        let world = World::new(plan(seed, false)).run();
        agree(&world, seed);
        aliases += world.aliases;
        alone += world.alone;
        given += world.given.len();
    }
    eprintln!("{given} ids given, {alone} requests alone, {aliases} aliases read");
    assert!(aliases > 0 && alone > 0, "nothing was tried");
}

/// Where nothing is late, nobody goes alone, and incidents are those of one agent that reads everything.
#[test]
fn without_outages_a_cluster_is_one_agent() {
    let (mut records, mut moved, mut other) = (0, 0, 0);
    for seed in 0..seeds(30) {
        let world = World::new(plan(seed, true)).run();
        agree(&world, seed);
        assert_eq!((world.aliases, world.alone, world.without_id), (0, 0, 0), "seed {seed}");
        assert!(world.waits > 0);
        let one = world.stream.alone();
        let all = reader(&world, || 1);
        for (record, id) in &world.given {
            records += 1;
            moved += usize::from(Some(resolve(&all, *id)) != one[*record]);
        }
        let groups = |of: &mut dyn Iterator<Item = (usize, IncidentId)>| {
            let mut groups: BTreeMap<IncidentId, BTreeSet<usize>> = BTreeMap::new();
            of.for_each(|(record, id)| _ = groups.entry(id).or_default().insert(record));
            groups.into_values().collect::<BTreeSet<_>>()
        };
        let ours = groups(&mut world.given.iter().map(|(record, id)| (*record, resolve(&all, *id))));
        let theirs = groups(&mut one.iter().enumerate().filter_map(|(record, id)| Some((record, (*id)?))));
        other += usize::from(ours != theirs);
    }
    eprintln!("{records} records, {moved} with another id than one agent gives; {other} worlds with another partition");
    assert_eq!(other, 0, "incidents are the same, record by record");
    // An incident is called after the run that was read first, which need not be the earliest.
    assert!(moved * 25 <= records, "{moved} of {records}");
}

/// What a newer version writes is passed over.
#[test]
fn an_entry_of_a_newer_version_is_passed_over() {
    let world = World::new(plan(1, true)).run();
    let mut reader = reader(&world, || 1);
    let (before, opened) = (shared(&world, &reader), open(&reader));
    let logged = world.log.last().unwrap();
    let mut newer = logged.body.clone();
    assert_eq!(newer[..2], [0x08, 1], "the version is the first field");
    newer[1] = 2;
    assert_eq!(reader.fold(world.log.len() as u64 - 1, logged.time, &newer), None);
    assert!(shared(&world, &reader) == before);
    assert_eq!(open(&reader), opened);
}

/// As many as are said, or as `HARBINGER_SIMULATED` says.
fn seeds(usual: u64) -> u64 {
    std::env::var("HARBINGER_SIMULATED").map_or(usual, |count| count.parse().unwrap())
}
