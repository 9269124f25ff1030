//! `harbinger incidents digest FILE…`: the incidents in logs that Harbinger has marked.
//!
//! What enters: OTLP JSON lines as the `file` exporter (ours or the Collector's) writes them. What leaves: the incidents
//! with their gist, on standard output; or as JSON, with the fields that an agent would tell as far as the records do.
//! Absent on purpose: a running agent; this reads files only.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};

use super::super::{
    digest::{self, Digest, Member},
    input::message,
};
use crate::{
    edge::{
        api::{json, proto},
        files::{self, Row},
    },
    engine::{tell, view::severity_name},
};

/// How many incidents are shown unless it is said.
const SHOWN: usize = 20;

/// What the command takes.
#[derive(Debug, clap::Args)]
#[group(id = "files")]
pub struct Args {
    /// Marked logs as OTLP JSON lines (also .gz); `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// How many incidents to show, the largest [default: 20, of JSON all]
    #[arg(long, value_name = "COUNT")]
    top: Option<usize>,
    /// One JSON object a line, as `list --json` has them; what records do not tell is empty
    #[arg(long)]
    json: bool,
    /// Name of the attribute that holds the incident's id
    #[arg(long, default_value = "incident_id", value_name = "NAME")]
    incident_attribute: String,
    /// Name of the attribute that says whether a record is anomalous
    #[arg(long, default_value = "is_anomaly", value_name = "NAME")]
    anomaly_attribute: String,
}

/// Lists the incidents.
///
/// # Errors
/// A file that cannot be read, or holds no OTLP.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let mut unreadable = 0u64;
    for input in &args.inputs {
        let source = files::open(input, &files::Settings::default()).with_context(|| unreadable_input(input))?;
        for row in source {
            match row {
                // What an agent says of incidents is not a record that it should have marked.
                Ok(row) if attribute(&row.record.attributes, tell::EVENT).is_some() => {}
                Ok(row) => rows.push(row),
                Err(_) => unreadable += 1,
            }
        }
    }
    let mut judged = 0usize;
    let mut anomalous = 0usize;
    let members = rows.iter().filter_map(|row| {
        let is_anomaly = match attribute(&row.record.attributes, &args.anomaly_attribute) {
            Some(Value::BoolValue(is_anomaly)) => *is_anomaly,
            _ => return None,
        };
        judged += 1;
        anomalous += usize::from(is_anomaly);
        let Some(Value::StringValue(incident_id)) = attribute(&row.record.attributes, &args.incident_attribute) else {
            return None;
        };
        Some((incident_id.clone(), member(row, is_anomaly)))
    });
    let digests = digest::gather(members);
    let mut out = io::stdout().lock();
    if args.json {
        let records: Vec<usize> = digests.iter().map(|digest| digest.members.len()).collect();
        let is_shown = digest::largest(&records, args.top.unwrap_or(usize::MAX));
        for (digest, _) in digests.iter().zip(is_shown).filter(|(_, is_shown)| *is_shown) {
            writeln!(out, "{}", json::line(&incident(digest))?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let share = if judged == 0 {
        0.0
    } else {
        100.0 * anomalous as f64 / judged as f64
    };
    writeln!(
        out,
        "{} incident{} in {} records ({anomalous} anomalous, {share:.2} %)\n",
        digests.len(),
        if digests.len() == 1 { "" } else { "s" },
        rows.len(),
    )?;
    digest::print(&mut out, &digests, args.top.unwrap_or(SHOWN))?;
    if judged < rows.len() {
        writeln!(
            out,
            "{} records carry no `{}`: Harbinger has not seen them",
            rows.len() - judged,
            args.anomaly_attribute
        )?;
    }
    if unreadable > 0 {
        writeln!(out, "{unreadable} lines could not be read")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A word that is no file may have been meant as a subcommand.
fn unreadable_input(input: &Path) -> String {
    let word = input.display();
    if input.exists() || input.extension().is_some() || input.components().count() > 1 {
        format!("cannot read {word}")
    } else {
        format!(
            "cannot read {word}: there is no such file, and no such subcommand (those are list, show, watch, export, digest)"
        )
    }
}

/// The incident as an agent would tell it, as far as its records do.
fn incident(digest: &Digest<'_>) -> proto::Incident {
    let time = |unix_nano: u64| prost_types::Timestamp {
        seconds: (unix_nano / 1_000_000_000) as i64,
        nanos: (unix_nano % 1_000_000_000) as i32,
    };
    let record = |member: &Member<'_>| proto::KeyRecord {
        time: member.time_unix_nano.map(time),
        service: member.service.to_owned(),
        text: member.message.to_owned(),
        severity_number: member.severity_number,
        severity: severity_name(member.severity_number).unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let span = digest.span_unix_nano();
    let in_order = digest.services();
    let mut services: Vec<String> = in_order.iter().map(|service| (*service).to_owned()).collect();
    services.sort_unstable();
    let service_counts = in_order.iter().map(|service| {
        let of_service = || digest.members.iter().filter(|member| member.service == *service);
        proto::ServiceCount {
            service: (*service).to_owned(),
            records: of_service().count() as u64,
            first_time: of_service().find_map(|member| member.time_unix_nano).map(time),
        }
    });
    proto::Incident {
        id: digest.incident_id.clone(),
        leading_edge: digest.leading_edge().map(record),
        worst: digest.worst().map(record),
        records: digest.members.len() as u64,
        anomalous_records: digest.anomalous() as u64,
        first_time: span.map(|(first, _)| time(first)),
        last_time: span.map(|(_, last)| time(last)),
        service_counts: service_counts.collect(),
        services,
        ..Default::default()
    }
}

fn member(row: &Row, is_anomaly: bool) -> Member<'_> {
    Member {
        time_unix_nano: row.time_unix_nano,
        service: row.service.as_deref().unwrap_or("unknown_service"),
        severity_number: row.record.severity_number,
        message: message(row),
        is_anomaly,
        template: None,
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()
}
