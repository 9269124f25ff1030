//! The streaming engine over a file: rows in time order, every step in line, no clock.
//!
//! What enters: rows, or batches that were read of them, and embeddings. What leaves: for every row its verdict, score and
//! incident, and the state for a snapshot. Promises: the same rooms as the stream, so the same verdicts.
//! [`Offline::stream`] never goes back, so that its verdicts are those the agent would have given; `analyze` takes the
//! steps one by one and does. Absent on purpose: deadlines; a file can wait.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;

use super::{
    embeddings::Embeddings,
    lineage::{Heard, Lineage},
};
use crate::{
    edge::files::{self, Row},
    engine::{
        self,
        correlate::IncidentId,
        front::{Batch, Front},
        score::{Committee, DETECTORS, Phase},
        state::State,
        text::TemplateKey,
        view::View,
    },
};

/// Rows judged at once; the warm-up ends at the end of such a chunk.
pub const CHUNK_ROWS: usize = 500;

/// Streamed rows of one request are less than this apart: a sender's batch does not wait for ever.
const REQUEST_SPAN_NANO: u64 = 1_000_000_000;

/// What came of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Whether the row is anomalous.
    pub is_anomaly: bool,
    /// Its score, larger is more anomalous; `None` where there was nothing to judge by.
    pub score: Option<f64>,
    /// What each detector contributes to the score, in the order of [`Detector::ALL`](crate::engine::score::Detector::ALL).
    pub evidence: [f64; DETECTORS],
    /// The anomalous episode it belongs to; `None` where it is normal.
    pub episode: Option<u64>,
    /// The incident it belongs to, under the id that goes by at the end of the run.
    pub incident: Option<IncidentId>,
    /// The same under the id that an agent would have forwarded it with.
    pub forwarded: Option<IncidentId>,
    /// Where those two differ, whether the engine no longer knows that they are one.
    pub is_lost: bool,
    /// The first incident of its line: itself, or the one whose child's child … it is.
    pub root: Option<IncidentId>,
    /// Its template.
    pub template: TemplateKey,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            is_anomaly: false,
            score: None,
            evidence: [0.0; DETECTORS],
            episode: None,
            incident: None,
            forwarded: None,
            is_lost: false,
            root: None,
            template: TemplateKey(0),
        }
    }
}

/// Engine, and the embeddings it judges by.
pub struct Offline {
    front: Front,
    state: State,
    committee: Committee,
    embeddings: Arc<Embeddings>,
    heard: Heard,
    lineage: Lineage,
}

impl Offline {
    /// An engine that has seen nothing.
    ///
    /// # Errors
    /// The model failed.
    pub fn new(settings: &engine::Settings, embeddings: Arc<Embeddings>) -> Result<Self> {
        let committee = Committee::embed(embeddings.embedder()).context("the model failed")?;
        let mut state = settings.state();
        state.appoint(committee.clone());
        Ok(Self {
            front: front(settings),
            state,
            committee,
            embeddings,
            heard: Heard::default(),
            lineage: Lineage::default(),
        })
    }

    /// The state after the run.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What became of the incidents.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// What was told of incidents while the last request was judged.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Takes the rows, which must be in time order, the way of the agent: request by request, each judged by what was
    /// learned before it and with it, and never again. May be called again with what came later.
    ///
    /// # Errors
    /// The model failed on a text.
    pub fn stream(&mut self, rows: &[Row], progress: &dyn Fn(u64)) -> Result<Vec<Outcome>> {
        let mut outcomes = vec![Outcome::default(); rows.len()];
        let (mut rest, mut slots) = (rows, outcomes.as_mut_slice());
        while !rest.is_empty() {
            let (request, later) = rest.split_at(self.request_len(rest));
            let (told, later_slots) = slots.split_at_mut(request.len());
            let batch = read(&self.front, request.to_vec())?;
            self.judge(&batch, told)?;
            self.fit_if_due();
            progress(request.len() as u64);
            (rest, slots) = (later, later_slots);
        }
        self.resolve(&mut outcomes);
        Ok(outcomes)
    }

    /// Ends the warm-up with what was learned so far, if it has not ended by itself.
    pub fn end_warm_up(&mut self) {
        if !self.is_ready()
            && let Some(job) = self.state.force_fit()
        {
            self.state.install(job.run());
        }
    }

