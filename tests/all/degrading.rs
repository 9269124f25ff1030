//! Guarantees that the model never stops a log: an embedder that hangs, crashes or talks nonsense, a disk that cannot be
//! written, a clock that goes back. Each time records flow unharmed, the verdict degrades, and metric and health say so;
//! and each time all is well again once the cause is gone.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use harbinger::{
    edge::{BoxFuture, Exporter, Refusal, Request, Store},
    engine::{
        self,
        embed::{EmbedError, Embedder, Embedding},
        score::Committee,
        tenants::Tenants,
        view::View,
    },
    pipeline::{Mode, Parts, Pipeline, embedding},
    telemetry::Metrics,
};

use super::{
    end_to_end::{Sink, attribute, healthy, request, send, warm_up},
    words::Words,
};

/// What the model does with the next call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Panics,
    Short,
    Hangs,
}

/// The model for tests, in one mood after another.
struct Moody {
    mood: Mutex<Mood>,
    changed: Condvar,
    /// Told when a call hangs.
    hanging: mpsc::Sender<()>,
}

impl Moody {
    fn new() -> (Arc<Self>, mpsc::Receiver<()>) {
        let (hanging, hangs) = mpsc::channel();
        let (mood, changed) = (Mutex::new(Mood::Well), Condvar::new());
        (Arc::new(Self { mood, changed, hanging }), hangs)
    }

    fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }
}

impl Embedder for Moody {
    fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, EmbedError> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Words.embed(texts),
            Mood::Panics => panic!("told to"),
            Mood::Short => Words.embed(&texts[1..]),
            Mood::Hangs => {
                let _ = self.hanging.send(());
                let hung = self.mood.lock().unwrap();
                drop(self.changed.wait_while(hung, |mood| *mood == Mood::Hangs).unwrap());
                Words.embed(texts)
            }
        }
    }

    fn model_version(&self) -> &str {
        Words.model_version()
    }
}

struct Agent {
    pipeline: Arc<Pipeline>,
    sink: Arc<Sink>,
    metrics: Arc<Metrics>,
}

fn agent(embedder: Arc<dyn Embedder>, store: Option<Arc<dyn Store>>, deadline: Duration) -> Agent {
    let mut state = engine::Settings::default().tenants();
    state.appoint(Committee::embed(&Words).unwrap());
    agent_with(state, embedder, store, deadline)
}

fn agent_with(state: Tenants, embedder: Arc<dyn Embedder>, store: Option<Arc<dyn Store>>, deadline: Duration) -> Agent {
    let settings = engine::Settings::default();
    let (sink, metrics) = (Arc::new(Sink::default()), Arc::new(Metrics::default()));
    let parts = Parts {
        front: settings.front(),
        state,
        tenant_header: None,
        embedder: Some(embedder),
        embedding: embedding::Settings {
            deadline,
            ..Default::default()
        },
        mode: Mode::Mark,
        exporter: Arc::clone(&sink) as Arc<dyn Exporter>,
        store,
        epoch: 0,
        cluster: None,
        metrics: Arc::clone(&metrics),
    };
    let pipeline = Arc::new(Pipeline::start(parts).unwrap());
    Agent {
        pipeline,
        sink,
        metrics,
    }
}

/// Sends records of a kind that was never said, and says whether their verdict was degraded; they arrive in any case.
async fn is_degraded(agent: &Agent, second: u64, kind: &str) -> bool {
    let before = agent.sink.records().len();
    let bodies = [
        format!("{kind} went round the corner"),
        format!("{kind} came back again"),
    ];
    send(&agent.pipeline, request(second, &bodies)).await.unwrap();
    let records = agent.sink.records();
    assert_eq!(records.len(), before + 2);
    let of = |index: usize| attribute(&records[before + index], "harbinger.verdict").is_some();
    assert_eq!(of(0), of(1));
    of(0)
}

