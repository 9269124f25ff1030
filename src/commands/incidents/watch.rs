//! `harbinger incidents watch`: what happens to incidents, as it happens.
//!
//! What enters: the API's stream of changes. What leaves: first what is open, then a row for each change. Promises: where the
//! agent goes away it is waited for, and the stream goes on behind the last change that was seen; where changes were missed it
//! says so and lists how things stand; a row is whole. Absent on purpose: an end; it is stopped from outside, by Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use tonic::Code;

use super::{
    super::{
        client::{ApiArgs, Client, complaint},
        terminal::{ColorArgs, Terminal},
    },
    table::{Event, Table},
};
use crate::edge::api::{
    json,
    proto::{self, Happened, WatchIncidentsResponse},
};

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
    /// Ring the terminal's bell when an incident is told for the first time
    #[arg(long)]
    bell: bool,
    #[command(flatten)]
    color: ColorArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// What was seen so far, and how it is shown.
struct Watch {
    request: proto::WatchIncidentsRequest,
    /// Of the last change, event time.
    time: Option<prost_types::Timestamp>,
    table: Table,
    is_json: bool,
    rings: bool,
    /// Whether the columns have been named.
    has_head: bool,
}

/// Watches until it is stopped.
///
/// # Errors
/// No agent answers to begin with, or it refuses.
pub async fn run(args: &Args) -> Result<()> {
    tokio::select! {
        ended = watch(args) => ended,
        stopped = tokio::signal::ctrl_c() => {
            stopped.context("cannot wait for Ctrl-C")?;
            // Behind the ^C that the terminal has shown.
            if io::stderr().is_terminal() {
                writeln!(io::stderr().lock())?;
            }
            Ok(())
        }
    }
}

async fn watch(args: &Args) -> Result<()> {
    let mut watch = Watch {
        request: proto::WatchIncidentsRequest {
            after_sequence: args.after,
            tenant: args.tenant.clone(),
        },
        time: None,
        table: Table::to_come(Terminal::of_stdout(args.color)),
        is_json: args.json,
        rings: args.bell && io::stdout().is_terminal(),
        has_head: false,
    };
    let mut client = Client::connect(&args.api).await?;
    loop {
        watch.follow(&mut client).await?;
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

impl Watch {
    /// Prints what comes until the agent is gone.
    async fn follow(&mut self, client: &mut Client) -> Result<()> {
        let mut changes = match client.watch(self.request.clone()).await {
            Ok(changes) => changes,
            Err(status) if status.code() == Code::Unavailable => return Ok(()),
            Err(status) => return Err(complaint(client.address(), &status)),
        };
        // An error within the stream is a connection that broke: what is wrong with the agent shows when it is asked again.
        while let Ok(Some(change)) = changes.message().await {
            let is_first = self.request.after_sequence.is_none();
            self.request.after_sequence = Some(change.sequence);
            if self.is_json {
                writeln!(io::stdout().lock(), "{}", json::line(&change)?)?;
            } else if change.incident.is_some() {
                self.tell(&mut io::stdout().lock(), &change)?;
            } else if change.missed || is_first {
                let standing = self.standing(client).await?;
                self.tell_standing(&mut io::stdout().lock(), change.missed, &standing)?;
            } else {
                self.head(&mut io::stdout().lock())?;
            }
            self.time = change.time.or(self.time.take());
        }
        Ok(())
    }

    /// What has changed since the last change that was seen, as it stands; where none was, what is open.
    async fn standing(&self, client: &mut Client) -> Result<Vec<proto::Incident>> {
        let state = match self.time {
            Some(_) => proto::IncidentState::Unspecified,
            None => proto::IncidentState::Open,
        };
        let which = proto::ListIncidentsRequest {
            state: state.into(),
            since: self.time,
            tenant: self.request.tenant.clone(),
            ..proto::ListIncidentsRequest::default()
        };
        let mut standing = client.incidents(which, STANDING).await?;
        // As they came, as what follows does.
        standing.reverse();
        Ok(standing)
    }

    fn tell_standing(&mut self, out: &mut impl Write, missed: bool, standing: &[proto::Incident]) -> Result<()> {
        if missed {
            writeln!(out, "some changes were missed; as it stands:")?;
        }
        self.head(out)?;
        let rows = standing.iter().map(|incident| self.table.row(out, incident, None));
        rows.collect::<io::Result<()>>()?;
        Ok(())
    }

    /// The names of the columns, once.
    fn head(&mut self, out: &mut impl Write) -> Result<()> {
        if !std::mem::replace(&mut self.has_head, true) {
            self.table.head(out)?;
        }
        Ok(())
    }

    fn tell(&mut self, out: &mut impl Write, change: &WatchIncidentsResponse) -> Result<()> {
        let Some(incident) = &change.incident else {
            return Ok(());
        };
        self.head(out)?;
        let event = Event {
            time: change.time.as_ref(),
            happened: change.happened(),
        };
        self.table.row(out, incident, Some(event))?;
        if self.rings && change.happened() == Happened::Opened {
            out.write_all(b"\x07")?;
            out.flush()?;
        }
        Ok(())
    }
}
