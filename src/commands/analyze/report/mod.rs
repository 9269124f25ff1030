//! The report: the page with the data of an analysis inside, one file that can be mailed.
//!
//! What enters: each incident with its rows and what the engine told of it, the scores of all rows, what is remembered of
//! templates. What leaves: one file of HTML. Promises: counts, times and named records of an incident are those of its rows,
//! as in incidents.csv, and its ids those it goes by in the end; with `--redact` no text of a log is in the file: no template, no
//! reason, which may quote one (names of services and of input files stay, and keys, by which a text can be confirmed
//! by whoever guesses it). Memory holds the incidents of the report as JSON, a few KiB each. Absent on purpose: what it looks like, see `edge::api::page`.

pub mod scores;
pub mod templates;

mod map;

use std::{collections::HashMap, io::Write, sync::Arc};

use anyhow::Result;
use serde::Serialize;

use self::{scores::Scores, templates::Templates};
use super::{
    listing::{Grouped, Kept, Listing, Whole},
    told::Episode,
    whole_file::WholeFile,
};
use crate::{
    commands::{digest, digest::Member, lineage::Lineage},
    edge::api::{answers, json, page, proto},
    engine::{
        correlate::IncidentId,
        state::State,
        text::TemplateKey,
        view::{rfc3339, severity_name},
    },
};

/// Services that are told of an incident.
const MAX_SERVICES: usize = 16;

/// A report that is being put together.
pub struct Report<'a> {
    /// Where it goes.
    pub file: WholeFile,
    /// Leaves out what logs say.
    pub redact: bool,
    /// Which incidents of the list are in it.
    pub is_shown: Vec<bool>,
    /// What the engine told of them.
    pub told: Grouped<proto::Incident>,
    /// What became of them.
    pub lineage: &'a Lineage,
    /// Texts of their templates.
    pub texts: &'a HashMap<TemplateKey, Arc<str>>,
    /// Scores over time; none where no row has a time.
    pub scores: Option<Scores>,
    /// As JSON.
    incidents: Vec<(Rank, String)>,
}

/// What else there is to say.
pub struct Facts<'a> {
    /// Now.
    pub made_at: String,
    /// Names of the inputs.
    pub inputs: Vec<String>,
    /// Rows in all, the anomalous ones, and those without a judgement.
    pub rows: [u64; 3],
    /// Between which times they lie.
    pub span_unix_nano: Option<(u64, u64)>,
    /// What is remembered of templates.
    pub templates: &'a Templates,
    /// Whether errors of reconstruction mean something.
    pub has_errors: bool,
    /// What the engine knows at the end.
    pub state: &'a State,
    /// All incidents.
    pub listing: &'a Listing,
}

/// The gravest come first: those that were told, by severity, then by anomalous records.
type Rank = std::cmp::Reverse<(bool, i32, u64)>;

#[derive(Serialize)]
struct Written {
    kind: &'static str,
    version: u32,
    made_at: String,
    made_by: String,
    inputs: Vec<String>,
    redacted: bool,
    rows: u64,
    anomalous_rows: u64,
    rows_not_judged: u64,
    first_time: Option<String>,
    last_time: Option<String>,
    incidents_left_out: usize,
    scores: Option<scores::Written>,
    reconstruction_error: Option<templates::WrittenErrors>,
    map: templates::WrittenMap,
}

impl<'a> Report<'a> {
    /// A report of the largest incidents, at most so many.
    pub fn new(
        file: WholeFile,
        most: usize,
        listing: &Listing,
        told: Grouped<proto::Incident>,
        lineage: &'a Lineage,
        texts: &'a HashMap<TemplateKey, Arc<str>>,
    ) -> Self {
        let records: Vec<usize> = listing.entries.iter().map(|entry| entry.rows).collect();
        Self {
            file,
            redact: false,
            is_shown: digest::largest(&records, most),
            told,
            lineage,
            texts,
            scores: None,
            incidents: Vec::new(),
        }
    }

