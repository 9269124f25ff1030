//! The serial half of the engine for one tenant: everything that is learned or remembered, changed only by sequenced inputs.
//!
//! What enters, one at a time: a batch with its embeddings ([`State::mark`], [`State::judge`]), an embedding that came late
//! ([`State::supply`]), a finished fit ([`State::install`]), what people think ([`State::hold`], [`State::dismiss`]). What leaves: verdicts, a fit that is due
//! ([`State::take_fit`]), and events for the journal ([`State::drain_events`]).
//! Promises: the same inputs in the same order give the same verdicts to the bit; memory is bounded;
//! where texts are not kept, none is quoted either.
//! Absent on purpose: waiting, threads, and the work of a fit itself, which is a pure [`FitJob`] run elsewhere.

mod cluster;

use std::sync::Arc;

use super::{
    correlate::{self, Change, Correlator, CorrelatorState, Event, Incident, IncidentId, Node},
    embed::Embedding,
    feedback::{Meant, Refused, Subject},
    front::{Batch, BatchTemplate, Observation},
    opinions::Opinions,
    score::{
        self, Committee, Fact, FitJob, Fitted, HeardFact, Judgement, KnownTemplate, Note, Phase, Scorer, ScorerState,
        Seat, ServiceId, UnusableState,
    },
    text::TemplateKey,
    verdict::Verdicts,
};

use cluster::Shared;

/// A stream whose records are no older when they arrive is live: its time passes while it is silent, nanoseconds.
const LIVE_NANO: u64 = 3600 * 1_000_000_000;

/// Everything the engine remembers of a tenant.
#[derive(Debug)]
pub struct State {
    scorer: Scorer,
    correlator: Correlator,
    /// Records observed so much later than they happened open no incident; 0: all may.
    max_delay_nano: u64,
    /// When the last batch arrived, and the latest time in it.
    heard: Option<(u64, u64)>,
    /// What is kept instead of every text, where none may be.
    instead_of_text: Option<Arc<str>>,
    correlation: correlate::Settings,
    seed: u64,
    /// In a cluster: then `correlator` is the one of all agents.
    shared: Option<Box<Shared>>,
}

/// Told of each record's judgement, by its index in the batch.
type Told<'a> = dyn FnMut(usize, &Judgement) + 'a;

impl State {
    /// A state that has seen nothing.
    pub fn new(scoring: score::Settings, correlation: correlate::Settings) -> Self {
        Self {
            scorer: Scorer::new(scoring),
            max_delay_nano: correlate::nanos(correlation.max_delay),
            heard: None,
            correlator: Correlator::new(correlation.clone()),
            instead_of_text: None,
            correlation,
            seed: 0,
            shared: None,
        }
    }

    /// A state that goes on from what a snapshot held.
    ///
    /// # Errors
    /// The scorer's state is not one that was exported.
    pub fn restored(
        scoring: score::Settings,
        correlation: correlate::Settings,
        scorer: ScorerState,
        correlator: CorrelatorState,
    ) -> Result<Self, UnusableState> {
        Ok(Self {
            scorer: Scorer::restore(scoring, scorer)?,
            max_delay_nano: correlate::nanos(correlation.max_delay),
            heard: None,
            correlator: Correlator::restore(correlation.clone(), correlator),
            instead_of_text: None,
            correlation,
            seed: 0,
            shared: None,
        })
    }

    /// Whether the text of templates is kept, for reasons and incidents; `false` keeps their keys and embeddings only.
    pub fn keeping_text(mut self, keep: bool) -> Self {
        self.instead_of_text = (!keep).then(Arc::default);
        self
    }

