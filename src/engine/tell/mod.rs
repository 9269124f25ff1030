//! Incidents put into words: one report of each change, for events, alerts and webhooks alike.
//!
//! What enters: a [`Change`] of an incident, and whose it is. What leaves: a [`Report`], complete in itself and ready to be
//! written as JSON, with a sentence for people. Promises: bounded, however large the incident
//! (lists of 16, texts of 256 bytes, cut between characters); a function of the change. Absent on purpose: who is told, and
//! how it gets there.

mod report;
mod sentence;

pub use self::report::{KeyRecordReport, Report, TemplateReport};

use super::correlate::{Change, Happened, Status};

/// Name of the scope of all events. What comes under it is never judged.
pub const SCOPE: &str = "harbinger.incidents";
/// Attribute with the event's name. A record that has it is never judged.
pub const EVENT: &str = "harbinger.event";

/// Entries of a list.
const MAX_ENTRIES: usize = 16;
/// Bytes of a text.
const MAX_TEXT_BYTES: usize = 256;
/// Severity number of WARN.
const WARN: i32 = 13;

/// The name of what happened.
pub fn event_name(happened: Happened) -> &'static str {
    match happened {
        Happened::Opened => "harbinger.incident.opened",
        Happened::Updated => "harbinger.incident.updated",
        Happened::Merged => "harbinger.incident.merged",
        Happened::Closed => "harbinger.incident.closed",
    }
}

/// The word that is written for how an incident stands.
fn status_word(status: Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::Merged { .. } => "merged",
        Status::Closed { .. } => "closed",
    }
}

/// Severity number of the event of a change: an incident that opens is as grave as its worst record, and a warning at least.
fn event_severity(change: &Change) -> i32 {
    match change.happened {
        Happened::Opened if (WARN..=24).contains(&change.incident.worst.severity_number) => {
            (change.incident.worst.severity_number - 1) / 4 * 4 + 1
        }
        Happened::Opened => WARN,
        Happened::Updated | Happened::Merged | Happened::Closed => 9,
    }
}

