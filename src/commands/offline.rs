//! The streaming engine over a file: rows in time order, every step in line, no thread and no clock.
//!
//! What enters: rows and an embedder. What leaves: for every row its verdict, score and incident, and the state for a
//! snapshot. Promises: the same rooms as the stream, so the same verdicts; rows read before the model is ready are
//! judged as soon as it is, so that a short file is judged too. Absent on purpose: deadlines; a file can wait.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::{
    edge::files::{self, Row},
    engine::{
        self,
        correlate::IncidentId,
        embed::{Embedder, Embedding},
        front::{Batch, BatchTemplate, Front},
        score::Phase,
        state::State,
        text::TemplateKey,
        verdict::{TemplateVerdict, Verdicts},
        view::View,
    },
};

/// Rows judged at once; the warm-up ends at the end of such a chunk.
const CHUNK_ROWS: usize = 500;

/// Texts given to the model at once.
const EMBED_TEXTS: usize = 64;

/// What came of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Whether the row is anomalous.
    pub is_anomaly: bool,
    /// Its score, 0 to 1; `None` where there was nothing to judge by.
    pub score: Option<f64>,
    /// The incident it belongs to, as it was when the row was judged.
    pub incident: Option<IncidentId>,
}

/// Engine, embedder and what was embedded so far.
pub struct Offline {
    front: Front,
    state: State,
    embedder: Arc<dyn Embedder>,
    embeddings: HashMap<TemplateKey, Embedding>,
}

struct Held {
    first_row: usize,
    batch: Batch,
    embeddings: Vec<Option<Embedding>>,
}

impl Offline {
    /// An engine that has seen nothing.
    pub fn new(settings: &engine::Settings, embedder: Arc<dyn Embedder>) -> Self {
        let front = Front::new(settings.text.clone(), settings.annotate.clone());
        Self {
            front,
            state: State::new(settings.score.clone(), settings.correlate.clone()),
            embedder,
            embeddings: HashMap::new(),
        }
    }

    /// The state after the run.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Judges the rows, which must be in time order; `progress` is told how many are done.
    ///
    /// # Errors
    /// The model failed on a text.
    pub fn run(&mut self, rows: &[&Row], progress: &dyn Fn(u64)) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![Outcome::default(); rows.len()];
        let mut held = Vec::new();
        for (chunk_index, chunk) in rows.chunks(CHUNK_ROWS).enumerate() {
            let read = self.read(chunk_index * CHUNK_ROWS, chunk)?;
            self.state.learn(&read.batch, &read.embeddings);
            held.push(read);
            self.fit_if_due();
            self.judge_held(&mut held, &mut outcomes);
            progress(chunk.len() as u64);
        }
        if !held.is_empty() {
            if let Some(job) = self.state.force_fit() {
                self.state.install(job.run());
            }
            self.judge_held(&mut held, &mut outcomes);
        }
        for outcome in &mut outcomes {
            outcome.incident = outcome.incident.map(|incident| self.state.resolve(incident));
        }
        Ok(outcomes)
    }

    fn fit_if_due(&mut self) {
        if let Some(job) = self.state.take_fit() {
            self.state.install(job.run());
        }
    }

    fn judge_held(&mut self, held: &mut Vec<Held>, outcomes: &mut [Outcome]) {
        if !matches!(self.state.phase(), Phase::Ready { .. }) {
            return;
        }
        for Held {
            first_row,
            batch,
            embeddings,
        } in held.drain(..)
        {
            let verdicts = self.state.judge(&batch, &embeddings);
            let outcomes = outcomes.get_mut(first_row..).unwrap_or_default();
            self.tell(&batch, &verdicts, outcomes);
        }
    }

    fn tell(&mut self, batch: &Batch, verdicts: &Verdicts, outcomes: &mut [Outcome]) {
        let anomalous = verdicts.by_template(batch.templates.len());
        let scores: Vec<Option<f64>> = batch
            .templates
            .iter()
            .map(|template| Some(self.state.score(template.key)?.value))
            .collect();
        let incidents = verdicts.by_record(batch.records.len());
        for ((record, incident), outcome) in batch.records.iter().zip(incidents).zip(outcomes) {
            let template = record.template as usize;
            outcome.is_anomaly = matches!(anomalous.get(template), Some(Some(TemplateVerdict::Anomalous(_))));
            outcome.score = scores.get(template).copied().flatten();
            outcome.incident = incident;
        }
    }

    /// Takes a chunk the way of a request: into OTLP bytes, and through the front of the engine.
    fn read(&mut self, first_row: usize, chunk: &[&Row]) -> Result<Held> {
        let rows = chunk.iter().map(|row| (*row).clone());
        let request = files::to_requests(rows, chunk.len())
            .next()
            .unwrap_or_default()
            .encode_to_vec();
        let view = View::parse(&request).context("rows encoded as OTLP must be readable")?;
        // Files may hold any time: nothing is in the future of the end of time.
        let batch = self.front.prepare(&view, u64::MAX);
        ensure!(
            batch.records.len() == chunk.len(),
            "{} rows became {} records",
            chunk.len(),
            batch.records.len()
        );
        self.embed(&batch.templates)?;
        let embeddings = batch
            .templates
            .iter()
            .map(|t| self.embeddings.get(&t.key).cloned())
            .collect();
        Ok(Held {
            first_row,
            batch,
            embeddings,
        })
    }

    fn embed(&mut self, templates: &[BatchTemplate]) -> Result<()> {
        let missing: Vec<&BatchTemplate> = templates
            .iter()
            .filter(|template| !self.embeddings.contains_key(&template.key))
            .collect();
        for some in missing.chunks(EMBED_TEXTS) {
            let texts: Vec<&str> = some.iter().map(|template| &*template.text).collect();
            let embedded = self.embedder.embed(&texts).context("the model failed")?;
            self.embeddings
                .extend(some.iter().map(|template| template.key).zip(embedded));
        }
        Ok(())
    }
}
