//! Alertmanager: one alert for each open incident, by its API v2.
//!
//! What enters: changes of incidents, and what is open. What leaves: `POST /api/v2/alerts`. Promises: what is sent is how
//! things stand, never a history, so nothing queues up: at most one alert an incident, and what was missed while nobody
//! answered is made good by the next round. An alert's labels are bounded and never change while its incident is open (they
//! identify it; after a restart they are those that Alertmanager has); text of logs is in annotations only. An alert
//! ends by itself when the agent has been gone for four rounds. Absent on purpose: grouping, routing and silences, which are
//! Alertmanager's.

mod alert;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    BoxFuture, Listener, Tellings, now_unix_nano,
    transport::{
        http_client::{self, CallError, HttpClient, Waits},
        metadata::HeaderSource,
        tls::ClientSettings as TlsSettings,
        warnings::Throttle,
    },
};
use crate::engine::{
    correlate::{Change, Happened, Incident, IncidentId, Status},
    tell::Report,
    tenant::Tenant,
};
use alert::{Alert, FiringAlert, Labels, OWN_LABELS, labels};

/// Alerts in one request.
const MAX_BATCH: usize = 64;
/// Alerts that are kept up; the default bound on open incidents for 64 tenants.
const MAX_ALERTS: usize = 16_384;
/// Bytes read of Alertmanager's list of alerts.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;
/// Rounds that an alert outlives the agent by.
const ROUNDS_ALIVE: u32 = 4;

/// `notifiers.alertmanager`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Alertmanager's URL, without `/api/v2`; left out, nobody is told.
    pub endpoint: Option<String>,
    /// TLS, where the endpoint is `https`.
    pub tls: TlsSettings,
    /// Longest wait for an answer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Headers of each request.
    pub headers: BTreeMap<String, HeaderSource>,
    /// How often alerts of open incidents are sent again.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub resend_interval: Duration,
    /// Labels beside the agent's own.
    pub labels: BTreeMap<String, String>,
    /// The link of each alert, with `{incident_id}` for the incident's id.
    pub generator_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            tls: TlsSettings::default(),
            timeout: Duration::from_secs(10),
            headers: BTreeMap::new(),
            resend_interval: Duration::from_secs(60),
            labels: BTreeMap::new(),
            generator_url: None,
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        const EXAMPLE: &str = "http://localhost:9093";
        match &self.endpoint {
            Some(written) => {
                let base = http_client::endpoint(written, EXAMPLE)?;
                if let Some((before, _)) = base.split_once("/api/") {
                    return Err(format!(
                        "endpoint: the path of the API is added by itself; write `{before}`"
                    ));
                }
            }
            None if *self != Self::default() => {
                return Err(format!("endpoint: missing, so nobody would be told; write `{EXAMPLE}`"));
            }
            None => {}
        }
        self.tls.validate().map_err(|problem| format!("tls: {problem}"))?;
        if self.timeout.is_zero() {
            return Err("timeout: must be more than 0s; write 10s".to_owned());
        }
        if self.resend_interval < Duration::from_secs(1) {
            return Err("resend_interval: shorter than a second; write 1m".to_owned());
        }
        for name in self.labels.keys() {
            if OWN_LABELS.contains(&name.as_str()) {
                return Err(format!("labels: `{name}` is the agent's own; choose another name"));
            }
            let mut letters = name.chars();
            let first = letters
                .next()
                .is_some_and(|letter| letter.is_ascii_alphabetic() || letter == '_');
            if !first || !letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                return Err(format!(
                    "labels: `{name}` is not a label's name; use letters, digits and `_`"
                ));
            }
        }
        if let Some(url) = &self.generator_url
            && http::Uri::try_from(url.replace("{incident_id}", "x"))
                .ok()
                .is_none_or(|uri| uri.scheme().is_none())
        {
            return Err(format!(
                "generator_url: `{url}` is not a URL; write it like `http://localhost:3000/explore?incident={{incident_id}}`"
            ));
        }
        http_client::headers(&self.headers).map(|_| ())
    }
}

