//! Wires concrete receivers, rooms and exporters together, and takes them apart again in order.
//!
//! What enters: settings that have been checked. What leaves: a running agent, until it is told to stop. Promises: ports
//! are bound before anything else happens, so that a taken one is one clear error; without a model the agent delivers
//! all the same and says so; what is in flight at the end is finished, then a snapshot is written. Absent on purpose:
//! anything that a room or an edge could know by itself.

mod answering;
mod identities;
mod kept;
mod own_telemetry;
mod reloading;
mod sharing;
mod shutdown;
mod status;
mod ways_in;
mod ways_out;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use reloading::Reloading;
use status::Status;

use crate::{
    config::{self, Harbinger, Loaded, Settings, service},
    edge::{
        self, Intakes, Signal as OtlpSignal, Store,
        model::{self, LaterModel, ModelError, OnnxEmbedder},
        store::StateDirectory,
    },
    engine::{self, embed::Embedder, tenants::Tenants},
    pipeline::{Parts, Pipeline, recovery},
    telemetry::{self, Metrics, SetLevel},
};

use identities::Identities;
use ways_out::WaysOut;

pub use kept::{learned, opinions, save_snapshot};

/// Rereads the configuration that the agent was started with.
pub type Reload<'a> = &'a dyn Fn() -> Result<Loaded>;

/// What a running agent can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End in order; said a second time, at once.
    Stop,
    /// Reread the configuration and the opinions.
    Reload,
}

/// What stands around a running agent.
pub struct Surroundings<'a> {
    /// Whether it is an error that there is no model.
    pub require_model: bool,
    /// Rereads the configuration.
    pub reload: Reload<'a>,
    /// Has the log begin at another level.
    pub set_level: SetLevel,
    /// What the agent is told.
    pub orders: mpsc::Receiver<Order>,
    /// Is told once, when the agent serves: where, by `grpc`, `http`, `health`, `metrics`, `api` or `page`.
    pub ready: oneshot::Sender<Vec<(&'static str, SocketAddr)>>,
}

/// Runs the agent until SIGINT or SIGTERM; SIGHUP rereads the configuration and the opinions.
///
/// # Errors
/// What keeps it from starting: a taken port, an unusable state directory, or, if it is required, a missing model.
pub fn run(loaded: Loaded, require_model: bool, reload: Reload<'_>) -> Result<()> {
    let set_level = telemetry::start_log(
        level_of(&loaded.settings),
        loaded.settings.telemetry.logs.encoding == service::LogEncoding::Json,
    );
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let around = Surroundings {
            require_model,
            reload,
            set_level,
            orders: signals()?,
            ready: oneshot::channel().0,
        };
        serve(loaded, around).await
    });
    // Whatever still hangs after the drain does not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn level_of(settings: &Settings) -> tracing::Level {
    match settings.telemetry.logs.level {
        service::LogLevel::Debug => tracing::Level::DEBUG,
        service::LogLevel::Info => tracing::Level::INFO,
        service::LogLevel::Warn => tracing::Level::WARN,
        service::LogLevel::Error => tracing::Level::ERROR,
    }
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// As of [`run`].
pub async fn serve(loaded: Loaded, around: Surroundings<'_>) -> Result<()> {
    let settings = &loaded.settings.clone();
    let identities = Identities::load(settings)?;
    let metrics = Arc::new(Metrics::default());
    own_telemetry::follow_process(&metrics);
    let resource = own_telemetry::resource(settings);
    let traces = own_telemetry::trace(settings, &metrics, resource.clone())?;
    let receivers = ways_in::bind(settings, &identities, &metrics).await?;
    let pages = status::bind(settings).await?;
    let answering = answering::bind(settings, &identities).await?;
    let ways_out = WaysOut::open(settings, &identities, (&metrics, &traces))?;
    let exporter = Arc::clone(ways_out.of(OtlpSignal::Logs)?);
    let pipeline = start_pipeline(settings, around.require_model, exporter, Arc::clone(&metrics))?;
    let pipeline = Arc::new(pipeline.traced_by(traces.clone()));
    pipeline.show_phase();
    let listeners = ways_out::listen(settings, &ways_out, &pipeline)?;
    let push = own_telemetry::push_metrics(settings, &metrics, resource)?;
    let status = Arc::new(Status::new(Arc::clone(&pipeline), ways_out.trouble()));

    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    for (pages, kind) in pages {
        addresses.push((kind.name(), pages.address()));
        tracing::info!(address = %pages.address(), kind = kind.name(), "serving");
        let contents = kind.contents(&status, &metrics);
        tasks.spawn(async move {
            pages.serve(contents).await;
            bail!("a status page ended by itself")
        });
    }
    for server in answering {
        addresses.extend(server.addresses());
        server.serve(&pipeline, &settings.harbinger.attributes.incident_id, &mut tasks);
    }
    let passing = ways_out.pass_through(&metrics);
    let mut intakes = Intakes::default().with(OtlpSignal::Logs, Arc::clone(&pipeline) as _);
    for (signal, way) in &passing {
        intakes = intakes.with(*signal, Arc::clone(way) as _);
    }
    let limiter = ways_in::limit_memory(settings, &metrics, &mut tasks)?;
    if let Some(limiter) = &limiter {
        let limited = settings.limited_signals().collect::<Vec<_>>();
        intakes = intakes.behind(|signal, intake| match limited.contains(&signal) {
            true => limiter.before(intake),
            false => intake,
        });
    }
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    for receiver in receivers {
        let (protocol, listening) = receiver.addresses();
        addresses.extend(listening.iter().map(|address| (protocol, *address)));
        let mut stopped = stopped.clone();
        let shutdown = async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let intakes = intakes.only(settings.signals_of(&receiver.id));
        receiver.serve(intakes, (&metrics, &traces), shutdown, &mut serving);
    }
    tasks.spawn(pass_time(Arc::clone(&pipeline)));
    tasks.spawn(give_memory_back());
    if settings.harbinger.state.enabled {
        tasks.spawn(save_now_and_then(
            Arc::clone(&pipeline),
            settings.harbinger.state.snapshot_interval,
        ));
    }

    status.set_serving(true);
    let exporters: Vec<String> = settings.exporters.iter().map(|(id, _)| id.to_string()).collect();
    tracing::info!(exporters = exporters.join(", "), "ready: what is received is sent on");
    reloading::tell_success(&metrics, true);
    let mut orders = around.orders;
    let mut reloading = Reloading {
        reread: around.reload,
        latest: loaded.config.clone(),
        started: loaded,
        set_level: around.set_level,
        pipeline: Arc::clone(&pipeline),
        limiter,
        metrics,
    };
    // Whoever started it may not want to know.
    let _ = around.ready.send(addresses);
    let ended = wait_for_the_end(&mut reloading, &mut orders, &mut serving, &mut tasks).await;
    status.set_serving(false);
    let _ = stop.send(true);
    let running = shutdown::Running {
        serving,
        pipeline,
        passing: passing.into_iter().map(|(_, way)| way).collect(),
        listeners,
        ways_out,
        own_telemetry: own_telemetry::Sending { push, traces },
    };
    tokio::select! {
        () = shutdown::finish(running, settings.shutdown_timeout) => tracing::info!("stopped"),
        () = told_to_stop(&mut orders) => tracing::warn!("told a second time to stop: nothing more is waited for"),
    }
    tasks.shutdown().await;
    ended
}

