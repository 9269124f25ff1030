//! `harbinger incidents …`: asks a running agent about incidents, or reads files that it has marked.
//!
//! What enters: a question. What leaves: a table for people, or JSON as the protobuf mapping has it for machines, on standard
//! output. Promise: where no agent answers, it is told which address was asked and how the API is turned on. Absent on
//! purpose: what an incident is, which the agent says.

mod export;
mod files;
mod list;
#[cfg(test)]
mod made;
mod show;
mod table;
mod watch;
pub mod words;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;

use super::when::When;
use crate::edge::api::proto;

/// What the rows of `list` and `watch` are; the same columns in the same order everywhere.
const COLUMNS: &str = "Columns:
  BEGAN         time of its first record, UTC
  LASTED        from there to its last record so far
  STATE         open, closed (over) or merged (part of an older one); while watching what happened: opened, grew, merged, closed
  WORST         the severity of its gravest record
  RECORDS       how many records carry its id (of them anomalous)
  COURSE        its records over time, from the first to the last
  SERVICES      in order of appearance; with the tenant in front, where there are tenants
  ID            as in `incident_id` of its records, and for `harbinger incidents show`
  LEADING LINE  what its first anomalous record said

On a terminal narrower than about 140 columns ID and LEADING LINE stand on a second line. Into a file or another program each incident \
is one line, uncut, with the whole date, and `-` for what is not known; programs are better served by --json.";

/// What the command takes.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    files: files::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The incidents that match, a line each, newest first
    #[command(after_help = COLUMNS)]
    List(list::Args),
    /// One incident, by its id or that of one that was merged into it: what happened, why, what to do
    Show(show::Args),
    /// What is open, then what happens to incidents as it happens; goes on when the agent is restarted
    #[command(after_help = COLUMNS)]
    Watch(watch::Args),
    /// All incidents that match, for a spreadsheet or a program
    Export(export::Args),
    /// The incidents in files that Harbinger has marked, without an agent
    Digest(files::Args),
}

/// Which incidents are meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Of this state
    #[arg(long, value_enum, default_value_t)]
    state: State,
    /// Of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// With a record since then: 2h (ago), 02:00 (UTC) or 2024-11-18T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// With a record before then
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// With a record as grave as this, or graver
    #[arg(long, value_enum, value_name = "SEVERITY")]
    severity: Option<Severity>,
    /// In whose texts this stands, in any case
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Also open ones that are not large enough to be told yet
    #[arg(long)]
    unannounced: bool,
    /// Of this tenant; "" is the one of records that name none [default: of all]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// Whether incidents go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum State {
    /// Whatever their state
    #[default]
    All,
    /// Records can still join
    Open,
    /// Over
    Closed,
    /// Part of an older one
    Merged,
}

/// A range of severity numbers, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Which {
    fn request(&self) -> proto::ListIncidentsRequest {
        let now = Timestamp::now();
        let timestamp = |when: Option<When>| {
            let unix_nano = when?.unix_nano(now);
            Some(prost_types::Timestamp {
                seconds: (unix_nano / 1_000_000_000) as i64,
                nanos: (unix_nano % 1_000_000_000) as i32,
            })
        };
        let state = match self.state {
            State::All => proto::IncidentState::Unspecified,
            State::Open => proto::IncidentState::Open,
            State::Closed => proto::IncidentState::Closed,
            State::Merged => proto::IncidentState::Merged,
        };
        proto::ListIncidentsRequest {
            state: state.into(),
            service: self.service.clone().unwrap_or_default(),
            since: timestamp(self.since),
            until: timestamp(self.until),
            // The first of the four numbers of each name.
            min_severity_number: self.severity.map_or(0, |severity| 1 + 4 * severity as i32),
            include_unannounced: self.unannounced,
            text_contains: self.text.clone().unwrap_or_default(),
            tenant: self.tenant.clone(),
            ..proto::ListIncidentsRequest::default()
        }
    }
}

/// Does it.
///
/// # Errors
/// No agent answers, the answer is a refusal, or a file cannot be read or written.
pub fn run(args: Args) -> Result<ExitCode> {
    let Some(command) = args.command else {
        return files::run(&args.files);
    };
    if let Command::Digest(files) = &command {
        return files::run(files);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::List(args) => list::run(&args).await,
            Command::Show(args) => show::run(&args).await,
            Command::Watch(args) => watch::run(&args).await,
            Command::Export(args) => export::run(&args).await,
            Command::Digest(_) => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