    /// Takes the next incident of the list, in which these episodes were told of.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn push(&mut self, whole: &Whole<'_>, episodes: &[Episode]) -> Result<()> {
        let told = self.told.take(whole.place)?;
        if self.is_shown.get(whole.place) != Some(&true) {
            return Ok(());
        }
        // One that was merged away was told to be over by what it became.
        let own = told.iter().rposition(|incident| incident.id == whole.entry.name);
        let latest = own.or(told.len().checked_sub(1));
        let mut incident = latest.and_then(|place| told.into_iter().nth(place)).unwrap_or_default();
        self.correct(&mut incident, whole, episodes);
        if self.redact {
            redact(&mut incident);
        }
        let severity = incident.worst.as_ref().map_or(0, |worst| worst.severity_number);
        let rank = std::cmp::Reverse((incident.announced, severity, incident.anomalous_records));
        self.incidents.push((rank, json::line(&incident)?));
        Ok(())
    }

    /// Ids as they are in the end; records and counts as the rows have them.
    fn correct(&self, incident: &mut proto::Incident, whole: &Whole<'_>, episodes: &[Episode]) {
        let id = IncidentId::from_raw(whole.entry.number);
        incident.id.clone_from(&whole.entry.name);
        incident.aliases = self.lineage.aliases(id).iter().map(ToString::to_string).collect();
        incident.parent_incident_id = self
            .lineage
            .parent(id)
            .map(|parent| parent.to_string())
            .unwrap_or_default();
        incident.announced = self.lineage.is_announced(id);
        incident.records = whole.rows.len() as u64;
        incident.anomalous_records = whole.digest.anomalous() as u64;
        if let Some((first, last)) = whole.digest.span_unix_nano() {
            (incident.first_time, incident.last_time) = (answers::timestamp(first), answers::timestamp(last));
        }
        incident.leading_edge = whole.digest.leading_edge().map(|edge| self.record(edge, episodes));
        incident.worst = whole.digest.worst().map(|worst| self.record(worst, episodes));
        self.count_services(incident, whole.rows);
        self.count_templates(incident, whole.rows);
    }

    /// A record as the list names it; why it is anomalous is what was told of its episode, the latest that had begun.
    fn record(&self, member: &Member<'_>, episodes: &[Episode]) -> proto::KeyRecord {
        let text = member.template.and_then(|key| self.texts.get(&key));
        let is_its = |episode: &&Episode| {
            Some(TemplateKey(episode.template)) == member.template
                && episode.service == member.service
                && member.time_unix_nano.is_none_or(|time| episode.first_unix_nano <= time)
        };
        let episode = episodes.iter().rev().find(is_its).filter(|_| member.is_anomaly);
        proto::KeyRecord {
            time: member.time_unix_nano.and_then(answers::timestamp),
            service: member.service.to_owned(),
            template_key: member.template.map(answers::hex).unwrap_or_default(),
            text: text.map_or(String::new(), |text| text.to_string()),
            severity_number: member.severity_number,
            severity: severity_name(member.severity_number).unwrap_or_default().to_owned(),
            reason: episode.map_or(String::new(), |episode| episode.reason.clone()),
        }
    }

    fn count_services(&self, incident: &mut proto::Incident, rows: &[Kept]) {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut counts: Vec<proto::ServiceCount> = Vec::new();
        for row in rows {
            let place = *places.entry(&row.service).or_insert(counts.len());
            if place == counts.len() {
                counts.push(proto::ServiceCount {
                    service: row.service.clone(),
                    records: 0,
                    first_time: row.time_unix_nano().and_then(answers::timestamp),
                });
            }
            if let Some(count) = counts.get_mut(place) {
                count.records += 1;
            }
        }
        let others = counts.get(MAX_SERVICES..).unwrap_or_default();
        incident.records_of_other_services = others.iter().map(|count| count.records).sum();
        counts.truncate(MAX_SERVICES);
        incident.services = counts.iter().map(|count| count.service.clone()).collect();
        incident.services.sort_unstable();
        incident.service_counts = counts;
    }

    fn count_templates(&self, incident: &mut proto::Incident, rows: &[Kept]) {
        let mut counts: HashMap<String, (u64, u64)> = HashMap::new();
        for row in rows {
            let Some(template) = row.template else { continue };
            let count = counts.entry(answers::hex(TemplateKey(template))).or_default();
            count.0 += 1;
            count.1 += u64::from(row.is_anomaly);
        }
        let mut listed = 0;
        for template in &mut incident.templates {
            let count = counts.get(&template.template_key).copied().unwrap_or_default();
            (template.records, template.anomalous_records) = count;
            listed += count.0;
        }
        incident.templates.retain(|template| template.records > 0);
        incident.records_of_other_templates = incident.records.saturating_sub(listed);
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(mut self, facts: &Facts<'_>) -> Result<()> {
        let redact = self.redact;
        let shown = |text: &str| if redact { String::new() } else { text.to_owned() };
        // Stable: equals stay in order of time.
        self.incidents.sort_by_key(|(rank, _)| *rank);
        let [rows, anomalous_rows, rows_not_judged] = facts.rows;
        let time = |of: fn((u64, u64)) -> u64| facts.span_unix_nano.map(of).map(rfc3339);
        let written = Written {
            kind: "report",
            version: 1,
            made_at: facts.made_at.clone(),
            made_by: format!("harbinger {}", env!("CARGO_PKG_VERSION")),
            inputs: facts.inputs.clone(),
            redacted: redact,
            rows,
            anomalous_rows,
            rows_not_judged,
            first_time: time(|(first, _)| first),
            last_time: time(|(_, last)| last),
            incidents_left_out: facts.listing.entries.len().saturating_sub(self.incidents.len()),
            scores: self
                .scores
                .map(|scores| scores.written(|key| shown(facts.templates.text(key)))),
            reconstruction_error: facts.templates.errors().filter(|_| facts.has_errors),
            map: facts.templates.map(facts.state, facts.listing, shown)?,
        };
        let incidents: Vec<String> = self.incidents.into_iter().map(|(_, incident)| incident).collect();
        // They are JSON already: into the object of the rest.
        let rest = serde_json::to_string(&written)?;
        let data = format!(
            "{{\"incidents\":[{}],{}",
            incidents.join(","),
            rest.trim_start_matches('{')
        );
        let page = page::with_data(&data);
        self.file.write_all(page.as_bytes())?;
        Ok(self.file.end()?)
    }
}

/// Takes out what logs say: templates, and reasons, which may quote one.
fn redact(incident: &mut proto::Incident) {
    for record in incident.leading_edge.iter_mut().chain(&mut incident.worst) {
        record.text.clear();
        record.reason.clear();
    }
    incident.templates.iter_mut().for_each(|template| template.text.clear());
}
