//! The ways out of the agent: the exporter of records, and everybody who is told of incidents.
//!
//! What enters: settings that have been checked. What leaves: an exporter, and tasks that tell of incidents until they are
//! finished. Promises: a listener that fails, even by a bug, ends alone; at the end each has a bounded time for what it still
//! has to tell. Absent on purpose: the way in.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::{sync::watch, task::JoinSet};

use super::identities::Identities;
use crate::{
    config::{ComponentId, Exporter, Settings},
    edge::{
        self, Listener, export_debug::DebugExporter, export_file::FileExporter, export_http::HttpExporter,
        export_otlp::OtlpExporter, notify_alertmanager::Alertmanager, notify_webhook::Webhook,
    },
    pipeline::{
        Pipeline,
        events::Events,
        telling::{Counted, Telling},
    },
};

/// The exporter of these settings.
///
/// # Errors
/// It cannot work, as a file that cannot be written.
pub(super) fn exporter(
    (id, exporter): &(ComponentId, Exporter),
    identities: &Identities,
) -> Result<Arc<dyn edge::Exporter>> {
    let context = || format!("exporters.{id}");
    Ok(match exporter {
        Exporter::OtlpGrpc(otlp) => {
            let exporter = OtlpExporter::new(otlp, fastrand::u64(..))
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            Arc::new(match &otlp.auth {
                Some(auth) => exporter.with_credentials(identities.credentials(auth).with_context(context)?),
                None => exporter,
            })
        }
        Exporter::OtlpHttp(http) => {
            let exporter = HttpExporter::new(http, fastrand::u64(..))
                .map_err(anyhow::Error::msg)
                .with_context(context)?;
            Arc::new(match &http.auth {
                Some(auth) => exporter.with_credentials(identities.credentials(auth).with_context(context)?),
                None => exporter,
            })
        }
        Exporter::File(file) => Arc::new(FileExporter::open(file).with_context(context)?),
        Exporter::Debug(debug) => Arc::new(DebugExporter::new(debug.clone())),
    })
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
pub(super) fn listen(settings: &Settings, identities: &Identities, pipeline: &Arc<Pipeline>) -> Result<Listeners> {
    let harbinger = &settings.harbinger;
    let key = |name: &str| format!("processors.{}.notifiers.{name}", settings.processor);
    let incident_id = &harbinger.attributes.incident_id;
    let mut listening: Vec<(Box<dyn Listener>, Counted)> = Vec::new();
    if harbinger.events.enabled {
        let exporter = match &settings.events_exporter {
            Some(other) => exporter(other, identities)?,
            None => Arc::clone(pipeline.exporter()),
        };
        let events = Events::new(
            harbinger.events.clone(),
            exporter,
            incident_id.clone(),
            harbinger.tenant.clone(),
        );
        listening.push((Box::new(events), Counted::Events));
    }
    let alertmanager = Alertmanager::new(&harbinger.notifiers.alertmanager, incident_id);
    if let Some(alertmanager) = alertmanager
        .map_err(anyhow::Error::msg)
        .with_context(|| key("alertmanager"))?
    {
        listening.push((Box::new(alertmanager), Counted::Notifications));
    }
    let webhook = Webhook::new(&harbinger.notifiers.webhook, incident_id);
    if let Some(webhook) = webhook.map_err(anyhow::Error::msg).with_context(|| key("webhook"))? {
        listening.push((Box::new(webhook), Counted::Notifications));
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
