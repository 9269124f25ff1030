//! Gets embeddings for templates without ever holding a log up: memo first, then a bounded queue to embedding threads.
//!
//! What enters: the templates of a request and a deadline. What leaves: their embeddings, or their absence.
//! Promises: one embedding per template however many requests ask for it at once (single flight); the queue is bounded;
//! nobody waits past the deadline; an embedding that comes after somebody gave up is handed to `late`; a failing or
//! panicking model costs verdicts, never a thread; a model that hangs is known to hang, is not waited for by requests, and
//! does not keep the agent from ending. Absent on purpose: retries (the next sight of a template asks again), and ending a
//! call into the model, which nobody can.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

use crate::{
    engine::{
        embed::{Embedder, Embedding, Memo},
        front::BatchTemplate,
        text::TemplateKey,
    },
    telemetry::Metrics,
};

/// Texts given to the model at once.
const BATCH_SIZE: usize = 32;

/// A call into the model that takes longer than this many deadlines hangs: 10 s by default.
const HANGS_AFTER_DEADLINES: u32 = 40;
/// How long the end waits for a call into the model. The runtime should not be taken down under one.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How embeddings are waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a request waits for embeddings before it goes on with a degraded verdict.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub deadline: Duration,
    /// Templates that may wait for the model; beyond it the verdict degrades at once.
    pub max_queue: usize,
    /// Templates whose embeddings are kept at hand.
    pub memo_capacity: usize,
    /// Threads that run the model.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(250),
            max_queue: 4096,
            memo_capacity: 65_536,
            threads: 1,
        }
    }
}

/// Called with an embedding that somebody no longer waits for.
pub type Late = dyn Fn(&BatchTemplate, &Embedding) + Send + Sync;

/// What there is for the templates of a request.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The embedding of each, `None` if the model is missing, failing, overloaded or too slow.
    pub embeddings: Vec<Option<Embedding>>,
    /// Templates that were not in the memo.
    pub missed: usize,
    /// How long the request waited for those.
    pub waited: Duration,
}

/// One template on its way through the model.
#[derive(Debug, Default)]
struct Flight {
    /// Set once; `None` inside means that the model failed.
    outcome: OnceLock<Option<Embedding>>,
    landed: Notify,
    somebody_gave_up: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(BatchTemplate, Arc<Flight>)>,
    in_flight: HashMap<TemplateKey, Arc<Flight>>,
    /// When each thread that is in the model went into it.
    calls: BTreeMap<usize, std::time::Instant>,
    /// Threads that have not ended.
    running: usize,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    ended: Condvar,
    memo: Memo,
    max_queue: usize,
    failing: AtomicBool,
    hanging: AtomicBool,
    hangs_after: Duration,
    metrics: Arc<Metrics>,
}

/// The queue in front of the model. Dropping it forgets what waits, and ends once the batch in the model is done.
pub struct Embeddings {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
    deadline: Duration,
}

impl Embeddings {
    /// Starts the embedding threads; without an embedder every template that is not in the memo stays without embedding.
    pub fn start(
        settings: &Settings,
        embedder: Option<Arc<dyn Embedder>>,
        metrics: Arc<Metrics>,
        late: Arc<Late>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            memo: Memo::new(settings.memo_capacity),
            max_queue: settings.max_queue,
            failing: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            hangs_after: settings.deadline.saturating_mul(HANGS_AFTER_DEADLINES),
            metrics,
        });
        let mut threads = Vec::new();
        if let Some(embedder) = embedder {
            for index in 0..settings.threads.max(1) {
                let (shared, embedder, late) = (Arc::clone(&shared), Arc::clone(&embedder), Arc::clone(&late));
                let thread = thread::Builder::new().name(format!("embedding-{index}"));
                shared.lock().running += 1;
                threads.push(thread.spawn(move || {
                    shared.work(index, &*embedder, &*late);
                    shared.lock().running -= 1;
                    shared.ended.notify_all();
                })?);
            }
        }
        Ok(Self {
            shared,
            threads,
            deadline: settings.deadline,
        })
    }

    /// Puts an embedding known from elsewhere (a snapshot) at hand.
    pub fn remember(&self, key: TemplateKey, embedding: Embedding) {
        self.shared.memo.insert(key, embedding);
    }

    fn has_model(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Whether there is a model, its last call succeeded, and none hangs.
    pub fn healthy(&self) -> bool {
        self.has_model() && !self.shared.failing.load(Ordering::Relaxed) && !self.shared.hangs()
    }

    /// Whether a thread has ended, which only a bug can bring about.
    pub fn is_dead(&self) -> bool {
        self.threads.iter().any(thread::JoinHandle::is_finished)
    }

    /// The embeddings of `templates`, as far as there are any in time.
    pub async fn fetch(&self, templates: &[BatchTemplate], latest: Instant) -> Fetched {
        let mut found: Vec<Option<Embedding>> = templates
            .iter()
            .map(|template| self.shared.memo.get(template.key))
            .collect();
        let missed = found.iter().filter(|found| found.is_none()).count();
        if !self.has_model() || missed == 0 {
            return Fetched {
                embeddings: found,
                missed,
                waited: Duration::ZERO,
            };
        }
        let began = Instant::now();
        let flights = self.board(templates, &found);
        // What hangs is not waited for, or each request with a new template would be late.
        let patience = if self.shared.hangs() {
            Duration::ZERO
        } else {
            self.deadline
        };
        let deadline = latest.min(Instant::now() + patience);
        for (slot, flight) in found.iter_mut().zip(flights) {
            if let Some(flight) = flight {
                *slot = flight.outcome_by(deadline).await;
            }
        }
        let waited = began.elapsed();
        self.shared.metrics.embedding_wait_duration.record(waited);
        Fetched {
            embeddings: found,
            missed,
            waited,
        }
    }

    /// A flight for every template that is not in the memo, as far as the queue has room.
    fn board(&self, templates: &[BatchTemplate], found: &[Option<Embedding>]) -> Vec<Option<Arc<Flight>>> {
        let mut queue = self.shared.lock();
        let mut overflow = 0;
        let flights = templates
            .iter()
            .zip(found)
            .map(|(template, found)| {
                if found.is_some() {
                    return None;
                }
                if let Some(flight) = queue.in_flight.get(&template.key) {
                    return Some(Arc::clone(flight));
                }
                if queue.in_flight.len() >= self.shared.max_queue {
                    overflow += 1;
                    return None;
                }
                let flight = Arc::new(Flight::default());
                queue.in_flight.insert(template.key, Arc::clone(&flight));
                queue.waiting.push_back((template.clone(), Arc::clone(&flight)));
                Some(flight)
            })
            .collect();
        drop(queue);
        self.shared.metrics.embedding_queue_overflow_templates.add(overflow);
        self.shared.work.notify_all();
        flights
    }
}

