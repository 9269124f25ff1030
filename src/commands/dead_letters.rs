//! `harbinger dead-letters list|show|requeue|discard --directory DIR`: what destinations refused for good.
//!
//! What enters: the directory of the queues of a stopped agent. What leaves: a table; OTLP JSON of what was refused; or the
//! directory with some letters back in their queue, or gone. Promises: the directory is locked meanwhile; what is named is
//! changed and nothing else; a requeued letter is in the queue or among the dead letters, never in neither. Absent on
//! purpose: any of this beside a running agent, which owns its files.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    edge::{
        api::json,
        queue::{
            Storage, StorageSettings,
            dead_letters::{DeadLetters, Letter},
        },
    },
    engine::view::rfc3339,
};

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every dead letter: its number, when, how large, and what the destination said
    List {
        #[command(flatten)]
        of: Where,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// What was refused, one line of OTLP JSON for each request
    Show(Which),
    /// Back into the queue: sent again, behind what waits, once the agent runs
    Requeue(Which),
    /// Remove for good
    Discard(Which),
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The directory of `extensions.file_storage` of an agent that is stopped
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Of this exporter only, as `otlp_grpc/loki` [default: of all]
    #[arg(long, value_name = "ID")]
    exporter: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
struct Which {
    #[command(flatten)]
    of: Where,
    /// Numbers from the list
    #[arg(value_name = "NUMBER", group = "which")]
    numbers: Vec<u64>,
    /// All there are
    #[arg(long, group = "which")]
    all: bool,
}

/// Does it.
///
/// # Errors
/// No directory of queues, one that is in use, no such letter, or a disk that does not work.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::List { of, json } => list(of, *json)?,
        Command::Show(which) => show(which)?,
        Command::Requeue(which) => {
            change(
                which,
                "requeued",
                "Start the agent: it sends them again.",
                |letters, number| Ok(letters.requeue(number)?),
            )?;
        }
        Command::Discard(which) => {
            change(which, "discarded", "They are gone.", |letters, number| {
                Ok(letters.discard(number)?)
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The queues that are meant.
fn open(of: &Where) -> Result<Vec<DeadLetters>> {
    let directory = of.directory.display();
    ensure!(
        of.directory.is_dir(),
        "{directory} is no directory: name the one of `extensions.file_storage`"
    );
    let storage = Storage::open(&StorageSettings {
        directory: of.directory.clone(),
        create_directory: false,
    });
    let storage = storage.context("a running agent has its queues for itself: stop it, look, start it")?;
    let known = storage.exporters()?;
    let wanted = match &of.exporter {
        Some(exporter) => {
            ensure!(
                known.contains(exporter),
                "{directory} has no queue of {exporter}; there are: {}",
                known.join(", ")
            );
            vec![exporter.clone()]
        }
        None => known,
    };
    let opened = wanted.iter().map(|exporter| DeadLetters::open(&storage, exporter));
    Ok(opened.collect::<Result<_, _>>()?)
}

/// A dead letter as it is listed.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    exporter: &'a str,
    number: u64,
    refused_at: String,
    /// Absent, as the number of items, where it is damaged.
    signal: Option<&'static str>,
    items: Option<u64>,
    bytes: u64,
    code: i32,
    message: &'a str,
}

impl<'a> Listed<'a> {
    fn of(exporter: &'a str, letter: &'a Letter) -> Self {
        Self {
            exporter,
            number: letter.number,
            refused_at: rfc3339(letter.refused_unix_nano / 1_000_000_000 * 1_000_000_000),
            signal: letter.refused.as_ref().map(|refused| refused.signal.name()),
            items: letter.refused.as_ref().map(|refused| refused.records),
            bytes: letter.bytes,
            code: letter.code,
            message: &letter.message,
        }
    }
}

fn list(of: &Where, as_json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let queues = open(of)?;
    if as_json {
        for queue in &queues {
            let mut written = Ok(());
            queue.each(|letter| {
                written = serde_json::to_string(&Listed::of(queue.exporter(), &letter))
                    .map_err(io::Error::from)
                    .and_then(|line| writeln!(out, "{}", json::harmless(&line)));
                written.is_ok()
            })?;
            written?;
        }
        return Ok(());
    }
    let mut found = 0_u64;
    for queue in &queues {
        let mut written = Ok(());
        queue.each(|letter| {
            if found == 0 {
                written = writeln!(
                    out,
                    "{:24} {:>8} {:20} {:8} {:>8} {:>10} {:>4}  MESSAGE",
                    "EXPORTER", "NUMBER", "REFUSED (UTC)", "SIGNAL", "ITEMS", "BYTES", "CODE"
                );
            }
            found += 1;
            written = std::mem::replace(&mut written, Ok(()))
                .and_then(|()| row(&mut out, &Listed::of(queue.exporter(), &letter)));
            written.is_ok()
        })?;
        written?;
    }
    for queue in &queues {
        writeln!(
            out,
            "{}: {} requests wait for the agent",
            queue.exporter(),
            queue.waiting()?
        )?;
    }
    if found == 0 {
        writeln!(out, "no dead letters in {}", of.directory.display())?;
    }
    Ok(())
}

fn row(out: &mut impl Write, it: &Listed<'_>) -> io::Result<()> {
    let items = it.items.map_or_else(|| "damaged".to_owned(), |items| items.to_string());
    writeln!(
        out,
        "{:24} {:>8} {:20} {:8} {items:>8} {:>10} {:>4}  {}",
        it.exporter,
        it.number,
        it.refused_at,
        it.signal.unwrap_or("-"),
        it.bytes,
        it.code,
        it.message.escape_debug()
    )
}

/// The numbers of the letters that are meant, queue by queue.
fn meant(which: &Which) -> Result<Vec<(DeadLetters, Vec<u64>)>> {
    let queues = open(&which.of)?;
    ensure!(
        which.all || queues.len() == 1,
        "numbers are of one queue: say which by --exporter ({})",
        queues.iter().map(DeadLetters::exporter).collect::<Vec<_>>().join(", ")
    );
    let mut meant = Vec::new();
    for queue in queues {
        let mut numbers = which.numbers.clone();
        if which.all {
            queue.each(|letter| {
                numbers.push(letter.number);
                true
            })?;
        }
        meant.push((queue, numbers));
    }
    Ok(meant)
}

fn show(which: &Which) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for (queue, numbers) in meant(which)? {
        for number in numbers {
            let letter = queue.get(number)?;
            let refused = letter
                .refused
                .with_context(|| format!("dead letter {number} of {} is damaged", queue.exporter()))?;
            let request = refused
                .to_json()
                .with_context(|| format!("dead letter {number} of {} is no OTLP request", queue.exporter()))?;
            out.write_all(&request)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn change(which: &Which, done: &str, then: &str, each: impl Fn(&DeadLetters, u64) -> Result<()>) -> Result<()> {
    let mut changed = 0_u64;
    for (queue, numbers) in meant(which)? {
        for number in numbers {
            each(&queue, number).with_context(|| format!("{changed} were {done} before"))?;
            changed += 1;
        }
    }
    writeln!(io::stdout().lock(), "{changed} {done}. {then}")?;
    Ok(())
}