    /// Makes its incident ids differ from those of a state with another seed.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.correlator.seed_ids(seed);
        self.seed = seed;
        self
    }

    /// Goes on by these settings, as far as they can change in a running engine ([`score::Settings::ADJUSTABLE`],
    /// [`correlate::Settings::ADJUSTABLE`]).
    pub fn adjust(&mut self, scoring: &score::Settings, correlation: &correlate::Settings) {
        self.scorer.adjust(scoring);
        self.correlator.adjust(correlation);
        self.correlation.adjust(correlation);
    }

    /// Learns from a batch and judges it. `embeddings` go with `batch.templates`; a missing one degrades the verdict.
    pub fn mark(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) -> Verdicts {
        self.judge_each(batch, embeddings, None)
    }

    /// The same, and `each` is told what was thought of every record that was judged, by its index.
    pub fn judge(
        &mut self,
        batch: &Batch,
        embeddings: &[Option<Embedding>],
        mut each: impl FnMut(usize, &Judgement),
    ) -> Verdicts {
        self.judge_each(batch, embeddings, Some(&mut each))
    }

    fn judge_each(
        &mut self,
        batch: &Batch,
        embeddings: &[Option<Embedding>],
        mut each: Option<&mut Told<'_>>,
    ) -> Verdicts {
        self.observe(batch, embeddings);
        let latest = batch.records.iter().map(|record| record.time_unix_nano).max();
        self.heard = latest.map(|latest| (batch.arrival_unix_nano, latest)).or(self.heard);
        let is_ready = self.is_ready();
        let mut verdicts = Verdicts::default();
        if !is_ready {
            verdicts.warming_up = (0..batch.templates.len() as u32).collect();
        }
        let missing = (0..).zip(embeddings).filter(|(_, embedding)| embedding.is_none());
        verdicts.degraded = missing.map(|(index, _)| index).collect();
        let mut nodes: Vec<(Node<'_>, u32)> = Vec::with_capacity(batch.records.len());
        let services: Vec<ServiceId> = batch
            .services
            .iter()
            .map(|service| self.scorer.service(&service.name))
            .collect();
        let mut seats: Vec<Option<Seat>> = batch.templates.iter().map(|it| self.scorer.seat(it.key)).collect();
        for (index, record) in batch.records.iter().enumerate() {
            let Some(at) = record.template() else { continue };
            let (Some(template), Some(seat), Some(id)) = (
                batch.templates.get(at),
                seats.get_mut(at),
                services.get(record.service as usize),
            ) else {
                continue;
            };
            let (severity_number, time_unix_nano) = (record.severity_number, record.time_unix_nano);
            let anomaly = match &mut each {
                None => self.scorer.mark(seat.as_mut(), *id, severity_number, time_unix_nano),
                Some(each) => {
                    let judgement = self.scorer.record(template.key, *id, severity_number, time_unix_nano);
                    if let Some(judgement) = judgement.as_ref().filter(|_| is_ready) {
                        each(index, judgement);
                    }
                    judgement.and_then(|judgement| judgement.anomaly)
                }
            };
            let is_anomalous = anomaly.is_some();
            // Before there is a judge only what somebody said to be real is anomalous, and nothing is context of it.
            if !is_ready && !is_anomalous {
                continue;
            }
            let place = index as u32;
            verdicts.anomalies.extend(anomaly.map(|anomaly| (place, anomaly)));
            let text = self.instead_of_text.as_ref();
            let node = node(
                batch,
                embeddings,
                record,
                text,
                self.max_delay_nano,
                is_anomalous.then_some(""),
            );
            if let Some(node) = node {
                nodes.push((node, place));
            }
        }
        let anomalous = nodes.iter_mut().filter(|(node, _)| node.anomalous);
        for ((node, _), (_, anomaly)) in anomalous.zip(&verdicts.anomalies) {
            node.reason = &anomaly.reason;
        }
        // In order of time: what a sender has put together in another order need not be undone by the correlator.
        nodes.sort_by_key(|(node, place)| (node.time_unix_nano, *place));
        let (nodes, places): (Vec<Node<'_>>, Vec<u32>) = nodes.into_iter().unzip();
        if let (Some(shared), Correlator::Evidence(evidence)) = (&mut self.shared, &mut self.correlator) {
            shared.note(evidence, &nodes);
            return verdicts;
        }
        let incidents = places.into_iter().zip(self.correlator.observe_all(&nodes));
        verdicts.incidents = incidents
            .filter_map(|(place, incident)| Some((place, incident?)))
            .collect();
        verdicts.incidents.sort_unstable_by_key(|(place, _)| *place);
        verdicts
    }

    fn is_ready(&self) -> bool {
        matches!(self.scorer.phase(), Phase::Ready { .. })
    }

    /// Time passes also where nothing is said: incidents that have been silent long enough are closed. The stream's time is
    /// taken to go on as it did when it was last heard, unless what came then was old.
    pub fn pass(&mut self, now_unix_nano: u64) {
        let Some((arrival, latest)) = self.heard else { return };
        if arrival.saturating_sub(latest) <= LIVE_NANO {
            let passed = now_unix_nano.saturating_sub(arrival);
            let time = latest.saturating_add(passed);
            match &self.shared {
                Some(_) => self.hear_of_time(time),
                None => self.correlator.advance(time),
            }
        }
    }

    /// The machine's clock went back: what is open ends, and the stream's time begins anew.
    pub fn turn_back(&mut self) {
        self.heard = None;
        if self.shared.is_none() {
            self.correlator.turn_back();
        }
    }

    /// Takes note of a batch's templates.
    fn observe(&mut self, batch: &Batch, embeddings: &[Option<Embedding>]) {
        let mut last_seen = vec![0u64; batch.templates.len()];
        for record in &batch.records {
            let Some(template) = record.template() else { continue };
            if let Some(last_seen) = last_seen.get_mut(template) {
                *last_seen = record.time_unix_nano.max(*last_seen);
            }
        }
        for ((template, embedding), time_unix_nano) in batch.templates.iter().zip(embeddings).zip(last_seen) {
            let text = || Arc::clone(self.instead_of_text.as_ref().unwrap_or(&template.text));
            self.scorer
                .observe(template.key, text, embedding.as_ref(), template.records, time_unix_nano);
        }
    }

    /// Takes everything as not yet said, but keeps what was learned, so that a file can be judged from its beginning.
    pub fn rewind(&mut self) {
        self.scorer.rewind();
    }

    /// Hears how much texts sound like failure by this committee from now on.
    pub fn appoint(&mut self, committee: Committee) {
        self.scorer.appoint(committee);
    }

    /// Counts of what was scored, and of incidents that are open.
    pub fn tally(&self) -> (score::Tally, usize) {
        (self.scorer.tally(), self.current().open_incidents())
    }

    /// What is worth a line in the log since the last call.
    pub fn drain_notes(&mut self) -> Vec<Note> {
        self.scorer.drain_notes()
    }

    /// An embedding that came after its batch was committed.
    pub fn supply(&mut self, template: &BatchTemplate, embedding: &Embedding) {
        let text = || Arc::clone(self.instead_of_text.as_ref().unwrap_or(&template.text));
        self.scorer.observe(template.key, text, Some(embedding), 0, 0);
        self.learn(template.key, embedding);
    }

    fn learn(&mut self, key: TemplateKey, embedding: &Embedding) {
        match &self.shared {
            Some(_) => self.learn_for_all(key, embedding),
            None => self.correlator.learn(key, embedding),
        }
    }

    /// Whether the template was said here.
    pub fn knows(&self, template: TemplateKey) -> bool {
        self.scorer.knows(template)
    }

    /// Judges by these opinions from the next record on.
    pub fn hold(&mut self, opinions: Opinions) {
        self.scorer.hold(opinions);
    }

    /// The scorer, to share what it knows with other agents.
    pub(in crate::engine) fn scorer(&mut self) -> &mut Scorer {
        &mut self.scorer
    }

    /// How much there is to look through for what others do not know yet.
    pub fn untold(&self) -> usize {
        self.scorer.untold()
    }

    /// Records seen here.
    pub fn records(&self) -> u64 {
        self.scorer.records()
    }

    /// Tells from now on what is learned here, and takes note of what others know, see [`Scorer::share`].
    pub fn share(&mut self, agent: u64) {
        self.scorer.share(agent, self.instead_of_text.is_none());
    }

    /// Takes note of what another agent knows.
    pub fn hear(&mut self, fact: Fact) -> HeardFact {
        let heard = self.scorer.hear(fact);
        if let Some((key, embedding)) = &heard.embedding {
            self.learn(*key, embedding);
        }
        heard
    }

    /// What feedback is about, looked up; nothing changes.
    ///
    /// # Errors
    /// A template that nobody said, an incident that is not open, or one of which no anomalous template is listed.
    pub fn understand(&self, subject: Subject, service: Option<&str>) -> Result<Meant, Refused> {
        match subject {
            Subject::Template(key) => {
                let text = self.scorer.text(key).ok_or(Refused::UnknownTemplate(key))?;
                Ok(Meant {
                    templates: vec![(key, text.to_string())],
                    incident: None,
                })
            }
            Subject::Incident(id) => {
                let incident = self.current().incident(id).ok_or(Refused::UnknownIncident(id))?;
                Meant::of(&incident, service)
            }
        }
    }

    /// Closes the open incident of this id or alias, because somebody said that it is none.
    pub fn dismiss(&mut self, incident: IncidentId) -> Option<Incident> {
        match &self.shared {
            Some(_) => self.dismiss_for_all(incident),
            None => self.correlator.dismiss(incident),
        }
    }

    /// Replays what the journal tells of what happened after the snapshot.
    pub fn replay(&mut self, event: &Event) {
        if self.instead_of_text.is_none() {
            return self.correlator.apply(event);
        }
        let mut event = event.clone();
        event.drop_text();
        self.correlator.apply(&event);
    }

    /// The id an incident goes by now: its own, or the one it was merged into.
    pub fn resolve(&self, incident: IncidentId) -> IncidentId {
        self.current().resolve(incident)
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
        self.drain_alone(Some(events), None);
        self.correlator.drain(events);
    }

    /// What there is to tell of incidents since the last call, in order.
    pub fn drain_changes(&mut self, changes: &mut Vec<Change>) {
        self.drain_alone(None, Some(changes));
        self.correlator.drain_changes(changes);
    }

    /// Open incidents, oldest first.
    pub fn incidents(&self) -> Vec<Incident> {
        self.current().incidents()
    }

    /// The open incident of this id, or that this is an alias of.
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        self.current().incident(id)
    }

    /// The templates that are remembered, in order of their keys.
    pub fn templates(&self) -> impl Iterator<Item = KnownTemplate> {
        self.scorer.known_templates()
    }

    /// Everything that a snapshot holds.
    pub fn export(&self) -> (ScorerState, CorrelatorState) {
        (self.scorer.export(), self.current().export())
    }

    /// The templates whose embeddings are known, in a fixed order.
    pub fn embeddings(&self) -> impl Iterator<Item = (TemplateKey, &Embedding)> {
        self.scorer.embeddings()
    }
}

/// A record as the correlator needs it, anomalous where a reason is given; `None` where it has no template.
#[inline]
fn node<'a>(
    batch: &'a Batch,
    embeddings: &'a [Option<Embedding>],
    record: &Observation,
    instead_of_text: Option<&'a Arc<str>>,
    max_delay_nano: u64,
    reason: Option<&'a str>,
) -> Option<Node<'a>> {
    let at = record.template()?;
    let template = batch.templates.get(at)?;
    Some(Node {
        time_unix_nano: record.time_unix_nano,
        service: &batch.services.get(record.service as usize)?.name,
        template: template.key,
        text: instead_of_text.unwrap_or(&template.text),
        embedding: embeddings.get(at).and_then(Option::as_ref),
        anomalous: reason.is_some(),
        severity_number: record.severity_number,
        ids: batch.ids_of(record),
        delayed: max_delay_nano > 0 && record.delay_nano > max_delay_nano,
        reason: reason.unwrap_or_default(),
    })
}
