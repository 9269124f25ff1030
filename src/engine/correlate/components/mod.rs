//! `mode: components`, the notebook's rule: records that are close in time and alike in meaning, streamed, exactly as the
//! whole graph would have it.
//!
//! Two records share an edge when |Δt| < `window` and cosine > `similarity`, both strictly; an incident is a connected
//! component. In: one [`Node`] per record, in order of arrival, with times in any order. Out: the id of its incident at
//! that moment, and [`Event`]s for the journal.
//!
//! How it is linear: a node of the graph kept here is a run of a template, not a record (`runs`); a record that falls
//! into a run in order costs one table look-up, and only a new run looks at runs of similar templates.
//!
//! Promises: on records no later than `allowed_lateness`, below the caps, the partition equals the brute-force graph of
//! all pairs. An id is a hash of the leading edge at opening, is final and is never given twice; when incidents turn out
//! to be one, the one opened first goes on and the other's id becomes an alias. State is bounded, evictions are counted.
//! The same nodes give the same ids and events, to the bit, also across export and restore. Only the embedding a
//! template had first counts: it is a function of its key.
//!
//! A late record (before the watermark) joins what is still retained and never opens an incident. In scope `anomalous`
//! a normal record attaches to the nearest touching run's incident (equally near: opened first), and neither extends a
//! run nor bridges. Absent on purpose: services, trace ids and severities as evidence; they are told, not weighed.

mod graph;
mod incident;
mod life;
mod observe;
mod runs;
mod state;

use std::collections::HashMap;

pub use self::graph::components;
pub use self::state::ComponentsState;

use self::incident::{Aliases, Group, Survivor};
use self::runs::Runs;
use super::clock::Clock;
use super::event::Event;
use super::id::{IncidentId, Mixing, UsedIds};
use super::incident::{Change, Happened, Incident, Status};
use super::tally::Tally;
use super::{Counters, Settings, nanos};
use crate::engine::slab::Slab;

/// A run's part in its incident.
#[derive(Clone, Debug)]
struct Member {
    /// Place of the incident.
    incident: u32,
    /// Where in its list of runs.
    position: u32,
    tally: Tally,
    /// Start and end as last told by event.
    told: (u64, u64),
}

/// The serial state of correlation. See the module.
#[derive(Clone, Debug)]
pub struct Components {
    settings: Settings,
    /// Makes ids differ from those of another correlator.
    id_seed: u64,
    window: u64,
    clock: Clock,
    /// Records observed so far: the order of input.
    sequence: u64,
    runs: Runs<Member>,
    incidents: Slab<Group>,
    by_id: HashMap<IncidentId, u32, Mixing>,
    aliases: Aliases,
    used: UsedIds,
    events: Vec<Event>,
    changes: Vec<Change>,
    /// True while the journal is replayed: what it tells need not be told again.
    replaying: bool,
    counters: Counters,
    /// Scratch: runs of the record's template, runs it touches, incidents to unite.
    near: Vec<u32>,
    links: Vec<u32>,
    to_unite: Vec<u32>,
}

impl Components {
    /// A graph that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let window = nanos(settings.window);
        Self {
            id_seed: 0,
            window,
            clock: Clock::new(window, nanos(settings.allowed_lateness)),
            sequence: 0,
            runs: Runs::new(
                window,
                settings.similarity,
                settings.max_live_templates.saturating_mul(4),
            ),
            incidents: Slab::default(),
            by_id: HashMap::default(),
            aliases: Aliases::default(),
            used: UsedIds::default(),
            events: Vec::new(),
            changes: Vec::new(),
            replaying: false,
            counters: Counters::default(),
            near: Vec::new(),
            links: Vec::new(),
            to_unite: Vec::new(),
            settings,
        }
    }

    /// Goes on by these settings, as far as they can change.
    pub fn adjust(&mut self, settings: &Settings) {
        self.settings.adjust(settings);
    }

    /// Hashes the ids to come with this seed: a correlator with another gives other ids for the same records.
    pub fn seed_ids(&mut self, seed: u64) {
        self.id_seed = seed;
    }

    /// The incident that goes on under this id or the one it became part of; an unknown id stands for itself.
    pub fn resolve(&self, id: IncidentId) -> IncidentId {
        match self.aliases.get(id) {
            None => id,
            Some(Survivor::Closed(survivor)) => survivor,
            Some(Survivor::Open(place)) => self.incidents.get(place).map_or(id, |incident| incident.id),
        }
    }

    /// Moves the events since the last drain to `out`, in order. They are kept until drained: drain after each batch.
    pub fn drain(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.events);
    }

    /// Moves what happened to incidents since the last drain to `out`, in order.
    pub fn drain_changes(&mut self, out: &mut Vec<Change>) {
        out.append(&mut self.changes);
    }

    /// The open incidents, by id (so by the time at which they began when they opened).
    pub fn incidents(&self) -> Vec<Incident> {
        let mut all: Vec<_> = self
            .incidents
            .iter()
            .map(|(_, incident)| self.describe(incident))
            .collect();
        all.sort_unstable_by_key(|incident| incident.id);
        all
    }

    /// The open incident of this id or alias.
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        let place = self.by_id.get(&self.resolve(id))?;
        Some(self.describe(self.incidents.get(*place)?))
    }

    fn describe(&self, incident: &Group) -> Incident {
        incident.describe(incident.runs.iter().filter_map(|place| {
            let run = self.runs.get(*place)?;
            let template = self.runs.template(run.template)?;
            Some((template.key, &template.text, &run.payload.tally))
        }))
    }

    /// How many incidents are open.
    pub fn open_incidents(&self) -> usize {
        self.incidents.len()
    }

    /// How many templates have a retained run.
    pub fn live_templates(&self) -> usize {
        self.runs.live_templates()
    }

    /// What happened since the start.
    pub fn counters(&self) -> Counters {
        Counters {
            runs: self.runs.work.runs,
            link_evaluations: self.runs.work.links,
            cosine_evaluations: self.runs.work.cosines,
            ..self.counters
        }
    }

    fn tell(&mut self, event: Event) {
        if !self.replaying {
            self.events.push(event);
        }
    }

    /// Tells whoever watches. Every incident is told, however small, and growth is not: the rule knows no size.
    fn announce(&mut self, happened: Happened, status: Status, time_unix_nano: u64, incident: Incident) {
        if self.replaying {
            return;
        }
        let incident = Incident { status, ..incident };
        self.changes.push(Change {
            happened,
            time_unix_nano,
            incident,
        });
    }
}
