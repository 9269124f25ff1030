//! An incident that is over, as a snapshot keeps it.
//!
//! In: an [`Incident`] as it was told. Out: a protobuf message, and the same incident back. Promises: nothing told of an
//! incident is lost on the way; what was said can be taken out again, the rest stays. Field numbers are never reused.
//! Absent on purpose: open incidents, which are their correlator's to keep.

use std::sync::Arc;

use super::course::{Course, CourseState};
use super::event::Origin;
use super::id::IncidentId;
use super::incident::{Ending, Incident, KeyRecord, ServiceCount, Status, TemplateCount, Tie};
use super::tally::{TemplateCountState, service_counts};

/// See the module. Ids are raw numbers, times Unix nanoseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PastIncident {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(fixed64, repeated, tag = "2")]
    aliases: Vec<u64>,
    #[prost(fixed64, optional, tag = "3")]
    parent: Option<u64>,
    /// The incident it was merged into; closed otherwise.
    #[prost(fixed64, optional, tag = "4")]
    merged_into: Option<u64>,
    /// The word of its [`Ending`].
    #[prost(string, tag = "5")]
    ending: String,
    #[prost(message, optional, tag = "6")]
    leading_edge: Option<Origin>,
    #[prost(message, optional, tag = "7")]
    worst: Option<Origin>,
    #[prost(uint64, tag = "8")]
    records: u64,
    #[prost(uint64, tag = "9")]
    anomalous_records: u64,
    #[prost(fixed64, tag = "10")]
    first_time_unix_nano: u64,
    #[prost(fixed64, tag = "11")]
    last_time_unix_nano: u64,
    #[prost(string, repeated, tag = "12")]
    services: Vec<String>,
    #[prost(uint64, tag = "13")]
    records_of_other_services: u64,
    #[prost(message, repeated, tag = "14")]
    templates: Vec<TemplateCountState>,
    #[prost(uint64, tag = "15")]
    records_of_other_templates: u64,
    #[prost(uint64, repeated, tag = "16")]
    ties: Vec<u64>,
    #[prost(bool, tag = "17")]
    unannounced: bool,
    /// In order of appearance; the next two are of each.
    #[prost(string, repeated, tag = "18")]
    appeared: Vec<String>,
    #[prost(uint64, repeated, tag = "19")]
    appeared_records: Vec<u64>,
    #[prost(fixed64, repeated, tag = "20")]
    appeared_unix_nanos: Vec<u64>,
    #[prost(message, optional, tag = "21")]
    course: Option<CourseState>,
}

impl From<&Incident> for PastIncident {
    fn from(told: &Incident) -> Self {
        let (merged_into, ending) = match told.status {
            Status::Merged { into } => (Some(into.to_raw()), ""),
            Status::Closed { by } => (None, by.word()),
            Status::Open => (None, Ending::Silence.word()),
        };
        let counts = || told.service_counts.iter();
        Self {
            id: told.id.to_raw(),
            aliases: told.aliases.iter().map(|alias| alias.to_raw()).collect(),
            parent: told.parent.map(IncidentId::to_raw),
            merged_into,
            ending: ending.to_owned(),
            leading_edge: Some(Origin::from(&told.leading_edge)),
            worst: Some(Origin::from(&told.worst)),
            records: told.records,
            anomalous_records: told.anomalous_records,
            first_time_unix_nano: told.first_time_unix_nano,
            last_time_unix_nano: told.last_time_unix_nano,
            services: told.services.iter().map(ToString::to_string).collect(),
            records_of_other_services: told.records_of_other_services,
            templates: told.templates.iter().map(TemplateCountState::from).collect(),
            records_of_other_templates: told.records_of_other_templates,
            ties: told.ties.to_vec(),
            unannounced: !told.announced,
            appeared: counts().map(|count| count.service.to_string()).collect(),
            appeared_records: counts().map(|count| count.records).collect(),
            appeared_unix_nanos: counts().map(|count| count.first_time_unix_nano).collect(),
            course: Some((&told.course).into()),
        }
    }
}

