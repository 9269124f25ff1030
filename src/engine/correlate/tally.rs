//! What is counted of records that belong together.
//!
//! In: records, and other counts. Out: numbers, first and last time, services, templates. Promise: bounded; the result
//! does not depend on the order in which parts are put together, except which services and templates are listed once
//! there are more than fit. Absent on purpose: the records themselves.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::course::{Course, CourseState};
use super::incident::{FirstEpisode, Link, MAX_SERVICES, MAX_TEMPLATES, ServiceCount, TemplateCount, Tie};
use crate::engine::text::TemplateKey;

/// Counts over records; `first` > `last` while there are none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tally {
    pub records: u64,
    pub anomalous: u64,
    pub first: u64,
    pub last: u64,
    pub worst_severity: i32,
    /// In the order they came.
    pub services: Vec<ServiceCount>,
    pub other_services: u64,
    pub course: Course,
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
            course: Course::default(),
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
        self.course.add(time, 1);
        self.name(service, 1, time);
    }

    /// Counts `records` of a service, the earliest of them at `first`; as of others when the list is full.
    pub fn name(&mut self, service: &str, records: u64, first: u64) {
        if let Some(known) = self.services.iter_mut().find(|known| *known.service == *service) {
            known.records += records;
            known.first_time_unix_nano = known.first_time_unix_nano.min(first);
        } else if self.services.len() < MAX_SERVICES {
            self.services.push(ServiceCount {
                service: Arc::from(service),
                records,
                first_time_unix_nano: first,
            });
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
        self.course.absorb(&other.course);
        self.other_services += other.other_services;
        for known in &other.services {
            self.name(&known.service, known.records, known.first_time_unix_nano);
        }
    }

    /// Names of the services, sorted; and the same in order of appearance, counted.
    pub fn services(&mut self) -> (Vec<Arc<str>>, Vec<ServiceCount>) {
        let mut counts = std::mem::take(&mut self.services);
        counts.sort_by(|one, other| {
            (one.first_time_unix_nano, &one.service).cmp(&(other.first_time_unix_nano, &other.service))
        });
        let mut names: Vec<Arc<str>> = counts.iter().map(|count| Arc::clone(&count.service)).collect();
        names.sort_unstable();
        (names, counts)
    }
}

impl TemplateCount {
    /// Records of one template that were counted together.
    pub(super) fn of(template: TemplateKey, text: Arc<str>, tally: &Tally) -> Self {
        let earliest = tally.services.iter().min_by_key(|count| count.first_time_unix_nano);
        Self {
            template,
            text,
            records: tally.records,
            anomalous_records: tally.anomalous,
            first_time_unix_nano: tally.first,
            service: earliest.map(|count| Arc::clone(&count.service)).unwrap_or_default(),
            severity_number: tally.worst_severity,
            course: tally.course.clone(),
            first_episode: None,
        }
    }

    /// Takes what else was counted of the template.
    fn absorb(&mut self, other: Self) {
        self.records += other.records;
        self.anomalous_records += other.anomalous_records;
        self.severity_number = self.severity_number.max(other.severity_number);
        self.course.absorb(&other.course);
        self.begin(other.first_time_unix_nano, &other.service);
        let begun = |it: &Option<FirstEpisode>| it.as_ref().map_or(u64::MAX, |it| it.time_unix_nano);
        if begun(&other.first_episode) < begun(&self.first_episode) {
            self.first_episode = other.first_episode;
        }
    }

