//! What is to be told, the most newsworthy first, each once.
//!
//! What enters: subjects of which there is something to tell. What leaves: the next of them. Promises: bounded by what there is to tell of;
//! within a rank the first noted comes first. Absent on purpose: what is told of it.

use std::collections::BTreeMap;

use crate::engine::{score::ServiceId, text::TemplateKey};

/// How newsworthy something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// What would be an anomaly elsewhere, or is one here.
    News,
    /// What was learned of the whole.
    Learned,
    /// What begins as usual.
    Episodes,
    /// What is said more often, or still.
    Counts,
}

/// What something is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Stream,
    Model,
    Service(ServiceId),
    Usual(ServiceId),
    Template(TemplateKey),
    Series(TemplateKey, ServiceId),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Queue {
    order: BTreeMap<(Rank, u64), Subject>,
    places: BTreeMap<Subject, (Rank, u64)>,
    noted: u64,
}

impl Queue {
    /// There is something to tell; what was noted as more newsworthy stays so.
    pub(super) fn note(&mut self, subject: Subject, rank: Rank) {
        if let Some(place) = self.places.get(&subject) {
            if place.0 <= rank {
                return;
            }
            self.order.remove(place);
        }
        self.noted += 1;
        let place = (rank, self.noted);
        self.places.insert(subject, place);
        self.order.insert(place, subject);
    }

    /// The next to be told.
    pub(super) fn next(&mut self) -> Option<Subject> {
        let (_, subject) = self.order.pop_first()?;
        self.places.remove(&subject);
        Some(subject)
    }

    /// There is nothing to tell of a template any more.
    pub(super) fn forget(&mut self, key: TemplateKey) {
        let series = Subject::Series(key, ServiceId(0))..=Subject::Series(key, ServiceId(u32::MAX));
        let mut gone: Vec<Subject> = self.places.range(series).map(|(subject, _)| *subject).collect();
        gone.push(Subject::Template(key));
        for subject in gone {
            if let Some(place) = self.places.remove(&subject) {
                self.order.remove(&place);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}
