//! Incidents of a cluster: what one agent reports of its records, and what all agents fold of all reports.
//!
//! In: records of this agent ([`Evidence::report_all`]); reports of all agents, in the order of the cluster's log ([`Evidence::take`]),
//! and how far the streams of all of them have come ([`Evidence::settle_until`]). Out: reports; ids; aliases. Promises: what is folded is a
//! function of the reports and their order: each agent that takes the same gives the same ids; normal records change none of it, and what
//! is counted of them is this agent's alone. Absent on purpose: the log, and who is waited for.

use std::sync::Arc;

use super::super::course::Course;
use super::super::id::IncidentId;
use super::super::incident::{Happened, MAX_SERVICE_BYTES};
use super::super::report::{Direction, Report, Run, first};
use super::episode::{Episode, MAX_IDS, Place};
use super::{Change, Entry, Evidence, MAX_LAG_NANO, Node, UTTERANCE_NANO, same_span, service_hash, span_start};
use crate::engine::correlate::{Incident, Status};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Runs of an agent that wait to be reported; beyond, the latest of a kind takes up what comes.
const MAX_WAITING: usize = 4096;

/// What an agent of a cluster has in addition.
#[derive(Clone, Debug, Default)]
pub(super) struct Sharing {
    /// Not reported yet.
    waiting: Vec<Run>,
    /// The latest time in any report.
    pub(super) furthest: u64,
}

