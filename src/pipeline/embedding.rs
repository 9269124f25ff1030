//! Gets embeddings for templates without ever holding a log up: memo first, then a bounded queue to embedding threads.
//!
//! What enters: the templates of a request and a deadline. What leaves: their embeddings, or their absence.
//! Promises: one embedding per template however many requests ask for it at once (single flight); the queue is bounded;
//! nobody waits past the deadline, nor at all where the model is behind by more than that; an embedding that comes after
//! somebody gave up is handed to `late`; a failing or panicking model costs verdicts, never a thread; a model that hangs is
//! known to hang, is not waited for by requests, and does not keep the agent from ending. A flood of new templates takes no more CPU than its share ([`allowance`]), and none that the
//! threads of the logs want: those that run the model are nice, and hold nothing that others wait for, since another thread,
//! which is not, takes their embeddings from them. Absent on purpose: retries (the next sight of a template asks again), and
//! ending a call into the model, which nobody can.

mod allowance;
mod pace;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use allowance::Allowance;
use pace::Pace;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

use crate::{
    engine::{
        embed::{EmbedError, Embedder, Embedding, Memo},
        front::BatchTemplate,
        text::TemplateKey,
    },
    telemetry::Metrics,
};

/// Templates that a thread takes from the queue at once, oldest first. Of so many a fair number have the same length, and
/// go through the model together.
const WINDOW: usize = 256;

/// What threads that embed or train add to their nice value: where CPUs are short, a thread of the logs gets three times
/// as much. With 10, nine times, the first training outlasted a minute's replay on a machine that others kept busy.
pub(super) const NICENESS: i32 = 5;

/// A call into the model that takes longer than this many deadlines hangs: 10 s by default.
const HANGS_AFTER_DEADLINES: u32 = 40;
/// How long the end waits for a call into the model. The runtime should not be taken down under one.
const LAST_CALL: Duration = Duration::from_secs(1);
/// The same while the model is being made ready, which is known to end.
const FIRST_CALL: Duration = Duration::from_secs(10);

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
    /// Share of the CPUs there are that those threads may take for longer than a burst.
    pub cpu_limit_percentage: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(250),
            max_queue: 4096,
            memo_capacity: 65_536,
            threads: 1,
            cpu_limit_percentage: 50,
        }
    }
}

/// Done once, by an embedding thread, before the model gets its first template.
pub type First = dyn Fn(&dyn Embedder) -> Result<(), EmbedError> + Send + Sync;

/// Called with an embedding that somebody no longer waits for.
pub type Late = dyn Fn(&BatchTemplate, &Embedding) + Send + Sync;

/// A template that has been through the model, and its embedding, unless the model failed.
type Outcome = (BatchTemplate, Arc<Flight>, Option<Embedding>);

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

