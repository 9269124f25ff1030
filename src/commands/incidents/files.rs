//! `harbinger incidents digest FILE…`: the incidents in logs that Harbinger has marked.
//!
//! What enters: OTLP JSON lines as the `file` exporter (ours or the Collector's) writes them. What leaves: the incidents
//! with their gist, on standard output. Absent on purpose: a running agent; this reads files only.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};

use super::super::{
    digest::{self, Member},
    input::message,
};
use crate::edge::files::{self, Row};
use crate::engine::tell;

/// What the command takes.
#[derive(Debug, clap::Args)]
#[group(id = "files")]
pub struct Args {
    /// Marked logs as OTLP JSON lines (also .gz); `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// How many incidents to show, the largest
    #[arg(long, default_value_t = 20)]
    top: usize,
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
    digest::print(&mut out, &digests, args.top)?;
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
