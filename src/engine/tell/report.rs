//! The report of a change: what is told of an incident, whoever it is told to.
//!
//! In: a change. Out: [`Report`], whose JSON is the webhook's documented schema: keys are added, never renamed. Promises:
//! bounded; a ready LogQL query finds the incident's records. Absent on purpose: records, and what is told nobody (keys of
//! templates where there is a text).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MAX_ENTRIES, MAX_TEXT_BYTES, clip, event_name, event_severity, sentence, status_word};
use crate::engine::{
    correlate::{Change, Incident, IncidentId, KeyRecord, Status, TemplateCount, Tie},
    tenant::Tenant,
    view::{rfc3339, severity_name},
};

/// A change of an incident, to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of this schema.
    pub schema_version: u32,
    /// `harbinger.incident.opened` and so on.
    pub event: &'static str,
    /// When it happened, event time, RFC 3339.
    pub time: String,
    /// The same in Unix nanoseconds. Text, as in OTLP's JSON: a JSON number would lose digits.
    #[serde(serialize_with = "as_text")]
    pub time_unix_nano: u64,
    /// The severity of the news: of the worst record, WARN at least, when an incident opens; INFO else.
    pub severity_number: i32,
    /// Its name.
    pub severity_text: &'static str,
    /// One sentence for whoever is on call.
    pub summary: String,
    /// Whose incident it is, where tenants are told apart.
    pub tenant: Option<String>,
    /// Its final id.
    pub incident_id: String,
    /// `open`, `merged` or `closed`.
    pub status: &'static str,
    /// The incident it became part of.
    pub merged_into: Option<String>,
    /// Why it is over: `silence`, `max_life`, `bound` or `dismissed`.
    pub closed_by: Option<&'static str>,
    /// The incident that it goes on from, whose longest life was over.
    pub parent_id: Option<String>,
    /// Ids of incidents that became part of it; at most 16.
    pub aliases: Vec<String>,
    /// How many more of them there are.
    pub other_aliases: usize,
    /// Its earliest record.
    pub leading_edge: KeyRecordReport,
    /// Its gravest record.
    pub worst: KeyRecordReport,
    /// Records that carry its id or an alias.
    pub records: u64,
    /// Those of them that are anomalous; the others are context.
    pub anomalous_records: u64,
    /// Time of the earliest, RFC 3339.
    pub first_time: String,
    /// The same in Unix nanoseconds.
    #[serde(serialize_with = "as_text")]
    pub first_time_unix_nano: u64,
    /// Time of the latest, RFC 3339.
    pub last_time: String,
    /// The same in Unix nanoseconds.
    #[serde(serialize_with = "as_text")]
    pub last_time_unix_nano: u64,
    /// Services of its records; at most 16.
    pub services: Vec<String>,
    /// Records of services that are not listed.
    pub records_of_other_services: u64,
    /// Its templates, most frequent first; at most 16.
    pub templates: Vec<TemplateReport>,
    /// Records of templates that are not listed.
    pub records_of_other_templates: u64,
    /// How many episodes joined by what, for what joined any.
    pub ties: BTreeMap<&'static str, u64>,
    /// Finds its records in Loki.
    pub logql: String,
}

/// A record worth naming.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRecordReport {
    /// Its time, RFC 3339.
    pub time: String,
    /// The same in Unix nanoseconds.
    #[serde(serialize_with = "as_text")]
    pub time_unix_nano: u64,
    /// Its service.
    pub service: String,
    /// OTLP: 1 to 24, 0 unknown.
    pub severity_number: i32,
    /// The name of the severity's range; empty when unknown.
    pub severity_text: &'static str,
    /// Its template; empty where texts are not kept.
    pub text: String,
}

/// How often a template occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TemplateReport {
    /// Its text; where texts are not kept, its key.
    pub text: String,
    /// Records of it.
    pub records: u64,
    /// Those of them that are anomalous.
    pub anomalous_records: u64,
}

