//! How records enter the log: as episodes, whatever the order they come in.
//!
//! In: records. Out: new, longer and united episodes. Promises: the same records make the same episodes; a record of an
//! episode that is known costs one look-up. Absent on purpose: what an episode belongs to, which is the fold's.

use std::sync::Arc;

use super::super::clock::Arrival;
use super::super::course::Course;
use super::super::incident::MAX_SERVICE_BYTES;
use super::episode::{Episode, Place};
use super::{
    Entry, Evidence, MAX_LAG_NANO, Node, SPAN_NANO, UTTERANCE_NANO, nanos, same_span, service_hash, span_start,
};

/// Services whose lag is known; the one silent longest is forgotten.
const MAX_SERVICES: usize = 4096;

impl Evidence {
    /// A record enters the log, if it is anomalous; a new episode is not folded yet. Whether it is too late for that.
    pub(super) fn enter(&mut self, node: &Node<'_>, begun: &mut Vec<Place>) -> bool {
        self.counters.records += 1;
        let time = node.time_unix_nano;
        let arrival = self.clock.observe(time);
        let service = service_hash(node.service);
        let late = self.hear(service, time, arrival);
        let mut ids = std::mem::take(&mut self.fresh);
        self.fresh_ids(node, &mut ids);
        let mut unplaced = false;
        if node.anomalous && !node.delayed {
            let kind = (node.template.0, service);
            match self.entry_of(kind, time) {
                Some(place) => self.extend(place, node),
                None if late => {
                    self.counters.late += 1;
                    self.counters.late_unplaced += 1;
                    unplaced = true;
                }
                None => begun.push(self.begin(kind, node, &ids)),
            }
        }
        self.fresh = ids;
        unplaced
    }

    /// Notes how far a service is. Whether the record is too late to be an entry of the log.
    pub(super) fn hear(&mut self, service: u64, time: u64, arrival: Arrival) -> bool {
        let now = self.clock.now.unwrap_or(time);
        let known = self.services.get(&service).map_or(0, |(latest, _)| *latest);
        if arrival != Arrival::Ahead {
            let latest = known.max(time);
            self.services.insert(service, (latest, now.saturating_sub(latest)));
        }
        if self.services.len() > MAX_SERVICES
            && let Some(quietest) = self
                .services
                .iter()
                .min_by_key(|(_, (latest, _))| *latest)
                .map(|(it, _)| *it)
        {
            self.services.remove(&quietest);
        }
        // Later than its own service allows, or the service is so far behind that nobody waits for it.
        let behind = known.saturating_sub(time) > nanos(self.settings.allowed_lateness);
        time < self.settled && (behind || now.saturating_sub(time) > MAX_LAG_NANO)
    }

    /// The entry that a record of this kind and time extends.
    pub(super) fn entry_of(&self, kind: (u64, u64), time: u64) -> Option<Place> {
        let reaches = |place: &Place| {
            let last = self.log.get(place).map_or(0, |entry| entry.episode.last);
            place.first <= time && time <= last.saturating_add(UTTERANCE_NANO) && same_span(place.first, time)
        };
        match self.latest.get(&kind) {
            None => None,
            Some(place) if reaches(place) => Some(*place),
            Some(place) if place.first <= time => None,
            Some(_) => {
                let from = span_start(time);
                let mut earlier = self.log.range(
                    Place {
                        first: from,
                        kind: (0, 0),
                    }..=Place { first: time, kind },
                );
                let found = earlier.rfind(|(place, _)| place.kind == kind).map(|(place, _)| *place);
                found.filter(reaches)
            }
        }
    }

    /// A record of an episode that is in the log: nothing is to be weighed.
    pub(super) fn extend(&mut self, place: Place, node: &Node<'_>) {
        let time = node.time_unix_nano;
        let Some(entry) = self.log.get_mut(&place) else { return };
        entry.episode.extend(time, node.severity_number);
        let first_id = entry.episode.ids.first().copied().unwrap_or_default();
        let (group, last) = (entry.group, entry.episode.last);
        if !self.replaying && last.saturating_sub(entry.told) >= SPAN_NANO / 4 {
            entry.told = last;
            self.tell_reach(place);
        }
        self.live.touch(group, place, first_id, last, 1);
        self.unite(place);
    }

    /// A record that begins an episode, or makes one begin earlier.
    pub(super) fn begin(&mut self, kind: (u64, u64), node: &Node<'_>, ids: &[u64]) -> Place {
        let time = node.time_unix_nano;
        let end = node.service.floor_char_boundary(MAX_SERVICE_BYTES);
        let place = Place { first: time, kind };
        let entry = Entry {
            episode: Episode {
                service: Arc::from(node.service.get(..end).unwrap_or_default()),
                text: Arc::from(node.text),
                embedding: node.embedding.cloned(),
                last: time,
                ids: ids.to_vec(),
                records: 1,
                severity_number: node.severity_number,
                grave_unix_nano: time,
                reason: Arc::from(node.reason),
                course: Course::at(time, 1),
            },
            group: place,
            link: None,
            told: time,
        };
        self.log.insert(place, entry);
        let newest = self.latest.entry(kind).or_insert(place);
        *newest = place.max(*newest);
        self.unite(place);
        place
    }

    /// The episode of the kind that begins where this one now reaches.
    pub(super) fn next_of(&self, place: Place, last: u64) -> Option<Place> {
        if self.latest.get(&place.kind).is_some_and(|latest| *latest <= place) {
            return None;
        }
        let until = last.saturating_add(UTTERANCE_NANO);
        let after = Place {
            first: place.first.saturating_add(1),
            kind: (0, 0),
        };
        let mut later = self.log.range(
            after..=Place {
                first: until.max(after.first),
                kind: (u64::MAX, u64::MAX),
            },
        );
        let next = later.find(|(next, _)| next.kind == place.kind).map(|(next, _)| *next)?;
        (next.first <= until && same_span(next.first, place.first)).then_some(next)
    }

    /// Two episodes of a kind may turn out to be one; the log is another then.
    pub(super) fn unite(&mut self, place: Place) {
        while let Some(last) = self.log.get(&place).map(|entry| entry.episode.last)
            && let Some(next) = self.next_of(place, last)
            && let Some(absorbed) = self.log.remove(&next)
        {
            if let Some(entry) = self.log.get_mut(&place) {
                entry.episode.absorb(&absorbed.episode);
            }
            self.names.opener_moved(next, place);
            if self.latest.get(&place.kind) == Some(&next) {
                self.latest.insert(place.kind, place);
            }
            self.altered = true;
        }
    }
}