/// As much of a text as is told, cut between characters.
fn clip(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    const ELLIPSIS: &str = "…";
    let kept = text.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", text.get(..kept).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::Arc;

    use super::*;
    use crate::engine::{
        correlate::{Course, Ending, Incident, IncidentId, KeyRecord, TemplateCount},
        tenant::Tenant,
        text::TemplateKey,
    };

    /// 2024-11-18 10:00:00 UTC.
    const START: u64 = 1_731_924_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn key_record(after_s: u64, service: &str, text: &str, severity_number: i32) -> KeyRecord {
        KeyRecord {
            time_unix_nano: START + after_s * SECOND,
            service: Arc::from(service),
            template: TemplateKey::of(text),
            text: Arc::from(text),
            severity_number,
            reason: Arc::from(""),
        }
    }

    fn incident() -> Incident {
        let full = "could not extend file \"<path>\": No space left on device";
        Incident {
            id: "20241118-100000-k7f3qa".parse().unwrap(),
            aliases: Vec::new(),
            parent: None,
            status: Status::Open,
            announced: true,
            leading_edge: key_record(0, "db", full, 17),
            worst: key_record(3, "web", "cannot reach the database, giving up", 21),
            records: 42,
            anomalous_records: 12,
            first_time_unix_nano: START,
            last_time_unix_nano: START + 432 * SECOND,
            services: vec![Arc::from("db"), Arc::from("web")],
            records_of_other_services: 0,
            service_counts: Vec::new(),
            course: Course::default(),
            templates: vec![TemplateCount {
                template: TemplateKey::of(full),
                text: Arc::from(full),
                records: 42,
                anomalous_records: 12,
                first_time_unix_nano: 0,
                service: Arc::from(""),
                severity_number: 0,
                course: Course::default(),
                first_episode: None,
            }],
            records_of_other_templates: 0,
            ties: [2, 0, 1, 0, 0],
        }
    }

    fn change(happened: Happened, incident: Incident) -> Change {
        Change {
            happened,
            time_unix_nano: START + 432 * SECOND,
            incident,
        }
    }

    fn summary(happened: Happened, incident: Incident) -> String {
        Report::of(&Tenant::default(), &change(happened, incident), "incident_id").summary
    }

    #[test]
    fn a_sentence_says_what_where_since_when_how_much_and_what_led() {
        let led = "12 anomalous records and 30 usual beside, led by ERROR “could not extend file \"<path>\": No space left \
                   on device” of db, at worst FATAL “cannot reach the database, giving up” of web.";
        let subject = "Incident 20241118-100000-k7f3qa in db and web";
        let of = |status| Incident { status, ..incident() };
        assert_eq!(
            summary(Happened::Opened, incident()),
            format!("{subject} since 2024-11-18 10:00:00 UTC: {led}")
        );
        assert_eq!(
            summary(Happened::Updated, incident()),
            format!("{subject} goes on since 2024-11-18 10:00:00 UTC (7 min 12 s): {led}")
        );
        let into = "20241118-095900-aaaaaa".parse().unwrap();
        assert_eq!(
            summary(Happened::Merged, of(Status::Merged { into })),
            format!("{subject} is part of incident 20241118-095900-aaaaaa: it began at 2024-11-18 10:00:00 UTC; {led}")
        );
        assert_eq!(
            summary(Happened::Closed, of(Status::Closed { by: Ending::Silence })),
            format!("{subject} is over: it began at 2024-11-18 10:00:00 UTC and took 7 min 12 s; {led}")
        );
        let lonely = Incident {
            services: vec![Arc::from("db")],
            worst: incident().leading_edge,
            records: 1,
            anomalous_records: 1,
            parent: Some(into),
            ..incident()
        };
        let report = Report::of(&Tenant::named("acme"), &change(Happened::Opened, lonely), "incident_id");
        assert_eq!(
            report.summary,
            "Incident 20241118-100000-k7f3qa of tenant acme in db since 2024-11-18 10:00:00 UTC, going on from \
             20241118-095900-aaaaaa: 1 anomalous record, led by ERROR “could not extend file \"<path>\": No space left on \
             device”."
        );
    }

    #[test]
    fn without_texts_nothing_is_quoted() {
        let mut silent = incident();
        silent.leading_edge.text = Arc::default();
        silent.worst = silent.leading_edge.clone();
        silent.templates[0].text = Arc::default();
        let report = Report::of(&Tenant::default(), &change(Happened::Opened, silent), "incident_id");
        assert!(
            report.summary.ends_with("led by a record of severity ERROR of db."),
            "{}",
            report.summary
        );
        assert_eq!(report.templates[0].text.len(), 16, "the key stands for the text");
    }

    #[test]
    fn what_opens_is_as_grave_as_its_worst_record_and_a_warning_at_least() {
        let opened = |worst: i32| {
            let mut incident = incident();
            incident.worst.severity_number = worst;
            event_severity(&change(Happened::Opened, incident))
        };
        assert_eq!(
            [0, 9, 13, 16, 17, 20, 24, 99, -1].map(opened),
            [13, 13, 13, 13, 17, 17, 21, 13, 13]
        );
        assert_eq!(event_severity(&change(Happened::Closed, incident())), 9);
    }

    #[test]
    fn however_large_an_incident_is_its_report_is_not() {
        let long = "é".repeat(5000);
        let mut large = incident();
        large.aliases = (0..16_384).map(IncidentId::from_raw).collect();
        large.services = (0..16).map(|n| Arc::from(format!("{n}{long}"))).collect();
        large.records_of_other_services = 7;
        large.leading_edge = key_record(0, &long, &long, 17);
        large.templates = (0..32)
            .map(|n| TemplateCount {
                template: TemplateKey(n),
                text: Arc::from(&*long),
                records: 2,
                anomalous_records: 1,
                first_time_unix_nano: 0,
                service: Arc::from(""),
                severity_number: 0,
                course: Course::default(),
                first_episode: None,
            })
            .collect();
        let report = Report::of(&Tenant::named(&long), &change(Happened::Opened, large), "incident_id");
        assert_eq!((report.aliases.len(), report.other_aliases), (16, 16_368));
        assert_eq!((report.templates.len(), report.records_of_other_templates), (16, 32));
        assert!(report.leading_edge.text.len() <= 256 && report.leading_edge.text.ends_with('…'));
        assert!(report.summary.len() < 1024, "{}", report.summary.len());
        assert!(report.logql.starts_with("{service_name=~\".+\"}"), "{}", report.logql);
        assert!(serde_json::to_string(&report).unwrap().len() < 16_384);
    }

    #[test]
    fn the_query_finds_all_ids_in_all_services() {
        let query = |incident| {
            Report::of(
                &Tenant::default(),
                &change(Happened::Opened, incident),
                "my.incident-id",
            )
            .logql
        };
        assert_eq!(
            query(incident()),
            r#"{service_name=~"db|web"} | my_incident_id="20241118-100000-k7f3qa""#
        );
        let merged = Incident {
            aliases: vec!["20241118-100001-000000".parse().unwrap()],
            services: vec![Arc::from("db.\"1")],
            ..incident()
        };
        assert_eq!(
            query(merged),
            r#"{service_name="db.\"1"} | my_incident_id=~"20241118-100000-k7f3qa|20241118-100001-000000""#
        );
        let several = Incident {
            services: vec![Arc::from("a.b"), Arc::from("c")],
            ..incident()
        };
        assert!(query(several).starts_with(r#"{service_name=~"a\\.b|c"}"#));
    }
}