/// What the system asks of the agent.
fn signals() -> Result<mpsc::Receiver<Order>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (orders, ordered) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let order = tokio::select! {
                _ = interrupt.recv() => Order::Stop,
                _ = terminate.recv() => Order::Stop,
                _ = hangup.recv() => Order::Reload,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    Ok(ordered)
}

/// Returns when the agent is told to stop; never when nobody is left to tell it.
async fn told_to_stop(orders: &mut mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        if order == Order::Stop {
            return;
        }
    }
    std::future::pending().await
}

/// Waits for the order to stop, or for something that should serve for ever to end.
async fn wait_for_the_end(
    reloading: &mut Reloading<'_>,
    orders: &mut mpsc::Receiver<Order>,
    serving: &mut JoinSet<()>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Reload) => reloading.reload(),
                Some(Order::Stop) | None => return Ok(()),
            },
            Some(ended) = serving.join_next() => {
                ended?;
                bail!("a receiver stopped by itself");
            }
            Some(ended) = tasks.join_next() => return ended?,
        }
    }
}

/// Tells the engine that time passes, also while nothing comes.
async fn pass_time(pipeline: Arc<Pipeline>) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pipeline.pass_time();
    }
}

/// Gives memory back that the model no longer needs: not after each call, which soon needs it again.
async fn give_memory_back() -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tokio::task::spawn_blocking(model::give_back_free_memory).await?;
    }
}

async fn save_now_and_then(pipeline: Arc<Pipeline>, interval: Duration) -> Result<()> {
    let mut ticks = tokio::time::interval(interval);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let pipeline = Arc::clone(&pipeline);
        tokio::task::spawn_blocking(move || pipeline.save()).await?;
    }
}