/// An incident's alert, as it is known here.
#[derive(Debug)]
struct Known {
    labels: Labels,
    report: Report,
    /// When the incident was over, and until when that is worth telling.
    over: Option<(u64, Instant)>,
    /// Whether Alertmanager has not been told how it stands.
    due: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Alertmanager {
    settings: Settings,
    url: String,
    incident_id: String,
    client: HttpClient,
    known: BTreeMap<(Tenant, IncidentId), Known>,
    /// Whether Alertmanager may have alerts of an earlier process, whose labels go on.
    inherits: bool,
    next_round: Instant,
    dropped: u64,
    waits: Waits,
    not_before: Option<Instant>,
    failing: Throttle,
}

impl Alertmanager {
    /// A notifier, if there is to be one; `incident_id` is the name that the id has on records.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &Settings, incident_id: &str) -> Result<Option<Self>, String> {
        settings.validate()?;
        let Some(endpoint) = &settings.endpoint else {
            return Ok(None);
        };
        let headers = http_client::headers(&settings.headers)?;
        Ok(Some(Self {
            url: format!("{}/api/v2/alerts", endpoint.trim_end_matches('/')),
            incident_id: incident_id.to_owned(),
            client: HttpClient::new(endpoint, &settings.tls, headers, settings.timeout)?,
            known: BTreeMap::new(),
            inherits: false,
            next_round: Instant::now() + settings.resend_interval,
            dropped: 0,
            waits: Waits::default(),
            not_before: None,
            failing: Throttle::default(),
            settings: settings.clone(),
        }))
    }

    fn note(&mut self, tenant: &Tenant, change: &Change) {
        let key = (tenant.clone(), change.incident.id);
        let full = self.known.len() >= MAX_ALERTS;
        let report = Report::of(tenant, change, &self.incident_id);
        let over = match change.incident.status {
            Status::Open => None,
            Status::Merged { .. } | Status::Closed { .. } => Some((
                now_unix_nano(),
                Instant::now() + self.settings.resend_interval * ROUNDS_ALIVE,
            )),
        };
        if let Some(known) = self.known.get_mut(&key) {
            (known.report, known.over, known.due) = (report, over, true);
        } else if full {
            self.dropped += 1;
        } else {
            let labels = labels(&report, &self.settings.labels);
            let due = true;
            self.known.insert(
                key,
                Known {
                    labels,
                    report,
                    over,
                    due,
                },
            );
        }
    }

    /// One step: what is due, at most a batch of it.
    async fn step(&mut self) -> Tellings {
        let mut told = Tellings {
            dropped: std::mem::take(&mut self.dropped),
            ..Tellings::default()
        };
        let now = Instant::now();
        // By then its alert has ended by itself.
        self.known
            .retain(|_, known| known.over.is_none_or(|(_, until)| until > now));
        if now >= self.next_round {
            self.next_round = now + self.settings.resend_interval;
            self.known.values_mut().for_each(|known| known.due = true);
        }
        if let Some(later) = self.not_before.filter(|later| *later > now) {
            told.next = Some(later);
            return told;
        }
        self.not_before = None;
        let due: Vec<(Tenant, IncidentId)> = self
            .known
            .iter()
            .filter(|(_, known)| known.due)
            .map(|(key, _)| key.clone())
            .take(MAX_BATCH)
            .collect();
        if !due.is_empty() {
            let outcome = match self.inherit().await {
                Ok(()) => self.client.post(&self.url, self.batch(&due)).await,
                Err(problem) => Err(problem),
            };
            self.settle(&due, outcome, &mut told);
        }
        let more = self.known.values().any(|known| known.due);
        let again = more.then(|| self.not_before.unwrap_or(now));
        let round = (!self.known.is_empty()).then_some(self.next_round);
        told.next = [again, round].into_iter().flatten().min();
        told
    }

