//! What is counted of records that belong together.
//!
//! In: records, and other counts. Out: numbers, first and last time, services, templates. Promise: bounded; the result
//! does not depend on the order in which parts are put together, except which services and templates are listed once
//! there are more than fit. Absent on purpose: the records themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::incident::{MAX_SERVICES, MAX_TEMPLATES, TemplateCount};
use crate::engine::text::TemplateKey;

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
    pub listed: BTreeMap<TemplateKey, TemplateCount>,
    pub others: u64,
}

impl Templates {
    /// Counts `records` more of a template, so many of them anomalous.
    pub fn add(
        &mut self,
        template: TemplateKey,
        text: impl FnOnce() -> Arc<str>,
        records: u64,
        anomalous_records: u64,
    ) {
        let full = self.listed.len() >= MAX_TEMPLATES;
        match self.listed.get_mut(&template) {
            Some(count) => {
                count.records += records;
                count.anomalous_records += anomalous_records;
            }
            None if full => self.others += records,
            None => {
                let text = text();
                let count = TemplateCount {
                    template,
                    text,
                    records,
                    anomalous_records,
                };
                self.listed.insert(template, count);
            }
        }
    }

    pub fn absorb(&mut self, other: Self) {
        self.others += other.others;
        for (key, count) in other.listed {
            self.add(key, || count.text, count.records, count.anomalous_records);
        }
    }

    /// Most frequent first, and the records of those that are not listed.
    pub fn ranked(self) -> (Vec<TemplateCount>, u64) {
        let mut listed: Vec<TemplateCount> = self.listed.into_values().collect();
        listed.sort_by_key(|count| std::cmp::Reverse(count.records)); // stable: ties by key
        let others: u64 = listed.iter().skip(MAX_TEMPLATES).map(|count| count.records).sum();
        listed.truncate(MAX_TEMPLATES);
        (listed, others + self.others)
    }
}

/// As it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TemplateCountState {
    #[prost(fixed64, tag = "1")]
    pub(super) key: u64,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    #[prost(uint64, tag = "3")]
    pub(super) records: u64,
    #[prost(uint64, tag = "4")]
    pub(super) anomalous_records: u64,
}

/// As it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TallyState {
    #[prost(uint64, tag = "1")]
    pub(super) records: u64,
    #[prost(uint64, tag = "2")]
    pub(super) anomalous: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) first: u64,
    #[prost(fixed64, tag = "4")]
    pub(super) last: u64,
    #[prost(int32, tag = "5")]
    pub(super) worst_severity: i32,
    #[prost(string, repeated, tag = "6")]
    pub(super) services: Vec<String>,
    #[prost(uint64, tag = "7")]
    pub(super) other_services: u64,
}

impl From<&Tally> for TallyState {
    fn from(tally: &Tally) -> Self {
        Self {
            records: tally.records,
            anomalous: tally.anomalous,
            first: tally.first,
            last: tally.last,
            worst_severity: tally.worst_severity,
            services: tally.services.iter().map(|service| service.to_string()).collect(),
            other_services: tally.other_services,
        }
    }
}

impl From<TallyState> for Tally {
    fn from(state: TallyState) -> Self {
        Self {
            records: state.records,
            anomalous: state.anomalous,
            first: state.first,
            last: state.last,
            worst_severity: state.worst_severity,
            services: state.services.into_iter().map(Arc::from).collect(),
            other_services: state.other_services,
        }
    }
}

impl From<&TemplateCount> for TemplateCountState {
    fn from(count: &TemplateCount) -> Self {
        Self {
            key: count.template.0,
            text: count.text.to_string(),
            records: count.records,
            anomalous_records: count.anomalous_records,
        }
    }
}

impl From<TemplateCountState> for TemplateCount {
    fn from(state: TemplateCountState) -> Self {
        Self {
            template: TemplateKey(state.key),
            text: Arc::from(state.text),
            records: state.records,
            anomalous_records: state.anomalous_records,
        }
    }
}
