//! What is over: the part of the log that nothing can change any more, and incidents that fell silent.
//!
//! In: the passing of event time. Out: a base that is folded for good, a short log, closed incidents. Promises: nothing that
//! is no later than allowed changes what is settled here; a service that is behind the others is waited for, up to a
//! quarter of an hour. Absent on purpose: reading a clock.

use super::super::id::IncidentId;
use super::super::incident::{Ending, Incident};
use super::episode::Place;
use super::group::silence;
use super::{Evidence, MAX_LAG_NANO, SPAN_NANO, span_start};

/// Parents remembered by name after they ended.
const MAX_PARENTS: usize = 1024;

impl Evidence {
    /// Folds for good what is before the watermark, and closes what has been silent.
    pub(super) fn settle(&mut self) {
        self.settle_at(self.own_watermark());
    }

    /// Nothing earlier is expected of the records that are taken here.
    pub fn own_watermark(&self) -> u64 {
        let lags = self.services.values().map(|(_, lag)| *lag);
        let lag = lags.filter(|lag| *lag <= MAX_LAG_NANO).max().unwrap_or_default();
        self.clock.watermark().saturating_sub(lag)
    }

    pub(super) fn settle_at(&mut self, watermark: u64) {
        // By the minute, so that it does not depend on how records were batched.
        self.settle_to(span_start(watermark));
        self.close_silent(self.settled);
    }

    /// There are too many episodes: the oldest are settled before their time.
    pub(super) fn make_room(&mut self) {
        let Some((oldest, _)) = self.log.first_key_value() else {
            return;
        };
        let until = span_start(oldest.first).saturating_add(SPAN_NANO);
        let before = self.log.len();
        self.settle_to(until);
        self.close_silent(self.settled);
        self.counters.evicted_runs += (before - self.log.len()) as u64;
    }

    fn settle_to(&mut self, until: u64) {
        self.settled = self.settled.max(until);
        let young = self.log.split_off(&Place {
            first: until,
            kind: (0, 0),
        });
        let old = std::mem::replace(&mut self.log, young);
        let episodes = old.iter().map(|(place, entry)| (*place, &entry.episode));
        for (place, step) in self.base.take_all(episodes, &self.limits) {
            let Some(entry) = old.get(&place) else { continue };
            for younger in &step.merged {
                self.merge_names(*younger, step.group);
            }
            let past = self.past.entry(step.group).or_default();
            past.add(place, &entry.episode, step.link.as_ref());
            if self.latest.get(&place.kind) == Some(&place) {
                self.latest.remove(&place.kind);
            }
            for (group, by) in step.ended {
                self.close(group, by);
            }
        }
    }

    fn close_silent(&mut self, watermark: u64) {
        let idle = self.limits.idle;
        let silent = |last: u64| silence(last, watermark) >= idle;
        let over: Vec<Place> = (self.base.groups.iter())
            .filter(|(_, group)| silent(group.last))
            .map(|(place, _)| *place)
            .collect();
        for group in over {
            // What joined on top of the base keeps it open.
            if self.live.groups.get(&group).is_none_or(|live| silent(live.last)) {
                self.close(group, Ending::Silence);
            }
        }
    }

    /// An incident is over.
    fn close(&mut self, group: Place, by: Ending) -> Option<Incident> {
        let told = self.tell_closed(group, by);
        self.base.close(group);
        self.live.close(group);
        self.context.changed();
        told
    }

    /// Somebody says that an incident is none: it is over at once, and what it had in the log with it.
    pub fn dismiss(&mut self, id: IncidentId) -> Option<Incident> {
        let group = self.names.group(self.names.resolve(id))?;
        let of_it: Vec<Place> = (self.log.iter())
            .filter(|(_, entry)| entry.group == group)
            .map(|(place, _)| *place)
            .collect();
        for place in of_it {
            if let Some(entry) = self.log.remove(&place) {
                let past = self.past.entry(group).or_default();
                past.add(place, &entry.episode, entry.link.as_ref());
            }
            if self.latest.get(&place.kind) == Some(&place) {
                self.latest.remove(&place.kind);
            }
        }
        let dismissed = self.close(group, Ending::Dismissed);
        self.fold_again();
        dismissed
    }

    /// A child may have to name its parent after it is over.
    pub(super) fn remember_parent(&mut self, group: Place, id: IncidentId) {
        self.parents.insert(group, id);
        while self.parents.len() > MAX_PARENTS {
            self.parents.pop_first();
        }
    }
}
