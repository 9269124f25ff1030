//! What is kept of an open incident, and the names of incidents that became part of another.
//!
//! In: records of a run, runs that end, other incidents. Out: counts, first and last time, services, templates, leading
//! edge. Promise: bounded; the result does not depend on the order in which parts are put together, except which
//! services and templates are listed once there are more than fit. Absent on purpose: the records themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::id::{IncidentId, Mixing};
use super::super::incident::{Incident as Told, KeyRecord, Status, TemplateCount, Tie};
use super::super::tally::{Tally, Templates};
use crate::engine::text::TemplateKey;

/// See the module. Its living runs keep their own counts.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub id: IncidentId,
    /// Sequence number of the record that opened it: the lowest survives a merge.
    pub opened: u64,
    pub leading: KeyRecord,
    pub worst: KeyRecord,
    /// Sequence number of the leading record: decides between equally early ones.
    pub leading_sequence: u64,
    /// Places of its living runs, in no order that may matter.
    pub runs: Vec<u32>,
    pub aliases: Vec<IncidentId>,
    /// Counts of runs that are no more, and of records that only attached.
    pub past: Tally,
    pub past_templates: Templates,
}

impl Group {
    /// Takes the counts, names and leading edge of `other`, but for its runs.
    pub fn absorb(&mut self, other: Self) {
        self.aliases.extend(other.aliases);
        self.aliases.push(other.id);
        self.past.absorb(&other.past);
        self.past_templates.absorb(other.past_templates);
        self.lead(other.leading, other.leading_sequence);
        self.worsen(other.worst);
    }

    /// Takes an earlier leading edge. True if it is one.
    pub fn lead(&mut self, edge: KeyRecord, sequence: u64) -> bool {
        let earlier = (edge.time_unix_nano, sequence) < (self.leading.time_unix_nano, self.leading_sequence);
        if earlier {
            self.leading = edge;
            self.leading_sequence = sequence;
        }
        earlier
    }

    /// Takes a graver record; of equally grave ones the earlier.
    pub fn worsen(&mut self, record: KeyRecord) {
        let grave = |it: &KeyRecord| (it.severity_number, std::cmp::Reverse(it.time_unix_nano));
        if grave(&record) > grave(&self.worst) {
            self.worst = record;
        }
    }

    /// The incident as told, given its living runs: (template, text, counts).
    pub fn describe<'a>(&'a self, living: impl Iterator<Item = (TemplateKey, &'a Arc<str>, &'a Tally)>) -> Told {
        let mut sum = self.past.clone();
        let mut templates = self.past_templates.clone();
        for (template, text, tally) in living {
            templates.list(TemplateCount::of(template, Arc::clone(text), tally));
            sum.absorb(tally);
        }
        let (templates, records_of_other_templates) = templates.ranked();
        let (services, service_counts) = sum.services();
        let mut aliases = self.aliases.clone();
        aliases.sort_unstable();
        Told {
            id: self.id,
            aliases,
            parent: None,
            status: Status::Open,
            announced: true,
            leading_edge: self.leading.clone(),
            worst: self.worst.clone(),
            records: sum.records,
            anomalous_records: sum.anomalous,
            first_time_unix_nano: sum.first,
            last_time_unix_nano: sum.last,
            services,
            records_of_other_services: sum.other_services,
            service_counts,
            course: sum.course,
            templates,
            records_of_other_templates,
            ties: [0; Tie::ALL.len()],
        }
    }
}

/// Whom an alias stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survivor {
    /// The open incident in this place.
    Open(u32),
    /// One that has closed.
    Closed(IncidentId),
}

/// Ids of incidents that became part of another; the oldest are forgotten first.
#[derive(Clone, Debug, Default)]
pub(super) struct Aliases {
    known: HashMap<IncidentId, Survivor, Mixing>,
    order: VecDeque<IncidentId>,
}

impl Aliases {
    pub fn get(&self, id: IncidentId) -> Option<Survivor> {
        self.known.get(&id).copied()
    }

    pub fn set(&mut self, id: IncidentId, survivor: Survivor) {
        if self.known.insert(id, survivor).is_none() {
            self.order.push_back(id);
        }
    }

    /// Forgets the oldest when there are more than `max`.
    pub fn pop_over(&mut self, max: usize) -> Option<(IncidentId, Survivor)> {
        if self.order.len() <= max {
            return None;
        }
        let id = self.order.pop_front()?;
        Some((id, self.known.remove(&id)?))
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (IncidentId, Survivor)> {
        self.order.iter().filter_map(|id| Some((*id, self.get(*id)?)))
    }
}