impl Evidence {
    /// Takes records of this agent, in order of time: notes what is to be reported of them. Whether an id has to wait for that: one of them
    /// begins what is not in the log yet.
    pub fn report_all(&mut self, nodes: &[Node<'_>]) -> bool {
        let mut begins = false;
        let mut ids = std::mem::take(&mut self.fresh);
        for node in nodes {
            self.counters.records += 1;
            let time = node.time_unix_nano;
            let arrival = self.clock.observe(time);
            let service = service_hash(node.service);
            let late = self.hear(service, time, arrival);
            self.fresh_ids(node, &mut ids);
            if !node.anomalous || node.delayed {
                continue;
            }
            let is_known = self.entry_of((node.template.0, service), time).is_some();
            if !is_known && late {
                self.counters.late += 1;
                self.counters.late_unplaced += 1;
                continue;
            }
            begins |= !is_known;
            self.sharing.wait(node, &ids, is_known);
        }
        self.fresh = ids;
        begins
    }

    /// Whether there are runs to report.
    pub fn has_to_report(&self) -> bool {
        !self.sharing.waiting.is_empty()
    }

    /// What is to be reported now, runs of so many bytes or one; how far this agent's stream has come goes with it.
    pub fn drain_report(&mut self, max_bytes: usize) -> Report {
        let mut report = Report {
            runs: first(&mut self.sharing.waiting, max_bytes),
            watermark_unix_nano: self.clock.now.map(|_| self.own_watermark()),
            ..Report::default()
        };
        report.runs.sort_by_key(|run| (run.first_time_unix_nano, run.template));
        report
    }

    /// The next report of the cluster, this agent's own among them.
    pub fn take(&mut self, report: &Report) {
        for learned in &report.learned {
            if let Some(embedding) = learned.embedding.as_ref().and_then(Direction::embedding) {
                self.learn(TemplateKey(learned.template), &embedding);
            }
        }
        let mut begun = Vec::new();
        let places: Vec<Option<Place>> = report.runs.iter().map(|run| self.take_run(run, &mut begun)).collect();
        self.fold_begun(&begun);
        for (place, run) in places.into_iter().zip(&report.runs) {
            // It may have become part of an earlier one.
            let place = place.and_then(|place| self.entry_of(place.kind, run.first_time_unix_nano));
            if let Some(group) = place.and_then(|place| self.log.get(&place)).map(|entry| entry.group) {
                self.grown(group, run.last_time_unix_nano, run.severity_number);
            }
        }
        for alias in &report.aliases {
            self.alias(IncidentId::from_raw(alias.from), IncidentId::from_raw(alias.into));
        }
        for id in &report.dismissed {
            self.dismiss(IncidentId::from_raw(*id));
        }
        if self.log.len() > self.settings.max_live_templates.saturating_mul(2) {
            self.make_room();
        }
    }

    /// It is at least this late in this agent's part of the stream.
    pub fn hear_of_time(&mut self, time_unix_nano: u64) {
        self.clock.advance(time_unix_nano);
    }

    /// Goes on from another agent's: how far that agent's own stream had come says nothing here.
    pub fn begin_own_part(&mut self) {
        self.clock.begin_anew();
        self.services.clear();
        self.sharing.waiting.clear();
    }

    /// Whether an episode of the template is in the log without its embedding.
    pub fn lacks(&self, template: TemplateKey) -> bool {
        let mut entries = self.log.iter();
        entries.any(|(place, entry)| place.kind.0 == template.0 && entry.episode.embedding.is_none())
    }

    /// Nothing earlier is expected of anybody: folds for good what is before, and closes what has been silent.
    pub fn settle_until(&mut self, watermark_unix_nano: u64) {
        if span_start(watermark_unix_nano) > self.settled {
            self.settle_at(watermark_unix_nano);
        }
    }

    /// The incident of a record of this agent, by what is folded now: an anomalous one's, or whose context it is.
    pub fn id_of(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        if !node.anomalous {
            return self.incident_of(node);
        }
        if node.delayed {
            return None;
        }
        let place = self.entry_of((node.template.0, service_hash(node.service)), node.time_unix_nano)?;
        self.names.of(self.log.get(&place)?.group)
    }

    /// The incident of a run, by what is folded now.
    pub fn id_of_run(&self, run: &Run) -> Option<IncidentId> {
        let kind = (run.template, service_hash(&run.service));
        let place = self.entry_of(kind, run.first_time_unix_nano)?;
        self.names.of(self.log.get(&place)?.group)
    }

    /// The incidents that were told and that another, which knows more, does not know: as merged, where it knows what they became.
    pub fn unknown_to(&self, other: &Self) -> Vec<Change> {
        let told = self.announced.values().filter_map(|(_, told)| {
            let into = other.names.resolve(told.id);
            let is_known = other.names.group(told.id).is_some() || into == told.id;
            (!is_known).then(|| Change {
                happened: Happened::Merged,
                time_unix_nano: self.clock.now.unwrap_or_default(),
                incident: Incident {
                    status: Status::Merged { into },
                    ..Incident::clone(told)
                },
            })
        });
        told.collect()
    }

    /// An id that was given by one agent alone stands for the incident of all.
    fn alias(&mut self, from: IncidentId, into: IncidentId) {
        let is_free = self.names.group(from).is_none() && self.names.resolve(from) == from;
        if is_free && self.names.resolve(into) != from {
            self.names.used.remember(from);
            self.counters.forgotten_aliases += self.names.alias(from, into);
        }
    }

    fn take_run(&mut self, run: &Run, begun: &mut Vec<Place>) -> Option<Place> {
        let (first, last) = (run.first_time_unix_nano, run.last_time_unix_nano);
        if last < first || !same_span(first, last) || run.records == 0 {
            return None; // no agent of ours says so
        }
        self.sharing.furthest = self.sharing.furthest.max(last);
        let kind = (run.template, service_hash(&run.service));
        let end = run.service.floor_char_boundary(MAX_SERVICE_BYTES);
        let mut episode = Episode {
            service: Arc::from(run.service.get(..end).unwrap_or_default()),
            text: Arc::from(run.text.as_str()),
            embedding: run.embedding.as_ref().and_then(Direction::embedding),
            last,
            ids: run.ids.iter().copied().take(MAX_IDS).collect(),
            records: run.records,
            severity_number: run.severity_number,
            grave_unix_nano: run.grave_time_unix_nano,
            reason: Arc::from(run.reason.as_str()),
            course: Course::at(first, 1),
        };
        episode.course.add(last, run.records - 1);
        if let Some(place) = self.entry_of(kind, first) {
            self.lengthen(place, &episode);
            return Some(place);
        }
        if first < self.settled && self.sharing.furthest.saturating_sub(first) > MAX_LAG_NANO {
            return None;
        }
        let place = Place { first, kind };
        let entry = Entry {
            episode,
            group: place,
            link: None,
            told: last,
        };
        self.log.insert(place, entry);
        let newest = self.latest.entry(kind).or_insert(place);
        *newest = place.max(*newest);
        self.unite(place);
        begun.push(place);
        Some(place)
    }

    /// An episode that is in the log has more records.
    fn lengthen(&mut self, place: Place, more: &Episode) {
        let Some(entry) = self.log.get_mut(&place) else { return };
        entry.episode.absorb(more);
        entry.told = entry.episode.last;
        let first_id = entry.episode.ids.first().copied().unwrap_or_default();
        let (group, last) = (entry.group, entry.episode.last);
        self.live.touch(group, place, first_id, last, more.records);
        self.unite(place);
    }
}

impl Sharing {
    /// One more record to report.
    fn wait(&mut self, node: &Node<'_>, ids: &[u64], is_known: bool) {
        let (time, end) = (node.time_unix_nano, node.service.floor_char_boundary(MAX_SERVICE_BYTES));
        let service = node.service.get(..end).unwrap_or_default();
        let is_full = self.waiting.len() >= MAX_WAITING;
        let goes_on = self.waiting.iter_mut().rev().find(|run| {
            let (first, last) = (run.first_time_unix_nano, run.last_time_unix_nano);
            let within = first <= time && time <= last.saturating_add(UTTERANCE_NANO) && same_span(first, time);
            run.template == node.template.0 && run.service == service && (within || is_full)
        });
        if let Some(run) = goes_on {
            run.records += 1;
            if same_span(run.first_time_unix_nano, time) {
                run.last_time_unix_nano = run.last_time_unix_nano.max(time);
            }
            if node.severity_number > run.severity_number {
                (run.severity_number, run.grave_time_unix_nano) = (node.severity_number, time);
            }
            return;
        }
        if is_full {
            return;
        }
        let unsaid = |text: &str| if is_known { String::new() } else { text.to_owned() };
        self.waiting.push(Run {
            template: node.template.0,
            service: service.to_owned(),
            text: unsaid(node.text),
            embedding: node
                .embedding
                .filter(|_| !is_known)
                .map(|it: &Embedding| Direction::from(it)),
            first_time_unix_nano: time,
            last_time_unix_nano: time,
            records: 1,
            severity_number: node.severity_number,
            grave_time_unix_nano: time,
            ids: ids.to_vec(),
            reason: unsaid(node.reason),
        });
    }
}
