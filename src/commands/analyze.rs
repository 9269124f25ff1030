//! `harbinger analyze`: the notebook's job. Log files in; `annotated.csv` and `incidents.csv` out.
//!
//! What enters: CSV, JSON lines, plain text or OTLP JSON lines, several files at once, or standard input. What leaves:
//! `annotated.csv` (every row in input order, all its columns, plus `is_anomaly`, `anomaly_score`, `incident_id`),
//! `incidents.csv` (and as JSON where that is asked for), and the largest incidents on standard output. Promises: no row
//! is dropped silently; the same file gives the same output. Absent on purpose: bounded memory (a file's rows are held
//! until it is judged).

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    bad_rows::BadRows,
    digest::{self, Digest, Member},
    incident_list::{self, Listed},
    input::{InputArgs, message},
    notebook,
    offline::Offline,
};
use crate::{
    app,
    edge::files::{self, Row},
    engine::{embed::Embedder, front::UNKNOWN_SERVICE, text::TemplateKey},
};

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

/// What is written beside a row.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Whether the row is anomalous.
    pub is_anomaly: bool,
    /// Its score, empty where there is none.
    pub score: Option<f64>,
    /// Its incident's id, empty where it is in none.
    pub incident_id: String,
    /// Its template; the notebook has none.
    pub template: Option<TemplateKey>,
}

/// Reads, judges, writes.
///
/// # Errors
/// An input that cannot be read, a missing model, an output that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut stderr = io::stderr().lock();
    let input = read(args, &mut stderr)?;
    if input.rows.is_empty() {
        bail!("no log rows in {}", listed(&args.inputs));
    }
    let (settings, embedder) = app::offline(args.config.as_deref())?;
    let embedder: Arc<dyn Embedder> = Arc::new(embedder);
    let progress = progress_bar(input.rows.len() as u64);
    let (judged, engine) = match args.profile {
        Profile::Notebook => {
            let judged = notebook::judge(&input.rows, &*embedder, &|rows| progress.inc(rows))?;
            (judged, None)
        }
        Profile::Default => {
            let mut engine = Offline::new(&settings, Arc::clone(&embedder))?;
            let judged = judge(&mut engine, &input.rows, &|rows| progress.inc(rows))?;
            if let Some(directory) = &args.save_snapshot {
                app::save_snapshot(directory, engine.state(), embedder.model_version())?;
            }
            (judged, Some(engine))
        }
    };
    progress.finish_and_clear();

    let judged = drop_small(judged, args.min_size);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let annotated = args.out.join("annotated.csv");
    let incidents = args.out.join("incidents.csv");
    write_annotated(&annotated, &input, &judged).with_context(|| format!("cannot write {}", annotated.display()))?;
    let digests = gather(&input.rows, &judged, args.profile);
    let listed: Vec<Listed<'_>> = digests
        .iter()
        .map(|digest| Listed::new(digest, engine.as_ref()))
        .collect();
    write_incidents(&incidents, &listed, engine.is_some())
        .with_context(|| format!("cannot write {}", incidents.display()))?;
    if let Some(path) = &args.incidents_json {
        write_incidents_json(path, &listed)
            .with_context(|| format!("--incidents-json: cannot write {}", path.display()))?;
    }

    let anomalous = judged.iter().filter(|judged| judged.is_anomaly).count();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} incident{} in {} rows ({anomalous} anomalous, {:.2} %)\n",
        digests.len(),
        if digests.len() == 1 { "" } else { "s" },
        input.rows.len(),
        100.0 * anomalous as f64 / input.rows.len() as f64,
    )?;
    digest::print(&mut out, &digests, args.top)?;
    writeln!(out, "{}\n{}", annotated.display(), incidents.display())?;
    if let Some(path) = &args.incidents_json {
        writeln!(out, "{}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every row of every input, in input order.
struct Input {
    rows: Vec<Row>,
    /// Columns of all inputs together, in order of first sight.
    columns: Vec<String>,
    /// For each input, where its columns are in `columns`.
    places: Vec<Vec<usize>>,
}

fn read(args: &Args, stderr: &mut impl Write) -> Result<Input> {
    let settings = args.reading.settings();
    let mut input = Input {
        rows: Vec::new(),
        columns: Vec::new(),
        places: Vec::new(),
    };
    for (index, path) in args.inputs.iter().enumerate() {
        let source = files::open(path, &settings)?.numbered(index);
        let places = source.headers().iter().map(|header| {
            let known = input.columns.iter().position(|column| column == header);
            known.unwrap_or_else(|| {
                input.columns.push(header.clone());
                input.columns.len() - 1
            })
        });
        let places = places.collect();
        input.places.push(places);
        let mut bad = BadRows::default();
        for row in source {
            match row {
                Ok(row) => {
                    bad.note_problem(&row);
                    input.rows.push(row);
                }
                Err(problem) => bad.note(&problem),
            }
        }
        bad.report(path, stderr)?;
    }
    Ok(input)
}

/// The engine wants time order; a row without a time stands where its predecessor in the file does.
fn judge(engine: &mut Offline, rows: &[Row], progress: &dyn Fn(u64)) -> Result<Vec<Judged>> {
    let mut latest = rows.iter().find_map(|row| row.time_unix_nano).unwrap_or(1);
    let mut order: Vec<(u64, usize)> = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        latest = row.time_unix_nano.unwrap_or(latest);
        order.push((latest, index));
    }
    order.sort();
    let timed: Vec<Row> = order
        .iter()
        .filter_map(|&(time, index)| {
            let mut row = rows.get(index)?.clone();
            row.record.time_unix_nano = time;
            Some(row)
        })
        .collect();
    let outcomes = engine.run(&timed.iter().collect::<Vec<_>>(), progress)?;
    let mut judged = vec![Judged::default(); rows.len()];
    for ((_, index), outcome) in order.iter().zip(outcomes) {
        if let Some(slot) = judged.get_mut(*index) {
            slot.is_anomaly = outcome.is_anomaly;
            slot.score = outcome.score;
            slot.template = Some(outcome.template).filter(|template| template.0 != 0);
            slot.incident_id = outcome.incident.map(|id| id.to_string()).unwrap_or_default();
        }
    }
    Ok(judged)
}

/// Takes the incidents with fewer than `min_size` records away again.
fn drop_small(mut judged: Vec<Judged>, min_size: usize) -> Vec<Judged> {
    let mut sizes = std::collections::HashMap::new();
    for row in &judged {
        *sizes.entry(row.incident_id.clone()).or_insert(0usize) += 1;
    }
    for row in &mut judged {
        if sizes.get(&row.incident_id).is_some_and(|size| *size < min_size) {
            row.incident_id.clear();
        }
    }
    judged
}

fn gather<'a>(rows: &'a [Row], judged: &[Judged], profile: Profile) -> Vec<Digest<'a>> {
    let members = rows
        .iter()
        .zip(judged)
        .filter(|(_, judged)| !judged.incident_id.is_empty())
        .map(|(row, judged)| {
            let member = Member {
                time_unix_nano: row.time_unix_nano,
                service: row.service.as_deref().unwrap_or(UNKNOWN_SERVICE),
                severity_number: row.record.severity_number,
                message: message(row),
                // In the notebook's graph every record is a node, and the earliest leads.
                is_anomaly: judged.is_anomaly && profile == Profile::Default,
                template: judged.template,
            };
            (judged.incident_id.clone(), member)
        });
    let mut digests = digest::gather(members);
    if profile == Profile::Notebook {
        digests.sort_by_key(|digest| digest.incident_id.parse::<u64>().unwrap_or(u64::MAX));
    }
    digests
}

