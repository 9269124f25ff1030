//! What can be told to correlation.
//!
//! In: the section `correlation` of the configuration. Out: values that can be meant. Absent on purpose: weights.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which records are nodes of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Anomalous records; normal ones attach to an incident they are alike and near to.
    #[default]
    Anomalous,
    /// Every record.
    All,
}

/// Which rule makes incidents of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// By everything that speaks for it: meaning, shared ids, time, services, company.
    #[default]
    Evidence,
    /// Connected components of close and alike records: the notebook's rule.
    Components,
}

/// How records become incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The rule.
    pub mode: Mode,
    /// An incident ends after so much silence. `components`: records this far apart or further share no edge.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub window: Duration,
    /// A normal record is context of an incident it is alike to with a greater cosine. `components`: records share an edge
    /// when the cosine of their embeddings is greater.
    pub similarity: f32,
    /// An incident that lives longer goes on in a child. Not in `components`.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_life: Duration,
    /// Anomalous records from which on an incident is told; one fatal record is enough. Not in `components`.
    pub min_records: u64,
    /// Records that were observed so much later than they happened open no incident: a backlog is read. 0s: all may.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_delay: Duration,
    /// Which records are nodes (`components`).
    pub scope: Scope,
    /// How much earlier than the latest record a record may be and still be placed exactly.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub allowed_lateness: Duration,
    /// Templates that have a run younger than `window` + `allowed_lateness`; beyond, the one silent longest is forgotten.
    pub max_live_templates: usize,
    /// Incidents open at a time; beyond, the one silent longest is closed.
    pub max_open_incidents: usize,
    /// Ids of merged incidents that can be resolved; beyond, the oldest is forgotten.
    pub max_aliases: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Evidence,
            window: Duration::from_secs(300),
            similarity: 0.8,
            max_life: Duration::from_secs(1800),
            min_records: 3,
            max_delay: Duration::from_secs(3600),
            scope: Scope::Anomalous,
            allowed_lateness: Duration::from_secs(120),
            max_live_templates: 4096,
            max_open_incidents: 256,
            max_aliases: 16_384,
        }
    }
}

impl Settings {
    /// The keys that [`Settings::adjust`] takes over: no id and no membership rests on them.
    pub const ADJUSTABLE: [&'static str; 1] = ["min_records"];

    /// Whether every record is a node, and none is context.
    pub fn are_all_nodes(&self) -> bool {
        self.mode == Mode::Components && self.scope == Scope::All
    }

    /// From now on as these say, as far as that can change in a running engine.
    pub(in crate::engine) fn adjust(&mut self, to: &Self) {
        self.min_records = to.min_records;
    }

    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_life < self.window {
            return Err(format!(
                "max_life: {}s is shorter than window, {}s; write a longer one such as 30m",
                self.max_life.as_secs(),
                self.window.as_secs()
            ));
        }
        if self.window.is_zero() {
            return Err("window: 0 joins nothing; write a duration such as 300s".into());
        }
        if !(self.similarity > 0.0 && self.similarity < 1.0) {
            return Err(format!(
                "similarity: {} is not between 0 and 1; write a cosine such as 0.8",
                self.similarity
            ));
        }
        for (key, value) in [
            ("max_live_templates", self.max_live_templates),
            ("max_open_incidents", self.max_open_incidents),
            ("max_aliases", self.max_aliases),
        ] {
            if value == 0 || value > 1 << 24 {
                return Err(format!(
                    "{key}: {value} is not between 1 and {}; write a number such as 4096",
                    1 << 24
                ));
            }
        }
        Ok(())
    }
}
