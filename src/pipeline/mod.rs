//! A request's way through the rooms: threads, deadlines and queues between pure functions.
//!
//! What enters: requests from receivers, through [`Intake`]. What leaves: the same bytes with verdicts, to the exporter;
//! the exporter's answer, to the caller. Promises: the caller's acknowledgement waits for the exporter's, which has sent the
//! records or has them on disk; whatever goes
//! wrong with a verdict, the records are delivered; opens and merges are in the journal before the records leave.
//! Absent on purpose: sockets and files (the edge's), and every judgement (the engine's).

pub mod cluster;
pub mod counted;
mod counting;
mod desk;
pub mod embedding;
pub mod events;
pub mod fan_out;
pub mod feedback;
mod fitting;
pub mod incidents;
pub mod items;
mod judged;
mod memory;
mod parts;
pub mod pass_through;
pub mod received;
pub mod recovery;
mod stopping;
pub mod telling;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use cluster::{Sharing, Within};
use fitting::Fitting;
use incidents::Incidents;
use judged::Judged;
use memory::Memory;
pub use parts::Parts;
use stopping::Stopping;

use crate::{
    edge::{BoxFuture, Exporter, Intake, Refusal, Request, now_unix_nano},
    engine::{
        self,
        correlate::{Event, Incident},
        embed::Embedding,
        front::{Batch, Front},
        score::{self, Committee, Phase},
        tenant::Tenant,
        tenants::{Committed, Note, Tenants},
        view::View,
    },
    telemetry::{Metrics, TRACEPARENT, Trace, Traces},
};
use embedding::Embeddings;

/// What is done with verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are written on the records.
    #[default]
    Mark,
    /// They are made and counted, and the records pass untouched.
    Shadow,
    /// None are made; the records pass untouched.
    Off,
}

/// The rooms, connected.
pub struct Pipeline {
    front: RwLock<Arc<Front>>,
    state: Arc<Mutex<Tenants>>,
    tenant_header: Option<String>,
    embeddings: Embeddings,
    fitting: Arc<Fitting>,
    memory: Arc<Memory>,
    incidents: Arc<Incidents>,
    exporter: Arc<dyn Exporter>,
    mode: AtomicU8,
    model_version: Arc<str>,
    started: Instant,
    started_unix_nano: u64,
    /// Of warm-up, before this process.
    records_seen_before: u64,
    stopping: Stopping,
    /// When the machine's clock went back last, and by how many seconds.
    clock_jump: Mutex<Option<(Instant, u64)>>,
    metrics: Arc<Metrics>,
    judged: Judged,
    traces: Traces,
    cluster: Option<(Arc<Sharing>, cluster::Running)>,
}