    /// What came of a batch.
    fn settle(&mut self, batch: &[(Tenant, IncidentId)], outcome: Result<(), CallError>, told: &mut Tellings) {
        let count = batch.len() as u64;
        if let Err(problem) = &outcome {
            if let Some(left_out) = self.failing.admit() {
                tracing::warn!(left_out, "Alertmanager was not told of incidents: {problem}");
            }
            told.failed = count;
            let wait = self.waits.after_failure();
            if matches!(problem, CallError::Passing(_)) {
                self.not_before = Some(Instant::now() + wait);
                return;
            }
        } else {
            told.sent = count;
            self.waits.reset();
        }
        // Taken, or not to be sent again before the next round.
        for key in batch {
            if let Some(known) = self.known.get_mut(key) {
                known.due = false;
            }
            if self.known.get(key).is_some_and(|known| known.over.is_some()) {
                self.known.remove(key);
            }
        }
    }

    fn batch(&self, keys: &[(Tenant, IncidentId)]) -> Bytes {
        let now = now_unix_nano();
        let alive = self.settings.resend_interval * ROUNDS_ALIVE;
        let alive = now.saturating_add(u64::try_from(alive.as_nanos()).unwrap_or(u64::MAX));
        let link = self.settings.generator_url.as_deref();
        let alerts: Vec<Alert> = keys
            .iter()
            .filter_map(|key| self.known.get(key))
            .map(|known| {
                let ends = known.over.map_or(alive, |(over, _)| over);
                Alert::new(&known.labels, &known.report, now, ends, link)
            })
            .collect();
        // An alert has nothing that JSON does not.
        Bytes::from(serde_json::to_vec(&alerts).unwrap_or_default())
    }

    /// Takes over the labels of alerts that an earlier process sent: a label that differed would be another alert.
    async fn inherit(&mut self) -> Result<(), CallError> {
        if !std::mem::take(&mut self.inherits) {
            return Ok(());
        }
        let listed = self
            .client
            .get(&format!("{}?filter={}", self.url, alert::FILTER), MAX_LIST_BYTES)
            .await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(CallError::Final(_)) => return Ok(()),
            Err(passing) => {
                self.inherits = true;
                return Err(passing);
            }
        };
        // What cannot be read tells nothing.
        let firing: Vec<FiringAlert> = serde_json::from_slice(&listed).unwrap_or_default();
        for known in self.known.values_mut() {
            if let Some(earlier) = firing.iter().find(|firing| firing.is_of(&known.report)) {
                known.labels.clone_from(&earlier.labels);
            }
        }
        Ok(())
    }
}

impl Listener for Alertmanager {
    fn name(&self) -> &'static str {
        "alertmanager"
    }

    fn hear(&mut self, tenant: &Tenant, change: &Change) {
        self.note(tenant, change);
    }

    fn follows_open(&self) -> bool {
        true
    }

    fn hear_open(&mut self, open: Vec<(Tenant, Incident)>) {
        let until = Instant::now() + self.settings.resend_interval * ROUNDS_ALIVE;
        let ids: BTreeSet<(&Tenant, IncidentId)> =
            open.iter().map(|(tenant, incident)| (tenant, incident.id)).collect();
        for (key, known) in &mut self.known {
            if !ids.contains(&(&key.0, key.1)) && known.over.is_none() {
                known.over = Some((now_unix_nano(), until));
                known.due = true;
            }
        }
        self.inherits |= self.known.is_empty() && !open.is_empty();
        for (tenant, incident) in open {
            let change = Change {
                happened: Happened::Updated,
                time_unix_nano: incident.last_time_unix_nano,
                incident,
            };
            self.note(&tenant, &change);
        }
    }

    fn tell(&mut self) -> BoxFuture<'_, Tellings> {
        Box::pin(self.step())
    }

    fn waiting(&self) -> usize {
        self.known.values().filter(|known| known.due).count()
    }
}
