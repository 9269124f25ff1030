//! The state of the evidence as it is written. Ids are raw numbers, times Unix nanoseconds; field numbers are never reused.
//!
//! In and out: bytes of a snapshot. Promise: nothing of a log but masked templates and names of services. Absent on
//! purpose: how a state is used.

use super::super::super::course::CourseState;
use super::super::super::event::Origin;
use super::super::super::tally::{TallyState, TemplateCountState};
use super::super::episode::Place;

/// See the module.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EvidenceState {
    #[prost(fixed64, optional, tag = "1")]
    pub(super) now: Option<u64>,
    #[prost(fixed64, tag = "2")]
    pub(super) ahead_time: u64,
    #[prost(uint32, tag = "3")]
    pub(super) ahead_count: u32,
    #[prost(fixed64, tag = "4")]
    pub(super) late_time: u64,
    #[prost(uint32, tag = "5")]
    pub(super) late_count: u32,
    #[prost(fixed64, tag = "6")]
    pub(super) settled: u64,
    #[prost(message, repeated, tag = "7")]
    pub(super) services: Vec<ServiceState>,
    #[prost(message, repeated, tag = "8")]
    pub(super) groups: Vec<GroupState>,
    #[prost(double, repeated, tag = "9")]
    pub(super) silences_s: Vec<f64>,
    #[prost(fixed64, optional, tag = "10")]
    pub(super) latest: Option<u64>,
    #[prost(double, tag = "11")]
    pub(super) rate: f64,
    #[prost(double, tag = "12")]
    pub(super) within: f64,
    #[prost(message, repeated, tag = "13")]
    pub(super) kinds: Vec<PairState>,
    #[prost(message, repeated, tag = "14")]
    pub(super) pairs: Vec<PairState>,
    #[prost(message, repeated, tag = "15")]
    pub(super) neighbours: Vec<PairState>,
    #[prost(message, repeated, tag = "16")]
    pub(super) voices: Vec<VoiceState>,
    #[prost(message, repeated, tag = "17")]
    pub(super) carriers: Vec<CarrierState>,
    #[prost(message, repeated, tag = "18")]
    pub(super) log: Vec<EntryState>,
    #[prost(message, repeated, tag = "19")]
    pub(super) names: Vec<NameState>,
    #[prost(uint64, tag = "20")]
    pub(super) named: u64,
    #[prost(message, repeated, tag = "21")]
    pub(super) aliases: Vec<AliasState>,
    #[prost(fixed64, repeated, tag = "22")]
    pub(super) used: Vec<u64>,
    #[prost(message, repeated, tag = "23")]
    pub(super) past: Vec<PastState>,
    #[prost(message, repeated, tag = "24")]
    pub(super) announced: Vec<AnnouncedState>,
    #[prost(message, repeated, tag = "25")]
    pub(super) parents: Vec<ParentState>,
    /// In a cluster: the latest time that was reported.
    #[prost(fixed64, tag = "26")]
    pub(super) furthest: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct PlaceState {
    #[prost(fixed64, tag = "1")]
    first: u64,
    #[prost(fixed64, tag = "2")]
    template: u64,
    #[prost(fixed64, tag = "3")]
    service: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServiceState {
    #[prost(fixed64, tag = "1")]
    pub service: u64,
    #[prost(fixed64, tag = "2")]
    pub latest: u64,
    #[prost(fixed64, tag = "3")]
    pub lag: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GroupState {
    #[prost(message, optional, tag = "1")]
    pub place: Option<PlaceState>,
    #[prost(message, optional, tag = "2")]
    pub parent: Option<PlaceState>,
    #[prost(fixed64, tag = "3")]
    pub first: u64,
    #[prost(fixed64, tag = "4")]
    pub last: u64,
    #[prost(fixed64, tag = "5")]
    pub begun: u64,
    #[prost(fixed64, tag = "6")]
    pub novel: u64,
    #[prost(message, repeated, tag = "7")]
    pub core: Vec<SaidState>,
    #[prost(fixed64, repeated, tag = "8")]
    pub ids: Vec<u64>,
    #[prost(uint64, tag = "9")]
    pub records: u64,
    #[prost(bool, tag = "10")]
    pub ended: bool,
    #[prost(uint64, repeated, tag = "11")]
    pub ties: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SaidState {
    #[prost(message, optional, tag = "1")]
    pub kind: Option<PlaceState>,
    #[prost(float, repeated, tag = "2")]
    pub embedding: Vec<f32>,
    #[prost(fixed64, tag = "3")]
    pub last: u64,
    #[prost(fixed64, tag = "4")]
    pub begun: u64,
    #[prost(uint32, tag = "5")]
    pub episodes: u32,
    #[prost(string, tag = "6")]
    pub service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PairState {
    #[prost(message, optional, tag = "1")]
    pub one: Option<PlaceState>,
    #[prost(message, optional, tag = "2")]
    pub other: Option<PlaceState>,
    #[prost(uint32, tag = "3")]
    pub count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VoiceState {
    #[prost(fixed64, tag = "1")]
    pub service: u64,
    #[prost(fixed64, tag = "2")]
    pub id: u64,
    #[prost(message, optional, tag = "3")]
    pub group: Option<PlaceState>,
    #[prost(fixed64, tag = "4")]
    pub heard: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CarrierState {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    #[prost(fixed64, tag = "2")]
    pub service: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EntryState {
    #[prost(message, optional, tag = "1")]
    pub place: Option<PlaceState>,
    #[prost(string, tag = "2")]
    pub service: String,
    #[prost(string, tag = "3")]
    pub text: String,
    #[prost(float, repeated, tag = "4")]
    pub embedding: Vec<f32>,
    #[prost(fixed64, tag = "5")]
    pub last: u64,
    #[prost(fixed64, repeated, tag = "6")]
    pub ids: Vec<u64>,
    #[prost(uint64, tag = "7")]
    pub records: u64,
    #[prost(int32, tag = "8")]
    pub severity_number: i32,
    #[prost(fixed64, tag = "9")]
    pub grave: u64,
    #[prost(fixed64, tag = "10")]
    pub told: u64,
    #[prost(string, tag = "11")]
    pub reason: String,
    #[prost(message, optional, tag = "12")]
    pub course: Option<CourseState>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NameState {
    #[prost(message, optional, tag = "1")]
    pub group: Option<PlaceState>,
    #[prost(fixed64, tag = "2")]
    pub id: u64,
    #[prost(uint64, tag = "3")]
    pub named: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AliasState {
    #[prost(fixed64, tag = "1")]
    pub alias: u64,
    #[prost(fixed64, tag = "2")]
    pub survivor: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PastState {
    #[prost(message, optional, tag = "1")]
    pub group: Option<PlaceState>,
    #[prost(message, optional, tag = "2")]
    pub tally: Option<TallyState>,
    #[prost(message, repeated, tag = "3")]
    pub templates: Vec<TemplateCountState>,
    #[prost(uint64, tag = "4")]
    pub other_templates: u64,
    #[prost(message, optional, tag = "5")]
    pub leading: Option<Origin>,
    #[prost(message, optional, tag = "6")]
    pub worst: Option<Origin>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnnouncedState {
    #[prost(fixed64, tag = "1")]
    pub id: u64,
    #[prost(fixed64, tag = "2")]
    pub told: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ParentState {
    #[prost(message, optional, tag = "1")]
    pub group: Option<PlaceState>,
    #[prost(fixed64, tag = "2")]
    pub id: u64,
}

pub(super) fn place_state(place: Place) -> PlaceState {
    PlaceState {
        first: place.first,
        template: place.kind.0,
        service: place.kind.1,
    }
}

pub(super) fn place_of(state: &Option<PlaceState>) -> Place {
    let state = state.unwrap_or_default();
    Place {
        first: state.first,
        kind: (state.template, state.service),
    }
}

impl EvidenceState {
    /// How many incidents are open in it.
    pub fn open_incidents(&self) -> usize {
        self.names.len()
    }

    /// Keeps no text of a log; keys and embeddings stay.
    pub fn drop_texts(&mut self) {
        for entry in &mut self.log {
            entry.text.clear();
            entry.reason.clear();
        }
        for past in &mut self.past {
            past.templates.iter_mut().for_each(|count| count.text.clear());
            let key_records = past.leading.iter_mut().chain(&mut past.worst);
            key_records.flat_map(Origin::texts_mut).for_each(String::clear);
        }
    }

    /// Empties every text that `matches`, and forgets what it meant; returns how many there were.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> usize {
        let is_meant = |text: &str| !text.is_empty() && matches(text);
        let (mut forgotten, mut keys) = (0, std::collections::BTreeSet::new());
        for entry in self.log.iter_mut().filter(|entry| is_meant(&entry.text)) {
            keys.extend(entry.place.map(|place| place.template));
            entry.embedding.clear();
            entry.text.clear();
            forgotten += 1;
        }
        for past in &mut self.past {
            for count in past.templates.iter_mut().filter(|count| is_meant(&count.text)) {
                keys.insert(count.key);
                count.text.clear();
                forgotten += 1;
            }
            let key_records = past.leading.iter_mut().chain(&mut past.worst);
            for text in key_records.flat_map(Origin::texts_mut).filter(|text| is_meant(text)) {
                text.clear();
                forgotten += 1;
            }
        }
        for reason in self
            .log
            .iter_mut()
            .map(|entry| &mut entry.reason)
            .filter(|reason| is_meant(reason))
        {
            reason.clear();
            forgotten += 1;
        }
        let core = self.groups.iter_mut().flat_map(|group| &mut group.core);
        for said in core.filter(|said| said.kind.is_some_and(|kind| keys.contains(&kind.template))) {
            said.embedding.clear();
        }
        forgotten
    }
}