impl PastIncident {
    /// The incident as it was told.
    pub fn told(&self) -> Incident {
        let record = |origin: &Option<Origin>| KeyRecord::from(origin.as_ref().unwrap_or(&Origin::default()));
        let ending = Ending::ALL.into_iter().find(|ending| ending.word() == self.ending);
        let mut ties = [0; Tie::ALL.len()];
        ties.iter_mut().zip(&self.ties).for_each(|(tie, count)| *tie = *count);
        let counts = service_counts(&self.appeared, &self.appeared_records, &self.appeared_unix_nanos);
        Incident {
            id: IncidentId::from_raw(self.id),
            aliases: self.aliases.iter().map(|raw| IncidentId::from_raw(*raw)).collect(),
            parent: self.parent.map(IncidentId::from_raw),
            status: match self.merged_into {
                Some(into) => Status::Merged {
                    into: IncidentId::from_raw(into),
                },
                None => Status::Closed {
                    by: ending.unwrap_or(Ending::Silence),
                },
            },
            announced: !self.unannounced,
            leading_edge: record(&self.leading_edge),
            worst: record(&self.worst),
            records: self.records,
            anomalous_records: self.anomalous_records,
            first_time_unix_nano: self.first_time_unix_nano,
            last_time_unix_nano: self.last_time_unix_nano,
            services: self.services.iter().map(|name| Arc::from(name.as_str())).collect(),
            records_of_other_services: self.records_of_other_services,
            service_counts: counts.collect::<Vec<ServiceCount>>(),
            course: self.course.clone().map(Course::from).unwrap_or_default(),
            templates: self.templates.iter().map(TemplateCount::from).collect(),
            records_of_other_templates: self.records_of_other_templates,
            ties,
        }
    }

    /// Keeps no text of a log; keys and counts stay.
    pub fn drop_texts(&mut self) {
        self.texts_mut().for_each(|text| *text = String::new());
    }

    /// Empties every text that `matches`; returns how many there were.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> usize {
        let meant = self.texts_mut().filter(|text| !text.is_empty() && matches(text));
        meant.map(std::mem::take).count()
    }

    fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let named = self.leading_edge.iter_mut().chain(&mut self.worst);
        named
            .flat_map(Origin::texts_mut)
            .chain(self.templates.iter_mut().map(|template| &mut template.text))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::incident::{FirstEpisode, Link};
    use super::*;
    use crate::engine::text::TemplateKey;

    fn incident(status: Status) -> Incident {
        let record = |text: &str, severity_number| KeyRecord {
            time_unix_nano: 5,
            service: Arc::from("cart"),
            template: TemplateKey(9),
            text: Arc::from(text),
            severity_number,
            reason: Arc::from("like no line that is known"),
        };
        Incident {
            id: IncidentId::from_raw(7 << 30 | 1),
            aliases: vec![IncidentId::from_raw(7 << 30 | 2)],
            parent: Some(IncidentId::from_raw(6 << 30)),
            status,
            announced: true,
            leading_edge: record("card declined", 13),
            worst: record("disk vanished", 17),
            records: 12,
            anomalous_records: 10,
            first_time_unix_nano: 5,
            last_time_unix_nano: 50,
            services: vec![Arc::from("cart"), Arc::from("pay")],
            records_of_other_services: 1,
            service_counts: ["pay", "cart"]
                .map(|service| ServiceCount {
                    service: Arc::from(service),
                    records: 6,
                    first_time_unix_nano: 5,
                })
                .to_vec(),
            course: Course::at(5, 12),
            templates: vec![TemplateCount {
                template: TemplateKey(9),
                text: Arc::from("card declined"),
                records: 11,
                anomalous_records: 10,
                first_time_unix_nano: 5,
                service: Arc::from("cart"),
                severity_number: 13,
                course: Course::at(5, 11),
                first_episode: Some(FirstEpisode {
                    time_unix_nano: 5,
                    link: Some(Link {
                        tie: Tie::SharedId,
                        weight: 2.5,
                        template: TemplateKey(8),
                        service: Arc::from("pay"),
                        first_time_unix_nano: 4,
                    }),
                }),
            }],
            records_of_other_templates: 1,
            ties: [1, 2, 3, 4, 5],
        }
    }

    #[test]
    fn an_incident_comes_back_as_it_was_told() -> Result<(), prost::DecodeError> {
        let into = IncidentId::from_raw(3);
        let endings = Ending::ALL.map(|by| Status::Closed { by });
        for status in endings.into_iter().chain([Status::Merged { into }]) {
            let told = incident(status);
            let bytes = PastIncident::from(&told).encode_to_vec();
            assert_eq!(PastIncident::decode(bytes.as_slice())?.told(), told);
        }
        Ok(())
    }

    #[test]
    fn what_was_said_can_be_taken_out() {
        let mut past = PastIncident::from(&incident(Status::Closed { by: Ending::Silence }));
        assert_eq!(past.forget(|text| text.contains("card")), 2);
        assert_eq!(past.told().leading_edge.text.as_ref(), "");
        assert_eq!(past.told().worst.text.as_ref(), "disk vanished");
        past.drop_texts();
        assert_eq!(past.forget(|_| true), 0);
        assert_eq!(past.told().records, 12);
    }
}
