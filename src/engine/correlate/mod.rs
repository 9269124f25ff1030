//! Room 5: which records belong to one incident.
//!
//! In: one [`Node`] per record, in order of arrival, with times in any order. Out: the id of its incident at that moment,
//! [`Event`]s for the journal and [`Change`]s for whoever watches.
//!
//! Two rules share one door. [`Evidence`] weighs everything that speaks for it; [`Components`] is the notebook's: connected
//! components of close and alike records, exactly. Both promise: an id is a hash of the leading edge at opening, is final and is never given twice; when
//! incidents turn out to be one, the one opened first goes on and the other's id becomes an alias; state is bounded and
//! evictions are counted; the same nodes give the same ids, events and changes, to the bit, also across export and restore.
//! Absent on purpose: reading a clock, and the verdicts, which are given.

mod clock;
mod components;
mod course;
mod event;
mod evidence;
mod id;
mod incident;
mod report;
mod settings;
mod tally;
mod written;

use std::time::Duration;

pub use self::components::{Components, ComponentsState, components};
pub use self::course::Course;
pub use self::event::{Closed, Event, EventMessage, Extended, Joined, Merged, Opened, Origin};
pub use self::evidence::{Evidence, EvidenceState};
pub use self::id::{IncidentId, NotAnId};
pub use self::incident::{
    Change, Ending, FirstEpisode, Happened, Incident, KeyRecord, Link, ServiceCount, Status, TemplateCount, Tie,
};
pub use self::report::{Direction, Learned, Report, Run, first};
pub use self::settings::{Mode, Scope, Settings};
pub use self::tally::LinkState;
pub use self::written::PastIncident;

use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

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
    /// Ids that it shares with other records (trace, span, request), as hashes.
    pub ids: &'a [u64],
    /// It was observed so much later than it happened that it opens no incident.
    pub delayed: bool,
    /// Why it is anomalous; empty where it is not.
    pub reason: &'a str,
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

/// A duration as nanoseconds, at most what fits.
pub(in crate::engine) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One of the rules, with what it remembers.
#[derive(Clone, Debug)]
pub enum Correlator {
    /// See [`Evidence`].
    Evidence(Box<Evidence>),
    /// See [`Components`].
    Components(Box<Components>),
}

/// Either rule's state; what another than the one in use has left is left behind, with the ids it gave.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CorrelatorState {
    #[prost(message, optional, tag = "1")]
    evidence: Option<EvidenceState>,
    #[prost(message, optional, tag = "2")]
    components: Option<ComponentsState>,
}

/// Does the same with whichever rule it is.
macro_rules! either {
    ($correlator:expr, $it:ident => $what:expr) => {
        match $correlator {
            Correlator::Evidence($it) => $what,
            Correlator::Components($it) => $what,
        }
    };
}

impl Correlator {
    /// A correlator that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        match settings.mode {
            Mode::Evidence => Self::Evidence(Box::new(Evidence::new(settings))),
            Mode::Components => Self::Components(Box::new(Components::new(settings))),
        }
    }

    /// A correlator that goes on from `state`, if that is of the rule in use.
    pub fn restore(settings: Settings, state: CorrelatorState) -> Self {
        match settings.mode {
            Mode::Evidence => {
                let state = state.evidence.unwrap_or_default();
                Self::Evidence(Box::new(Evidence::restore(settings, state)))
            }
            Mode::Components => {
                let state = state.components.unwrap_or_default();
                Self::Components(Box::new(Components::restore(settings, state)))
            }
        }
    }

    /// The state, for a snapshot. Drain events and changes first: those not drained are not in it.
    pub fn export(&self) -> CorrelatorState {
        let mut state = CorrelatorState::default();
        match self {
            Self::Evidence(it) => state.evidence = Some(it.export()),
            Self::Components(it) => state.components = Some(it.export()),
        }
        state
    }

    /// Hashes the ids to come with this seed: a correlator with another gives other ids for the same records.
    pub fn seed_ids(&mut self, seed: u64) {
        either!(self, it => it.seed_ids(seed));
    }

    /// Goes on by these settings, as far as they can change in a running engine.
    pub fn adjust(&mut self, settings: &Settings) {
        either!(self, it => it.adjust(settings));
    }

    /// Takes the next record. Its incident at this moment; `None` when it is part of none.
    pub fn observe(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        either!(self, it => it.observe(node))
    }

    /// Takes the records of a batch, in order of time. For each its incident at this moment.
    pub fn observe_all(&mut self, nodes: &[Node<'_>]) -> Vec<Option<IncidentId>> {
        match self {
            Self::Evidence(it) => it.observe_all(nodes),
            Self::Components(it) => nodes.iter().map(|node| it.observe(node)).collect(),
        }
    }

    /// A template's embedding becomes known after records of it were observed without. Nothing if it was known.
    pub fn learn(&mut self, key: TemplateKey, embedding: &Embedding) {
        either!(self, it => it.learn(key, embedding));
    }

    /// Replays what the journal tells of what happened after the snapshot.
    pub fn apply(&mut self, event: &Event) {
        either!(self, it => it.apply(event));
    }

    /// The incident that goes on under this id or the one it became part of; an unknown id stands for itself.
    pub fn resolve(&self, id: IncidentId) -> IncidentId {
        either!(self, it => it.resolve(id))
    }

    /// Moves the events since the last drain to `out`, in order. They are kept until drained: drain after each batch.
    pub fn drain(&mut self, out: &mut Vec<Event>) {
        either!(self, it => it.drain(out));
    }

    /// Moves what happened to incidents since the last drain to `out`, in order.
    pub fn drain_changes(&mut self, out: &mut Vec<Change>) {
        either!(self, it => it.drain_changes(out));
    }

    /// The open incidents, by id (so by the time at which they began when they opened).
    pub fn incidents(&self) -> Vec<Incident> {
        either!(self, it => it.incidents())
    }

    /// The open incident of this id or alias.
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        either!(self, it => it.incident(id))
    }

    /// Closes the open incident of this id or alias, because somebody said that it is none: as it was at its end.
    pub fn dismiss(&mut self, id: IncidentId) -> Option<Incident> {
        either!(self, it => it.dismiss(id))
    }

    /// It is at least this late, as one knows who sees more than the records: closes what has been silent long enough.
    pub fn advance(&mut self, time_unix_nano: u64) {
        either!(self, it => it.advance(time_unix_nano));
    }

    /// Time begins anew, earlier than it was: closes everything, as if all had been silent long enough.
    pub fn turn_back(&mut self) {
        either!(self, it => it.turn_back());
    }

    /// How many incidents are open.
    pub fn open_incidents(&self) -> usize {
        either!(self, it => it.open_incidents())
    }
}

impl CorrelatorState {
    /// How many incidents are open in it.
    pub fn open_incidents(&self) -> usize {
        let evidence = self.evidence.as_ref().map_or(0, EvidenceState::open_incidents);
        evidence + self.components.as_ref().map_or(0, ComponentsState::open_incidents)
    }

    /// Keeps no text of a log; keys and embeddings stay.
    pub fn drop_texts(&mut self) {
        self.evidence.iter_mut().for_each(EvidenceState::drop_texts);
        self.components.iter_mut().for_each(ComponentsState::drop_texts);
    }

    /// Empties every text that `matches`, and forgets what it meant; returns how many there were.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> usize {
        let evidence = self.evidence.as_mut().map_or(0, |state| state.forget(&matches));
        evidence + self.components.as_mut().map_or(0, |state| state.forget(&matches))
    }
}
