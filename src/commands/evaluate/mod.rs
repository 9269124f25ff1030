//! `harbinger evaluate`: how good the verdicts are on logs whose truth is known, or how quiet on healthy ones.
//!
//! What enters: labelled files, each a run of its own. What leaves: a page of figures, a table when there are several
//! files, and all of it as JSON. Promises: one causal pass in order of time, as the agent would have judged; labels are
//! never seen by the engine; the same file gives the same figures, but for speed and memory. Absent on purpose: tuning.

mod figures;
mod grouping;
mod labels;
mod metrics;
mod report;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use self::{
    figures::{Ablated, Counted, Figures, Run},
    labels::{LabelArgs, Labelled},
};
use super::{
    analyze::progress_bar,
    embeddings::{Embeddings, Shared, cores},
    input::InputArgs,
    offline::{Offline, Outcome},
};
use crate::{
    app,
    edge::files::Row,
    engine::{self, embed::Embedder},
};

/// Share of a file that is learned from before anything counts, where nothing else is said.
const WARM_UP: f64 = 0.2;

/// What the command takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log files, CSV with columns `label` and `fault` as a rule; each is a run of its own; unlabelled ones are healthy
    #[arg(required = true, value_name = "LABELLED")]
    files: Vec<PathBuf>,
    /// Share of a file's lines that is only learned from; what comes then counts [default: 0.2; 0 with --history]
    #[arg(long, value_name = "SHARE")]
    warmup_fraction: Option<f64>,
    /// Lines after which the engine begins to judge [default: as many as do not count]
    #[arg(long, value_name = "LINES")]
    warmup_records: Option<u64>,
    /// Log file to learn from before each run; repeat for several. Its times stay as they are, earlier or later
    #[arg(long, value_name = "FILE")]
    history: Vec<PathBuf>,
    /// Also tell of each detector alone, and of all but it (a run each)
    #[arg(long)]
    ablation: bool,
    /// With several files, print a page for each as well
    #[arg(long)]
    details: bool,
    /// Write the figures as JSON; `-` is standard output, instead of text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take the engine's settings from this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    labels: LabelArgs,
    #[command(flatten)]
    reading: InputArgs,
}

/// Runs and tells.
///
/// # Errors
/// An input that cannot be read, a missing model, an output that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(fraction) = args.warmup_fraction
        && !(0.0..1.0).contains(&fraction)
    {
        bail!("--warmup-fraction {fraction}: is not a share of the lines; write a number from 0 to below 1, like 0.2");
    }
    let (settings, embedder) = app::offline(args.config.as_deref())?;
    let embedder: Arc<dyn Embedder> = Arc::new(Shared::new(embedder, cores()));
    let history = read_history(args)?;
    let mut all = Vec::new();
    for file in &args.files {
        let labelled = labels::read(file, &args.labels, &args.reading, &mut io::stderr().lock())?;
        let evaluation = Evaluation::new(args, &history, &labelled, &settings);
        let name = file.display().to_string();
        all.push(evaluation.run(name, &embedder)?);
    }
    let json = args.json.as_deref();
    if let Some(path) = json {
        write_json(path, args, &all).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if json != Some(Path::new("-")) {
        report::print(&mut io::stdout().lock(), &all, args.details)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All rows of history as one stream.
fn read_history(args: &Args) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in &args.history {
        // What is usual has no labels; the columns are looked for only to be kept from the engine.
        let args_of_labels = LabelArgs {
            hide: args.labels.hide.clone(),
            ..LabelArgs::default()
        };
        let read = labels::read(path, &args_of_labels, &args.reading, &mut io::stderr().lock())?;
        rows.extend(read.rows);
    }
    rows.sort_by_key(|row| row.record.time_unix_nano);
    Ok(rows)
}

fn write_json(path: &Path, args: &Args, all: &[Figures]) -> Result<()> {
    let document = serde_json::json!({
        "hidden": args.labels.hide,
        "history": args.history.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "warmup_fraction": args.warmup_fraction(),
        "warmup_records": args.warmup_records,
        "files": all,
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    if path == Path::new("-") {
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        fs::write(path, text)?;
    }
    Ok(())
}

impl Args {
    fn warmup_fraction(&self) -> f64 {
        let usual = if self.history.is_empty() { WARM_UP } else { 0.0 };
        self.warmup_fraction.unwrap_or(usual)
    }
}

/// One file and all that is needed to judge it.
struct Evaluation<'a> {
    history: &'a [Row],
    labelled: &'a Labelled,
    settings: engine::Settings,
    /// Rows of the file that do not count.
    warm_up: usize,
    ablation: bool,
}

impl<'a> Evaluation<'a> {
    fn new(args: &Args, history: &'a [Row], labelled: &'a Labelled, settings: &engine::Settings) -> Self {
        let warm_up = (labelled.rows.len() as f64 * args.warmup_fraction()) as usize;
        let mut settings = settings.clone();
        let learned = (history.len() + warm_up) as u64;
        settings.score.warm_up_records = args.warmup_records.unwrap_or(learned).max(1);
        Self {
            history,
            labelled,
            settings,
            warm_up,
            ablation: args.ablation,
        }
    }

    fn run(&self, name: String, embedder: &Arc<dyn Embedder>) -> Result<Figures> {
        let detectors = &self.settings.score.detectors;
        let runs = if self.ablation { 1 + detectors.len() } else { 1 };
        let rows = self.history.len() + self.labelled.rows.len();
        let progress = progress_bar((rows * runs) as u64);
        let mut engine = Offline::new(&self.settings, Arc::new(Embeddings::new(Arc::clone(embedder))))?;

        let started = Instant::now();
        let outcomes = self.judge(&mut engine, &|rows| progress.inc(rows))?;
        let run = Run {
            records_per_second: rows as f64 / started.elapsed().as_secs_f64().max(1e-9),
            peak_memory_bytes: peak_memory_bytes(),
        };
        let counted = Counted::new(self.labelled, &outcomes, self.warm_up);
        let mut figures = counted.figures(name, run);
        if self.ablation && detectors.len() > 1 {
            for detector in detectors {
                let mut others = self.settings.clone();
                others.score.detectors.retain(|other| other != detector);
                engine.restart(&others);
                let outcomes = self.judge(&mut engine, &|rows| progress.inc(rows))?;
                figures.ablation.push(Ablated {
                    detector: *detector,
                    alone: counted.alone(*detector),
                    left_out: Counted::new(self.labelled, &outcomes, self.warm_up).quality(),
                });
            }
        }
        progress.finish_and_clear();
        Ok(figures)
    }

    fn judge(&self, engine: &mut Offline, progress: &dyn Fn(u64)) -> Result<Vec<Outcome>> {
        if !self.history.is_empty() {
            engine.stream(self.history, progress)?;
            // Whoever names a history says that it is what is usual, however much in it is new.
            engine.end_warm_up();
        }
        engine.stream(&self.labelled.rows, progress)
    }
}

/// The most memory the process has held; Linux tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
