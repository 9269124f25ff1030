//! `harbinger snapshot list|rollback --state DIR`: what a stopped agent has learned, hour by hour, and the way back.
//!
//! What enters: a state directory. What leaves: a table; or the directory with what was learned as it was then. Promises:
//! the directory is locked meanwhile; what is replaced is kept, so that a rollback can be undone; opinions, incidents, the
//! ids they were given and the journal stay as they are, so that no id is given twice and none opens again; a crash leaves
//! the old state or the new one. Absent on purpose: a rollback of a running agent, which would save over it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    edge::{
        Store,
        api::json,
        store::{Kept, Loaded, StateDirectory},
    },
    engine::{
        score::Learned,
        snapshot::{self, Snapshot},
        view::rfc3339,
    },
};

/// The name under which the current one is shown.
const CURRENT: &str = "snapshot";

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The current snapshot and those that are kept, the latest first
    List {
        #[command(flatten)]
        state: StateArgs,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Go back to what was learned at a snapshot
    Rollback {
        #[command(flatten)]
        state: StateArgs,
        /// A name from the list [default: the latest kept one that was saved before the current]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct StateArgs {
    /// The `state.directory` of an agent
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

/// Lists or rolls back.
///
/// # Errors
/// No state directory; for a rollback also one that is in use, and a snapshot that cannot be used.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::List { state, json } => list(&state.state, *json)?,
        Command::Rollback { state, to } => roll_back(&state.state, to.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_directory(path: &Path) -> Result<()> {
    ensure!(
        path.is_dir(),
        "{} is no directory: name the `state.directory` of the agent",
        path.display()
    );
    Ok(())
}

/// A snapshot as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    bytes: u64,
    #[serde(flatten)]
    told: Option<Told>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What it holds.
#[derive(Debug, Serialize)]
struct Told {
    saved_at: String,
    records: u64,
    templates: usize,
    trainings: u32,
    open_incidents: usize,
    model_version: String,
}

impl Listed {
    fn of(name: &str, size: u64, bytes: &[u8]) -> Self {
        let told = snapshot::decode(bytes, None).and_then(|snapshot| Ok((snapshot.learned()?, snapshot)));
        let told = told.map(|((learned, open_incidents), snapshot)| {
            let Learned {
                records,
                templates,
                generation,
            } = learned;
            Told {
                saved_at: rfc3339(snapshot.saved_at_unix_nano / 1_000_000_000 * 1_000_000_000),
                records,
                templates,
                trainings: generation,
                open_incidents,
                model_version: snapshot.model_version,
            }
        });
        let problem = told.as_ref().err().map(ToString::to_string);
        Self {
            name: name.to_owned(),
            bytes: size,
            told: told.ok(),
            problem,
        }
    }
}

fn list(directory: &Path, as_json: bool) -> Result<()> {
    is_directory(directory)?;
    let mut out = io::stdout().lock();
    let mut listed = Vec::new();
    if let Some(bytes) = StateDirectory::peek(directory)? {
        listed.push(Listed::of(CURRENT, bytes.len() as u64, &bytes));
    }
    for Kept { name, bytes } in StateDirectory::kept_in(directory)? {
        listed.push(Listed::of(&name, bytes, &StateDirectory::peek_kept(directory, &name)?));
    }
    if as_json {
        for one in &listed {
            writeln!(out, "{}", json::harmless(&serde_json::to_string(one)?))?;
        }
        return Ok(());
    }
    if listed.is_empty() {
        writeln!(
            out,
            "no snapshot in {}: nothing has been learned there yet",
            directory.display()
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "{:34} {:20} {:>9} {:>10} {:>9} {:>9} {:>5}  MODEL",
        "NAME", "SAVED (UTC)", "BYTES", "RECORDS", "TEMPLATES", "TRAININGS", "OPEN"
    )?;
    listed.iter().try_for_each(|one| row(&mut out, one))?;
    Ok(())
}

fn row(out: &mut impl Write, it: &Listed) -> io::Result<()> {
    let (name, size) = (&it.name, it.bytes);
    let Some(told) = &it.told else {
        let problem = it.problem.as_deref().unwrap_or_default();
        return writeln!(out, "{name:34} {:20} {size:>9}  cannot be used: {problem}", "");
    };
    writeln!(
        out,
        "{name:34} {:20} {size:>9} {:>10} {:>9} {:>9} {:>5}  {}",
        told.saved_at, told.records, told.templates, told.trainings, told.open_incidents, told.model_version
    )
}

fn roll_back(path: &Path, to: Option<&str>) -> Result<()> {
    is_directory(path)?;
    let directory = StateDirectory::open(path)
        .context("nothing was rolled back; a running agent would save over it: stop it, roll back, start it")?;
    let Loaded { snapshot, .. } = directory.load()?;
    let current = match snapshot.as_deref().map(|bytes| snapshot::decode(bytes, None)) {
        None => None,
        Some(Ok(current)) => Some(current),
        Some(Err(problem)) => bail!(
            "the current snapshot cannot be used ({problem}): move {} away, then roll back",
            path.join(CURRENT).display()
        ),
    };
    let (name, target) = target(&directory, to, current.as_ref())?;
    let rolled_back = match &current {
        None => Snapshot {
            // All journals there are come after it.
            journal_epoch: 0,
            ..target.clone()
        },
        Some(current) => rolled_back(current, &target)
            .with_context(|| format!("{name} cannot be rolled back to; nothing was changed"))?,
    };
    let mut out = io::stdout().lock();
    if let Some(current) = &current {
        let saved_at = UNIX_EPOCH + Duration::from_nanos(current.saved_at_unix_nano);
        let replaced = directory.keep_replaced(saved_at)?;
        directory.save_snapshot(&snapshot::encode(&rolled_back))?;
        writeln!(
            out,
            "What was there is kept: harbinger snapshot rollback --state {} --to {replaced}",
            path.display()
        )?;
    } else {
        directory.save_snapshot(&snapshot::encode(&rolled_back))?;
    }
    let (learned, open_incidents) = rolled_back.learned()?;
    writeln!(
        out,
        "Rolled back to {name}, saved {}: {} records, {} templates, {} trainings.\n\
         Start the agent: it judges by what was learned then, and learns on. {open_incidents} open incidents, ids and opinions \
         are as they were.",
        rfc3339(target.saved_at_unix_nano / 1_000_000_000 * 1_000_000_000),
        learned.records,
        learned.templates,
        learned.generation,
    )?;
    Ok(())
}

/// The snapshot to go back to.
fn target(directory: &StateDirectory, to: Option<&str>, current: Option<&Snapshot>) -> Result<(String, Snapshot)> {
    let read = |name: &str| -> Result<Snapshot> {
        let bytes = directory.read_kept(name);
        let bytes = bytes.with_context(|| format!("{name}: not there; `harbinger snapshot list` shows what is"))?;
        snapshot::decode(&bytes, None).with_context(|| format!("{name} cannot be used; choose another with --to"))
    };
    if let Some(name) = to {
        return Ok((name.to_owned(), read(name)?));
    }
    for kept in directory.kept()?.into_iter().filter(|kept| !kept.is_replaced()) {
        let snapshot = read(&kept.name)?;
        if current.is_none_or(|current| snapshot.saved_at_unix_nano < current.saved_at_unix_nano) {
            return Ok((kept.name, snapshot));
        }
    }
    bail!("no snapshot is kept from before the current one (state.keep_snapshots); nothing was changed")
}

/// What was learned as it was, incidents as they are. Tenants that came since keep what was learned of them.
fn rolled_back(current: &Snapshot, target: &Snapshot) -> Result<Snapshot> {
    ensure!(
        current.model_version == target.model_version,
        "it was made with model {}, what is remembered of incidents with {}: to learn anew with that model move the current \
         snapshot away first",
        target.model_version,
        current.model_version
    );
    let mut rolled_back = Snapshot {
        saved_at_unix_nano: target.saved_at_unix_nano,
        program_version: target.program_version.clone(),
        ..current.clone()
    };
    for section in &target.tenants {
        let tenant = section.tenant();
        match rolled_back.tenants.iter_mut().find(|own| own.tenant() == tenant) {
            Some(own) => own.relearn(section),
            None => rolled_back.tenants.push(section.clone()),
        }
    }
    Ok(rolled_back)
}
