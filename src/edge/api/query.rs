//! Queries that find an incident's lines in Loki.
//!
//! What enters: an incident, and the name of the attribute that carries its id. What leaves: LogQL with the times to ask it
//! for. Promises: names of services are quoted, so that none can change the query; where an incident has more services than
//! are listed, all services are asked. Absent on purpose: where Loki is, and whose tenant is asked.

use crate::engine::correlate::Incident;

use super::{answers::timestamp, proto};

/// How much earlier than the first record a fault may have been spoken of.
const BEFORE_NANO: u64 = 5 * 60 * 1_000_000_000;
/// Loki excludes the end of a range, and clocks are read in milliseconds.
const AFTER_NANO: u64 = 1_000_000_000;

/// The lines that carry the id or an alias.
pub fn by_id(incident: &Incident, incident_attribute: &str) -> proto::LogQuery {
    let ids: Vec<String> = [incident.id]
        .iter()
        .chain(&incident.aliases)
        .map(ToString::to_string)
        .collect();
    let label = label(incident_attribute);
    let matcher = match ids.as_slice() {
        [id] => format!("{label}=\"{id}\""),
        ids => format!("{label}=~\"{}\"", ids.join("|")),
    };
    proto::LogQuery {
        logql: format!("{} | {matcher}", services(incident)),
        start: timestamp(incident.first_time_unix_nano),
        end: timestamp(incident.last_time_unix_nano.saturating_add(AFTER_NANO)),
    }
}

/// All lines of the same services, from a little before the first record on: some may have left before there was an id.
pub fn by_time(incident: &Incident) -> proto::LogQuery {
    proto::LogQuery {
        logql: services(incident),
        start: timestamp(incident.first_time_unix_nano.saturating_sub(BEFORE_NANO)),
        end: timestamp(incident.last_time_unix_nano.saturating_add(AFTER_NANO)),
    }
}

/// The stream selector.
fn services(incident: &Incident) -> String {
    match incident.services.as_slice() {
        all if all.is_empty() || incident.records_of_other_services > 0 => "{service_name=~\".+\"}".to_owned(),
        [service] => format!("{{service_name=\"{}\"}}", quoted(service)),
        services => {
            let names: Vec<String> = services.iter().map(|name| quoted(&regex::escape(name))).collect();
            format!("{{service_name=~\"{}\"}}", names.join("|"))
        }
    }
}

/// As it stands between double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(character),
        }
    }
    quoted
}

/// An attribute as Loki calls it: letters, digits and `_`, no digit first.
fn label(attribute: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() {
            character
        } else {
            '_'
        }
    };
    let label: String = attribute.chars().map(plain).collect();
    if label.starts_with(|first: char| first.is_ascii_digit()) {
        format!("_{label}")
    } else {
        label
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::answers::tests::incident;
    use super::*;

    #[test]
    fn every_alias_and_service_is_asked_for() {
        let mut told = incident();
        assert_eq!(
            by_id(&told, "incident_id").logql,
            "{service_name=~\"cart|pay\\\\.v2\"} | incident_id=~\"20241118-100000-000001|20241118-100000-000002\""
        );
        told.aliases.clear();
        told.services.truncate(1);
        assert_eq!(
            by_id(&told, "my.incident-id").logql,
            "{service_name=\"cart\"} | my_incident_id=\"20241118-100000-000001\""
        );
        told.records_of_other_services = 1;
        assert_eq!(by_time(&told).logql, "{service_name=~\".+\"}");
    }

    #[test]
    fn a_service_cannot_change_the_query() {
        let mut told = incident();
        told.services = vec![Arc::from("a\"} or {x=\"\\")];
        assert_eq!(by_time(&told).logql, "{service_name=\"a\\\"} or {x=\\\"\\\\\"}");
    }
}