/// Waits until health says this of the model.
async fn until_healthy(agent: &Agent, healthy: bool) {
    let said = async {
        while agent.pipeline.model_healthy() != healthy {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_crashes_or_talks_nonsense_costs_verdicts_only() {
    let (model, _hangs) = Moody::new();
    let agent = agent(model.clone(), None, Duration::from_secs(60));
    warm_up(&agent.pipeline).await;
    assert!(!is_degraded(&agent, 30, "an elephant").await);
    for (second, (mood, kind)) in (40..).zip([(Mood::Panics, "a zebra"), (Mood::Short, "a giraffe")]) {
        model.turn(mood);
        let failed = agent.metrics.embedding_failed_templates.get();
        assert!(is_degraded(&agent, second, kind).await, "{mood:?}");
        assert!(agent.metrics.embedding_failed_templates.get() > failed);
        assert!(!agent.pipeline.model_healthy());
        assert_eq!(
            agent.pipeline.dead_worker(),
            None,
            "a model's panic is no worker's death"
        );
        model.turn(Mood::Well);
        assert!(!is_degraded(&agent, second, &format!("the sister of {kind}")).await);
        assert!(agent.pipeline.model_healthy());
    }
}

/// The first call, by which the committee is embedded, stands for loading: it takes as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_being_loaded_holds_no_log_up() {
    let (model, hangs) = Moody::new();
    model.turn(Mood::Hangs);
    let state = engine::Settings::default().tenants();
    let agent = agent_with(state, model.clone(), None, Duration::from_millis(20));
    tokio::task::spawn_blocking(move || hangs.recv().unwrap())
        .await
        .unwrap();
    assert!(is_degraded(&agent, 30, "an elephant").await);
    assert_eq!(agent.metrics.embedding_templates.get(), 0);
    assert!(agent.pipeline.model_healthy(), "it is no failure to be loaded");
    model.turn(Mood::Well);
    warm_up(&agent.pipeline).await;
    assert!(agent.metrics.embedding_templates.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs_is_known_to_hang_and_is_not_waited_for() {
    let (model, hangs) = Moody::new();
    // Forty deadlines make a hang.
    let agent = agent(model.clone(), None, Duration::from_millis(20));
    model.turn(Mood::Hangs);
    assert!(is_degraded(&agent, 30, "an elephant").await);
    tokio::task::spawn_blocking(move || hangs.recv().unwrap())
        .await
        .unwrap();
    until_healthy(&agent, false).await;
    assert_eq!(agent.metrics.embedding_hangs.get(), 1);
    assert!(agent.pipeline.describe().contains("degraded"));
    assert!(is_degraded(&agent, 31, "a zebra").await);
    model.turn(Mood::Well);
    until_healthy(&agent, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_hangs_does_not_keep_the_agent_from_ending() {
    let (model, hangs) = Moody::new();
    let agent = agent(model.clone(), None, Duration::from_millis(20));
    model.turn(Mood::Hangs);
    assert!(is_degraded(&agent, 30, "an elephant").await);
    tokio::task::spawn_blocking(move || hangs.recv().unwrap())
        .await
        .unwrap();
    // Returns, although the call never does.
    tokio::task::spawn_blocking(move || drop(agent)).await.unwrap();
    model.turn(Mood::Well);
}

/// A disk that has become read-only.
struct ReadOnly;

impl ReadOnly {
    fn refuse<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Store for ReadOnly {
    fn save_snapshot(&self, _: &[u8]) -> io::Result<()> {
        Self::refuse()
    }
    fn append_journal(&self, _: &[u8], _: bool) -> io::Result<()> {
        Self::refuse()
    }
    fn sync_journal(&self) -> io::Result<()> {
        Self::refuse()
    }
    fn begin_epoch(&self, _: u64) -> io::Result<()> {
        Self::refuse()
    }
    fn prune_journal(&self, _: u64) -> io::Result<()> {
        Self::refuse()
    }
    fn load_feedback(&self) -> io::Result<Option<String>> {
        Self::refuse()
    }
    fn save_feedback(&self, _: &str) -> io::Result<()> {
        Self::refuse()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_cannot_be_written_stops_nothing() {
    let agent = agent(Arc::new(Words), Some(Arc::new(ReadOnly)), Duration::from_secs(60));
    warm_up(&agent.pipeline).await;
    let failures: Vec<String> = (0..6)
        .map(|n| format!("Segmentation fault, core dumped. volume {n}"))
        .collect();
    send(&agent.pipeline, request(10_000, &failures)).await.unwrap();
    let records = agent.sink.records();
    assert!(
        records
            .iter()
            .rev()
            .take(6)
            .all(|record| attribute(record, "incident_id").is_some())
    );
    agent.pipeline.save();
    assert!(agent.metrics.journal_failed_writes.get() > 0);
    assert_eq!(agent.metrics.snapshots.get(), 0);
}

/// Never takes anything.
struct Hanging;

impl Exporter for Hanging {
    fn export(&self, _: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn known_loss_a_shutdown_while_the_destination_hangs_tells_callers_to_send_again() {
    let settings = engine::Settings::default();
    let parts = Parts {
        front: settings.front(),
        state: settings.tenants(),
        tenant_header: None,
        embedder: None,
        embedding: embedding::Settings::default(),
        mode: Mode::Mark,
        exporter: Arc::new(Hanging),
        store: None,
        epoch: 0,
        cluster: None,
        metrics: Arc::default(),
    };
    let pipeline = Arc::new(Pipeline::start(parts).unwrap());
    let waiting = tokio::spawn({
        let pipeline = Arc::clone(&pipeline);
        async move { send(&pipeline, request(0, &healthy(3))).await }
    });
    pipeline.give_up();
    let refusal = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(
            refusal,
            Refusal::Unavailable {
                retry_after: Some(_),
                ..
            }
        ),
        "{refusal}"
    );
}

#[test]
fn a_clock_that_goes_back_ends_what_is_open_and_new_incidents_begin_by_the_new_time() {
    const SECOND: u64 = 1_000_000_000;
    let settings = engine::Settings::default();
    let (front, mut state) = (settings.front(), settings.tenants());
    state.appoint(Committee::embed(&Words).unwrap());
    let mut commit = |second: u64, bodies: &[String]| {
        let body = request(second, bodies);
        let view = View::parse(&body).unwrap();
        let batch = front.prepare(&view, (1_700_000_000 + second + 1) * SECOND);
        let texts: Vec<&str> = batch.templates.iter().map(|template| &*template.text).collect();
        let embeddings: Vec<_> = Words.embed(&texts).unwrap().into_iter().map(Some).collect();
        let incidents = state.commit(&batch, &embeddings).verdicts.incidents.len();
        let fit = state.take_fit();
        if let Some((tenant, job)) = fit {
            state.install(&tenant, job.run());
        }
        let notes: Vec<String> = state.drain_notes().iter().map(ToString::to_string).collect();
        let (_, open) = state.tally();
        (incidents, open, notes.join("; "))
    };
    // The clock is a day ahead.
    const DAY: u64 = 24 * 3600;
    for round in 0..20 {
        commit(DAY + round, &healthy(100));
    }
    let failures = |name: &str| -> Vec<String> {
        (0..6)
            .map(|n| format!("Segmentation fault, core dumped. {name} {n}"))
            .collect()
    };
    let (incidents, open, _) = commit(DAY + 60, &failures("volume"));
    assert_eq!((incidents, open), (6, 1));
    // A minute is no news.
    let (_, open, notes) = commit(DAY + 30, &healthy(10));
    assert_eq!((open, notes.as_str()), (1, ""));
    let (_, open, notes) = commit(100, &healthy(10));
    assert_eq!(open, 0);
    assert!(notes.contains("clock") && notes.contains("went back by 863"), "{notes}");
    let (incidents, open, _) = commit(120, &failures("register"));
    assert_eq!((incidents, open), (6, 1));
}