impl Drop for Embeddings {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.waiting.clear();
        self.shared.work.notify_all();
        // Whatever this ends with: there is nothing more to be done about a call that hangs.
        let _ = self
            .shared
            .ended
            .wait_timeout_while(queue, LAST_CALL, |queue| queue.running > 0);
    }
}

impl Flight {
    async fn outcome_by(&self, deadline: Instant) -> Option<Embedding> {
        let landed = self.landed.notified();
        tokio::pin!(landed);
        landed.as_mut().enable();
        if self.outcome.get().is_none() && tokio::time::timeout_at(deadline, landed).await.is_err() {
            // Tell first, look after: the embedding thread sets the outcome first and looks for this mark after.
            self.somebody_gave_up.store(true, Ordering::SeqCst);
        }
        self.outcome.get().cloned().flatten()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is consistent between statements: a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call into the model takes so long that it will hardly come back. Counts and says it once.
    fn hangs(&self) -> bool {
        let hangs = self
            .lock()
            .calls
            .values()
            .any(|since| since.elapsed() > self.hangs_after);
        if hangs && !self.hanging.swap(true, Ordering::Relaxed) {
            self.metrics.embedding_hangs.add(1);
            tracing::error!(
                after_s = self.hangs_after.as_secs_f64(),
                "the model hangs: records with new texts go on with harbinger.verdict=degraded; restart the agent if it stays so"
            );
        } else if !hangs && self.hanging.swap(false, Ordering::Relaxed) {
            tracing::info!("the model answers again");
        }
        hangs
    }

    /// Life of an embedding thread.
    fn work(&self, index: usize, embedder: &dyn Embedder, late: &Late) {
        while let Some(batch) = self.next_batch() {
            let texts: Vec<&str> = batch.iter().map(|(template, _)| &*template.text).collect();
            self.lock().calls.insert(index, std::time::Instant::now());
            let embeddings = self.embed(embedder, &texts);
            self.lock().calls.remove(&index);
            for (index, (template, flight)) in batch.iter().enumerate() {
                let embedding = embeddings.as_ref().and_then(|all| all.get(index)).cloned();
                if let Some(embedding) = &embedding {
                    self.memo.insert(template.key, embedding.clone());
                }
                self.lock().in_flight.remove(&template.key);
                // Only this thread holds the flight's place in the queue, so the outcome is set once.
                let _ = flight.outcome.set(embedding.clone());
                flight.landed.notify_waiters();
                if let Some(embedding) = &embedding
                    && flight.somebody_gave_up.load(Ordering::SeqCst)
                {
                    self.metrics.embedding_late_templates.add(1);
                    if catch_unwind(AssertUnwindSafe(|| late(template, embedding))).is_err() {
                        tracing::error!("a panic in the engine; an embedding that came late is lost");
                    }
                }
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<(BatchTemplate, Arc<Flight>)>> {
        let mut queue = self.lock();
        loop {
            if !queue.waiting.is_empty() {
                let size = queue.waiting.len().min(BATCH_SIZE);
                return Some(queue.waiting.drain(..size).collect());
            }
            if queue.closed {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn embed(&self, embedder: &dyn Embedder, texts: &[&str]) -> Option<Vec<Embedding>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| embedder.embed(texts)));
        let problem = match outcome {
            Ok(Ok(embeddings)) if embeddings.len() == texts.len() => {
                self.failing.store(false, Ordering::Relaxed);
                self.metrics.embedding_templates.add(texts.len() as u64);
                return Some(embeddings);
            }
            Ok(Ok(embeddings)) => format!("{} embeddings for {} texts", embeddings.len(), texts.len()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the model panicked".to_owned(),
        };
        self.metrics.embedding_failed_templates.add(texts.len() as u64);
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%problem, "the model fails: records go on with harbinger.verdict=degraded");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn known_loss_a_thread_that_is_dead_is_told_of() {
        let late: Arc<Late> = Arc::new(|_, _| {});
        let mut embeddings = Embeddings::start(&Settings::default(), None, Arc::default(), late).unwrap();
        assert!(!embeddings.is_dead());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        embeddings.threads.push(thread::spawn(move || drop(end)));
        let _ = ended.recv();
        while !embeddings.is_dead() {
            thread::yield_now();
        }
    }
}