impl Report {
    /// What there is to tell of a change; `incident_id` is the name that the id has on records.
    pub fn of(tenant: &Tenant, change: &Change, incident_id: &str) -> Self {
        let incident = &change.incident;
        let (merged_into, closed_by) = match incident.status {
            Status::Open => (None, None),
            Status::Merged { into } => (Some(into.to_string()), None),
            Status::Closed { by } => (None, Some(by.word())),
        };
        let severity_number = event_severity(change);
        let listed_templates = incident.templates.get(..MAX_ENTRIES).unwrap_or(&incident.templates);
        let other_templates = incident.templates.iter().skip(MAX_ENTRIES);
        Self {
            schema_version: 1,
            event: event_name(change.happened),
            time: rfc3339(change.time_unix_nano),
            time_unix_nano: change.time_unix_nano,
            severity_number,
            severity_text: severity_name(severity_number).unwrap_or_default(),
            summary: sentence::of(tenant, change),
            tenant: tenant.name().map(|name| clip(name, MAX_TEXT_BYTES)),
            incident_id: incident.id.to_string(),
            status: status_word(incident.status),
            merged_into,
            closed_by,
            parent_id: incident.parent.as_ref().map(IncidentId::to_string),
            aliases: incident
                .aliases
                .iter()
                .take(MAX_ENTRIES)
                .map(IncidentId::to_string)
                .collect(),
            other_aliases: incident.aliases.len().saturating_sub(MAX_ENTRIES),
            leading_edge: KeyRecordReport::of(&incident.leading_edge),
            worst: KeyRecordReport::of(&incident.worst),
            records: incident.records,
            anomalous_records: incident.anomalous_records,
            first_time: rfc3339(incident.first_time_unix_nano),
            first_time_unix_nano: incident.first_time_unix_nano,
            last_time: rfc3339(incident.last_time_unix_nano),
            last_time_unix_nano: incident.last_time_unix_nano,
            services: services(incident)
                .map(|service| clip(service, MAX_TEXT_BYTES))
                .collect(),
            records_of_other_services: incident.records_of_other_services,
            templates: listed_templates.iter().map(TemplateReport::of).collect(),
            records_of_other_templates: incident.records_of_other_templates
                + other_templates.map(|template| template.records).sum::<u64>(),
            ties: Tie::ALL
                .iter()
                .zip(incident.ties)
                .filter(|(_, episodes)| *episodes > 0)
                .map(|(tie, episodes)| (tie.word(), episodes))
                .collect(),
            logql: logql(incident, incident_id),
        }
    }
}

impl KeyRecordReport {
    fn of(record: &KeyRecord) -> Self {
        Self {
            time: rfc3339(record.time_unix_nano),
            time_unix_nano: record.time_unix_nano,
            service: clip(&record.service, MAX_TEXT_BYTES),
            severity_number: record.severity_number,
            severity_text: severity_name(record.severity_number).unwrap_or_default(),
            text: clip(&record.text, MAX_TEXT_BYTES),
        }
    }
}

impl TemplateReport {
    fn of(count: &TemplateCount) -> Self {
        let text = if count.text.is_empty() {
            format!("{:016x}", count.template.0)
        } else {
            clip(&count.text, MAX_TEXT_BYTES)
        };
        Self {
            text,
            records: count.records,
            anomalous_records: count.anomalous_records,
        }
    }
}

fn services(incident: &Incident) -> impl Iterator<Item = &str> {
    incident.services.iter().take(MAX_ENTRIES).map(|service| &**service)
}

/// A query for the records that carry the id, or an alias that is listed.
fn logql(incident: &Incident, incident_id: &str) -> String {
    // Loki keeps attributes as structured metadata, under names of letters, digits and `_`.
    let letter = |part: char| if part.is_ascii_alphanumeric() { part } else { '_' };
    let label: String = incident_id.chars().map(letter).collect();
    let listed = incident.services.len() <= MAX_ENTRIES && incident.records_of_other_services == 0;
    let services = match incident.services.as_slice() {
        [one] if listed => format!("={}", quoted(one)),
        [_, ..] if listed => {
            let any: Vec<String> = services(incident).map(escaped).collect();
            format!("=~{}", quoted(&any.join("|")))
        }
        _ => r#"=~".+""#.to_owned(),
    };
    let aliases = incident.aliases.iter().take(MAX_ENTRIES);
    let ids: Vec<String> = [incident.id].iter().chain(aliases).map(IncidentId::to_string).collect();
    let operator = if ids.len() == 1 { "=" } else { "=~" };
    format!(
        "{{service_name{services}}} | {label}{operator}{}",
        quoted(&ids.join("|"))
    )
}

/// A text of LogQL, which has Go's.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for part in text.chars() {
        match part {
            '"' | '\\' => out.extend(['\\', part]),
            '\n' => out.push_str("\\n"),
            _ if part.is_control() => out.push('.'),
            _ => out.push(part),
        }
    }
    out.push('"');
    out
}

/// A regular expression for the text itself.
fn escaped(text: &str) -> String {
    regex::escape(text)
}

fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
