//! The webhook: each change of an incident as one JSON document to a URL.
//!
//! What enters: changes of incidents. What leaves: `POST`s of [`Report`]s, in order, one at a time. Promises: what can succeed
//! later is tried again, up to a limit; the queue is bounded and what falls out of it is counted, oldest first. Absent on
//! purpose: a signature and templates of other products; something in between can make what they want of the document.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    BoxFuture, Listener, Tellings,
    transport::{
        http_client::{self, CallError, HttpClient, Waits},
        metadata::HeaderSource,
        tls::ClientSettings as TlsSettings,
        warnings::Throttle,
    },
};
use crate::engine::{
    correlate::{Change, Happened},
    tell::Report,
    tenant::Tenant,
};

/// Documents that wait.
const MAX_QUEUE: usize = 1024;
/// Attempts at one document: three minutes, about.
const MAX_ATTEMPTS: u32 = 10;

/// `notifiers.webhook`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where changes are posted; left out, nobody is told.
    pub endpoint: Option<String>,
    /// TLS, where the endpoint is `https`.
    pub tls: TlsSettings,
    /// Longest wait for an answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Headers of each request.
    pub headers: BTreeMap<String, HeaderSource>,
    /// Whether growth is told as well.
    pub updated: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            tls: TlsSettings::default(),
            timeout: Duration::from_secs(10),
            headers: BTreeMap::new(),
            updated: false,
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        const EXAMPLE: &str = "http://localhost:8080/incidents";
        match &self.endpoint {
            Some(written) => _ = http_client::endpoint(written, EXAMPLE)?,
            None if *self != Self::default() => {
                return Err(format!("endpoint: missing, so nobody would be told; write `{EXAMPLE}`"));
            }
            None => {}
        }
        self.tls.validate().map_err(|problem| format!("tls: {problem}"))?;
        if self.timeout.is_zero() {
            return Err("timeout: must be more than 0s; write 10s".to_owned());
        }
        http_client::headers(&self.headers).map(|_| ())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    incident_id: String,
    updated: bool,
    client: HttpClient,
    queue: VecDeque<Bytes>,
    dropped: u64,
    waits: Waits,
    /// No attempt is made before.
    not_before: Option<Instant>,
    failing: Throttle,
}

impl Webhook {
    /// A webhook, if there is to be one; `incident_id` is the name that the id has on records.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &Settings, incident_id: &str) -> Result<Option<Self>, String> {
        settings.validate()?;
        let Some(url) = settings.endpoint.clone() else {
            return Ok(None);
        };
        let headers = http_client::headers(&settings.headers)?;
        Ok(Some(Self {
            client: HttpClient::new(&url, &settings.tls, headers, settings.timeout)?,
            url,
            incident_id: incident_id.to_owned(),
            updated: settings.updated,
            queue: VecDeque::new(),
            dropped: 0,
            waits: Waits::default(),
            not_before: None,
            failing: Throttle::default(),
        }))
    }

    async fn post(&mut self) -> Tellings {
        let mut told = Tellings {
            dropped: std::mem::take(&mut self.dropped),
            ..Tellings::default()
        };
        let Some(document) = self.queue.front().cloned() else {
            return told;
        };
        if let Some(later) = self.not_before.filter(|later| *later > Instant::now()) {
            told.next = Some(later);
            return told;
        }
        self.not_before = None;
        match self.client.post(&self.url, document).await {
            Ok(()) => {
                told.sent = 1;
                self.waits.reset();
                self.queue.pop_front();
            }
            Err(problem) => {
                if let Some(left_out) = self.failing.admit() {
                    tracing::warn!(left_out, "the webhook was not told of an incident: {problem}");
                }
                let wait = self.waits.after_failure();
                if matches!(problem, CallError::Final(_)) || self.waits.failures() >= MAX_ATTEMPTS {
                    told.failed = 1;
                    self.waits.reset();
                    self.queue.pop_front();
                } else {
                    self.not_before = Some(Instant::now() + wait);
                }
            }
        }
        let next = self.not_before.unwrap_or_else(Instant::now);
        told.next = (!self.queue.is_empty()).then_some(next);
        told
    }
}

impl Listener for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn hear(&mut self, tenant: &Tenant, change: &Change) {
        if change.happened == Happened::Updated && !self.updated {
            return;
        }
        // A report has nothing that JSON does not.
        let Ok(document) = serde_json::to_vec(&Report::of(tenant, change, &self.incident_id)) else {
            return;
        };
        if self.queue.len() >= MAX_QUEUE {
            self.queue.pop_front();
            self.waits.reset();
            self.dropped += 1;
        }
        self.queue.push_back(Bytes::from(document));
    }

    fn tell(&mut self) -> BoxFuture<'_, Tellings> {
        Box::pin(self.post())
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