fn start_pipeline(
    settings: &Settings,
    require_model: bool,
    exporter: Arc<dyn edge::Exporter>,
    metrics: Arc<Metrics>,
) -> Result<Pipeline> {
    let harbinger = &settings.harbinger;
    let model = &harbinger.embedding.model;
    let found: Result<Arc<dyn Embedder>, ModelError> = match require_model {
        true => OnnxEmbedder::load(model).map(|model| Arc::new(model) as _),
        false => LaterModel::find(model).map(|model| Arc::new(model) as _),
    };
    let embedder = match found {
        Ok(embedder) => Some(embedder),
        Err(problem) if require_model => return Err(problem.into()),
        Err(problem) => {
            tracing::error!("{problem}");
            tracing::error!("without a model records are delivered with harbinger.verdict=degraded");
            None
        }
    };
    let engine = engine_of(harbinger);
    let directory = if harbinger.state.enabled {
        let directory = &harbinger.state.directory;
        Some(StateDirectory::open(directory).with_context(|| {
            format!(
                "processors.{}.state.directory: cannot use {}",
                settings.processor,
                directory.display()
            )
        })?)
    } else {
        None
    };
    let directory = directory.map(|directory| directory.keeping(harbinger.state.keep_snapshots));
    if let Some(directory) = directory.as_ref().filter(|_| !engine.text.store_text) {
        kept::drop_texts(directory);
    }
    let model_version = embedder.as_ref().map(|embedder| embedder.model_version().to_owned());
    let (state, past, epoch) = recover(&engine, directory.as_ref(), model_version.as_deref())?;
    let build = [env!("CARGO_PKG_VERSION"), model_version.as_deref().unwrap_or_default()];
    metrics.build_info.of(build).set(1);
    let pipeline = Pipeline::start(Parts {
        front: engine.front(),
        state,
        tenant_header: engine.tenant.from_context.clone(),
        embedder,
        embedding: harbinger.embedding.waiting.clone(),
        mode: harbinger.detection.mode,
        exporter,
        store: directory.map(|directory| Arc::new(directory) as Arc<dyn Store>),
        epoch,
        cluster: sharing::cluster_of(settings)?,
        metrics,
    })?;
    pipeline.incidents().remember(past);
    if !engine.text.store_text {
        // What was written before texts were unwanted is replaced now, not in a minute.
        pipeline.save();
    }
    tracing::info!("detection: {}", pipeline.describe());
    Ok(pipeline)
}

/// What the last process left in the directory: a state, incidents that are over, and the epoch of the journal to begin.
fn recover(
    settings: &engine::Settings,
    directory: Option<&StateDirectory>,
    model_version: Option<&str>,
) -> Result<(Tenants, recovery::Past, u64)> {
    let Some(directory) = directory else {
        return Ok((settings.tenants(), Vec::new(), 1));
    };
    let loaded = directory.load()?;
    let recovered = recovery::recover(settings, loaded.snapshot.as_deref(), &loaded.journals, model_version);
    if let Some(problem) = &recovered.problem {
        tracing::warn!("{problem}");
        directory.set_aside(&problem.to_string())?;
    }
    if recovered.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovered.torn_bytes,
            "the journal's end was cut short; what stood before it is used"
        );
    }
    if recovered.from_snapshot || recovered.replayed_events > 0 {
        let (path, events) = (directory.path().display(), recovered.replayed_events);
        tracing::info!(directory = %path, incident_events = events, "going on from what was learned before");
    }
    Ok((recovered.state, recovered.past, loaded.next_epoch()))
}

fn readers(settings: &Settings) -> &[service::Reader] {
    match settings.telemetry.metrics.level {
        service::MetricsLevel::None => &[],
        _ => &settings.telemetry.metrics.readers,
    }
}

fn engine_of(harbinger: &Harbinger) -> engine::Settings {
    engine::Settings {
        tenant: harbinger.tenant.clone(),
        text: harbinger.text.clone(),
        score: harbinger.detection.score.clone(),
        correlate: harbinger.correlation.clone(),
        annotate: harbinger.attributes.clone(),
    }
}

/// Loads the model and says which it is, for `validate`.
///
/// # Errors
/// The model, its tokenizer or its runtime is missing or unusable.
pub fn check_model(settings: &Settings) -> Result<String> {
    let embedder = OnnxEmbedder::load(&settings.harbinger.embedding.model)?;
    Ok(format!("model: {}", embedder.model_version()))
}

/// The engine's part of a configuration, and its model loaded; the defaults without one.
///
/// # Errors
/// A configuration that is not usable, or a model that is missing.
pub fn offline(config: Option<&Path>) -> Result<(engine::Settings, OnnxEmbedder)> {
    let harbinger = harbinger_of(config)?;
    Ok((engine_of(&harbinger), OnnxEmbedder::load(&harbinger.embedding.model)?))
}

/// Where the agent of a configuration keeps what it learned; `None` when it keeps nothing.
///
/// # Errors
/// A configuration that is not usable.
pub fn state_directory(config: &Path) -> Result<Option<PathBuf>> {
    let state = harbinger_of(Some(config))?.state;
    Ok(state.enabled.then_some(state.directory))
}

fn harbinger_of(config: Option<&Path>) -> Result<Harbinger> {
    let Some(path) = config else {
        return Ok(Harbinger::default());
    };
    let environment = |name: &str| std::env::var(name).ok();
    let loaded = config::load(&[path.display().to_string()], &[], &environment)?;
    Ok(loaded.settings.harbinger)
}
