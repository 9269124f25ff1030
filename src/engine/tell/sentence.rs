//! One sentence of a change, for whoever is woken by it: what, where, since when, how much, what led.
//!
//! In: a change. Out: a sentence, bounded. Promises: no text of a log where none is kept; times in UTC and said so. Absent on
//! purpose: advice.

use super::clip;
use crate::engine::{
    correlate::{Change, Ending, Happened, Incident, KeyRecord, Status},
    tenant::Tenant,
    view::severity_name,
};

/// Bytes of a quotation; enough to recognise a line by.
const QUOTED_BYTES: usize = 120;
/// Bytes of a service's or a tenant's name.
const NAME_BYTES: usize = 64;
/// Services that are named.
const NAMED_SERVICES: usize = 3;

/// The sentence of a change.
pub fn of(tenant: &Tenant, change: &Change) -> String {
    let incident = &change.incident;
    let tenant = tenant
        .name()
        .map_or_else(String::new, |name| format!(" of tenant {}", clip(name, NAME_BYTES)));
    let subject = format!("Incident {}{tenant} in {}", incident.id, places(incident));
    let (since, amount, led) = (
        moment(incident.first_time_unix_nano),
        amount(incident),
        leaders(incident),
    );
    match (change.happened, incident.status) {
        (Happened::Opened, _) => {
            let goes_on = incident
                .parent
                .map_or_else(String::new, |parent| format!(", going on from {parent}"));
            format!("{subject} since {since}{goes_on}: {amount}, {led}.")
        }
        (Happened::Updated, _) => {
            format!(
                "{subject} goes on since {since} ({}): {amount}, {led}.",
                duration(incident)
            )
        }
        (Happened::Merged, Status::Merged { into }) => {
            format!("{subject} is part of incident {into}: it began at {since}; {amount}, {led}.")
        }
        (Happened::Closed | Happened::Merged, status) => {
            let why = match status {
                Status::Closed { by: Ending::Life } => "has reached the longest life of one incident",
                Status::Closed { by: Ending::Bound } => "is no longer followed, as too many were open",
                Status::Closed { by: Ending::Dismissed } => "was dismissed",
                _ => "is over",
            };
            format!(
                "{subject} {why}: it began at {since} and took {}; {amount}, {led}.",
                duration(incident)
            )
        }
    }
}

/// `db`, `db and web`, `db, web and 4 more services`.
fn places(incident: &Incident) -> String {
    let names: Vec<String> = incident.services.iter().map(|name| clip(name, NAME_BYTES)).collect();
    let more = names.len().saturating_sub(NAMED_SERVICES);
    let named = names.get(..NAMED_SERVICES).unwrap_or(&names);
    match (named, more, incident.records_of_other_services) {
        ([], ..) => "an unknown service".to_owned(),
        (named, _, 1..) => format!("{} and many more services", named.join(", ")),
        ([first @ .., last], 0, _) if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        (named, 0, _) => named.join(", "),
        (named, 1, _) => format!("{} and 1 more service", named.join(", ")),
        (named, more, _) => format!("{} and {more} more services", named.join(", ")),
    }
}

/// `1 anomalous record`, `12 anomalous records and 30 beside them`.
fn amount(incident: &Incident) -> String {
    let records = |count: u64| if count == 1 { "record" } else { "records" };
    let (anomalous, context) = (
        incident.anomalous_records,
        incident.records.saturating_sub(incident.anomalous_records),
    );
    match (anomalous, context) {
        (0, all) => format!("{all} {}", records(all)),
        (anomalous, 0) => format!("{anomalous} anomalous {}", records(anomalous)),
        (anomalous, context) => format!(
            "{anomalous} anomalous {} and {context} usual beside",
            records(anomalous)
        ),
    }
}

/// What led, and what was worst where that is another.
fn leaders(incident: &Incident) -> String {
    let (leading, worst) = (&incident.leading_edge, &incident.worst);
    // Where there is one service, it has been named.
    let lonely = incident.services.len() == 1 && incident.records_of_other_services == 0;
    let named = |record| named(record, !lonely);
    let led = format!("led by {}", named(leading));
    if leading.template == worst.template && leading.service == worst.service
        || leading.severity_number == worst.severity_number
    {
        led
    } else {
        format!("{led}, at worst {}", named(worst))
    }
}

/// `ERROR “no space left on device” of db`.
fn named(record: &KeyRecord, with_service: bool) -> String {
    let severity = severity_name(record.severity_number);
    let what = match (severity, record.text.is_empty()) {
        (Some(severity), false) => format!("{severity} {}", quotation(&record.text)),
        (None, false) => quotation(&record.text),
        (Some(severity), true) => format!("a record of severity {severity}"),
        (None, true) => "a record".to_owned(),
    };
    if with_service {
        format!("{what} of {}", clip(&record.service, NAME_BYTES))
    } else {
        what
    }
}

/// The text on one line, in quotes that texts of logs seldom have.
fn quotation(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("“{}”", clip(&line, QUOTED_BYTES))
}

/// `2024-11-18 10:00:00 UTC`.
fn moment(unix_nano: u64) -> String {
    let second = unix_nano / 1_000_000_000;
    let time = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or_default()).unwrap_or_default();
    let text = time.to_string();
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// `42 s`, `7 min`, `2 h 5 min`.
fn duration(incident: &Incident) -> String {
    let between = incident
        .last_time_unix_nano
        .saturating_sub(incident.first_time_unix_nano);
    let seconds = between / 1_000_000_000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => "less than a second".to_owned(),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) if minutes < 10 => format!("{minutes} min {seconds} s"),
        (0, minutes, _) => format!("{minutes} min"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