    fn begin(&mut self, time: u64, service: &str) {
        if (time, service) < (self.first_time_unix_nano, &*self.service) {
            (self.first_time_unix_nano, self.service) = (time, Arc::from(service));
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
    /// Counts records of a template.
    pub fn add(&mut self, count: TemplateCount) {
        if self.listed.len() >= MAX_TEMPLATES && !self.listed.contains_key(&count.template) {
            self.others += count.records;
        } else {
            self.list(count);
        }
    }

    /// The same without a bound, to be ranked at once.
    pub fn list(&mut self, count: TemplateCount) {
        match self.listed.entry(count.template) {
            Entry::Occupied(known) => known.into_mut().absorb(count),
            Entry::Vacant(place) => {
                place.insert(count);
            }
        }
    }

    /// Counts a record that is context.
    pub fn add_context(&mut self, template: TemplateKey, text: &str, time: u64, service: &str) {
        if let Some(known) = self.listed.get_mut(&template) {
            known.records += 1;
            known.course.add(time, 1);
            known.begin(time, service);
            return;
        }
        self.add(TemplateCount {
            template,
            text: Arc::from(text),
            records: 1,
            anomalous_records: 0,
            first_time_unix_nano: time,
            service: Arc::from(service),
            severity_number: 0,
            course: Course::at(time, 1),
            first_episode: None,
        });
    }

    pub fn absorb(&mut self, other: Self) {
        self.others += other.others;
        other.listed.into_values().for_each(|count| self.add(count));
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

/// As it is written, with an open incident or one that is over.
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
    #[prost(fixed64, tag = "5")]
    first_time_unix_nano: u64,
    #[prost(string, tag = "6")]
    service: String,
    #[prost(int32, tag = "7")]
    severity_number: i32,
    #[prost(message, optional, tag = "8")]
    course: Option<CourseState>,
    #[prost(fixed64, optional, tag = "9")]
    first_episode_unix_nano: Option<u64>,
    #[prost(message, optional, tag = "10")]
    link: Option<LinkState>,
}

/// A [`Link`] as it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinkState {
    /// Place of its tie in [`Tie::ALL`].
    #[prost(uint32, tag = "1")]
    pub tie: u32,
    /// Log-odds.
    #[prost(double, tag = "2")]
    pub weight: f64,
    /// Key of the template it was tied to.
    #[prost(fixed64, tag = "3")]
    pub to_template: u64,
    /// The service that said that.
    #[prost(string, tag = "4")]
    pub to_service: String,
    /// When the latest episode of that began, Unix nanoseconds.
    #[prost(fixed64, tag = "5")]
    pub to_first_unix_nano: u64,
}

/// As it is written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TallyState {
    #[prost(uint64, tag = "1")]
    records: u64,
    #[prost(uint64, tag = "2")]
    anomalous: u64,
    #[prost(fixed64, tag = "3")]
    first: u64,
    #[prost(fixed64, tag = "4")]
    last: u64,
    #[prost(int32, tag = "5")]
    worst_severity: i32,
    #[prost(string, repeated, tag = "6")]
    services: Vec<String>,
    #[prost(uint64, tag = "7")]
    other_services: u64,
    /// Of each service.
    #[prost(uint64, repeated, tag = "8")]
    service_records: Vec<u64>,
    /// Of each service.
    #[prost(fixed64, repeated, tag = "9")]
    service_first_unix_nanos: Vec<u64>,
    #[prost(message, optional, tag = "10")]
    course: Option<CourseState>,
}

impl From<&Tally> for TallyState {
    fn from(tally: &Tally) -> Self {
        let services = || tally.services.iter();
        Self {
            records: tally.records,
            anomalous: tally.anomalous,
            first: tally.first,
            last: tally.last,
            worst_severity: tally.worst_severity,
            services: services().map(|count| count.service.to_string()).collect(),
            other_services: tally.other_services,
            service_records: services().map(|count| count.records).collect(),
            service_first_unix_nanos: services().map(|count| count.first_time_unix_nano).collect(),
            course: Some((&tally.course).into()),
        }
    }
}

impl From<TallyState> for Tally {
    fn from(state: TallyState) -> Self {
        let counts = service_counts(&state.services, &state.service_records, &state.service_first_unix_nanos);
        Self {
            records: state.records,
            anomalous: state.anomalous,
            first: state.first,
            last: state.last,
            worst_severity: state.worst_severity,
            services: counts.collect(),
            other_services: state.other_services,
            course: state.course.map(Course::from).unwrap_or_default(),
        }
    }
}

/// Services and what is counted of each; what an older version did not count is 0.
pub(super) fn service_counts(
    services: &[String],
    records: &[u64],
    first_unix_nanos: &[u64],
) -> impl Iterator<Item = ServiceCount> {
    services.iter().enumerate().map(|(place, service)| ServiceCount {
        service: Arc::from(service.as_str()),
        records: records.get(place).copied().unwrap_or_default(),
        first_time_unix_nano: first_unix_nanos.get(place).copied().unwrap_or_default(),
    })
}

impl From<&Link> for LinkState {
    fn from(link: &Link) -> Self {
        Self {
            tie: link.tie as u32,
            weight: link.weight,
            to_template: link.template.0,
            to_service: link.service.to_string(),
            to_first_unix_nano: link.first_time_unix_nano,
        }
    }
}

impl From<&LinkState> for Link {
    fn from(state: &LinkState) -> Self {
        Self {
            tie: Tie::ALL.get(state.tie as usize).copied().unwrap_or(Tie::Time),
            weight: state.weight,
            template: TemplateKey(state.to_template),
            service: Arc::from(state.to_service.as_str()),
            first_time_unix_nano: state.to_first_unix_nano,
        }
    }
}

impl From<&TemplateCount> for TemplateCountState {
    fn from(count: &TemplateCount) -> Self {
        let first = count.first_episode.as_ref();
        Self {
            key: count.template.0,
            text: count.text.to_string(),
            records: count.records,
            anomalous_records: count.anomalous_records,
            first_time_unix_nano: count.first_time_unix_nano,
            service: count.service.to_string(),
            severity_number: count.severity_number,
            course: Some((&count.course).into()),
            first_episode_unix_nano: first.map(|it| it.time_unix_nano),
            link: first.and_then(|it| it.link.as_ref()).map(LinkState::from),
        }
    }
}

impl From<&TemplateCountState> for TemplateCount {
    fn from(state: &TemplateCountState) -> Self {
        Self {
            template: TemplateKey(state.key),
            text: Arc::from(state.text.as_str()),
            records: state.records,
            anomalous_records: state.anomalous_records,
            first_time_unix_nano: state.first_time_unix_nano,
            service: Arc::from(state.service.as_str()),
            severity_number: state.severity_number,
            course: state.course.clone().map(Course::from).unwrap_or_default(),
            first_episode: state.first_episode_unix_nano.map(|time_unix_nano| FirstEpisode {
                time_unix_nano,
                link: state.link.as_ref().map(Link::from),
            }),
        }
    }
}
