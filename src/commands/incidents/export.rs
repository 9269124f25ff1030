//! `harbinger incidents export`: all incidents that match, for a spreadsheet or a program.
//!
//! What enters: a filter. What leaves: CSV whose first columns are those of `analyze`'s incidents.csv, or JSON lines.
//! Promises: every incident that the agent knows and that matches is there once; texts are as they are, but on a terminal
//! harmless. Absent on purpose: the lines of an incident, which are where the logs are; `related_logs` has its templates.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{
    super::{
        client::{ApiArgs, Client},
        terminal::harmless,
    },
    Which, words,
};
use crate::{
    edge::api::{
        json,
        proto::{Incident, IncidentEnding},
    },
    engine::view::severity_name,
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// csv, or json: one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Csv,
    Json,
}

/// Exports.
///
/// # Errors
/// No agent answers, or the file cannot be written.
pub async fn run(args: &Args) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    let incidents = client.incidents(args.which.request(), usize::MAX).await?;
    let Some(path) = &args.out else {
        let mut stdout = io::stdout().lock();
        if !stdout.is_terminal() {
            return write(&mut stdout, args.format, &incidents);
        }
        let mut table = Vec::new();
        write(&mut table, args.format, &incidents)?;
        let lines = String::from_utf8_lossy(&table);
        return Ok(lines
            .lines()
            .try_for_each(|line| writeln!(stdout, "{}", harmless(line)))?);
    };
    let unwritable = || format!("--out: cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(unwritable)?);
    write(&mut file, args.format, &incidents).with_context(unwritable)?;
    file.flush().with_context(unwritable)?;
    writeln!(io::stdout().lock(), "{}: {} incidents", path.display(), incidents.len())?;
    Ok(())
}

fn write(out: &mut impl Write, format: Format, incidents: &[Incident]) -> Result<()> {
    match format {
        Format::Csv => write_csv(out, incidents),
        Format::Json => {
            for incident in incidents {
                writeln!(out, "{}", json::line(incident)?)?;
            }
            Ok(())
        }
    }
}

fn write_csv(out: &mut impl Write, incidents: &[Incident]) -> Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record([
        "incident_id",
        "leading_edge",
        "timestamp",
        "related_logs",
        "records",
        "anomalous_records",
        "services",
        "first_time",
        "last_time",
        "state",
        "ending",
        "merged_into",
        "aliases",
        "parent_incident_id",
        "worst_severity",
        "tenant",
        "logql",
    ])?;
    for incident in incidents {
        let edge = incident.leading_edge.as_ref();
        let texts: Vec<&str> = incident
            .templates
            .iter()
            .map(|template| template.text.as_str())
            .collect();
        let worst = incident.worst.as_ref().map_or(0, |record| record.severity_number);
        let ending = match incident.ending() {
            IncidentEnding::Unspecified => "",
            IncidentEnding::Silence => "silence",
            IncidentEnding::MaxLife => "max_life",
            IncidentEnding::Bound => "bound",
            IncidentEnding::Dismissed => "dismissed",
        };
        csv.write_record([
            incident.id.as_str(),
            edge.map_or("", |edge| edge.text.as_str()),
            &rfc3339(edge.and_then(|edge| edge.time.as_ref())),
            &serde_json::to_string(&texts)?,
            &incident.records.to_string(),
            &incident.anomalous_records.to_string(),
            &serde_json::to_string(&incident.services)?,
            &rfc3339(incident.first_time.as_ref()),
            &rfc3339(incident.last_time.as_ref()),
            words::state(incident),
            ending,
            &incident.merged_into,
            &serde_json::to_string(&incident.aliases)?,
            &incident.parent_incident_id,
            severity_name(worst).unwrap_or_default(),
            &incident.tenant,
            incident.logql.as_ref().map_or("", |query| query.logql.as_str()),
        ])?;
    }
    csv.flush()?;
    Ok(())
}

fn rfc3339(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    time.map_or_else(String::new, |time| time.to_string())
}
