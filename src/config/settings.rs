//! The shapes of a configuration: what the user defined, complete with defaults, and what of it runs.
//!
//! What enters: the settings that the rooms and edges own. What leaves: [`Config`], which prints as the YAML it can be
//! read from, and [`Settings`], which `app` wires. Promise: two rooms may share a section, never a key. Absent on
//! purpose: defaults of the rooms (theirs) and checks (theirs and [`super::resolve`]'s).

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    component::{ComponentId, Components, Role},
    read::known_keys,
    service::{Service, Telemetry},
};

use crate::{
    edge::{
        api::Settings as ApiSettings, authenticate_basic::Settings as BasicAuthSettings,
        authenticate_bearer::Settings as BearerTokenSettings, export_debug::Settings as DebugSettings,
        export_file::Settings as FileSettings, export_otlp::Settings as OtlpSettings,
        health::Settings as HealthSettings, model::Settings as ModelSettings,
        notify_alertmanager::Settings as AlertmanagerSettings, notify_webhook::Settings as WebhookSettings,
        receive_grpc::Settings as GrpcSettings,
    },
    engine::{
        annotate::Settings as AnnotateSettings, correlate::Settings as CorrelateSettings,
        score::Settings as ScoreSettings, tenant::Settings as TenantSettings, text::Settings as TextSettings,
    },
    pipeline::{Mode, embedding::Settings as WaitingSettings, events::Settings as EventsSettings},
};

/// Everything that is defined, whether it runs or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// Ways in.
    pub receivers: Components<Receiver>,
    /// What works on records.
    pub processors: Components<Processor>,
    /// Ways out.
    pub exporters: Components<Exporter>,
    /// What serves the agent itself.
    pub extensions: Components<Extension>,
    /// What runs.
    pub service: Service,
}

impl Config {
    /// The exporter that a processor names for its events.
    pub(super) fn events_exporter(&self, processor: &ComponentId) -> Option<ComponentId> {
        let Processor::Harbinger(harbinger) = self.processors.get(processor)?;
        let events = Some(&harbinger.events).filter(|events| events.enabled)?;
        ComponentId::of(Role::Exporter, events.exporter.as_deref()?)
            .ok()
            .map(|(id, _)| id)
    }
}

/// What runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The ways in; at least one.
    pub receivers: Vec<(ComponentId, Receiver)>,
    /// The engine's name in the configuration.
    pub processor: ComponentId,
    /// The engine.
    pub harbinger: Harbinger,
    /// The way out.
    pub exporter: (ComponentId, Exporter),
    /// The way out for events of incidents, where it is another.
    pub events_exporter: Option<(ComponentId, Exporter)>,
    /// What serves the agent itself.
    pub extensions: Vec<(ComponentId, Extension)>,
    /// What the agent says of itself.
    pub telemetry: Telemetry,
}

/// A receiver of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Receiver {
    /// `otlp`
    Otlp(OtlpReceiver),
}

/// `otlp`: one section for each protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtlpReceiver {
    /// The protocols it listens for.
    pub protocols: Protocols,
}

/// The protocols of the OTLP receiver.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Protocols {
    /// OTLP by gRPC.
    pub grpc: GrpcSettings,
}

/// A processor of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Processor {
    /// `harbinger`
    Harbinger(Box<Harbinger>),
}

/// An exporter of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Exporter {
    /// `otlp_grpc`
    OtlpGrpc(Box<OtlpSettings>),
    /// `file`
    File(FileSettings),
    /// `debug`
    Debug(DebugSettings),
}

/// An extension of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Extension {
    /// `health_check`
    HealthCheck(HealthSettings),
    /// `harbinger_api`
    HarbingerApi(ApiSettings),
    /// `bearertokenauth`
    BearerTokenAuth(BearerTokenSettings),
    /// `basicauth`
    BasicAuth(BasicAuthSettings),
}

impl Extension {
    /// `host:port` that it listens on, if it does.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::HealthCheck(settings) => Some(&settings.endpoint),
            Self::HarbingerApi(settings) => Some(&settings.endpoint),
            Self::BearerTokenAuth(_) | Self::BasicAuth(_) => None,
        }
    }
}

