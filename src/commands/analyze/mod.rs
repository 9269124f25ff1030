//! `harbinger analyze`: the notebook's job. Log files in; `annotated.csv` and `incidents.csv` out.
//!
//! What enters: CSV, JSON lines, plain text or OTLP JSON lines, several files at once, or standard input. What leaves:
//! `annotated.csv` (every row in input order, all its columns, plus `is_anomaly`, `anomaly_score`, `incident_id`),
//! `incidents.csv` (and as JSON where that is asked for), the largest incidents on standard output; beside them, where that is
//! asked for, a graph and a report (`beside`). Promises: no row
//! is dropped silently; the same file gives the same output, whatever the number of threads (but for the date in graph and report).
//!
//! Each input is read once, front to back (`reading`): its rows and what the engine has to know of them go to files without
//! a name in the folder of `--out` (`spool`, `rows`, `batches`). Beside that the engine judges what is there already
//! (`judging`); where a row turns out to be older than one before it, all is sorted (`sorted`) and judged again from the
//! beginning. Verdicts wait in a file too (`verdicts`), because what an incident goes by is known at the end (`listing`);
//! then all is written (`writing`). So memory grows with what the engine remembers, which is bounded; with incidents and
//! the templates in them, some hundred bytes each; and it holds the records of one incident at a time. It does not grow
//! with rows, except by the notebook's rule, which judges all of them by each other. Absent on purpose: a bound of the
//! room on the disk, which is about that of `annotated.csv` once more, until the end.

mod batches;
mod beside;
mod graph;
mod judging;
mod listing;
mod reading;
mod report;
mod rows;
mod sorted;
mod spool;
mod told;
mod verdicts;
mod whole_file;
mod writing;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use prost::Message;

use self::{
    beside::{Begun, BesideArgs},
    judging::{Judged, Judging},
    listing::{Listing, Order},
    reading::{Inputs, PutAside, Seen},
    spool::{Frames, Spool},
    verdicts::Verdicts,
};
use super::{
    embeddings::{Embeddings, Shared, cores},
    incident_list::Known,
    input::InputArgs,
    notebook::Notebook,
    offline::{self, Offline},
};
use crate::{
    app,
    engine::{self, correlate::IncidentId, embed::Embedder},
};

pub use verdicts::Verdict;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log files: CSV, JSON lines, plain text, OTLP JSON lines; also .gz; `-` reads standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Folder for annotated.csv and incidents.csv; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How to judge
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Also write the incidents as JSON: one array, with templates and their counts
    #[arg(long, value_name = "FILE")]
    incidents_json: Option<PathBuf>,
    #[command(flatten)]
    beside: BesideArgs,
    /// Incidents with fewer records are not listed
    #[arg(long, default_value_t = 1, value_name = "RECORDS")]
    min_size: usize,
    /// How many incidents to print
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    top: usize,
    /// Take the engine's settings from this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    config: Option<PathBuf>,
    /// Leave what was learned in this folder, so that `run` with it as `state.directory` starts warm
    #[arg(long, value_name = "DIR")]
    save_snapshot: Option<PathBuf>,
    /// Threads that read, and that run the model (four at most) [default: as many as there are cores]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    reading: InputArgs,
}

/// How rows are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// As the agent does: masked templates, trained on what is normal, incidents of anomalous records
    #[default]
    Default,
    /// As the notebook did: raw text, sigmoid, trained on what it judges, 95th percentile, all records in the graph
    Notebook,
}

