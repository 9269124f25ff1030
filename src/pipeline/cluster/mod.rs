//! The agent among others: what it reports of its incidents, and what all report, between the engine and what carries it.
//!
//! What enters: what waits to be reported, from the state; entries and records of all agents, from the [`Cluster`]. What leaves: entries and
//! records; for requests that wait, that theirs was folded. Promises: normal records never wait, and no record longer than `deadline`: then,
//! and while the cluster is away, ids are this agent's own, and become aliases later; entries leave in their order, one after the
//! other, and what comes meanwhile goes into the next; nothing here can hold up or lose a record. Absent on purpose: Kafka (the edge's), and
//! what is an incident (the engine's).

mod following;
mod settings;
mod written;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{Incidents, Memory, fitting::Fitting, lock};
use crate::{
    edge::cluster::{Cluster, NotShared},
    engine::{
        correlate::Event,
        embed::Embedding,
        front::Batch,
        tenant::Tenant,
        tenants::{Committed, Shareable, Tenants},
        text::TemplateKey,
    },
    telemetry::Metrics,
};
use following::Following;
pub use settings::Settings;
use written::Pieces;

/// How often an agent tells that it is there, at least.
const PRESENT_EVERY: Duration = Duration::from_secs(1);
/// The wait before an entry is appended again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often what was learned is told, and how much was while all wait for that to be enough.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Records of the memory that are written at a time.
const AT_A_TIME: usize = 256;
/// How often it is written down how incidents stand.
const WRITE_DOWN_EVERY: Duration = Duration::from_secs(30);
/// How long the last entry may take when the agent stops.
const LAST_WORD: Duration = Duration::from_secs(2);

/// See the module.
pub struct Sharing {
    cluster: Arc<dyn Cluster>,
    deadline: Duration,
    state: Arc<Mutex<Tenants>>,
    memory: Arc<Memory>,
    incidents: Arc<Incidents>,
    fitting: Arc<Fitting>,
    metrics: Arc<Metrics>,
    /// There is something to report.
    due: Notify,
    /// How many times what waited was made entries that have been folded.
    read_back: watch::Sender<u64>,
    speaks: AtomicBool,
    caught_up: AtomicBool,
    /// The others were heard, or are long away: then this agent may train.
    knows_all: AtomicBool,
    failing: AtomicBool,
    remember: Box<Remember>,
    pieces: Mutex<Option<Pieces>>,
}

/// Takes the embedding of a template.
pub(super) type Remember = dyn Fn(TemplateKey, Embedding) + Send + Sync;

/// The agents whose incidents are this one's too.
pub struct Membership {
    /// What all of them share.
    pub cluster: Arc<dyn Cluster>,
    /// How this one is called among them.
    pub agent_id: String,
    /// How long a request waits for them.
    pub deadline: Duration,
}

/// What of the agent has to do with the others.
pub(super) struct Within {
    pub(super) state: Arc<Mutex<Tenants>>,
    pub(super) memory: Arc<Memory>,
    pub(super) incidents: Arc<Incidents>,
    pub(super) fitting: Arc<Fitting>,
    pub(super) metrics: Arc<Metrics>,
    /// Takes an embedding that another agent has made.
    pub(super) remember: Box<Remember>,
}

/// What runs as long as the agent is in its cluster.
pub struct Running {
    _tasks: JoinSet<()>,
    _reading: Box<dyn Send + Sync>,
}

impl Sharing {
    /// Joins, with embeddings of this version of the model.
    pub(super) fn new(membership: Membership, within: Within, started_unix_nano: u64, model_version: &str) -> Self {
        let Membership {
            cluster,
            agent_id,
            deadline,
        } = membership;
        let Within {
            state,
            memory,
            incidents,
            fitting,
            metrics,
            remember,
        } = within;
        {
            let mut state = lock(&state);
            state.join(&agent_id, started_unix_nano);
            state.share(&agent_id, model_version);
        }
        Self {
            cluster,
            deadline,
            state,
            memory,
            incidents,
            fitting,
            metrics,
            due: Notify::new(),
            read_back: watch::Sender::new(0),
            speaks: AtomicBool::new(true),
            caught_up: AtomicBool::new(false),
            knows_all: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            remember,
            pieces: Mutex::new(Some(Pieces::default())),
        }
    }