fn write_annotated(path: &Path, input: &Input, judged: &[Judged]) -> Result<()> {
    let mut csv = csv::Writer::from_writer(BufWriter::new(File::create(path)?));
    let added = ["is_anomaly", "anomaly_score", "incident_id"].map(str::to_owned);
    csv.write_record(input.columns.iter().chain(&added))?;
    for (row, judged) in input.rows.iter().zip(judged) {
        let mut cells = vec![""; input.columns.len()];
        let places = input.places.get(row.source).map(Vec::as_slice).unwrap_or_default();
        for (cell, place) in row.cells.iter().zip(places) {
            if let Some(slot) = cells.get_mut(*place) {
                *slot = cell;
            }
        }
        let score = judged.score.map(|score| format!("{score:.6}")).unwrap_or_default();
        let is_anomaly = if judged.is_anomaly { "true" } else { "false" };
        csv.write_record(cells.into_iter().chain([is_anomaly, &score, &judged.incident_id]))?;
    }
    csv.flush()?;
    Ok(())
}

fn write_incidents(path: &Path, listed: &[Listed<'_>], is_complete: bool) -> Result<()> {
    incident_list::write_csv(BufWriter::new(File::create(path)?), listed, is_complete)
}

fn write_incidents_json(path: &Path, listed: &[Listed<'_>]) -> Result<()> {
    incident_list::write_json(BufWriter::new(File::create(path)?), listed)
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
