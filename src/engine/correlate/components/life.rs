//! How incidents become one and how they end.
//!
//! In: runs that touch, silence, bounds. Out: aliases and the events `Merged` and `Closed`. Promises: of several incidents
//! the one opened first goes on; merging costs by the smaller; what ends is what has been silent longest. Absent on
//! purpose: records.

use super::super::event::{Closed, Event, Merged};
use super::super::id::IncidentId;
use super::super::incident::{Ending, Happened, Incident, Status, TemplateCount};
use super::incident::Survivor;
use super::{Components, Member};
use crate::engine::text::TemplateKey;

/// Retained runs per live template, on average, at most.
const RUNS_PER_TEMPLATE: usize = 4;
/// Runs kept that lie further ahead than the clock believes.
const MAX_RUNS_AHEAD: usize = 64;

impl Components {
    /// Unites the incidents of a run and of all it touches.
    pub(super) fn unite_around(&mut self, run: u32) {
        let Some((template, start, end)) = self.runs.get(run).map(|run| (run.template, run.start, run.end)) else {
            return;
        };
        let mut links = std::mem::take(&mut self.links);
        links.clear();
        links.push(run);
        self.runs.touch(template, start, end, &mut links);
        self.unite_runs(links.iter());
        self.links = links;
    }

    /// Unites the incidents of these runs into the one opened first: its place.
    pub(super) fn unite_runs<'a>(&mut self, runs: impl Iterator<Item = &'a u32>) -> Option<u32> {
        let mut places = std::mem::take(&mut self.to_unite);
        places.clear();
        places.extend(runs.filter_map(|run| Some(self.runs.get(*run)?.payload.incident)));
        places.sort_unstable();
        places.dedup();
        places.sort_unstable_by_key(|place| self.incidents.get(*place).map(|incident| incident.opened));
        let mut survivor = places.first().copied();
        for other in places.iter().skip(1) {
            survivor = survivor.and_then(|survivor| self.merge(survivor, *other));
        }
        self.to_unite = places;
        survivor
    }

    /// Two incidents become one; work by the smaller, name and order by the older.
    pub(super) fn merge(&mut self, one: u32, two: u32) -> Option<u32> {
        let weight = |place| {
            self.incidents
                .get(place)
                .map(|incident| incident.runs.len() + incident.aliases.len())
        };
        let (place, smaller) = if weight(one)? >= weight(two)? {
            (one, two)
        } else {
            (two, one)
        };
        let told = [place, smaller].map(|place| self.incidents.get(place).map(|group| self.describe(group)));
        let mut other = self.incidents.remove(smaller)?;
        let kept = self.incidents.get_mut(place)?;
        let moved_runs = std::mem::take(&mut other.runs);
        let moved_aliases = other.aliases.clone();
        if other.opened < kept.opened {
            std::mem::swap(&mut kept.runs, &mut other.runs);
            std::mem::swap(kept, &mut other);
        }
        let (from, into) = (other.id, kept.id);
        kept.absorb(other);
        for run in moved_runs {
            if let Some(run) = self.runs.get_mut(run) {
                run.payload.incident = place;
                run.payload.position = kept.runs.len() as u32;
            }
            kept.runs.push(run);
        }
        for alias in moved_aliases {
            self.aliases.set(alias, Survivor::Open(place));
        }
        self.aliases.set(from, Survivor::Open(place));
        self.by_id.remove(&from);
        self.by_id.insert(into, place);
        self.counters.merged += 1;
        self.trim_aliases();
        let time_unix_nano = self.clock.now.unwrap_or_default();
        if let Some(younger) = told.into_iter().flatten().find(|told| told.id == from) {
            self.announce(Happened::Merged, Status::Merged { into }, time_unix_nano, younger);
        }
        self.tell(Event::Merged(Merged {
            from: from.to_raw(),
            into: into.to_raw(),
        }));
        Some(place)
    }

    pub(super) fn trim_aliases(&mut self) {
        while let Some((alias, survivor)) = self.aliases.pop_over(self.settings.max_aliases) {
            self.counters.forgotten_aliases += 1;
            if let Survivor::Open(place) = survivor
                && let Some(incident) = self.incidents.get_mut(place)
            {
                incident.aliases.retain(|other| *other != alias);
            }
        }
    }

    /// Drops the runs that no record within the allowed lateness can reach any more.
    pub(super) fn close_silent(&mut self) {
        // A record at the watermark or later is a window or more after these ends, so it shares no edge with them.
        let Some(by) = self.clock.watermark().checked_sub(self.window) else {
            return;
        };
        while let Some(run) = self.runs.ended(by) {
            self.drop_run(run, Ending::Silence);
        }
    }

    /// Forgets runs, silent longest first, until there is room for a run of this template.
    pub(super) fn make_room_for(&mut self, key: TemplateKey) {
        let max = self.settings.max_live_templates;
        while (self.runs.len() >= max.saturating_mul(RUNS_PER_TEMPLATE)
            || self.runs.live_templates() >= max && self.runs.find(key).is_none())
            && self.evict_run()
        {}
    }

    /// Forgets the run that has been silent longest. False when there is none.
    pub(super) fn evict_run(&mut self) -> bool {
        let Some(run) = self.runs.ended(u64::MAX) else {
            return false;
        };
        self.counters.evicted_runs += 1;
        self.drop_run(run, Ending::Bound);
        true
    }

    /// Keeps times that the clock does not believe from crowding out the others: forgets the furthest.
    pub(super) fn shed_ahead(&mut self) {
        let ahead = || self.runs.iter().filter(|(_, run)| self.clock.is_ahead(run.start));
        if ahead().count() <= MAX_RUNS_AHEAD {
            return;
        }
        let key = |template| self.runs.template(template).map(|template| template.key);
        let furthest = ahead()
            .max_by_key(|(_, run)| (run.start, key(run.template)))
            .map(|(place, _)| place);
        if let Some(run) = furthest {
            self.counters.evicted_runs += 1;
            self.drop_run(run, Ending::Bound);
        }
    }

    pub(super) fn drop_run(&mut self, run: u32, by: Ending) {
        let Some(removed) = self.runs.remove(run) else { return };
        let member = removed.payload;
        self.detach(&member);
        let Some(incident) = self.incidents.get_mut(member.incident) else {
            return;
        };
        incident.past.absorb(&member.tally);
        incident
            .past_templates
            .add(TemplateCount::of(removed.key, removed.text, &member.tally));
        if incident.runs.is_empty() {
            self.close(member.incident, by);
        }
    }

    /// Takes a run that is no more off its incident's list.
    pub(super) fn detach(&mut self, member: &Member) {
        let Some(incident) = self.incidents.get_mut(member.incident) else {
            return;
        };
        let position = member.position as usize;
        if position < incident.runs.len() {
            incident.runs.swap_remove(position);
        }
        if let Some(moved) = incident.runs.get(position).and_then(|run| self.runs.get_mut(*run)) {
            moved.payload.position = member.position;
        }
    }

    /// Closes the open incident of this id or alias, because somebody said that it is none: as it was at its end.
    pub fn dismiss(&mut self, id: IncidentId) -> Option<Incident> {
        let told = self.incident(id)?;
        let place = self.by_id.get(&told.id).copied()?;
        let runs = self.incidents.get(place).map(|group| group.runs.clone())?;
        for run in runs.iter().skip(1) {
            self.drop_run(*run, Ending::Dismissed);
        }
        // With its last run it closes.
        self.drop_run(*runs.first()?, Ending::Dismissed);
        let status = Status::Closed { by: Ending::Dismissed };
        Some(Incident { status, ..told })
    }

    pub(super) fn close(&mut self, place: u32, by: Ending) {
        let Some(incident) = self.incidents.remove(place) else {
            return;
        };
        self.by_id.remove(&incident.id);
        for alias in &incident.aliases {
            self.aliases.set(*alias, Survivor::Closed(incident.id));
        }
        let time_unix_nano = self.clock.now.unwrap_or_default();
        let told = self.describe(&incident);
        self.announce(Happened::Closed, Status::Closed { by }, time_unix_nano, told);
        self.counters.closed += 1;
        self.counters.evicted_incidents += u64::from(by == Ending::Bound);
        self.tell(Event::Closed(Closed {
            id: incident.id.to_raw(),
            records: incident.past.records,
            anomalous_records: incident.past.anomalous,
            first_time_unix_nano: incident.past.first,
            last_time_unix_nano: incident.past.last,
            worst_severity_number: incident.past.worst_severity,
            evicted: by == Ending::Bound,
            dismissed: by == Ending::Dismissed,
            outlived: false,
        }));
    }
}
