//! The life of incidents as log records of our own, by the way that logs take.
//!
//! What enters: changes of incidents. What leaves: `ExportLogsServiceRequest`s to an exporter. Promises: events of one tenant
//! are a request of their own, named as the tenant's records are; an exporter that is down costs events, never logs: what it
//! does not take within [`PATIENCE`], retries of its own included, is dropped and counted. Absent on purpose: what an event
//! says (`engine::tell`), its bytes ([`record`]), and which exporter it is.

mod record;

pub use self::record::{Sender, event};

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    edge::{BoxFuture, Exporter, Listener, Metadata, Request, Signal, Tellings, now_unix_nano},
    engine::{
        correlate::{Change, Happened},
        tell::Report,
        tenant::{self, Tenant},
    },
};

/// How long the exporter may take over a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events in a request.
const MAX_BATCH: usize = 64;
/// Events that wait.
const MAX_QUEUE: usize = 1024;

/// `events`: what is told of incidents as log records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether anything is.
    pub enabled: bool,
    /// The id of the exporter that events leave by; left out, the pipeline's own.
    pub exporter: Option<String>,
    /// An incident has become large enough.
    pub opened: bool,
    /// It has grown; at most once a minute.
    pub updated: bool,
    /// It became part of an older one.
    pub merged: bool,
    /// It is over.
    pub closed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            exporter: None,
            opened: true,
            updated: false,
            merged: true,
            closed: true,
        }
    }
}

impl Settings {
    fn wants(&self, happened: Happened) -> bool {
        self.enabled
            && match happened {
                Happened::Opened => self.opened,
                Happened::Updated => self.updated,
                Happened::Merged => self.merged,
                Happened::Closed => self.closed,
            }
    }
}

/// See the module.
pub struct Events {
    settings: Settings,
    exporter: Arc<dyn Exporter>,
    incident_id: String,
    tenants: tenant::Settings,
    queue: VecDeque<(Tenant, Report, u64)>,
    dropped: u64,
}

impl Events {
    /// Events by this exporter; `incident_id` is the name that the id has on records.
    pub fn new(
        settings: Settings,
        exporter: Arc<dyn Exporter>,
        incident_id: String,
        tenants: tenant::Settings,
    ) -> Self {
        Self {
            settings,
            exporter,
            incident_id,
            tenants,
            queue: VecDeque::new(),
            dropped: 0,
        }
    }

    async fn send(&mut self) -> Tellings {
        let mut told = Tellings {
            dropped: std::mem::take(&mut self.dropped),
            ..Tellings::default()
        };
        let Some((tenant, ..)) = self.queue.front() else {
            return told;
        };
        let tenant = tenant.clone();
        let mut batch = Vec::new();
        while let Some((_, report, now)) = self.queue.pop_front_if(|(of, ..)| *of == tenant) {
            batch.push((report, now));
            if batch.len() == MAX_BATCH {
                break;
            }
        }
        let count = batch.len() as u64;
        match self.exporter.export(self.request(&tenant, &batch)).await {
            Ok(_) => told.sent = count,
            Err(problem) => {
                tracing::warn!(events = count, "events of incidents were not taken: {problem}");
                told.failed = count;
            }
        }
        told.next = (!self.queue.is_empty()).then(Instant::now);
        told
    }

    /// Named as the tenant's records are, so that what tells tenants apart behind us does so with events.
    fn request(&self, tenant: &Tenant, batch: &[(Report, u64)]) -> Request {
        // The overflow has a name for people only.
        let name = match tenant {
            Tenant::Named(name) if !name.is_empty() => Some(name.to_string()),
            _ => None,
        };
        let named = |by: &Option<String>| by.clone().zip(name.clone()).into_iter().collect::<Vec<_>>();
        let sender = Sender {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            resource: named(&self.tenants.resource_attribute),
            incident_id: self.incident_id.clone(),
        };
        let headers = named(&self.tenants.from_context).into_iter();
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value));
        Request {
            signal: Signal::Logs,
            body: Bytes::from(event(&sender, batch)),
            metadata: Metadata(headers.collect()),
            deadline: Instant::now() + PATIENCE,
        }
    }
}

impl Listener for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn hear(&mut self, tenant: &Tenant, change: &Change) {
        if !self.settings.wants(change.happened) {
            return;
        }
        if self.queue.len() >= MAX_QUEUE {
            self.queue.pop_front();
            self.dropped += 1;
        }
        let report = Report::of(tenant, change, &self.incident_id);
        self.queue.push_back((tenant.clone(), report, now_unix_nano()));
    }

    fn tell(&mut self) -> BoxFuture<'_, Tellings> {
        Box::pin(self.send())
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Events")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
