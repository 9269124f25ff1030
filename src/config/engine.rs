//! The shape of the engine's section: one section for each step on the path of a record.
//!
//! What enters: the settings that the rooms and edges own. What leaves: [`Harbinger`], complete with defaults. Promise: two rooms may share
//! a section, never a key. Absent on purpose: the shapes of all other components ([`super::settings`]), defaults of the rooms (theirs) and
//! checks (theirs and [`super::resolve`]'s).

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::read::known_keys;

use crate::{
    edge::{
        cluster_kafka::Settings as ClusterKafkaSettings, model::Settings as ModelSettings,
        notify_alertmanager::Settings as AlertmanagerSettings, notify_webhook::Settings as WebhookSettings,
    },
    engine::{
        annotate::Settings as AnnotateSettings, correlate::Settings as CorrelateSettings,
        score::Settings as ScoreSettings, tenant::Settings as TenantSettings, text::Settings as TextSettings,
    },
    pipeline::{
        Mode, cluster::Settings as SharingSettings, embedding::Settings as WaitingSettings,
        events::Settings as EventsSettings,
    },
};

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
    /// The other agents that it shares incidents with.
    pub cluster: Cluster,
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

/// `processors.harbinger.cluster`. Where the section is not there, nothing is shared; where it is, it is `enabled` unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// How incidents are shared.
    #[serde(flatten)]
    pub sharing: SharingSettings,
    /// Where.
    #[serde(flatten)]
    pub kafka: ClusterKafkaSettings,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            sharing: SharingSettings {
                enabled: false,
                ..SharingSettings::default()
            },
            kafka: ClusterKafkaSettings::default(),
        }
    }
}

impl Harbinger {
    /// The cluster, if incidents are shared.
    pub fn shared_by(&self) -> Option<&Cluster> {
        Some(&self.cluster).filter(|cluster| cluster.sharing.enabled)
    }
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
pub(super) fn sections() -> [(&'static str, Vec<&'static str>); 11] {
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
        ("processors.harbinger.cluster", cluster_keys()),
        ("processors.harbinger.state", known_keys::<State>().to_vec()),
    ]
}

/// The keys of [`Cluster`].
pub(super) fn cluster_keys() -> Vec<&'static str> {
    [known_keys::<SharingSettings>(), known_keys::<ClusterKafkaSettings>()].concat()
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