    /// Reads and writes from now on. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// What the cluster says.
    pub(super) fn start(self: &Arc<Self>) -> Result<Running, String> {
        let reading = self.cluster.follow(Arc::new(Following(Arc::clone(self))))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(self).report_for_ever());
        tasks.spawn(Arc::clone(self).tell_for_ever());
        tasks.spawn(Arc::clone(self).write_down_for_ever());
        Ok(Running {
            _tasks: tasks,
            _reading: reading,
        })
    }

    /// Whether this agent tells people of incidents: one does for all, and each one that is alone.
    pub(super) fn speaks(&self) -> bool {
        self.speaks.load(Ordering::Relaxed)
    }

    /// There is something to report.
    pub(super) fn report_soon(&self) {
        self.due.notify_one();
    }

    /// Gives the records of a batch that was committed their incidents, once those are folded, or when the time is over. What happened to
    /// incidents on the way.
    pub(super) async fn place(
        &self,
        (batch, embeddings): (&Batch, &[Option<Embedding>]),
        committed: &mut Committed,
        ticket: u64,
    ) -> Vec<(Tenant, Vec<Event>)> {
        self.report_soon();
        let begun = Instant::now();
        let mut read_back = self.read_back.subscribe();
        let in_time = timeout(self.deadline, read_back.wait_for(|read| *read >= ticket))
            .await
            .is_ok();
        self.metrics.cluster_wait_duration.record(begun.elapsed());
        let mut state = lock(&self.state);
        if !in_time {
            state.go_alone();
        }
        if state.is_alone() {
            self.metrics
                .cluster_alone_log_records
                .add(committed.verdicts.anomalies.len() as u64);
        }
        state.place(batch, embeddings, committed);
        self.tell(&mut state)
    }

    /// What happened to incidents: to the journal, and to whoever watches. Called while the state is locked.
    fn tell(&self, state: &mut Tenants) -> Vec<(Tenant, Vec<Event>)> {
        let events = state.drain_events();
        self.memory.journal(&events);
        self.speaks.store(state.speaks(), Ordering::Relaxed);
        self.incidents.tell(state.drain_changes());
        self.metrics.open_incidents.set(state.tally().1 as u64);
        self.metrics.cluster_alone.set(u64::from(state.is_alone()));
        let present = state.members().map_or(0, |members| members.present().count());
        self.metrics.cluster_members.set(present as u64);
        events
    }

    /// Takes note of what the others have seen, and trains if that makes it due: also an agent that gets no records itself.
    fn look_around(&self, state: &mut Tenants) {
        if self.knows_all.load(Ordering::Relaxed) {
            state.look_around();
            self.fitting.offer(state);
        }
    }

    async fn report_for_ever(self: Arc<Self>) {
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut present_at = Instant::now();
        loop {
            let ticked = tokio::select! {
                () = self.due.notified() => None,
                now = ticks.tick() => Some(now),
            };
            let entries = {
                let mut state = lock(&self.state);
                let is_time = ticked.is_some_and(|now| now >= present_at);
                if is_time || ticked.is_some() && state.is_to_train_first() {
                    self.look_around(&mut state);
                }
                let present = is_time || ticked.is_some() && state.has_warmed_up_further();
                match ticked {
                    Some(now) if present => present_at = now + PRESENT_EVERY,
                    Some(_) => continue,
                    None => {}
                }
                state.entries(present)
            };
            for (_, entry) in entries {
                self.append(Bytes::from(entry)).await;
            }
        }
    }

    /// Appends an entry, however long that takes: a later one must not be there before it.
    async fn append(&self, entry: Bytes) {
        loop {
            match self.cluster.append(entry.clone()).await {
                Ok(()) => {
                    self.metrics.cluster_entries_appended.add(1);
                    self.metrics.cluster_appended.add(entry.len() as u64);
                    self.failing.store(false, Ordering::Relaxed);
                    return;
                }
                Err(too_large @ NotShared::TooLarge { .. }) => {
                    tracing::error!("what this agent reports of incidents is passed over: {too_large}");
                    return;
                }
                Err(NotShared::Away(reason)) => {
                    self.metrics.cluster_failed_appends.add(1);
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            "the cluster takes no reports; incidents are this agent's own until it does: {reason}"
                        );
                    }
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// What was learned here, for all.
    async fn tell_for_ever(self: Arc<Self>) {
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut untold: Vec<Shareable> = Vec::new();
        loop {
            ticks.tick().await;
            if untold.is_empty() {
                untold = lock(&self.state).drain_knowledge(AT_A_TIME);
            }
            let told = untold.iter().map(|known| {
                let put = self
                    .cluster
                    .put(Bytes::from(known.key.clone()), Some(Bytes::from(known.record.clone())));
                async move { (known, put.await) }
            });
            let mut failed = Vec::new();
            for (known, outcome) in futures_util::future::join_all(told).await {
                match outcome {
                    Ok(()) => self.metrics.cluster_records_told.add(1),
                    Err(NotShared::Away(_)) => failed.push(known.clone()),
                    Err(too_large @ NotShared::TooLarge { .. }) => {
                        tracing::error!("something that was learned is not told to other agents: {too_large}");
                    }
                }
            }
            if !failed.is_empty() {
                sleep(AGAIN_AFTER).await;
            }
            untold = failed;
        }
    }

    async fn write_down_for_ever(self: Arc<Self>) {
        let mut ticks = interval(WRITE_DOWN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut latest, mut slot) = (None, false);
        loop {
            ticks.tick().await;
            let written = {
                let state = lock(&self.state);
                let may = self.caught_up.load(Ordering::Relaxed) && state.is_speaker();
                may.then(|| state.write_down()).flatten()
            };
            let Some((folded, bytes)) = written.filter(|(folded, _)| latest != Some(*folded)) else {
                continue;
            };
            // What was written before stays where it is until all of this is there, however often that is tried.
            match self.put_all(written::pieces(folded, &bytes, !slot)).await {
                Ok(()) => (latest, slot) = (Some(folded), !slot),
                Err(problem) => tracing::debug!(%problem, "cannot write down how incidents stand; tried again soon"),
            }
        }
    }

    async fn put_all(&self, records: Vec<(Bytes, Bytes)>) -> Result<(), NotShared> {
        for (key, record) in records {
            self.cluster.put(key, Some(record)).await?;
        }
        Ok(())
    }

    /// Reports what is left, at the end.
    pub(super) async fn finish(&self) {
        let entries = lock(&self.state).entries(true);
        let last = async {
            for (_, entry) in entries {
                let _ = self.cluster.append(Bytes::from(entry)).await;
            }
        };
        // Nobody waits for it: others wait for this agent ten seconds, and no longer.
        let _ = timeout(LAST_WORD, last).await;
    }

    fn pieces(&self) -> std::sync::MutexGuard<'_, Option<Pieces>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
