//! Incidents: records that are close in time and alike in meaning, streamed, exactly as the whole graph would have it.
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

mod clock;
mod components;
mod event;
mod id;
mod incident;
mod life;
mod observe;
mod runs;
mod slab;
mod state;

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::components::components;
pub use self::event::{Closed, Event, EventMessage, Extended, Joined, Merged, Opened, Origin};
pub use self::id::{IncidentId, NotAnId};
pub use self::incident::{LeadingEdge, OpenIncident, TemplateCount};
pub use self::state::CorrelatorState;

use self::clock::Clock;
use self::id::{Mixing, UsedIds};
use self::incident::{Aliases, Incident, Survivor, Tally};
use self::runs::Runs;
use self::slab::Slab;
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Which records are nodes of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Anomalous records; normal ones attach to an incident they are alike and near to.
    #[default]
    Anomalous,
    /// Every record.
    All,
}

/// How records become incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Two records further apart than this, or exactly this, share no edge.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub window: Duration,
    /// Two records share an edge when the cosine of their embeddings is greater.
    pub similarity: f32,
    /// Which records are nodes.
    pub scope: Scope,
    /// How much earlier than the latest record a record may be and still be placed exactly.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub allowed_lateness: Duration,
    /// Templates that have a run younger than `window` + `allowed_lateness`; beyond, the one silent longest is forgotten.
    pub max_live_templates: usize,
    /// Incidents open at a time; beyond, the one silent longest is closed.
    pub max_open_incidents: usize,
    /// Ids of merged incidents that can be resolved; beyond, the oldest is forgotten.
    pub max_aliases: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            similarity: 0.8,
            scope: Scope::Anomalous,
            allowed_lateness: Duration::from_secs(120),
            max_live_templates: 4096,
            max_open_incidents: 4096,
            max_aliases: 16_384,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.window.is_zero() {
            return Err("window: 0 joins nothing; write a duration such as 300s".into());
        }
        if !(self.similarity > 0.0 && self.similarity < 1.0) {
            return Err(format!(
                "similarity: {} is not between 0 and 1; write a cosine such as 0.8",
                self.similarity
            ));
        }
        for (key, value) in [
            ("max_live_templates", self.max_live_templates),
            ("max_open_incidents", self.max_open_incidents),
            ("max_aliases", self.max_aliases),
        ] {
            if value == 0 || value > 1 << 24 {
                return Err(format!(
                    "{key}: {value} is not between 1 and {}; write a number such as 4096",
                    1 << 24
                ));
            }
        }
        Ok(())
    }
}

/// What the correlator needs of a record.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// When it happened, Unix nanoseconds; the caller has replaced 0 and clamped the future.
    pub time_unix_nano: u64,
    /// The service it is of.
    pub service: &'a str,
    /// Key of its template.
    pub template: TemplateKey,
    /// Text of its template, for the journal.
    pub text: &'a str,
    /// Embedding of its template, once known: until then only equal texts join.
    pub embedding: Option<&'a Embedding>,
    /// Its verdict.
    pub anomalous: bool,
    /// Its severity number (OTLP: 1 to 24, 0 unknown).
    pub severity_number: i32,
}

/// What happened since the start, for metrics; not part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records seen.
    pub records: u64,
    /// Normal records attached to an incident (scope `anomalous`).
    pub attached: u64,
    /// Incidents opened.
    pub opened: u64,
    /// Incidents that became part of another.
    pub merged: u64,
    /// Incidents closed, by silence or by a bound.
    pub closed: u64,
    /// Records before the watermark.
    pub late: u64,
    /// Those of them that nothing retained could take: they got no id.
    pub late_unplaced: u64,
    /// Runs forgotten because a bound was reached.
    pub evicted_runs: u64,
    /// Incidents closed because a bound was reached.
    pub evicted_incidents: u64,
    /// Aliases forgotten because there were too many.
    pub forgotten_aliases: u64,
    /// Runs begun.
    pub runs: u64,
    /// Runs looked at as possible neighbours.
    pub link_evaluations: u64,
    /// Cosines computed.
    pub cosine_evaluations: u64,
}

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
pub struct Correlator {
    settings: Settings,
    /// Makes ids differ from those of another correlator.
    id_seed: u64,
    window: u64,
    clock: Clock,
    /// Records observed so far: the order of input.
    sequence: u64,
    runs: Runs<Member>,
    incidents: Slab<Incident>,
    by_id: HashMap<IncidentId, u32, Mixing>,
    aliases: Aliases,
    used: UsedIds,
    events: Vec<Event>,
    /// True while the journal is replayed: what it tells need not be told again.
    replaying: bool,
    counters: Counters,
    /// Scratch: runs of the record's template, runs it touches, incidents to unite.
    near: Vec<u32>,
    links: Vec<u32>,
    to_unite: Vec<u32>,
}

impl Correlator {
    /// A correlator that has seen nothing.
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
            replaying: false,
            counters: Counters::default(),
            near: Vec::new(),
            links: Vec::new(),
            to_unite: Vec::new(),
            settings,
        }
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

    /// The open incidents, by id (so by the time at which they began when they opened).
    pub fn incidents(&self) -> Vec<OpenIncident> {
        let mut all: Vec<_> = self
            .incidents
            .iter()
            .map(|(_, incident)| self.describe(incident))
            .collect();
        all.sort_unstable_by_key(|incident| incident.id);
        all
    }

    /// The open incident of this id or alias.
    pub fn incident(&self, id: IncidentId) -> Option<OpenIncident> {
        let place = self.by_id.get(&self.resolve(id))?;
        Some(self.describe(self.incidents.get(*place)?))
    }

    fn describe(&self, incident: &Incident) -> OpenIncident {
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
}

/// A duration as nanoseconds, at most what fits.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
