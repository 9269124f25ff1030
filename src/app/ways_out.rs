//! The ways out of the agent: the exporters with their queues, and everybody who is told of incidents.
//!
//! What enters: settings that have been checked. What leaves: an exporter, and tasks that tell of incidents until they are
//! finished. Promises: each exporter is opened once, for two owners of one queue are impossible; a listener that fails, even
//! by a bug, ends alone; at the end each has a bounded time for what it still has to tell. Absent on purpose: the way in.

use std::sync::{Arc, atomic::Ordering};

use anyhow::{Context, Result};
use tokio::{sync::watch, task::JoinSet};

use super::identities::Identities;
#[cfg(not(feature = "kafka"))]
use crate::config::NO_KAFKA;
#[cfg(feature = "kafka")]
use crate::edge::export_kafka::KafkaExporter;
use crate::{
    config::{ComponentId, Exporter, Extension, Settings},
    edge::{
        self, Keeper, Listener, Signal,
        export_debug::DebugExporter,
        export_file::FileExporter,
        export_http::HttpExporter,
        export_otlp::OtlpExporter,
        halving::Halving,
        notify_alertmanager::Alertmanager,
        notify_webhook::Webhook,
        queue::{Queue, Storage},
    },
    pipeline::{
        Pipeline,
        counted::Counted,
        events::Events,
        fan_out::FanOut,
        items::OfQueue,
        pass_through::PassThrough,
        telling::{self, Telling},
    },
    telemetry::{Metrics, Traces},
};

/// Every exporter that runs, each once, whoever sends by it.
pub(super) struct WaysOut {
    /// The way of each signal that a pipeline takes.
    ways: Vec<(Signal, Arc<dyn edge::Exporter>)>,
    /// The way of events, where that is another.
    events: Option<Arc<dyn edge::Exporter>>,
    queues: Vec<Arc<Queue>>,
}

/// An exporter with what stands in front of it.
enum Way {
    /// Whoever sends waits for the destination.
    Direct(Arc<dyn edge::Exporter>),
    /// Whoever sends waits for the disk.
    Queued(Arc<Queue>),
}

impl Way {
    fn exporter(&self) -> Arc<dyn edge::Exporter> {
        match self {
            Self::Direct(exporter) => Arc::clone(exporter),
            Self::Queued(queue) => Arc::clone(queue) as _,
        }
    }
}

impl WaysOut {
    /// Opens every exporter that runs, with its queue, if it has one.
    ///
    /// # Errors
    /// One that cannot work, as a file that cannot be written.
    pub(super) fn open(settings: &Settings, identities: &Identities, telemetry: (&Metrics, &Traces)) -> Result<Self> {
        let mut storages = Vec::new();
        for (id, extension) in &settings.extensions {
            if let Extension::FileStorage(storage) = extension {
                let storage = Storage::open(storage).with_context(|| format!("extensions.{id}.directory"))?;
                storages.push((id.to_string(), storage));
            }
        }
        let mut ways = Vec::new();
        for (id, exporter) in &settings.exporters {
            let signals: Vec<Signal> = settings.signals_to(id).collect();
            ways.push((id, way(id, exporter, identities, &storages, (&signals, telemetry))?));
        }
        let of = |wanted: &ComponentId| ways.iter().find(|(id, _)| *id == wanted).map(|(_, way)| way);
        let mut of_signals = Vec::new();
        for (signal, pipeline) in &settings.pipelines {
            let way: Arc<dyn edge::Exporter> = match pipeline.exporters.as_slice() {
                [id] => of(id).map(Way::exporter).context("no exporter")?,
                several => {
                    let (mut direct, mut keepers) = (Vec::new(), Vec::<Arc<dyn Keeper>>::new());
                    // In one order for all pipelines, so that none waits for room that waits for it.
                    let named = settings.exporters.iter().filter(|(id, _)| several.contains(id));
                    // Who can refuse is asked before who cannot.
                    let (last, first): (Vec<_>, Vec<_>) = named.partition(|(_, exporter)| exporter.takes_everything());
                    for way in first.into_iter().chain(last).filter_map(|(id, _)| of(id)) {
                        match way {
                            Way::Direct(exporter) => direct.push(Arc::clone(exporter)),
                            Way::Queued(queue) => keepers.push(Arc::clone(queue) as _),
                        }
                    }
                    Arc::new(FanOut::new(direct, keepers))
                }
            };
            of_signals.push((*signal, way));
        }
        let events = settings.events_exporter.as_ref().and_then(of);
        let events = events.map(Way::exporter);
        let mut queues = Vec::new();
        for (id, way) in &ways {
            if let Way::Queued(queue) = way {
                follow(telemetry.0, settings.signals_to(id), Arc::clone(queue));
                queues.push(Arc::clone(queue));
            }
        }
        for (id, storage) in &storages {
            tell_of_strangers(id, storage, &queues);
        }
        Ok(Self {
            ways: of_signals,
            events,
            queues,
        })
    }

