//! `harbinger incidents list`: the incidents that match, newest first.
//!
//! What enters: a filter. What leaves: a row each and a summary, or JSON lines. Promise: where there are more than are shown,
//! that is said. Absent on purpose: what a row is, see [`super::table`].

use std::io::{self, Write};

use anyhow::Result;

use super::{
    super::{
        client::{ApiArgs, Client},
        terminal::{ColorArgs, Terminal},
    },
    Which,
    table::Table,
    words,
};
use crate::edge::api::{
    json,
    proto::{Incident, IncidentState},
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// How many, at most
    #[arg(long, default_value_t = 30, value_name = "COUNT")]
    limit: usize,
    /// One JSON object a line, as the API has them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    color: ColorArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Asks, and prints the answer.
///
/// # Errors
/// No agent answers, or it refuses.
pub async fn run(args: &Args) -> Result<()> {
    let mut client = Client::connect(&args.api).await?;
    // One more than is shown tells whether there are more.
    let mut found = client
        .incidents(args.which.request(), args.limit.saturating_add(1))
        .await?;
    let has_more = found.len() > args.limit;
    found.truncate(args.limit);
    let mut out = io::stdout().lock();
    if args.json {
        for incident in &found {
            writeln!(out, "{}", json::line(incident)?)?;
        }
        return Ok(());
    }
    if found.is_empty() {
        let status = client.status().await?;
        writeln!(
            out,
            "no incidents match; {}, {} open",
            status.detail, status.open_incidents
        )?;
        return Ok(());
    }
    Table::of(&found, Terminal::of_stdout(args.color)).print(&mut out, &found)?;
    writeln!(out, "\n{}", summary(&found, has_more))?;
    Ok(())
}

/// `6 incidents since 2024-11-18 09:22:54 UTC: 2 open, 4 closed`.
fn summary(incidents: &[Incident], has_more: bool) -> String {
    let states = [IncidentState::Open, IncidentState::Closed, IncidentState::Merged];
    let counts = states.into_iter().filter_map(|state| {
        let mut of_state = incidents.iter().filter(|incident| incident.state() == state);
        let word = words::state(of_state.next()?);
        Some(format!("{} {word}", 1 + of_state.count()))
    });
    let counts: Vec<String> = counts.collect();
    let times = incidents.iter().filter_map(|incident| incident.first_time.as_ref());
    let since = words::time(times.min_by_key(|time| (time.seconds, time.nanos)));
    let plural = if incidents.len() == 1 { "" } else { "s" };
    let more = if has_more {
        "; older ones are left out: --limit, --since, --state and the like choose"
    } else {
        ""
    };
    format!(
        "{} incident{plural} since {since} UTC: {}{more}",
        incidents.len(),
        counts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_is_shown() {
        let incident = |state: IncidentState, seconds| Incident {
            state: state.into(),
            first_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Incident::default()
        };
        let mut incidents = vec![
            incident(IncidentState::Closed, 1_731_924_010),
            incident(IncidentState::Open, 1_731_924_000),
        ];
        assert_eq!(
            summary(&incidents, false),
            "2 incidents since 2024-11-18 10:00:00 UTC: 1 open, 1 closed"
        );
        incidents.push(incident(IncidentState::Merged, 1_731_923_999));
        let told = summary(&incidents, true);
        assert!(
            told.starts_with("3 incidents since 2024-11-18 09:59:59 UTC: 1 open, 1 closed, 1 merged; older ones"),
            "{told}"
        );
    }
}
