//! An incident as it is told: to the API, in events, in files, to whoever is on call.
//!
//! In: what a correlator keeps. Out: [`Incident`], complete in itself, and [`Change`]s of incidents in the order they
//! happened. Promises: bounded (services, templates, bytes of a name); sorted where order could otherwise vary. Absent on
//! purpose: the records themselves, which left with the id on them.

use std::fmt;
use std::sync::Arc;

use super::course::Course;
use super::id::IncidentId;
use crate::engine::text::TemplateKey;

/// Services listed of an incident.
pub(super) const MAX_SERVICES: usize = 16;
/// Templates listed of an incident.
pub(super) const MAX_TEMPLATES: usize = 32;
/// Bytes kept of a service's name.
pub(super) const MAX_SERVICE_BYTES: usize = 256;

/// A record worth naming of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its time, Unix nanoseconds.
    pub time_unix_nano: u64,
    /// Its service, at most 256 bytes.
    pub service: Arc<str>,
    /// Its template.
    pub template: TemplateKey,
    /// The template's text; empty where texts are not kept.
    pub text: Arc<str>,
    /// Its severity number (OTLP: 1 to 24, 0 unknown).
    pub severity_number: i32,
    /// Why it is anomalous, in one short sentence; empty where that is not known.
    pub reason: Arc<str>,
}

/// Why an episode was taken to belong to an incident: the strongest evidence there was.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// What said most.
    pub tie: Tie,
    /// How much spoke for it: log-odds against the rate of what is unrelated.
    pub weight: f64,
    /// The template it was tied to.
    pub template: TemplateKey,
    /// The service that said that.
    pub service: Arc<str>,
    /// When the latest episode of that began, Unix nanoseconds.
    pub first_time_unix_nano: u64,
}

/// How the earliest episode of a template came into an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstEpisode {
    /// When it began, Unix nanoseconds.
    pub time_unix_nano: u64,
    /// Why it belongs; `None` where it opened the incident.
    pub link: Option<Link>,
}

/// How often a service speaks in an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCount {
    /// Its name, at most 256 bytes.
    pub service: Arc<str>,
    /// Its records.
    pub records: u64,
    /// Time of the earliest, Unix nanoseconds.
    pub first_time_unix_nano: u64,
}

/// How often a template occurs in an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateCount {
    /// Its key.
    pub template: TemplateKey,
    /// Its text.
    pub text: Arc<str>,
    /// Records of it.
    pub records: u64,
    /// Those of them that are anomalous; where there is none, the template is context.
    pub anomalous_records: u64,
    /// Time of the earliest, Unix nanoseconds.
    pub first_time_unix_nano: u64,
    /// The service of the earliest, at most 256 bytes.
    pub service: Arc<str>,
    /// The highest severity number of the anomalous ones (OTLP: 1 to 24, 0 unknown).
    pub severity_number: i32,
    /// All of them over time.
    pub course: Course,
    /// `None` where the template is context, or incidents have no episodes (the notebook's rule).
    pub first_episode: Option<FirstEpisode>,
}

/// Why an incident is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Nothing of it was said for as long as incidents are waited for.
    Silence,
    /// It reached the longest life; what follows is its child.
    Life,
    /// There were too many at a time.
    Bound,
    /// Somebody said that it is none.
    Dismissed,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silence, Self::Life, Self::Bound, Self::Dismissed];

    /// The word that is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Life => "max_life",
            Self::Bound => "bound",
            Self::Dismissed => "dismissed",
        }
    }
}

/// Whether an incident goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Records can still join.
    Open,
    /// It turned out to be part of an older one.
    Merged {
        /// The older one.
        into: IncidentId,
    },
    /// It is over and never opens again.
    Closed {
        /// Why.
        by: Ending,
    },
}

/// What made an episode part of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// It says what the incident says.
    Meaning,
    /// It carries an id that the incident has.
    SharedId,
    /// It came as closely as the incident's records come.
    Time,
    /// Its service is the incident's, or works for one of them.
    Service,
    /// The two have come together before.
    Companion,
}

impl Tie {
    /// All, in the order of [`Incident::ties`].
    pub const ALL: [Self; 5] = [
        Self::Meaning,
        Self::SharedId,
        Self::Time,
        Self::Service,
        Self::Companion,
    ];

    /// The word that is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::SharedId => "shared_id",
            Self::Time => "time",
            Self::Service => "service",
            Self::Companion => "companion",
        }
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An incident as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Its final id.
    pub id: IncidentId,
    /// Ids of incidents that became part of it, sorted.
    pub aliases: Vec<IncidentId>,
    /// The incident whose longest life it outlived.
    pub parent: Option<IncidentId>,
    /// Whether it goes on.
    pub status: Status,
    /// Whether it is large enough to be told.
    pub announced: bool,
    /// Its earliest record (an anomalous one, unless every record is a node).
    pub leading_edge: KeyRecord,
    /// Its gravest record: the first of the highest severity among the anomalous ones.
    pub worst: KeyRecord,
    /// Records that carry its id or an alias.
    pub records: u64,
    /// Those of them that are anomalous; the others are context.
    pub anomalous_records: u64,
    /// Time of the earliest, Unix nanoseconds.
    pub first_time_unix_nano: u64,
    /// Time of the latest, Unix nanoseconds.
    pub last_time_unix_nano: u64,
    /// Services of its records, sorted, at most 16.
    pub services: Vec<Arc<str>>,
    /// Records of services that are not listed.
    pub records_of_other_services: u64,
    /// The same services in order of appearance, with their records.
    pub service_counts: Vec<ServiceCount>,
    /// Its records over time.
    pub course: Course,
    /// Its templates, most frequent first, at most 32.
    pub templates: Vec<TemplateCount>,
    /// Records of templates that are not listed.
    pub records_of_other_templates: u64,
    /// How many episodes joined by what, where that was most; in the order of [`Tie::ALL`].
    pub ties: [u64; Tie::ALL.len()],
}

/// What happened to an incident that is large enough to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It became large enough.
    Opened,
    /// It has grown; told at most once a minute of event time.
    Updated,
    /// It became part of an older one.
    Merged,
    /// It is over.
    Closed,
}

/// A change of an incident. Of one that is too small to be told, its closing alone comes, with `incident.announced` false: it is
/// for who follows all incidents, not to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub happened: Happened,
    /// When, event time, Unix nanoseconds.
    pub time_unix_nano: u64,
    /// The incident after it; of a merge the younger, as it was.
    pub incident: Incident,
}
