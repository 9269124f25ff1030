//! An alert as Alertmanager's API v2 takes it.
//!
//! What enters: a report of an incident, and the labels it has had from the beginning. What leaves: JSON. Promises: labels
//! are few and short; text of logs is in annotations; an alert never begins after it ends, which would be refused. Absent on
//! purpose: when to send it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::{
    tell::{KeyRecordReport, Report},
    view::rfc3339,
};

/// The name of all our alerts.
const ALERT_NAME: &str = "HarbingerIncident";
/// Selects them from a list of alerts.
pub const FILTER: &str = "alertname%3D%22HarbingerIncident%22";
/// Labels that the agent sets.
pub const OWN_LABELS: [&str; 5] = ["alertname", "incident_id", "severity", "service", "tenant"];

/// What identifies an alert.
pub type Labels = BTreeMap<String, String>;

/// The labels of an incident, from the first report of it.
pub fn labels(report: &Report, others: &Labels) -> Labels {
    let severity = match report.worst.severity_number {
        21..=24 => "critical",
        17..=20 => "error",
        _ => "warning",
    };
    let own = [
        ("alertname", ALERT_NAME),
        ("incident_id", &report.incident_id),
        ("severity", severity),
        ("service", &report.leading_edge.service),
        ("tenant", report.tenant.as_deref().unwrap_or_default()),
    ];
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    others.clone().into_iter().chain(own).collect()
}

/// One alert.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert<'a> {
    labels: &'a Labels,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

impl<'a> Alert<'a> {
    /// The alert of an incident that ends at a time (Unix nanoseconds), later than now while it is open.
    pub fn new(
        labels: &'a Labels,
        report: &Report,
        now_unix_nano: u64,
        ends_unix_nano: u64,
        link: Option<&str>,
    ) -> Self {
        let starts = report
            .leading_edge
            .time_unix_nano
            .min(now_unix_nano)
            .min(ends_unix_nano);
        Self {
            labels,
            annotations: annotations(report),
            starts_at: rfc3339(starts),
            ends_at: rfc3339(ends_unix_nano),
            generator_url: link.map(|link| link.replace("{incident_id}", &report.incident_id)),
        }
    }
}

/// An alert that Alertmanager has.
#[derive(Debug, Deserialize)]
pub struct FiringAlert {
    /// What identifies it.
    pub labels: Labels,
}

impl FiringAlert {
    /// Whether it is of the incident that is reported.
    pub fn is_of(&self, report: &Report) -> bool {
        let is = |name: &str, value: &str| self.labels.get(name).map_or("", String::as_str) == value;
        is("alertname", ALERT_NAME)
            && is("incident_id", &report.incident_id)
            && is("tenant", report.tenant.as_deref().unwrap_or_default())
    }
}

fn annotations(report: &Report) -> BTreeMap<&'static str, String> {
    let named = |record: &KeyRecordReport| {
        format!(
            "{} {} {}: {}",
            record.time, record.severity_text, record.service, record.text
        )
    };
    let templates: Vec<String> = report
        .templates
        .iter()
        .map(|template| format!("{} × {}", template.records, template.text))
        .collect();
    let description = format!(
        "{}\nFirst record {}, last {}.\nWhat was said:\n{}",
        report.summary,
        report.first_time,
        report.last_time,
        templates.join("\n")
    );
    let stated = [
        ("merged_into", report.merged_into.clone()),
        ("closed_by", report.closed_by.map(str::to_owned)),
        ("parent_id", report.parent_id.clone()),
        (
            "aliases",
            Some(report.aliases.join(", ")).filter(|aliases| !aliases.is_empty()),
        ),
    ];
    let always = [
        ("summary", report.summary.clone()),
        ("description", description),
        ("leading_edge", named(&report.leading_edge)),
        ("worst_record", named(&report.worst)),
        ("services", report.services.join(", ")),
        ("records", report.records.to_string()),
        ("anomalous_records", report.anomalous_records.to_string()),
        ("first_time", report.first_time.clone()),
        ("last_time", report.last_time.clone()),
        ("logql", report.logql.clone()),
    ];
    let stated = stated.into_iter().filter_map(|(name, text)| Some((name, text?)));
    always.into_iter().chain(stated).collect()
}
