//! Incidents for a terminal at three in the morning.
//!
//! What enters: incidents as the API tells them. What leaves: a row each, or all that is known of one. Promises: a row is one
//! line whatever a log said, and on a terminal no longer than it is wide; control characters of a log do not reach the
//! terminal; times are UTC, as in the ids. Absent on purpose: colours.

use std::io::{self, Write};

use jiff::Timestamp;

use super::super::digest::one_line;
use crate::{
    edge::api::proto::{self, Incident, IncidentEnding, IncidentState},
    engine::view::severity_name,
};

/// Columns of services in a table.
const SERVICES: usize = 24;
/// Columns in front of the leading line.
const BEFORE_LINE: usize = 19 + 2 + 22 + 2 + 6 + 2 + 7 + 2 + 5 + 2 + SERVICES + 2;
/// Less of the leading line is of no use.
const LEAST_LINE: usize = 20;

/// Rows of incidents.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Characters of the leading line at most.
    line: usize,
}

impl Table {
    /// As wide as the terminal; as long as the lines are where there is none.
    pub fn for_terminal(is_terminal: bool) -> Self {
        let width = terminal_size::terminal_size().filter(|_| is_terminal);
        Self {
            line: width.map_or(usize::MAX, |(width, _)| {
                usize::from(width.0).saturating_sub(BEFORE_LINE).max(LEAST_LINE)
            }),
        }
    }

    /// A head and a row each.
    pub fn print(self, out: &mut impl Write, incidents: &[Incident]) -> io::Result<()> {
        writeln!(
            out,
            "{:19}  {:22}  {:6}  {:>7}  {:5}  {:SERVICES$}  LEADING LINE",
            "FIRST (UTC)", "ID", "STATE", "RECORDS", "WORST", "SERVICES"
        )?;
        for incident in incidents {
            self.row(out, time(incident.first_time.as_ref()), state(incident), incident)?;
        }
        Ok(())
    }

    /// A row with another time and word than the incident's own.
    pub fn row(self, out: &mut impl Write, time: String, word: &str, incident: &Incident) -> io::Result<()> {
        let mut services = plain(&incident.services.join(","));
        if incident.records_of_other_services > 0 {
            services.push_str(",…");
        }
        let leading = incident.leading_edge.as_ref();
        let text = leading.map_or("", |record| record.text.as_str());
        let worst = incident.worst.as_ref().map_or(0, |record| record.severity_number);
        writeln!(
            out,
            "{time:19}  {:22}  {word:6}  {:>7}  {:5}  {:SERVICES$}  {}",
            incident.id,
            incident.records,
            severity_name(worst).unwrap_or_default(),
            one_line(&services, SERVICES - 1),
            one_line(&plain(text), self.line.saturating_sub(1)),
        )
    }
}

/// Everything about one incident.
pub fn in_full(out: &mut impl Write, incident: &Incident) -> io::Result<()> {
    let ending = match incident.ending() {
        IncidentEnding::Unspecified => "",
        IncidentEnding::Silence => ": nothing of it was said any more",
        IncidentEnding::MaxLife => ": it reached the longest life; what follows is its child",
        IncidentEnding::Bound => ": there were too many at a time",
        IncidentEnding::Dismissed => ": somebody said that it is none",
    };
    writeln!(out, "{}  {}{ending}", incident.id, state(incident))?;
    let mut field = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(out, "  {name:12} {value}"),
    };
    field("tenant", &plain(&incident.tenant))?;
    field("merged into", &incident.merged_into)?;
    field("child of", &incident.parent_incident_id)?;
    field("also", &incident.aliases.join(" "))?;
    field("first", &time(incident.first_time.as_ref()))?;
    field("last", &time(incident.last_time.as_ref()))?;
    let context = incident.records.saturating_sub(incident.anomalous_records);
    let announced = if incident.announced {
        ""
    } else {
        "; too few to be announced"
    };
    let records = format!(
        "{} ({} anomalous, {context} context){announced}",
        incident.records, incident.anomalous_records
    );
    field("records", &records)?;
    let others = match incident.records_of_other_services {
        0 => String::new(),
        records => format!(" and others ({records} records)"),
    };
    field("services", &format!("{}{others}", plain(&incident.services.join(", "))))?;
    field("began with", &record(incident.leading_edge.as_ref()))?;
    field("worst", &record(incident.worst.as_ref()))?;
    let ties = incident.ties.iter().map(|tie| format!("{} {}", tie.tie, tie.episodes));
    field("joined by", &ties.collect::<Vec<_>>().join(", "))?;
    if !incident.templates.is_empty() {
        writeln!(out, "\n  RECORDS  ANOMALOUS  TEMPLATE")?;
    }
    for template in &incident.templates {
        let text = if template.text.is_empty() {
            &template.template_key
        } else {
            &template.text
        };
        let (records, anomalous) = (template.records, template.anomalous_records);
        writeln!(out, "  {records:>7}  {anomalous:>9}  {}", one_line(&plain(text), 200))?;
    }
    if incident.records_of_other_templates > 0 {
        writeln!(
            out,
            "  {:>7}             of other templates",
            incident.records_of_other_templates
        )?;
    }
    for (name, query) in [
        ("its lines", incident.logql.as_ref()),
        ("lines before it had an id, too", incident.logql_before.as_ref()),
    ] {
        let Some(query) = query else { continue };
        let (start, end) = (time(query.start.as_ref()), time(query.end.as_ref()));
        writeln!(
            out,
            "\n  {name} (LogQL, {start} to {end} UTC):\n    {}",
            plain(&query.logql)
        )?;
    }
    Ok(())
}

fn record(record: Option<&proto::KeyRecord>) -> String {
    record.map_or_else(String::new, |record| {
        let text = if record.text.is_empty() {
            &record.template_key
        } else {
            &record.text
        };
        let severity = severity_name(record.severity_number).unwrap_or_default();
        let space = if severity.is_empty() { "" } else { " " };
        format!(
            "{}{space}{severity}: {}",
            plain(&record.service),
            one_line(&plain(text), 300)
        )
    })
}

/// The word for an incident's state.
pub fn state(incident: &Incident) -> &'static str {
    match incident.state() {
        IncidentState::Unspecified => "",
        IncidentState::Open => "open",
        IncidentState::Closed => "closed",
        IncidentState::Merged => "merged",
    }
}

/// `2024-11-18 10:00:00`, UTC.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| Timestamp::from_second(time.seconds).ok());
    time.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// Without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_row_is_one_line_that_fits() {
        let leading = proto::KeyRecord {
            text: format!("\x1b[2Jboom\nand {}", "more ".repeat(50)),
            severity_number: 17,
            ..Default::default()
        };
        let incident = Incident {
            id: "20241118-100000-k7f3qa".to_owned(),
            state: IncidentState::Open.into(),
            leading_edge: Some(leading.clone()),
            worst: Some(leading),
            services: vec!["a-very-long-name-of-a-service".to_owned(), "cart".to_owned()],
            records: 1234,
            ..Default::default()
        };
        let mut out = Vec::new();
        Table { line: 40 }
            .print(&mut out, std::slice::from_ref(&incident))
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert!(rows.iter().all(|row| row.chars().count() <= BEFORE_LINE + 40), "{text}");
        assert!(
            rows.iter()
                .any(|row| row.contains("open       1234  ERROR  a-very-long-name")),
            "{text}"
        );
        let mut out = Vec::new();
        in_full(&mut out, &incident).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains('\x1b') && text.contains("too few to be announced"),
            "{text}"
        );
    }
}