    /// The way of a signal.
    ///
    /// # Errors
    /// No pipeline takes it.
    pub(super) fn of(&self, signal: Signal) -> Result<&Arc<dyn edge::Exporter>> {
        let found = self.ways.iter().find(|(known, _)| *known == signal);
        found
            .map(|(_, way)| way)
            .with_context(|| format!("no pipeline takes {signal}"))
    }

    /// The signals that pass unjudged, each with its way past the engine.
    pub(super) fn pass_through(&self, metrics: &Arc<Metrics>) -> Vec<(Signal, Arc<PassThrough>)> {
        let unjudged = self.ways.iter().filter(|(signal, _)| *signal != Signal::Logs);
        let pass = |(signal, way): &(Signal, Arc<dyn edge::Exporter>)| {
            (
                *signal,
                Arc::new(PassThrough::new(Arc::clone(way), Arc::clone(metrics))),
            )
        };
        unjudged.map(pass).collect()
    }

    /// Tells, whenever it is asked, why a queue takes nothing, if one does not.
    pub(super) fn trouble(&self) -> impl Fn() -> Option<String> + Send + Sync + use<> {
        let queues = self.queues.clone();
        move || {
            let mut troubles = queues.iter().filter_map(|queue| {
                let trouble = queue.status().trouble?;
                Some(format!("the queue of {}: {trouble}", queue.name()))
            });
            troubles.next()
        }
    }

    /// Has queues deliver until then; what they cannot they keep.
    pub(super) async fn drain(&self, deadline: tokio::time::Instant) {
        let mut draining = JoinSet::new();
        for queue in self.queues.iter().map(Arc::clone) {
            draining.spawn(async move { (queue.drain(deadline).await, queue) });
        }
        while let Some(drained) = draining.join_next().await {
            match drained {
                Ok((0, _)) => {}
                Ok((left, queue)) => tracing::info!(
                    exporter = queue.name(),
                    requests = left,
                    "left in the queue for the next start"
                ),
                Err(problem) => tracing::error!("a queue ended by a bug: {problem}"),
            }
        }
    }
}

fn way(
    id: &ComponentId,
    exporter: &Exporter,
    identities: &Identities,
    storages: &[(String, Arc<Storage>)],
    (signals, (metrics, traces)): (&[Signal], (&Metrics, &Traces)),
) -> Result<Way> {
    let context = || format!("exporters.{id}");
    let name = id.to_string();
    let counted =
        |exporter: Arc<dyn edge::Exporter>| Arc::new(Counted::new(exporter, &name, signals, metrics, traces.clone()));
    let destination: Arc<dyn edge::Exporter> = match exporter {
        Exporter::OtlpGrpc(queued) => {
            let otlp = &queued.exporter;
            let exporter = OtlpExporter::new(otlp, fastrand::u64(..))
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            Arc::new(match &otlp.auth {
                Some(auth) => exporter.with_credentials(identities.credentials(auth).with_context(context)?),
                None => exporter,
            })
        }
        Exporter::OtlpHttp(queued) => {
            let http = &queued.exporter;
            let exporter = HttpExporter::new(http, fastrand::u64(..))
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            Arc::new(match &http.auth {
                Some(auth) => exporter.with_credentials(identities.credentials(auth).with_context(context)?),
                None => exporter,
            })
        }
        #[cfg(feature = "kafka")]
        Exporter::Kafka(queued) => {
            let exporter = KafkaExporter::new(&name, &queued.exporter, fastrand::u64(..));
            Arc::new(exporter.map_err(anyhow::Error::msg).with_context(context)?)
        }
        #[cfg(not(feature = "kafka"))]
        Exporter::Kafka(_) => return Err(anyhow::Error::msg(NO_KAFKA)).with_context(context),
        Exporter::File(file) => Arc::new(FileExporter::open(file).with_context(context)?),
        Exporter::Debug(debug) => Arc::new(DebugExporter::new(debug.clone())),
    };
    let Some(settings) = exporter.sending_queue() else {
        return Ok(Way::Direct(counted(Arc::new(Halving::around(destination)))));
    };
    let context = || format!("exporters.{id}.sending_queue");
    let storage = storages.iter().find(|(id, _)| settings.storage.as_ref() == Some(id));
    let (_, storage) = storage.context("its storage does not run").with_context(context)?;
    let queue = Queue::open(&name, settings, storage.file(&name), counted(destination));
    Ok(Way::Queued(Arc::new(queue.with_context(context)?)))
}

