//! What the journal and subscribers are told of incidents, in the order it happened.
//!
//! In: what the correlator decided. Out: protobuf messages small enough to write before the records leave. Promise: a
//! snapshot and the events after it give the open incidents their ids again and the runs their reach, to within a tenth
//! of the window. Field numbers are never reused. Ids are [`IncidentId`] as its raw number; times are Unix nanoseconds.
//! Absent on purpose: records that only attach, and counts of every record.

use std::sync::Arc;

use super::id::IncidentId;
use super::incident::KeyRecord;
use super::tally::LinkState;
use crate::engine::text::TemplateKey;

/// A record that began a run, and maybe an incident.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Origin {
    /// Its time.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// Its service.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Key of its template.
    #[prost(fixed64, tag = "3")]
    pub template: u64,
    /// Text of its template.
    #[prost(string, tag = "4")]
    pub text: String,
    /// Embedding of its template; empty when unknown or not needed.
    #[prost(float, repeated, tag = "5")]
    pub embedding: Vec<f32>,
    /// Whether it is anomalous.
    #[prost(bool, tag = "6")]
    pub anomalous: bool,
    /// Its severity number.
    #[prost(int32, tag = "7")]
    pub severity_number: i32,
    /// Ids that it shares with others, as hashes; at most 8.
    #[prost(fixed64, repeated, tag = "8")]
    pub ids: Vec<u64>,
    /// Why it is anomalous; empty when unknown.
    #[prost(string, tag = "9")]
    pub reason: String,
}

/// A record opened an incident: its first run, its leading edge.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Opened {
    /// The new id, final.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// The record.
    #[prost(message, optional, tag = "2")]
    pub origin: Option<Origin>,
}

/// A record began another run of an open incident.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Joined {
    /// The incident.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// The record.
    #[prost(message, optional, tag = "2")]
    pub origin: Option<Origin>,
    /// Why it belongs; absent by the notebook's rule.
    #[prost(message, optional, tag = "3")]
    pub link: Option<LinkState>,
}

/// Two incidents turned out to be one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Merged {
    /// The younger, from now on an alias.
    #[prost(fixed64, tag = "1")]
    pub from: u64,
    /// The older, which goes on.
    #[prost(fixed64, tag = "2")]
    pub into: u64,
}

/// A run reaches further than was told by a tenth of the window or more, or the leading edge changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Extended {
    /// The incident.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Key of the run's template.
    #[prost(fixed64, tag = "2")]
    pub template: u64,
    /// The run's first record.
    #[prost(fixed64, tag = "3")]
    pub first_time_unix_nano: u64,
    /// The run's last record.
    #[prost(fixed64, tag = "4")]
    pub last_time_unix_nano: u64,
    /// Records of the run.
    #[prost(uint64, tag = "5")]
    pub records: u64,
    /// The anomalous ones.
    #[prost(uint64, tag = "6")]
    pub anomalous_records: u64,
    /// The highest severity number of the run.
    #[prost(int32, tag = "7")]
    pub worst_severity_number: i32,
    /// Services of the run, at most 16.
    #[prost(string, repeated, tag = "8")]
    pub services: Vec<String>,
    /// The incident's leading edge, when it changed.
    #[prost(message, optional, tag = "9")]
    pub leading_edge: Option<Origin>,
}

/// An incident is over: nothing can join it any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Closed {
    /// The incident.
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    /// Records that carry its id or an alias.
    #[prost(uint64, tag = "2")]
    pub records: u64,
    /// The anomalous ones.
    #[prost(uint64, tag = "3")]
    pub anomalous_records: u64,
    /// Its first record.
    #[prost(fixed64, tag = "4")]
    pub first_time_unix_nano: u64,
    /// Its last record.
    #[prost(fixed64, tag = "5")]
    pub last_time_unix_nano: u64,
    /// Its highest severity number.
    #[prost(int32, tag = "6")]
    pub worst_severity_number: i32,
    /// True when a bound, not silence, ended it.
    #[prost(bool, tag = "7")]
    pub evicted: bool,
    /// True when somebody said that it is none.
    #[prost(bool, tag = "8")]
    pub dismissed: bool,
    /// True when its longest life ended it.
    #[prost(bool, tag = "9")]
    pub outlived: bool,
}

/// Something that happened to an incident.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    /// See [`Opened`].
    #[prost(message, tag = "1")]
    Opened(Opened),
    /// See [`Joined`].
    #[prost(message, tag = "2")]
    Joined(Joined),
    /// See [`Merged`].
    #[prost(message, tag = "3")]
    Merged(Merged),
    /// See [`Extended`].
    #[prost(message, tag = "4")]
    Extended(Extended),
    /// See [`Closed`].
    #[prost(message, tag = "5")]
    Closed(Closed),
}

impl Event {
    /// The incident it is about; of a merge the one that goes on.
    pub fn id(&self) -> IncidentId {
        IncidentId::from_raw(match self {
            Self::Opened(it) => it.id,
            Self::Joined(it) => it.id,
            Self::Merged(it) => it.into,
            Self::Extended(it) => it.id,
            Self::Closed(it) => it.id,
        })
    }
}

/// One event as a message of its own, for the journal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EventMessage {
    /// The event; `None` when it is of a kind this version does not know.
    #[prost(oneof = "Event", tags = "1, 2, 3, 4, 5")]
    pub event: Option<Event>,
}

impl From<&KeyRecord> for Origin {
    fn from(edge: &KeyRecord) -> Self {
        Self {
            time_unix_nano: edge.time_unix_nano,
            service: edge.service.to_string(),
            template: edge.template.0,
            text: edge.text.to_string(),
            severity_number: edge.severity_number,
            reason: edge.reason.to_string(),
            ..Self::default()
        }
    }
}

impl From<&Origin> for KeyRecord {
    fn from(origin: &Origin) -> Self {
        Self {
            time_unix_nano: origin.time_unix_nano,
            service: Arc::from(origin.service.as_str()),
            template: TemplateKey(origin.template),
            text: Arc::from(origin.text.as_str()),
            severity_number: origin.severity_number,
            reason: Arc::from(origin.reason.as_str()),
        }
    }
}

impl Origin {
    /// What it says of a log in words: the text, and the reason, which may quote one.
    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        [&mut self.text, &mut self.reason].into_iter()
    }
}

impl Event {
    /// Keeps no text of a log; key and embedding stay.
    pub fn drop_text(&mut self) {
        if let Some(origin) = self.origin_mut() {
            origin.texts_mut().for_each(|text| *text = String::new());
        }
    }

    /// Empties the text if it `matches`, and forgets what it meant; whether it did.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> bool {
        let Some(origin) = self.origin_mut() else { return false };
        let is_its_text = !origin.text.is_empty() && matches(&origin.text);
        if is_its_text {
            origin.embedding.clear();
        }
        let meant = origin.texts_mut().filter(|text| !text.is_empty() && matches(text));
        meant.map(std::mem::take).count() > 0
    }

    fn origin_mut(&mut self) -> Option<&mut Origin> {
        match self {
            Self::Opened(it) => it.origin.as_mut(),
            Self::Joined(it) => it.origin.as_mut(),
            Self::Extended(it) => it.leading_edge.as_mut(),
            Self::Merged(_) | Self::Closed(_) => None,
        }
    }
}
