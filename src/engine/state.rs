//! The serial half of the engine: everything that is learned or remembered, changed only by sequenced inputs.
//!
//! What enters, one at a time: a batch with its embeddings ([`State::commit`]), an embedding that came late
//! ([`State::supply`]), a finished fit ([`State::install`]). What leaves: verdicts, a fit that is due
//! ([`State::take_fit`]), and events for the journal ([`State::drain_events`]).
//! Promises: the same inputs in the same order give the same verdicts to the bit; memory is bounded.
//! Absent on purpose: waiting, threads, and the work of a fit itself, which is a pure [`FitJob`] run elsewhere.

use std::sync::Arc;

use super::{
    correlate::{self, Correlator, CorrelatorState, Event, IncidentId, Node, OpenIncident},
    embed::Embedding,
    front::{Batch, BatchTemplate},
    retries::Retries,
    score::{self, FitJob, Fitted, Phase, Score, Scorer, ScorerState},
    text::TemplateKey,
    verdict::{Basis, TemplateVerdict, Verdicts},
};

/// What a batch came to.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The verdicts of the batch.
    pub verdicts: Arc<Verdicts>,
    /// The batch was an identical retry: these are the verdicts it got before, and nothing changed.
    pub repeated: bool,
}

/// Everything the engine remembers.
#[derive(Debug)]
pub struct State {
    scorer: Scorer,
    correlator: Correlator,
    retries: Retries,
}

impl State {
    /// A state that has seen nothing.
    pub fn new(scoring: score::Settings, correlation: correlate::Settings) -> Self {
        Self::restored(Scorer::new(scoring), Correlator::new(correlation))
    }

    /// A state that goes on from what a snapshot held.
    pub fn restored(scorer: Scorer, correlator: Correlator) -> Self {
        Self {
            scorer,
            correlator,
            retries: Retries::default(),
        }
    }

    /// Learns from a batch and judges it. `embeddings` go with `batch.templates`; a missing one degrades the verdict.
    pub fn commit(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) -> Committed {
        if let Some(verdicts) = self.retries.recall(batch.request_hash, batch.arrival_unix_nano) {
            return Committed {
                verdicts,
                repeated: true,
            };
        }
        self.learn(batch, embeddings);
        let verdicts = Arc::new(self.judge(batch, embeddings));
        self.retries
            .remember(batch.request_hash, batch.arrival_unix_nano, Arc::clone(&verdicts));
        Committed {
            verdicts,
            repeated: false,
        }
    }

    /// The learning half of [`State::commit`], for whoever judges later (a file is judged once the model is ready).
    pub fn learn(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) {
        let mut last_seen = vec![0u64; batch.templates.len()];
        for record in &batch.records {
            if let Some(last_seen) = last_seen.get_mut(record.template as usize) {
                *last_seen = record.time_unix_nano.max(*last_seen);
            }
        }
        for ((template, embedding), time_unix_nano) in batch.templates.iter().zip(embeddings).zip(last_seen) {
            let text = || Arc::clone(&template.text);
            self.scorer
                .observe(template.key, text, embedding.as_ref(), template.records, time_unix_nano);
        }
    }

    /// The judging half of [`State::commit`]: scores the templates and takes the records to their incidents.
    pub fn judge(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) -> Verdicts {
        let basis = match self.scorer.phase() {
            Phase::Ready { .. } => Basis::Model,
            Phase::WarmingUp { .. } | Phase::Fitting => Basis::WarmingUp,
        };
        let mut verdicts = Verdicts {
            basis,
            ..Verdicts::default()
        };
        if basis == Basis::WarmingUp {
            let missing = (0..).zip(embeddings).filter(|(_, embedding)| embedding.is_none());
            verdicts.templates = missing.map(|(index, _)| (index, TemplateVerdict::Degraded)).collect();
            return verdicts;
        }
        for (index, template) in (0..).zip(&batch.templates) {
            match self.scorer.judge(template.key) {
                None => verdicts.templates.push((index, TemplateVerdict::Degraded)),
                Some(score) if score.anomalous => {
                    verdicts.templates.push((index, TemplateVerdict::Anomalous(score)));
                }
                Some(_) => {}
            }
        }
        let of_template = verdicts.by_template(batch.templates.len());
        let mut incidents = Vec::new();
        for (index, record) in (0..).zip(&batch.records) {
            let at = record.template as usize;
            let (Some(template), Some(service)) =
                (batch.templates.get(at), batch.services.get(record.service as usize))
            else {
                continue;
            };
            let node = Node {
                time_unix_nano: record.time_unix_nano,
                service,
                template: template.key,
                text: &template.text,
                embedding: embeddings.get(at).and_then(Option::as_ref),
                anomalous: matches!(of_template.get(at), Some(Some(TemplateVerdict::Anomalous(_)))),
                severity_number: record.severity_number,
            };
            incidents.extend(self.correlator.observe(&node).map(|incident| (index, incident)));
        }
        verdicts.incidents = incidents;
        verdicts
    }

    /// An embedding that came after its batch was committed.
    pub fn supply(&mut self, template: &BatchTemplate, embedding: &Embedding) {
        self.scorer
            .observe(template.key, || Arc::clone(&template.text), Some(embedding), 0, 0);
    }

    /// The score of a template, anomalous or not; `None` where there is nothing to judge by.
    pub fn score(&mut self, template: TemplateKey) -> Option<Score> {
        self.scorer.judge(template)
    }

    /// The id an incident goes by now: its own, or the one it was merged into.
    pub fn resolve(&self, incident: IncidentId) -> IncidentId {
        self.correlator.resolve(incident)
    }

    /// The fit that is due, if one is; at most one is under way.
    pub fn take_fit(&mut self) -> Option<FitJob> {
        self.scorer.take_fit()
    }

    /// A fit of whatever has been seen, however little: for a file that ended before its warm-up did.
    pub fn force_fit(&mut self) -> Option<FitJob> {
        self.scorer.force_fit()
    }

    /// A fit is finished: judge by it from now on.
    pub fn install(&mut self, fitted: Fitted) {
        self.scorer.install(fitted);
    }

    /// How far learning has come.
    pub fn phase(&self) -> Phase {
        self.scorer.phase()
    }

    /// What happened to incidents since the last call, in order; to be written to the journal before the records leave.
    pub fn drain_events(&mut self, events: &mut Vec<Event>) {
        self.correlator.drain(events);
    }

    /// Open incidents, oldest first.
    pub fn incidents(&self) -> Vec<OpenIncident> {
        self.correlator.incidents()
    }

    /// Everything that a snapshot holds.
    pub fn export(&self) -> (ScorerState, CorrelatorState) {
        (self.scorer.export(), self.correlator.export())
    }

    /// The templates whose embeddings are known, in a fixed order.
    pub fn embeddings(&self) -> impl Iterator<Item = (TemplateKey, &Embedding)> {
        self.scorer.embeddings()
    }
}
