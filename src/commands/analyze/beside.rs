//! What is written beside the lists where somebody asks for it: the graph, and the report.
//!
//! What enters: where they go, what came of judging. What leaves: both files, whole. Promises: that they can be written shows
//! before anything is judged; who asks for neither pays for neither. Absent on purpose: what is in them, see `graph` and
//! `report`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    Analysed,
    graph::{self, Drawing, gexf::Gexf},
    listing::{Grouped, Listing, Whole},
    report::{Facts, Report, scores::Scores, templates::Templates},
    rows,
    told::{Episode, Told},
    verdicts::Verdict,
    whole_file::WholeFile,
};
use crate::{
    commands::offline::Offline,
    engine::{self, score::Detector},
};

/// Options of their own.
#[derive(Debug, clap::Args)]
pub struct BesideArgs {
    /// Also write the incidents as a graph, GEXF 1.3 for Gephi or networkx: what was said in each, and what ties it together
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Also write a report to look at: one HTML file that needs nothing else, with incidents, scores and a map of templates
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave what logs say out of the report; names of services and of the inputs stay
    #[arg(long, requires = "report")]
    redact: bool,
    /// The largest incidents are in the report, at most so many
    #[arg(long, default_value_t = 5000, value_name = "COUNT", requires = "report")]
    report_incidents: usize,
}

/// Files that are begun, and what is gathered for them.
pub struct Begun {
    gexf: Option<Gexf>,
    report: Option<WholeFile>,
    /// What the engine tells of incidents.
    pub told: Option<Told>,
    /// What is seen of templates.
    pub templates: Option<Templates>,
    directory: PathBuf,
    made_at: jiff::Timestamp,
}

/// What is told row by row and incident by incident.
pub struct Beside<'a> {
    /// What the engine told was said in incidents; by the notebook's rule nothing.
    episodes: Option<Grouped<Episode>>,
    drawing: Option<Drawing<'a>>,
    report: Option<Report<'a>>,
}

impl BesideArgs {
    /// Begins what is asked for; `directory` has room for what has to wait.
    ///
    /// # Errors
    /// One of the files cannot be written.
    pub fn begin(&self, directory: &Path) -> Result<Begun> {
        let made_at = jiff::Timestamp::now();
        let today = made_at.strftime("%F").to_string();
        let gexf = self.graph.as_ref().map(|path| {
            let begun = Gexf::begin(path, directory, &today);
            begun.with_context(|| format!("--graph: cannot write {}", path.display()))
        });
        let report = self.report.as_ref().map(|path| {
            let begun = WholeFile::begin(path);
            begun.with_context(|| format!("--report: cannot write {}", path.display()))
        });
        let mut begun = Begun {
            gexf: gexf.transpose()?,
            report: report.transpose()?,
            told: None,
            templates: None,
            directory: directory.to_owned(),
            made_at,
        };
        begun.restart()?;
        Ok(begun)
    }

    /// Whether a report is asked for.
    pub fn is_report(&self) -> bool {
        self.report.is_some()
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.graph.iter().chain(&self.report)
    }
}

impl Begun {
    /// Forgets what was gathered: all is judged again.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn restart(&mut self) -> Result<()> {
        let is_told = self.gexf.is_some() || self.report.is_some();
        let told = is_told.then(|| Told::new(&self.directory)).transpose();
        self.told = told.context("cannot write to the folder of --out")?;
        self.templates = self.report.is_some().then(Templates::default);
        Ok(())
    }

    /// All is judged: rows and incidents can be told now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn beside<'a>(
        self,
        args: &BesideArgs,
        analysed: &'a Analysed,
        listing: &Listing,
        settings: &engine::Settings,
    ) -> Result<(Beside<'a>, Rest)> {
        let (judged, engine) = (&analysed.judged, analysed.engine.as_ref());
        let rest = Rest {
            templates: self.templates.unwrap_or_default(),
            made_at: self.made_at,
            has_errors: settings.score.detectors.contains(&Detector::Autoencoder),
        };
        let (episodes, incidents) = match (self.told, engine) {
            (Some(mut told), Some(engine)) => {
                told.note_open(engine.state())?;
                let told = told.by_incident(listing, &self.directory)?;
                (Some(told.episodes), Some(told.incidents))
            }
            _ => (None, None),
        };
        let drawing = self.gexf.map(|gexf| Drawing {
            gexf,
            rule: graph::Rule {
                lineage: engine.map(Offline::lineage),
                all_are_nodes: engine.is_none() || settings.correlate.are_all_nodes(),
                texts: &judged.texts,
            },
        });
        let report = match (self.report, engine, incidents) {
            (Some(file), Some(engine), Some(incidents)) => {
                let (most, lineage) = (args.report_incidents, engine.lineage());
                let mut report = Report::new(file, most, listing, incidents, lineage, &judged.texts);
                report.redact = args.redact;
                report.scores = judged.span_unix_nano.map(|(first, last)| Scores::between(first, last));
                Some(report)
            }
            _ => None,
        };
        let beside = Beside {
            episodes,
            drawing,
            report,
        };
        Ok((beside, rest))
    }
}

/// What is needed at the very end.
pub struct Rest {
    templates: Templates,
    made_at: jiff::Timestamp,
    has_errors: bool,
}

impl Beside<'_> {
    /// Tells of a row, and the id of its incident.
    pub fn row(&mut self, row: &rows::PutAside<'_>, verdict: &Verdict, incident: &str) {
        if let Some(scores) = self.report.as_mut().and_then(|report| report.scores.as_mut()) {
            scores.count(row, verdict, incident);
        }
    }

    /// Tells of the next incident of the list.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn incident(&mut self, whole: &Whole<'_>) -> Result<()> {
        let episodes = self.episodes.as_mut().map(|episodes| episodes.take(whole.place));
        let episodes = episodes.transpose()?.unwrap_or_default();
        if let Some(drawing) = &mut self.drawing {
            let drawn = drawing.draw(whole, &episodes);
            drawn.context("--graph: cannot write an incident")?;
        }
        if let Some(report) = &mut self.report {
            let told = report.push(whole, &episodes);
            told.context("--report: cannot tell of an incident")?;
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(self, args: &super::Args, analysed: &Analysed, listing: &Listing, rest: &Rest) -> Result<()> {
        let drawn = self.drawing.map(|drawing| drawing.gexf.end());
        drawn.transpose().context("--graph: cannot write the graph")?;
        let (Some(report), Some(engine)) = (self.report, &analysed.engine) else {
            return Ok(());
        };
        let name = |path: &PathBuf| {
            path.file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned()
        };
        let judged = &analysed.judged;
        let written = report.end(&Facts {
            made_at: rest.made_at.to_string(),
            inputs: args.inputs.iter().map(name).collect(),
            rows: [analysed.seen.rows, judged.anomalous, judged.unscored],
            span_unix_nano: judged.span_unix_nano,
            templates: &rest.templates,
            has_errors: rest.has_errors,
            state: engine.state(),
            listing,
        });
        written.context("--report: cannot write the report")
    }
}