impl Pipeline {
    /// Connects the rooms and starts the threads for embedding and fitting.
    ///
    /// # Errors
    /// When the system refuses a thread, or the client of the cluster its settings.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let model_version = parts
            .embedder
            .as_ref()
            .map_or("", |embedder| embedder.model_version())
            .to_owned();
        let state = Arc::new(Mutex::new(parts.state));
        let started_unix_nano = now_unix_nano();
        let records_seen_before = match lock(&state).phase() {
            Phase::WarmingUp { records_seen, .. } => records_seen,
            _ => 0,
        };
        let incidents = Arc::new(Incidents::after(started_unix_nano / 1000));
        let memory = Arc::new(Memory::new(
            parts.store,
            parts.epoch,
            model_version.clone(),
            Arc::clone(&parts.metrics),
            Arc::clone(&incidents),
        ));
        let fitting = Arc::new(Fitting::start(
            Arc::clone(&state),
            Arc::clone(&memory),
            Arc::clone(&parts.metrics),
        )?);
        let late: Arc<embedding::Late> = {
            let (state, fitting) = (Arc::clone(&state), Arc::clone(&fitting));
            Arc::new(move |template, embedding| {
                let mut state = lock(&state);
                state.supply(template, embedding);
                fitting.offer(&mut state);
            })
        };
        let first: Arc<embedding::First> = {
            let state = Arc::clone(&state);
            Arc::new(move |embedder| {
                if !lock(&state).has_committee() {
                    let committee = Committee::embed(embedder)?;
                    lock(&state).appoint(committee);
                }
                Ok(())
            })
        };
        let embeddings = Embeddings::start(
            &parts.embedding,
            parts.embedder,
            Arc::clone(&parts.metrics),
            first,
            late,
        )?;
        for (template, embedding) in lock(&state).embeddings() {
            embeddings.remember(template, embedding.clone());
        }
        let cluster = parts.cluster.map(|membership| {
            let within = Within {
                state: Arc::clone(&state),
                memory: Arc::clone(&memory),
                incidents: Arc::clone(&incidents),
                fitting: Arc::clone(&fitting),
                metrics: Arc::clone(&parts.metrics),
                remember: Box::new(embeddings.keeper()),
            };
            let sharing = Arc::new(Sharing::new(membership, within, started_unix_nano, &model_version));
            let running = sharing.start().map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((sharing, running))
        });
        let pipeline = Self {
            cluster: cluster.transpose()?,
            front: RwLock::new(Arc::new(parts.front)),
            state,
            tenant_header: parts.tenant_header,
            embeddings,
            fitting,
            memory,
            incidents,
            exporter: parts.exporter,
            mode: AtomicU8::new(parts.mode as u8),
            model_version: Arc::from(model_version),
            started: Instant::now(),
            started_unix_nano,
            records_seen_before,
            stopping: Stopping::default(),
            clock_jump: Mutex::default(),
            judged: Judged::new(Arc::clone(&parts.metrics)),
            metrics: parts.metrics,
            traces: Traces::default(),
        };
        if let Err(problem) = pipeline.reread_feedback() {
            tracing::error!("no opinion is judged by until this is mended (then send SIGHUP): {problem}");
        }
        Ok(pipeline)
    }

    /// Traces what is received with a sampled trace.
    #[must_use]
    pub fn traced_by(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// What is done with verdicts from the next request on.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// Goes on by these settings, as far as they can change in a running engine; what is under way goes on as it began.
    pub fn adjust(&self, settings: &engine::Settings) {
        let front = Arc::new(self.front().adjusted(&settings.text));
        *self.front.write().unwrap_or_else(PoisonError::into_inner) = front;
        lock(&self.state).adjust(&settings.score, &settings.correlate);
    }

    fn front(&self) -> Arc<Front> {
        Arc::clone(&self.front.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is done with verdicts.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            0 => Mode::Mark,
            1 => Mode::Shadow,
            _ => Mode::Off,
        }
    }

    /// How far learning has come.
    pub fn phase(&self) -> Phase {
        lock(&self.state).phase()
    }

    /// Tenants that are told apart, and those of them that are judged.
    pub fn tenants(&self) -> (usize, usize) {
        lock(&self.state).count()
    }

    /// When warm-up will have seen enough records, at the rate so far; `None` when it has, or nothing has come yet.
    pub fn warm_up_estimate(&self) -> Option<Duration> {
        let Phase::WarmingUp {
            records_seen,
            records_needed,
            ..
        } = self.phase()
        else {
            return None;
        };
        let remaining = records_needed
            .checked_sub(records_seen)
            .filter(|remaining| *remaining > 0)?;
        // What a restored state had seen before took its own time.
        let seen_since = records_seen
            .checked_sub(self.records_seen_before)
            .filter(|since| *since > 0)?;
        let seconds_a_record = self.started.elapsed().as_secs_f64() / seen_since as f64;
        Duration::try_from_secs_f64(seconds_a_record * remaining as f64).ok()
    }

    /// What happens to incidents, to watch.
    pub fn incidents(&self) -> &Arc<Incidents> {
        &self.incidents
    }

    /// The open incidents that are large enough to be told.
    pub fn open_incidents(&self) -> Vec<(Tenant, Incident)> {
        let state = lock(&self.state);
        let of_tenant = state.incidents().flat_map(|(tenant, incidents)| {
            let announced = incidents.into_iter().filter(|incident| incident.announced);
            announced.map(|incident| (tenant.clone(), incident))
        });
        of_tenant.collect()
    }

    /// Whether this agent is to tell people of incidents: in a cluster one does for all.
    pub fn speaks(&self) -> bool {
        self.cluster.as_ref().is_none_or(|(sharing, _)| sharing.speaks())
    }

    /// Reports to the cluster what is left to report, at the end.
    pub async fn leave(&self) {
        if let Some((sharing, _)) = &self.cluster {
            sharing.finish().await;
        }
    }

    /// Whether there is a model and it works.
    pub fn model_healthy(&self) -> bool {
        self.embeddings.healthy()
    }

    /// A thread that should run for ever and does not, if there is one.
    pub fn dead_worker(&self) -> Option<&'static str> {
        if self.embeddings.is_dead() {
            return Some("embedding thread");
        }
        self.fitting.is_dead().then_some("training thread")
    }

    /// Requests in flight are answered now: their callers should send them again, to whoever is there then.
    pub fn give_up(&self) {
        self.stopping.give_up();
    }

    /// Incidents that have been silent long enough are over, also while nothing comes.
    pub fn pass_time(&self) {
        let passed = guarded("passing time", || {
            let mut state = lock(&self.state);
            state.pass(now_unix_nano());
            let events = state.drain_events();
            self.memory.journal(&events);
            self.incidents.tell(state.drain_changes());
            let (_, open_incidents) = state.tally();
            self.metrics.open_incidents.set(open_incidents as u64);
        });
        if passed.is_none() {
            tracing::error!("incidents that are silent stay open until the next record");
        }
    }

    /// Writes a snapshot now. Blocks on the disk.
    pub fn save(&self) {
        self.memory.save(&self.state);
    }

    async fn pass(&self, mut request: Request) -> Result<Bytes, Refusal> {
        let _in_flight = self.metrics.requests_in_flight.hold();
        let view = View::parse(&request.body).map_err(|malformed| Refusal::Malformed(malformed.to_string()))?;
        let records = view.len() as u64;
        self.metrics.processor_incoming_items.add(records);
        let marked = match self.mode() {
            Mode::Off => None,
            mode => self.judge(&view, &request, mode).await,
        };
        let body = marked.unwrap_or_else(|| {
            self.judged.bypass(&view);
            request.body.clone()
        });
        drop(view);
        self.metrics.processor_outgoing_items.add(records);
        // What came in is not kept while the destination takes its time.
        request.body = body;
        self.exporter.export(request).await
    }

    /// The request's bytes with verdicts; nothing where it is to go on as it came, be it that anything went wrong on the way.
    async fn judge(&self, view: &View<'_>, request: &Request, mode: Mode) -> Option<Bytes> {
        let trace = self.traces.of(request.metadata.values(TRACEPARENT).next());
        let front = self.front();
        let (batch, committed) = self.verdicts(&front, view, request, &trace).await?;
        if mode == Mode::Shadow {
            self.judged.count_shadow(&batch, &committed.verdicts);
            return None;
        }
        let annotate = || {
            let mut span = trace.step("processor/harbinger/annotate");
            let annotated = front.annotate(view, &batch, &committed.verdicts, &self.model_version);
            if let Ok(annotated) = &annotated {
                span.count("harbinger.request.bytes", annotated.bytes.len() as u64);
            }
            annotated
        };
        match guarded("marking", annotate) {
            Some(Ok(annotated)) => {
                self.metrics.replaced_attributes.add(annotated.conflicts);
                self.judged.count(&batch, &committed.verdicts);
                Some(Bytes::from(annotated.bytes))
            }
            Some(Err(mismatch)) => {
                tracing::error!(%mismatch, "verdicts do not fit their records; the records go on without");
                None
            }
            None => None,
        }
    }

    /// What is said of the request's records; nothing when a room failed.
    async fn verdicts(
        &self,
        front: &Front,
        view: &View<'_>,
        request: &Request,
        trace: &Trace,
    ) -> Option<(Batch, Committed)> {
        let caller = self
            .tenant_header
            .as_deref()
            .map(|header| Tenant::of_values(request.metadata.values(header)));
        let caller = caller.unwrap_or_default();
        let batch = {
            let mut span = trace.step("processor/harbinger/prepare");
            let batch = guarded("reading", || front.prepare_of(&caller, view, now_unix_nano()))?;
            span.count("harbinger.log_records", batch.records.len() as u64);
            span.count("harbinger.templates", batch.templates.len() as u64);
            batch
        };
        let fetched = {
            let mut span = trace.step("processor/harbinger/embed");
            // Half of the caller's time stays for the destination, however long the model may be waited for.
            let now = tokio::time::Instant::now();
            let latest = now + request.deadline.saturating_duration_since(now) / 2;
            let fetched = self.embeddings.fetch(&batch.templates, latest).await;
            if trace.is_sampled() {
                let missing = fetched.embeddings.iter().filter(|found| found.is_none()).count();
                span.count("harbinger.templates.missed", fetched.missed as u64);
                span.count("harbinger.templates.without_embedding", missing as u64);
                span.set("harbinger.waited_s", fetched.waited.as_secs_f64());
            }
            fetched
        };
        let mut span = trace.step("processor/harbinger/commit");
        let (mut committed, mut events, ticket) = guarded("judging", || self.commit(&batch, &fetched.embeddings))?;
        if let Some((sharing, _)) = self.cluster.as_ref().filter(|_| committed.waits) {
            let waiting = sharing.place((&batch, &fetched.embeddings), &mut committed, ticket);
            events.extend(waiting.await);
        }
        if !events.is_empty() {
            Arc::clone(&self.memory).sync_journal().await;
        }
        self.count(&batch, &committed, &events);
        if trace.is_sampled() {
            let incidents: BTreeSet<_> = committed.verdicts.incidents.iter().map(|(_, id)| *id).collect();
            span.count(
                "harbinger.anomalous_log_records",
                committed.verdicts.anomalies.len() as u64,
            );
            span.count("harbinger.incidents", incidents.len() as u64);
            span.set("harbinger.repeated", committed.repeated);
        }
        Some((batch, committed))
    }

    /// One short lock: learns, judges, journals, and starts the fit that has become due.
    fn commit(&self, batch: &Batch, embeddings: &[Option<Embedding>]) -> (Committed, Vec<(Tenant, Vec<Event>)>, u64) {
        let mut state = lock(&self.state);
        let (before, _) = state.tally();
        let mut committed = state.commit(batch, embeddings);
        if committed.waits && state.is_alone() {
            // Nobody is waited for.
            self.metrics
                .cluster_alone_log_records
                .add(committed.verdicts.anomalies.len() as u64);
            state.place(batch, embeddings, &mut committed);
        }
        let events = state.drain_events();
        // Under the lock, so that the journal has the order of the commits.
        self.memory.journal(&events);
        let changes = state.drain_changes();
        self.count_changes(&changes);
        self.incidents.tell(changes);
        for note in state.drain_notes() {
            self.metrics
                .drift_alarms
                .add(u64::from(matches!(note, Note::Of(_, score::Note::Drift))));
            if let Note::ClockWentBack { by_s } = note {
                self.metrics.clock_jumps_back.add(1);
                *self.clock_jump.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), by_s));
            }
            tracing::warn!("{note}");
        }
        self.count_since(before, &state);
        self.fitting.offer(&mut state);
        let ticket = state.ticket();
        (committed, events, ticket)
    }
}

impl Intake for Pipeline {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.stopping.answer(self.pass(request)))
    }
}

fn lock(state: &Mutex<Tenants>) -> MutexGuard<'_, Tenants> {
    // A panic while the state was held is a bug of the engine; what it left is still better than a stopped pipeline.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The model never stops a log, not even by a bug: a panic in a room costs the verdicts of one request.
fn guarded<T>(step: &str, work: impl FnOnce() -> T) -> Option<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!(
            step,
            "a panic in the engine; the records of this request go on without verdicts"
        );
    }
    outcome.ok()
}
