//! An entry of the log that incidents are folded from: a run of one template in one service, its evidence frozen.
//!
//! In: anomalous records. Out: [`Episode`]s, ordered by [`Place`]. Records of a kind that are at most a second apart and in
//! the same minute are one episode: whatever the order they come in, the same records make the same episodes. Evidence is
//! that of the earliest record. Promise: bounded in size. Absent on purpose: which incident it belongs to.

use std::sync::Arc;

use super::super::course::Course;
use super::super::incident::{FirstEpisode, KeyRecord, Link, TemplateCount};
use super::companions::Kind;
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Ids kept of an episode.
pub(super) const MAX_IDS: usize = 8;

/// Where an episode stands in the log: by its first record. No two episodes of a kind begin at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Time of its first record, Unix nanoseconds.
    pub first: u64,
    /// Its template's key, and a hash of its service's name.
    pub kind: Kind,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Episode {
    pub service: Arc<str>,
    pub text: Arc<str>,
    pub embedding: Option<Embedding>,
    /// Time of its latest record.
    pub last: u64,
    /// Ids that its first record carries, sorted.
    pub ids: Vec<u64>,
    pub records: u64,
    pub severity_number: i32,
    /// Time of the first record of that severity.
    pub grave_unix_nano: u64,
    /// Why its first record is anomalous; empty where that is not known.
    pub reason: Arc<str>,
    /// Its records over time.
    pub course: Course,
}

impl Episode {
    /// Takes one more record, at a time between the first and a second after the last.
    pub fn extend(&mut self, time: u64, severity_number: i32) {
        self.last = self.last.max(time);
        self.records += 1;
        self.course.add(time, 1);
        self.worsen(severity_number, time);
    }

    /// Takes what another episode of the kind counted.
    pub fn absorb(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        self.records += other.records;
        self.course.absorb(&other.course);
        self.worsen(other.severity_number, other.grave_unix_nano);
    }

    fn worsen(&mut self, severity_number: i32, time: u64) {
        let graver = severity_number > self.severity_number;
        if graver || severity_number == self.severity_number && time < self.grave_unix_nano {
            self.severity_number = severity_number;
            self.grave_unix_nano = time;
        }
    }

    /// Its first record.
    pub fn leading(&self, place: Place) -> KeyRecord {
        self.record(place, place.first)
    }

    /// Its gravest record.
    pub fn gravest(&self, place: Place) -> KeyRecord {
        self.record(place, self.grave_unix_nano)
    }

    fn record(&self, place: Place, time_unix_nano: u64) -> KeyRecord {
        KeyRecord {
            time_unix_nano,
            service: Arc::clone(&self.service),
            template: TemplateKey(place.kind.0),
            text: Arc::clone(&self.text),
            severity_number: self.severity_number,
            reason: Arc::clone(&self.reason),
        }
    }

    /// What it counts of its template, and why it belongs where it is.
    pub fn counted(&self, place: Place, link: Option<&Link>) -> TemplateCount {
        TemplateCount {
            template: TemplateKey(place.kind.0),
            text: Arc::clone(&self.text),
            records: self.records,
            anomalous_records: self.records,
            first_time_unix_nano: place.first,
            service: Arc::clone(&self.service),
            severity_number: self.severity_number,
            course: self.course.clone(),
            first_episode: Some(FirstEpisode {
                time_unix_nano: place.first,
                link: link.cloned(),
            }),
        }
    }
}
