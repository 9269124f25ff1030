//! Incidents of a file as a list: incidents.csv, and the same as JSON for machines.
//!
//! What enters: digests of incidents, one after the other, and what is known of them. What leaves: a row or an object for each. Promises:
//! the notebook's four columns come first, and are all there is by its own rule; counts are those of the rows that carry
//! the id in annotated.csv, so that the two files never disagree. Absent on purpose: small incidents left out; whoever
//! gathers the digests decides.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    sync::Arc,
};

use anyhow::Result;
use serde::Serialize;

use super::{digest::Digest, lineage::Lineage};
use crate::engine::{
    correlate::IncidentId,
    text::TemplateKey,
    view::{rfc3339, severity_name},
};

/// The notebook's columns.
const NOTEBOOK: [&str; 4] = ["incident_id", "leading_edge", "timestamp", "related_logs"];

/// What came after the notebook.
const MORE: [&str; 12] = [
    "service",
    "services",
    "records",
    "anomalous_records",
    "first_time",
    "last_time",
    "worst_severity",
    "worst_message",
    "aliases",
    "parent_incident_id",
    "announced",
    "templates",
];

/// One incident.
#[derive(Clone, Debug, Serialize)]
pub struct Listed<'a> {
    incident_id: &'a str,
    leading_edge: &'a str,
    timestamp: Option<String>,
    related_logs: Vec<&'a str>,
    #[serde(flatten)]
    more: Option<More<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct More<'a> {
    service: &'a str,
    services: Vec<&'a str>,
    records: usize,
    anomalous_records: usize,
    first_time: Option<String>,
    last_time: Option<String>,
    worst_severity: &'static str,
    worst_message: &'a str,
    aliases: Vec<String>,
    parent_incident_id: Option<String>,
    announced: bool,
    templates: Vec<Template<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct Template<'a> {
    template: String,
    text: &'a str,
    records: usize,
    anomalous_records: usize,
}

/// What is known of incidents beside their records.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What became of them.
    pub lineage: &'a Lineage,
    /// Texts of their templates.
    pub texts: &'a HashMap<TemplateKey, Arc<str>>,
}

impl<'a> Listed<'a> {
    /// Lists an incident; where nothing else is known, by the notebook's columns alone.
    pub fn new(digest: &'a Digest<'a>, known: Option<Known<'a>>) -> Self {
        let edge = digest.leading_edge();
        Self {
            incident_id: &digest.incident_id,
            leading_edge: edge.map_or("", |edge| edge.message),
            timestamp: edge.and_then(|edge| edge.time_unix_nano).map(rfc3339),
            related_logs: digest.members.iter().map(|member| member.message).collect(),
            more: known.map(|known| More::new(digest, known)),
        }
    }
}

impl<'a> More<'a> {
    fn new(digest: &'a Digest<'a>, Known { lineage, texts }: Known<'a>) -> Self {
        let (span, worst) = (digest.span_unix_nano(), digest.worst());
        let id: Option<IncidentId> = digest.incident_id.parse().ok();
        let aliases = id.map(|id| lineage.aliases(id)).unwrap_or_default();
        Self {
            service: digest.leading_edge().map_or("", |edge| edge.service),
            services: digest.services(),
            records: digest.members.len(),
            anomalous_records: digest.anomalous(),
            first_time: span.map(|(first, _)| rfc3339(first)),
            last_time: span.map(|(_, last)| rfc3339(last)),
            worst_severity: worst
                .and_then(|worst| severity_name(worst.severity_number))
                .unwrap_or_default(),
            worst_message: worst.map_or("", |worst| worst.message),
            aliases: aliases.iter().map(IncidentId::to_string).collect(),
            parent_incident_id: id.and_then(|id| lineage.parent(id)).map(|parent| parent.to_string()),
            announced: id.is_some_and(|id| lineage.is_announced(id)),
            templates: templates(digest, texts),
        }
    }
}

/// Templates of an incident, most frequent first.
fn templates<'a>(digest: &Digest<'_>, texts: &'a HashMap<TemplateKey, Arc<str>>) -> Vec<Template<'a>> {
    let mut counts: BTreeMap<TemplateKey, (usize, usize)> = BTreeMap::new();
    for member in &digest.members {
        if let Some(template) = member.template {
            let count = counts.entry(template).or_default();
            count.0 += 1;
            count.1 += usize::from(member.is_anomaly);
        }
    }
    let mut templates: Vec<Template<'a>> = counts
        .into_iter()
        .map(|(template, (records, anomalous_records))| Template {
            template: template.to_string(),
            text: texts.get(&template).map_or("", |text| &**text),
            records,
            anomalous_records,
        })
        .collect();
    templates.sort_by_key(|template| std::cmp::Reverse(template.records)); // stable: equals by key
    templates
}

/// Writes incidents.csv.
pub struct CsvList<W: Write> {
    csv: csv::Writer<W>,
}

impl<W: Write> CsvList<W> {
    /// Begins with the names of the columns; `is_complete` adds what came after the notebook.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, is_complete: bool) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(out);
        let more: &[&str] = if is_complete { &MORE } else { &[] };
        csv.write_record(NOTEBOOK.iter().chain(more))?;
        Ok(Self { csv })
    }

    /// Adds an incident.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn push(&mut self, incident: &Listed<'_>) -> Result<()> {
        let mut cells = vec![
            incident.incident_id.to_owned(),
            incident.leading_edge.to_owned(),
            incident.timestamp.clone().unwrap_or_default(),
            serde_json::to_string(&incident.related_logs)?,
        ];
        if let Some(more) = &incident.more {
            cells.extend([
                more.service.to_owned(),
                serde_json::to_string(&more.services)?,
                more.records.to_string(),
                more.anomalous_records.to_string(),
                more.first_time.clone().unwrap_or_default(),
                more.last_time.clone().unwrap_or_default(),
                more.worst_severity.to_owned(),
                more.worst_message.to_owned(),
                serde_json::to_string(&more.aliases)?,
                more.parent_incident_id.clone().unwrap_or_default(),
                more.announced.to_string(),
                more.templates.len().to_string(),
            ]);
        }
        self.csv.write_record(cells)?;
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(mut self) -> Result<()> {
        self.csv.flush()?;
        Ok(())
    }
}
