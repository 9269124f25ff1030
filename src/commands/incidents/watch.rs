//! `harbinger incidents watch`: what happens to incidents, as it happens.
//!
//! What enters: the API's stream of changes. What leaves: a line each. Promises: where the agent goes away it is waited for,
//! and the stream goes on behind the last change that was seen; where changes were missed it says so and lists how things
//! stand. Absent on purpose: an end; it is stopped from outside.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::Result;
use tonic::Code;

use super::{
    super::client::{ApiArgs, Client, complaint},
    json,
    print::{self, Table},
};
use crate::edge::api::proto::{self, Happened, WatchIncidentsResponse};

/// Between two attempts to reach an agent that is gone.
const AGAIN: Duration = Duration::from_secs(1);
/// Incidents listed after some changes were missed.
const STANDING: usize = 100;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Begin behind this sequence number (`sequence` of --json) instead of now
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Of this tenant; "" is the one of records that name none [default: of all]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// One JSON object a line, as the API has them; one without an incident says where the stream begins
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What was seen so far.
struct Seen {
    request: proto::WatchIncidentsRequest,
    /// Of the last change, event time.
    time: Option<prost_types::Timestamp>,
}

/// Watches until it is stopped.
///
/// # Errors
/// No agent answers to begin with, or it refuses.
pub async fn run(args: &Args) -> Result<()> {
    let mut seen = Seen {
        request: proto::WatchIncidentsRequest {
            after_sequence: args.after,
            tenant: args.tenant.clone(),
        },
        time: None,
    };
    let mut client = Client::connect(&args.api).await?;
    loop {
        follow(&mut client, &mut seen, args.json).await?;
        writeln!(
            io::stderr().lock(),
            "the agent at {} is gone; waiting for it to come back",
            client.address()
        )?;
        client = loop {
            tokio::time::sleep(AGAIN).await;
            if let Ok(client) = Client::connect(&args.api).await {
                break client;
            }
        };
        writeln!(io::stderr().lock(), "it is back")?;
    }
}

/// Prints what comes until the agent is gone.
async fn follow(client: &mut Client, seen: &mut Seen, as_json: bool) -> Result<()> {
    let mut changes = match client.watch(seen.request.clone()).await {
        Ok(changes) => changes,
        Err(status) if status.code() == Code::Unavailable => return Ok(()),
        Err(status) => return Err(complaint(client.address(), &status)),
    };
    let table = Table::for_terminal(io::stdout().is_terminal());
    // An error within the stream is a connection that broke: what is wrong with the agent shows when it is asked again.
    while let Ok(Some(change)) = changes.message().await {
        seen.request.after_sequence = Some(change.sequence);
        if as_json {
            writeln!(io::stdout().lock(), "{}", json::line(&change)?)?;
        } else if change.missed {
            let standing = standing(client, seen).await?;
            let mut out = io::stdout().lock();
            writeln!(out, "some changes were missed; as it stands:")?;
            table.print(&mut out, &standing)?;
        } else {
            tell(&mut io::stdout().lock(), table, &change)?;
        }
        seen.time = change.time.or(seen.time.take());
    }
    Ok(())
}

/// What has changed since the last change that was seen, as it stands; where none was, what is open.
async fn standing(client: &mut Client, seen: &Seen) -> Result<Vec<proto::Incident>> {
    let state = match seen.time {
        Some(_) => proto::IncidentState::Unspecified,
        None => proto::IncidentState::Open,
    };
    let which = proto::ListIncidentsRequest {
        state: state.into(),
        since: seen.time,
        tenant: seen.request.tenant.clone(),
        ..proto::ListIncidentsRequest::default()
    };
    client.incidents(which, STANDING).await
}

fn tell(out: &mut impl Write, table: Table, change: &WatchIncidentsResponse) -> Result<()> {
    let word = match change.happened() {
        Happened::Unspecified => "",
        Happened::Opened => "opened",
        Happened::Updated => "grew",
        Happened::Merged => "merged",
        Happened::Closed => "closed",
    };
    if let Some(incident) = &change.incident {
        table.row(out, print::time(change.time.as_ref()), word, incident)?;
        if !incident.merged_into.is_empty() {
            writeln!(out, "{:19}  ↳ into {}", "", incident.merged_into)?;
        }
    }
    Ok(())
}