/// A template that waits for the model, or has been through it.
type Waiting = (BatchTemplate, Arc<Flight>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
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
    /// How many embedding threads there are to share what waits.
    threads: usize,
    allowance: Allowance,
    pace: Pace,
    /// Set once the model was made ready.
    ready: OnceLock<()>,
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
        first: Arc<First>,
        late: Arc<Late>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            memo: Memo::new(settings.memo_capacity),
            max_queue: settings.max_queue,
            threads: settings.threads.max(1),
            allowance: Allowance::new(
                settings.cpu_limit_percentage,
                thread::available_parallelism().map_or(1, usize::from),
                std::time::Instant::now(),
            ),
            pace: Pace::default(),
            ready: OnceLock::new(),
            failing: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            hangs_after: settings.deadline.saturating_mul(HANGS_AFTER_DEADLINES),
            metrics,
        });
        let mut threads = Vec::new();
        if let Some(embedder) = embedder {
            let (landing, landed) = mpsc::channel();
            for index in 0..shared.threads {
                let (embedder, landing, first) = (Arc::clone(&embedder), landing.clone(), Arc::clone(&first));
                let work = move |shared: &Shared| {
                    shared.ready.get_or_init(|| shared.make_ready(&*embedder, &*first));
                    shared.work(index, &*embedder, &landing);
                };
                threads.push(shared.spawn(&format!("embedding-{index}"), work)?);
            }
            threads.push(shared.spawn("embedded", move |shared: &Shared| {
                for (template, flight, embedding) in landed {
                    shared.land(&template, &flight, embedding, &*late);
                }
            })?);
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

    /// The same, for who outlives this borrow.
    pub fn keeper(&self) -> impl Fn(TemplateKey, Embedding) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |key, embedding| shared.memo.insert(key, embedding)
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
        let (ahead, flights) = self.board(templates, &found);
        // What hangs, or is behind more than the deadline has room for, is not waited for: each request with a new template would be
        // late, and for nothing.
        let patience = if self.shared.hangs() || self.shared.pace.takes(ahead, self.shared.threads) > self.deadline {
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

    /// A flight for every template that is not in the memo, as far as the queue has room; and how many were ahead of them.
    fn board(&self, templates: &[BatchTemplate], found: &[Option<Embedding>]) -> (usize, Vec<Option<Arc<Flight>>>) {
        let mut queue = self.shared.lock();
        let ahead = queue.in_flight.len();
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
        (ahead, flights)
    }
}

impl Drop for Embeddings {
    fn drop(&mut self) {
        let patience = match self.shared.ready.get() {
            Some(()) => LAST_CALL,
            None => FIRST_CALL,
        };
        let mut queue = self.shared.lock();
        queue.closed = true;
        queue.waiting.clear();
        self.shared.work.notify_all();
        // Whatever this ends with: there is nothing more to be done about a call that hangs.
        let _ = self
            .shared
            .ended
            .wait_timeout_while(queue, patience, |queue| queue.running > 0);
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

    fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Self) + Send + 'static,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let shared = Arc::clone(self);
        self.lock().running += 1;
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            work(&shared);
            shared.lock().running -= 1;
            shared.ended.notify_all();
        })
    }

    fn make_ready(&self, embedder: &dyn Embedder, first: &First) {
        let problem = match catch_unwind(AssertUnwindSafe(|| first(embedder))) {
            Ok(Ok(())) => return,
            Ok(Err(problem)) => problem.to_string(),
            Err(_) => "the model panicked".to_owned(),
        };
        self.failing.store(true, Ordering::Relaxed);
        tracing::error!("no text will sound like failure: {problem}");
    }

    /// Life of an embedding thread.
    fn work(&self, index: usize, embedder: &dyn Embedder, landing: &mpsc::Sender<Outcome>) {
        // Refused nowhere we know of; without it there is still the limit.
        let _ = rustix::process::nice(NICENESS);
        while let Some(window) = self.next_window() {
            self.embed(index, embedder, window, landing);
        }
    }

    /// What has waited longest; with several threads no more than this one's part.
    fn next_window(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.lock();
        loop {
            if !queue.waiting.is_empty() {
                let size = queue.waiting.len().div_ceil(self.threads).min(WINDOW);
                return Some(queue.waiting.drain(..size).collect());
            }
            if queue.closed {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends every template of the window on, with its embedding or without.
    fn embed(&self, index: usize, embedder: &dyn Embedder, window: Vec<Waiting>, landing: &mpsc::Sender<Outcome>) {
        let texts: Vec<Arc<str>> = window.iter().map(|(template, _)| Arc::clone(&template.text)).collect();
        let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
        let mut window: Vec<Option<Waiting>> = window.into_iter().map(Some).collect();
        let land = |waiting: Option<Waiting>, embedding: Option<Embedding>| {
            if let Some((template, flight)) = waiting {
                // Who takes them ends after us.
                let _ = landing.send((template, flight, embedding));
            }
        };
        let mut before = cpu_time();
        let mut began = std::time::Instant::now();
        self.lock().calls.insert(index, std::time::Instant::now());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            embedder.embed_in_parts(&texts, &mut |part| {
                self.lock().calls.remove(&index);
                self.failing.store(false, Ordering::Relaxed);
                self.metrics.embedding_templates.add(part.len() as u64);
                let landed = part.len();
                for (place, embedding) in part {
                    land(window.get_mut(place).and_then(Option::take), Some(embedding));
                }
                let goes_on = self.rest(cpu_time().saturating_sub(before));
                before = cpu_time();
                self.pace.took(landed, began.elapsed());
                began = std::time::Instant::now();
                self.lock().calls.insert(index, std::time::Instant::now());
                goes_on
            })
        }));
        self.lock().calls.remove(&index);
        let left: Vec<Waiting> = window.into_iter().flatten().collect();
        let problem = match outcome {
            Ok(Ok(())) if left.is_empty() || self.lock().closed => None,
            Ok(Ok(())) => Some(format!("no embeddings for {} of {} texts", left.len(), texts.len())),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the model panicked".to_owned()),
        };
        if let Some(problem) = problem {
            self.metrics.embedding_failed_templates.add(left.len() as u64);
            if !self.failing.swap(true, Ordering::Relaxed) {
                tracing::error!(%problem, "the model fails: records go on with harbinger.verdict=degraded");
            }
        }
        for waiting in left {
            land(Some(waiting), None);
        }
    }

    /// Rests as the limit demands, or until the end.
    fn rest(&self, spent: Duration) -> ControlFlow<()> {
        let rest = self.allowance.spend(spent, std::time::Instant::now());
        let mut queue = self.lock();
        if !rest.is_zero() {
            let rested = self.work.wait_timeout_while(queue, rest, |queue| !queue.closed);
            queue = rested.unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.closed {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Tells who waits for a template.
    fn land(&self, template: &BatchTemplate, flight: &Flight, embedding: Option<Embedding>, late: &Late) {
        if let Some(embedding) = &embedding {
            self.memo.insert(template.key, embedding.clone());
        }
        self.lock().in_flight.remove(&template.key);
        // Only the thread that took it from the queue sends it here, so the outcome is set once.
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

/// What the calling thread has had of a CPU.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::embed::DIMENSIONS;

    /// Notes what it is asked, in order.
    #[derive(Default)]
    struct Noting(Mutex<Vec<String>>);

    impl Embedder for Noting {
        fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
            let mut asked = self.0.lock().unwrap();
            asked.extend(texts.iter().map(|text| (*text).to_owned()));
            let axis = || (0..DIMENSIONS).map(|at| f32::from(at == 0)).collect();
            Ok(texts.iter().map(|_| Embedding::new(axis()).unwrap()).collect())
        }

        fn model_version(&self) -> &str {
            "noting"
        }
    }

    /// Answers when it is told to.
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl Embedder for Stuck {
        fn embed(&self, _: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
            let _ = self.0.lock().unwrap().recv();
            Err(EmbedError::Failed("it was stuck".into()))
        }

        fn model_version(&self) -> &str {
            "stuck"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_more_than_the_deadline_has_room_for() {
        let (go_on, told) = mpsc::channel();
        let model: Option<Arc<dyn Embedder>> = Some(Arc::new(Stuck(Mutex::new(told))));
        let ready: Arc<First> = Arc::new(|_| Ok(()));
        let settings = Settings::default();
        let embeddings = Embeddings::start(&settings, model, Arc::default(), ready, Arc::new(|_, _| {})).unwrap();
        let fetch = async |key: u64| {
            let template = BatchTemplate {
                key: TemplateKey(key),
                text: Arc::from("a template"),
                records: 1,
            };
            let fetched = embeddings
                .fetch(&[template], Instant::now() + Duration::from_secs(60))
                .await;
            assert_eq!(fetched.embeddings, [None]);
            fetched.waited
        };
        assert_eq!(
            fetch(1).await,
            settings.deadline,
            "nothing is known of the model's pace"
        );
        embeddings.shared.pace.took(1, settings.deadline / 2);
        assert_eq!(fetch(2).await, settings.deadline, "one ahead leaves time");
        embeddings.shared.pace.took(1, settings.deadline * 4);
        assert_eq!(fetch(3).await, Duration::ZERO, "two ahead take too long");
        drop(go_on);
    }

    #[tokio::test]
    async fn the_model_is_made_ready_once_before_any_thread_gets_a_template() {
        let model = Arc::new(Noting::default());
        let first: Arc<First> = Arc::new(|model| model.embed(&["made ready"]).map(drop));
        let settings = Settings {
            deadline: Duration::from_secs(60),
            threads: 3,
            ..Settings::default()
        };
        let embedder = Some(Arc::clone(&model) as Arc<dyn Embedder>);
        let embeddings = Embeddings::start(&settings, embedder, Arc::default(), first, Arc::new(|_, _| {})).unwrap();
        let template = BatchTemplate {
            key: TemplateKey(1),
            text: Arc::from("a template"),
            records: 1,
        };
        let fetched = embeddings
            .fetch(&[template], Instant::now() + Duration::from_secs(60))
            .await;
        assert!(fetched.embeddings.iter().all(Option::is_some));
        assert_eq!(*model.0.lock().unwrap(), ["made ready", "a template"]);
    }

    #[test]
    fn known_loss_a_thread_that_is_dead_is_told_of() {
        let (first, late): (Arc<First>, Arc<Late>) = (Arc::new(|_| Ok(())), Arc::new(|_, _| {}));
        let mut embeddings = Embeddings::start(&Settings::default(), None, Arc::default(), first, late).unwrap();
        assert!(!embeddings.is_dead());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        embeddings.threads.push(thread::spawn(move || drop(end)));
        let _ = ended.recv();
        while !embeddings.is_dead() {
            thread::yield_now();
        }
    }
}