/// Queues of exporters that do not run any more may hold what was acknowledged.
fn tell_of_strangers(id: &str, storage: &Arc<Storage>, queues: &[Arc<Queue>]) {
    let strangers = match storage.exporters() {
        Ok(exporters) => exporters,
        Err(problem) => return tracing::warn!("extensions.{id}: cannot look for other queues: {problem}"),
    };
    for stranger in strangers
        .iter()
        .filter(|name| !queues.iter().any(|queue| queue.name() == **name))
    {
        tracing::warn!(
            exporter = stranger,
            file = %storage.file(stranger).path().display(),
            "there is a queue of an exporter that this configuration has not: what is in it is not delivered; bring the \
             exporter back, or remove the file"
        );
    }
}

/// Brings the metrics of a queue, which gets these signals, up to date whenever they are read.
fn follow(metrics: &Metrics, signals: impl Iterator<Item = Signal>, queue: Arc<Queue>) {
    let exporter = [queue.name()];
    let size = metrics.exporter_queue_size.of(exporter);
    let capacity = metrics.exporter_queue_capacity.of(exporter);
    let records = metrics.exporter_queue_log_records.of(exporter);
    let dead_letters = metrics.exporter_dead_letters.of(exporter);
    let entries = metrics.exporter_queue_set_aside_entries.of(exporter);
    let files = metrics.exporter_queue_set_aside_files.of(exporter);
    let items: Vec<_> = signals
        .map(|signal| (signal, OfQueue::new(metrics, signal, queue.name())))
        .collect();
    metrics.follow(move |_| {
        let status = queue.status();
        size.set(status.size);
        capacity.set(status.capacity);
        records.set(status.records);
        dead_letters.set(status.dead_letters);
        let counters = queue.counters();
        entries.follow(counters.set_aside_entries.load(Ordering::Relaxed));
        files.follow(counters.set_aside_files.load(Ordering::Relaxed));
        for (signal, items) in &items {
            items.enqueue_failed.follow(counters.enqueue_failed_items.get(*signal));
            items.dead_letter.follow(counters.dead_letter_items.get(*signal));
        }
    });
}

/// Everybody who is told of incidents, each in a task.
pub(super) struct Listeners {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Tells of incidents from now on.
///
/// # Errors
/// A way that cannot work.
pub(super) fn listen(settings: &Settings, ways_out: &WaysOut, pipeline: &Arc<Pipeline>) -> Result<Listeners> {
    let harbinger = &settings.harbinger;
    let key = |name: &str| format!("processors.{}.notifiers.{name}", settings.processor);
    let incident_id = &harbinger.attributes.incident_id;
    let mut listening: Vec<(Box<dyn Listener>, telling::Counted)> = Vec::new();
    if harbinger.events.enabled {
        let exporter = match &ways_out.events {
            Some(exporter) => exporter,
            None => ways_out.of(Signal::Logs)?,
        };
        let events = Events::new(
            harbinger.events.clone(),
            Arc::clone(exporter),
            incident_id.clone(),
            harbinger.tenant.clone(),
        );
        listening.push((Box::new(events), telling::Counted::Events));
    }
    let alertmanager = Alertmanager::new(&harbinger.notifiers.alertmanager, incident_id);
    if let Some(alertmanager) = alertmanager
        .map_err(anyhow::Error::msg)
        .with_context(|| key("alertmanager"))?
    {
        listening.push((Box::new(alertmanager), telling::Counted::Notifications));
    }
    let webhook = Webhook::new(&harbinger.notifiers.webhook, incident_id);
    if let Some(webhook) = webhook.map_err(anyhow::Error::msg).with_context(|| key("webhook"))? {
        listening.push((Box::new(webhook), telling::Counted::Notifications));
    }
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for (listener, counted) in listening {
        tracing::info!(listener = listener.name(), "telling of incidents");
        tasks.spawn(Telling::new(Arc::clone(pipeline), listener, counted).run(stopped.clone()));
    }
    Ok(Listeners { tasks, stop })
}

impl Listeners {
    /// Tells what is left, for a while. To be called once no more records come.
    pub(super) async fn finish(mut self) {
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(problem) = ended {
                tracing::error!("a listener ended by a bug: {problem}");
            }
        }
    }
}
