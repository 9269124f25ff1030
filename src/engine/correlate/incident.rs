//! What is kept of an open incident, and the names of incidents that became part of another.
//!
//! In: records of a run, runs that end, other incidents. Out: counts, first and last time, services, templates, leading
//! edge. Promise: bounded; the result does not depend on the order in which parts are put together, except which
//! services and templates are listed once there are more than fit. Absent on purpose: the records themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::id::{IncidentId, Mixing};
use crate::engine::text::TemplateKey;

/// Services listed of an incident.
pub(super) const MAX_SERVICES: usize = 16;
/// Templates listed of an incident.
pub(super) const MAX_TEMPLATES: usize = 32;
/// Bytes kept of a service's name.
pub(super) const MAX_SERVICE_BYTES: usize = 256;

/// The earliest record of an incident; of equally early ones the one that came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeadingEdge {
    /// Its time, Unix nanoseconds.
    pub time_unix_nano: u64,
    /// Its service, at most 256 bytes.
    pub service: Arc<str>,
    /// Its template.
    pub template: TemplateKey,
    /// The template's text.
    pub text: Arc<str>,
}

/// An open incident as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenIncident {
    /// Its final id.
    pub id: IncidentId,
    /// Ids of incidents that became part of it, sorted.
    pub aliases: Vec<IncidentId>,
    /// Its earliest record (in scope `anomalous`: its earliest anomalous record).
    pub leading_edge: LeadingEdge,
    /// Records that carry its id or an alias.
    pub records: u64,
    /// Those of them that are anomalous.
    pub anomalous_records: u64,
    /// Time of the earliest, Unix nanoseconds.
    pub first_time_unix_nano: u64,
    /// Time of the latest, Unix nanoseconds.
    pub last_time_unix_nano: u64,
    /// The highest severity number of its records (OTLP: 1 to 24, 0 unknown).
    pub worst_severity_number: i32,
    /// Services of its records, sorted, at most 16.
    pub services: Vec<Arc<str>>,
    /// Records of services that are not listed.
    pub records_of_other_services: u64,
    /// Its templates, most frequent first, at most 32.
    pub templates: Vec<TemplateCount>,
    /// Records of templates that are not listed.
    pub records_of_other_templates: u64,
}

/// How often a template occurs in an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateCount {
    /// Its key.
    pub template: TemplateKey,
    /// Its text.
    pub text: Arc<str>,
    /// Records of it.
    pub records: u64,
}

/// Counts over records; `first` > `last` while there are none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tally {
    pub records: u64,
    pub anomalous: u64,
    pub first: u64,
    pub last: u64,
    pub worst_severity: i32,
    pub services: Vec<Arc<str>>,
    pub other_services: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            records: 0,
            anomalous: 0,
            first: u64::MAX,
            last: 0,
            worst_severity: 0,
            services: Vec::new(),
            other_services: 0,
        }
    }
}

impl Tally {
    pub fn add(&mut self, time: u64, service: &str, anomalous: bool, severity: i32) {
        self.records += 1;
        self.anomalous += u64::from(anomalous);
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.worst_severity = self.worst_severity.max(severity);
        self.name(service, 1);
    }

    /// Lists a service, or counts `records` of it as of others when the list is full.
    pub fn name(&mut self, service: &str, records: u64) {
        if self.services.iter().any(|known| **known == *service) {
        } else if self.services.len() < MAX_SERVICES {
            self.services.push(Arc::from(service));
        } else {
            self.other_services += records;
        }
    }

    pub fn absorb(&mut self, other: &Self) {
        self.records += other.records;
        self.anomalous += other.anomalous;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.worst_severity = self.worst_severity.max(other.worst_severity);
        self.other_services += other.other_services;
        for service in &other.services {
            self.name(service, 1);
        }
    }
}

/// Records by template, bounded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Templates {
    pub listed: BTreeMap<TemplateKey, (Arc<str>, u64)>,
    pub others: u64,
}

impl Templates {
    pub fn add(&mut self, key: TemplateKey, text: impl FnOnce() -> Arc<str>, records: u64) {
        let full = self.listed.len() >= MAX_TEMPLATES;
        match self.listed.get_mut(&key) {
            Some((_, count)) => *count += records,
            None if full => self.others += records,
            None => {
                self.listed.insert(key, (text(), records));
            }
        }
    }

    pub fn absorb(&mut self, other: Self) {
        self.others += other.others;
        for (key, (text, records)) in other.listed {
            self.add(key, || text, records);
        }
    }
}

/// See the module. Its living runs keep their own counts.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    pub id: IncidentId,
    /// Sequence number of the record that opened it: the lowest survives a merge.
    pub opened: u64,
    pub leading: LeadingEdge,
    /// Sequence number of the leading record: decides between equally early ones.
    pub leading_sequence: u64,
    /// Places of its living runs, in no order that may matter.
    pub runs: Vec<u32>,
    pub aliases: Vec<IncidentId>,
    /// Counts of runs that are no more, and of records that only attached.
    pub past: Tally,
    pub past_templates: Templates,
}

impl Incident {
    /// Takes the counts, names and leading edge of `other`, but for its runs.
    pub fn absorb(&mut self, other: Self) {
        self.aliases.extend(other.aliases);
        self.aliases.push(other.id);
        self.past.absorb(&other.past);
        self.past_templates.absorb(other.past_templates);
        self.lead(other.leading, other.leading_sequence);
    }

    /// Takes an earlier leading edge. True if it is one.
    pub fn lead(&mut self, edge: LeadingEdge, sequence: u64) -> bool {
        let earlier = (edge.time_unix_nano, sequence) < (self.leading.time_unix_nano, self.leading_sequence);
        if earlier {
            self.leading = edge;
            self.leading_sequence = sequence;
        }
        earlier
    }

    /// The incident as told, given its living runs: (template, text, counts).
    pub fn describe<'a>(
        &'a self,
        living: impl Iterator<Item = (TemplateKey, &'a Arc<str>, &'a Tally)>,
    ) -> OpenIncident {
        let mut sum = self.past.clone();
        let mut services: BTreeSet<Arc<str>> = sum.services.drain(..).collect();
        let mut templates = self.past_templates.listed.clone();
        for (key, text, tally) in living {
            services.extend(tally.services.iter().cloned());
            templates.entry(key).or_insert_with(|| (Arc::clone(text), 0)).1 += tally.records;
            sum.absorb(&Tally {
                services: Vec::new(),
                ..tally.clone()
            });
        }
        let mut listed: Vec<TemplateCount> = (templates.into_iter())
            .map(|(template, (text, records))| TemplateCount {
                template,
                text,
                records,
            })
            .collect();
        listed.sort_by_key(|count| std::cmp::Reverse(count.records)); // stable: ties by key
        let others: u64 = listed.iter().skip(MAX_TEMPLATES).map(|count| count.records).sum();
        listed.truncate(MAX_TEMPLATES);
        let mut aliases = self.aliases.clone();
        aliases.sort_unstable();
        OpenIncident {
            id: self.id,
            aliases,
            leading_edge: self.leading.clone(),
            records: sum.records,
            anomalous_records: sum.anomalous,
            first_time_unix_nano: sum.first,
            last_time_unix_nano: sum.last,
            worst_severity_number: sum.worst_severity,
            services: services.into_iter().take(MAX_SERVICES).collect(),
            records_of_other_services: sum.other_services,
            templates: listed,
            records_of_other_templates: others + self.past_templates.others,
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
