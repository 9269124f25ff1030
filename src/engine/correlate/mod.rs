//! Room 5: which records belong to one incident.
//!
//! In: one [`Node`] per record, in order of arrival, with times in any order. Out: the id of its incident at that moment,
//! [`Event`]s for the journal and [`Change`]s for whoever watches.
//!
//! Two rules share one door. [`components`](mod@components) is the notebook's: connected components of close and alike
//! records, exactly. Both promise: an id is a hash of the leading edge at opening, is final and is never given twice; when
//! incidents turn out to be one, the one opened first goes on and the other's id becomes an alias; state is bounded and
//! evictions are counted; the same nodes give the same ids, events and changes, to the bit, also across export and restore.
//! Absent on purpose: reading a clock, and the verdicts, which are given.

mod components;
mod event;
mod id;
mod incident;
mod settings;
mod tally;
mod written;

use std::time::Duration;

pub use self::components::{Components, ComponentsState, components};
pub use self::event::{Closed, Event, EventMessage, Extended, Joined, Merged, Opened, Origin};
pub use self::id::{IncidentId, NotAnId};
pub use self::incident::{Change, Ending, Happened, Incident, KeyRecord, Status, TemplateCount, Tie};
pub use self::settings::{Scope, Settings};
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
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