/// Reads, judges, writes.
///
/// # Errors
/// An input that cannot be read, a missing model, an output that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let inputs = Inputs::open(&args.inputs, &args.reading.settings())?;
    let columns = inputs.columns.clone();
    let threads = args.threads.map_or_else(cores, usize::from);
    let (settings, embedder) = app::offline(args.config.as_deref())?;
    let embedder: Arc<dyn Embedder> = Arc::new(Shared::new(embedder, threads));
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    if args.beside.is_report() && args.profile == Profile::Notebook {
        bail!(
            "--report: of the notebook's incidents there is no more to tell than incidents.csv does; leave --profile out"
        );
    }
    let mut begun = args.beside.begin(&args.out)?;
    let progress = progress_bar(0);

    let mut verdicts = Verdicts::new(&args.out).context("cannot write to the folder of --out")?;
    let analysis = Analysis {
        args,
        threads,
        embedder,
        progress: &progress,
    };
    let (rows, analysed) = match args.profile {
        Profile::Notebook => analysis.notebook(inputs, &mut verdicts)?,
        Profile::Default => analysis.default(inputs, &settings, &mut verdicts, &mut begun)?,
    };
    let Analysed { seen, judged, engine } = &analysed;
    progress.finish_and_clear();

    let listing = Listing::of(
        &judged.incidents,
        &Order {
            last: &|number| engine.as_ref().map_or(number, |engine| last(engine, number)),
            name: &|number| match args.profile {
                Profile::Notebook => number.to_string(),
                Profile::Default => IncidentId::from_raw(number).to_string(),
            },
            by_number: args.profile == Profile::Notebook,
            min_size: args.min_size,
        },
    );
    let known = engine.as_ref().map(|engine| Known {
        lineage: engine.lineage(),
        texts: &judged.texts,
    });
    let (mut beside, rest) = begun.beside(&args.beside, &analysed, &listing, &settings)?;
    let written = writing::Output {
        directory: &args.out,
        json: args.incidents_json.as_deref(),
        top: args.top,
        // In the notebook's graph every record is a node, and the earliest leads.
        anomalies_lead: args.profile == Profile::Default,
    }
    .write(&columns, rows, &mut verdicts, &listing, known, &mut beside)?;
    beside.end(args, &analysed, &listing, &rest)?;

    let mut out = io::stdout().lock();
    let incidents = listing.entries.len();
    writeln!(
        out,
        "{incidents} incident{} in {} rows ({} anomalous, {:.2} %)\n",
        if incidents == 1 { "" } else { "s" },
        seen.rows,
        judged.anomalous,
        100.0 * judged.anomalous as f64 / seen.rows as f64,
    )?;
    out.write_all(&written.told)?;
    for path in written.paths.iter().chain(args.beside.paths()) {
        writeln!(out, "{}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What came of the inputs.
struct Analysed {
    /// What was seen while they were read.
    seen: Seen,
    /// What came of their rows.
    judged: Judged,
    /// What judged them; the notebook's rule remembers nothing.
    engine: Option<Offline>,
}

/// What both profiles need.
struct Analysis<'a> {
    args: &'a Args,
    threads: usize,
    embedder: Arc<dyn Embedder>,
    progress: &'a ProgressBar,
}

impl Analysis<'_> {
    fn notebook(self, inputs: Inputs, verdicts: &mut Verdicts) -> Result<(Frames, Analysed)> {
        let spool = self.spool()?;
        let frames = spool.frames();
        let aside = PutAside {
            rows: spool,
            batches: None,
            is_disordered: &AtomicBool::new(false),
        };
        let seen = reading::read(inputs, aside, self.threads, &|rows| self.progress.inc_length(rows))?;
        self.tell(&seen)?;
        let mut all = Notebook::default();
        let (mut rows, mut frame) = (frames, Vec::new());
        while rows.next(&mut frame)? {
            for row in rows::Rows::decode(frame.as_slice())?.iter() {
                all.push(row.time_unix_nano, row.message());
            }
        }
        let times: Vec<Option<u64>> = all.times().collect();
        let thought = all.judge(&*self.embedder, &|rows| self.progress.inc(rows))?;
        let mut judged = Judged::default();
        for ((place, verdict), time) in (0..).zip(&thought).zip(times) {
            judged.count(place, time, verdict);
        }
        verdicts.note(&(0..seen.rows).collect::<Vec<_>>(), &thought)?;
        rows.rewind();
        let engine = None;
        Ok((rows, Analysed { seen, judged, engine }))
    }

    /// Reads and judges side by side, and judges again where the rows are not in order of time.
    fn default(
        self,
        inputs: Inputs,
        settings: &engine::Settings,
        verdicts: &mut Verdicts,
        begun: &mut Begun,
    ) -> Result<(Frames, Analysed)> {
        let front = offline::front(settings);
        let embeddings = Arc::new(Embeddings::new(Arc::clone(&self.embedder)));
        let is_disordered = AtomicBool::new(false);
        let (rows, batches) = (self.spool()?, self.spool()?);
        let (row_frames, batch_frames) = (rows.frames(), batches.frames());
        let mut again = batches.frames();
        let progress = |rows| self.progress.inc(rows);
        let aside = PutAside {
            rows,
            batches: Some((batches, &front, &embeddings)),
            is_disordered: &is_disordered,
        };
        let (seen, judged) = thread::scope(|scope| {
            scope.spawn(|| embeddings.embed_ahead());
            let reading = scope.spawn(|| {
                let _expecting = embeddings.expecting();
                reading::read(inputs, aside, self.threads, &|rows| self.progress.inc_length(rows))
            });
            let judged = Offline::new(settings, Arc::clone(&embeddings)).and_then(|mut engine| {
                let mut judging = Judging {
                    engine: &mut engine,
                    verdicts,
                    told: begun.told.as_mut(),
                    templates: begun.templates.as_mut(),
                    is_disordered: &is_disordered,
                    progress: &progress,
                };
                Ok((judging.run(batch_frames)?, engine))
            });
            let seen = reading.join().map_err(|_| anyhow!("a thread that reads has ended"));
            (seen, judged)
        });
        let seen = seen??;
        self.tell(&seen)?;
        let (judged, mut engine) = judged?;
        let judged = match judged.filter(|_| seen.is_in_order()) {
            Some(judged) => judged,
            None => {
                self.progress.set_position(0);
                again.rewind();
                let ordered =
                    judging::in_order(again, &seen, &self.args.out).context("cannot sort the rows by time")?;
                engine.restart(settings);
                begun.restart()?;
                let mut judging = Judging {
                    engine: &mut engine,
                    verdicts,
                    told: begun.told.as_mut(),
                    templates: begun.templates.as_mut(),
                    is_disordered: &AtomicBool::new(false),
                    progress: &progress,
                };
                judging.run(ordered)?.unwrap_or_default()
            }
        };
        if let Some(directory) = &self.args.save_snapshot {
            app::save_snapshot(directory, engine.state(), self.embedder.model_version())?;
        }
        let engine = Some(engine);
        Ok((row_frames, Analysed { seen, judged, engine }))
    }

    fn spool(&self) -> Result<Spool> {
        Spool::new(&self.args.out).with_context(|| format!("cannot write to {}", self.args.out.display()))
    }

    /// Says what was wrong with the inputs; nothing at all is an error.
    fn tell(&self, seen: &Seen) -> Result<()> {
        for (path, bad) in &seen.bad {
            self.progress.suspend(|| bad.report(path, &mut io::stderr().lock()))?;
        }
        if seen.rows == 0 {
            bail!("no log rows in {}", listed(&self.args.inputs));
        }
        Ok(())
    }
}

/// The number that an incident goes by in the end.
fn last(engine: &Offline, number: u64) -> u64 {
    engine.lineage().last(IncidentId::from_raw(number)).to_raw()
}

/// How far a file is, on standard error when someone is watching.
pub(super) fn progress_bar(rows: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn listed(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