/// `processors.harbinger`: the engine, one section for each step on the path of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Harbinger {
    /// Whose records are kept apart.
    pub tenant: TenantSettings,
    /// What text is judged.
    pub text: TextSettings,
    /// The sentence model and how long a request waits for it.
    pub embedding: Embedding,
    /// What counts as anomalous.
    pub detection: Detection,
    /// What makes records one incident.
    pub correlation: CorrelateSettings,
    /// The names of the attributes that are written.
    pub attributes: AnnotateSettings,
    /// What is told of incidents as log records.
    pub events: EventsSettings,
    /// Who else is told of incidents.
    pub notifiers: Notifiers,
    /// Where what was learned survives a restart.
    pub state: State,
}

/// `processors.harbinger.notifiers`: with the engine whose incidents they are, not with the extensions, which serve the
/// agent itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Notifiers {
    /// Alertmanager.
    pub alertmanager: AlertmanagerSettings,
    /// A URL of the user's own.
    pub webhook: WebhookSettings,
}

/// `processors.harbinger.embedding`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Embedding {
    /// The model and its runtime.
    #[serde(flatten)]
    pub model: ModelSettings,
    /// How requests wait for it.
    #[serde(flatten)]
    pub waiting: WaitingSettings,
}

/// `processors.harbinger.detection`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Detection {
    /// What is done with verdicts.
    pub mode: Mode,
    /// How they are found.
    #[serde(flatten)]
    pub score: ScoreSettings,
}

/// The key of [`Detection`] beside the scorer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DetectionMode {
    pub(super) mode: Mode,
}

/// More hours and days would fill a disk.
const MOST_SNAPSHOTS: usize = 100;

/// `processors.harbinger.state`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Whether what was learned is kept on disk; without it a restart learns anew and open incidents are forgotten.
    pub enabled: bool,
    /// The directory, created when it is missing. One agent each.
    pub directory: PathBuf,
    /// How often a snapshot is written; the journal of incidents is always up to date.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub snapshot_interval: Duration,
    /// Snapshots kept for a return to them: one of each of the last so many hours, and of each of the last so many days.
    pub keep_snapshots: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: PathBuf::from("./harbinger-state"),
            snapshot_interval: Duration::from_secs(60),
            keep_snapshots: 5,
        }
    }
}

impl State {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// What is wrong and what to write instead, after the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.directory.as_os_str().is_empty() {
            return Err("directory: empty; write a path, or `enabled: false` to keep nothing".to_owned());
        }
        if self.snapshot_interval < Duration::from_secs(1) {
            return Err("snapshot_interval: shorter than a second; write `60s`".to_owned());
        }
        if self.keep_snapshots > MOST_SNAPSHOTS {
            return Err(format!(
                "keep_snapshots: {} is more than {MOST_SNAPSHOTS}; write 5, or 0 to keep none",
                self.keep_snapshots
            ));
        }
        Ok(())
    }
}

/// The sections of the engine with the keys they know, to tell where a misplaced key belongs.
pub(super) fn sections() -> [(&'static str, Vec<&'static str>); 10] {
    [
        ("processors.harbinger.tenant", known_keys::<TenantSettings>().to_vec()),
        ("processors.harbinger.text", known_keys::<TextSettings>().to_vec()),
        ("processors.harbinger.embedding", embedding_keys()),
        ("processors.harbinger.detection", detection_keys()),
        (
            "processors.harbinger.correlation",
            known_keys::<CorrelateSettings>().to_vec(),
        ),
        (
            "processors.harbinger.attributes",
            known_keys::<AnnotateSettings>().to_vec(),
        ),
        ("processors.harbinger.events", known_keys::<EventsSettings>().to_vec()),
        (
            "processors.harbinger.notifiers.alertmanager",
            known_keys::<AlertmanagerSettings>().to_vec(),
        ),
        (
            "processors.harbinger.notifiers.webhook",
            known_keys::<WebhookSettings>().to_vec(),
        ),
        ("processors.harbinger.state", known_keys::<State>().to_vec()),
    ]
}

/// The keys of [`Embedding`].
pub(super) fn embedding_keys() -> Vec<&'static str> {
    [known_keys::<ModelSettings>(), known_keys::<WaitingSettings>()].concat()
}

/// The keys of [`Detection`].
pub(super) fn detection_keys() -> Vec<&'static str> {
    [known_keys::<DetectionMode>(), known_keys::<ScoreSettings>()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rooms that share a section would silently share a key of one name.
    #[test]
    fn no_two_rooms_share_a_key_of_one_section() {
        for (section, mut keys) in sections() {
            assert!(!keys.is_empty(), "{section}");
            let all = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), all, "{section}");
        }
    }
}