    /// Forgets what was learned, but not the embeddings, and goes on with other settings.
    pub fn restart(&mut self, settings: &engine::Settings) {
        self.front = front(settings);
        self.state = settings.state();
        self.state.appoint(self.committee.clone());
        self.lineage = Lineage::default();
    }

    /// How many of the rows make the next request: at least one, and not over the end of the warm-up.
    fn request_len(&self, rows: &[Row]) -> usize {
        let most = match self.state.phase() {
            Phase::WarmingUp {
                records_seen,
                records_needed,
                ..
            } => records_needed.saturating_sub(records_seen).clamp(1, CHUNK_ROWS as u64) as usize,
            Phase::Fitting | Phase::Ready { .. } => CHUNK_ROWS,
        };
        let first = rows.first().map_or(0, |row| row.record.time_unix_nano);
        let mut bytes = 0;
        let fitting = rows.iter().take(most).take_while(|row| {
            bytes += row.record.encoded_len();
            row.record.time_unix_nano.saturating_sub(first) < REQUEST_SPAN_NANO && bytes <= files::MAX_REQUEST_BYTES
        });
        fitting.count().max(1)
    }

    fn resolve(&self, outcomes: &mut [Outcome]) {
        for outcome in outcomes {
            let Some(forwarded) = outcome.forwarded else { continue };
            let last = self.lineage.last(forwarded);
            outcome.incident = Some(last);
            outcome.is_lost = self.state.resolve(forwarded) != last;
            outcome.root = Some(self.lineage.root(last));
        }
    }

    /// Whether there is a judge by now.
    pub fn is_ready(&self) -> bool {
        matches!(self.state.phase(), Phase::Ready { .. })
    }

    /// Takes all rows as not yet said, but keeps what was learned of them, so that they can be judged by it.
    pub fn rewind(&mut self) {
        self.state.rewind();
    }

    /// Trains where that is due.
    pub fn fit_if_due(&mut self) {
        if let Some(job) = self.state.take_fit() {
            self.state.install(job.run());
        }
    }

    /// Judges one request, and tells what came of its rows.
    ///
    /// # Errors
    /// The model failed on a text.
    pub fn judge(&mut self, batch: &Batch, outcomes: &mut [Outcome]) -> Result<()> {
        let embeddings = self.embeddings.of(&batch.templates).context("the model failed")?;
        for (record, outcome) in batch.records.iter().zip(outcomes.iter_mut()) {
            let template = record.template().and_then(|template| batch.templates.get(template));
            outcome.template = template.map_or(TemplateKey(0), |template| template.key);
        }
        let verdicts = self.state.judge(batch, &embeddings, |record, judgement| {
            if let Some(outcome) = outcomes.get_mut(record) {
                outcome.is_anomaly = judgement.anomaly.is_some();
                outcome.score = Some(judgement.log_odds);
                outcome.evidence = judgement.evidence.contributions;
                outcome.episode = judgement.anomaly.as_ref().map(|anomaly| anomaly.episode);
            }
        });
        for (outcome, incident) in outcomes
            .iter_mut()
            .zip(verdicts.incident_by_record(batch.records.len()))
        {
            outcome.forwarded = incident;
        }
        // After each request: what waits to be told would grow.
        self.heard.hear(&mut self.state);
        self.lineage.follow(&self.state, &self.heard);
        Ok(())
    }
}

/// What reads rows as these settings say.
pub fn front(settings: &engine::Settings) -> Front {
    Front::new(settings.text.clone(), settings.annotate.clone())
}

/// Takes rows the way of a request: into OTLP bytes, and through the front of the engine.
///
/// # Errors
/// A bug: rows must be readable as OTLP.
pub fn read(front: &Front, rows: Vec<Row>) -> Result<Batch> {
    let count = rows.len();
    // Nobody's limits of a request's size count here.
    let requests = files::to_requests(rows, count);
    let request = ExportLogsServiceRequest {
        resource_logs: requests.flat_map(|request| request.resource_logs).collect(),
    };
    let request = request.encode_to_vec();
    let view = View::parse(&request).context("rows encoded as OTLP must be readable")?;
    // Files may hold any time: nothing is in the future of the end of time.
    let batch = front.prepare(&view, u64::MAX);
    ensure!(
        batch.records.len() == count,
        "{count} rows became {} records",
        batch.records.len()
    );
    Ok(batch)
}
