//! `service`: what runs, and what the agent says of itself, in the Collector's shape.
//!
//! What enters: the `service` section. What leaves: [`Service`]. Promise: defaults are the Collector's: `info` to
//! standard error, Prometheus on localhost:8888. Absent on purpose: sampling of its log.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    component::{ComponentId, MEMORY_LIMITER},
    self_traces::Traces,
};
use crate::edge::push_otlp::Settings as OtlpPushSettings;

/// `service`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Service {
    /// The extensions that run.
    pub extensions: Vec<ComponentId>,
    /// The pipelines that run, by id.
    pub pipelines: BTreeMap<String, Pipeline>,
    /// What the agent says of itself.
    pub telemetry: Telemetry,
    /// How it ends.
    #[serde(flatten)]
    pub ending: Ending,
}

/// The key of `service` about the end of the agent; the Collector has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ending {
    /// From the signal to stop until the process is gone, whatever hangs.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub shutdown_timeout: Duration,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            // Below the 30 s after which Kubernetes kills.
            shutdown_timeout: Duration::from_secs(20),
        }
    }
}

impl Ending {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// What is wrong and what to write instead, after the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.shutdown_timeout < Duration::from_secs(1) {
            return Err("shutdown_timeout: shorter than a second; write `20s`".to_owned());
        }
        Ok(())
    }
}

/// `service.pipelines.logs`, or of another signal
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pipeline {
    /// Where its signal comes from.
    pub receivers: Vec<ComponentId>,
    /// What it passes through.
    pub processors: Vec<ComponentId>,
    /// Where it goes.
    pub exporters: Vec<ComponentId>,
}

impl Pipeline {
    /// The first of its processors of this type.
    pub fn processor(&self, kind: &str) -> Option<&ComponentId> {
        self.processors.iter().find(|id| id.kind == kind)
    }

    /// Whether the memory limiter stands before it.
    pub fn limits_memory(&self) -> bool {
        self.processor(MEMORY_LIMITER).is_some()
    }
}

/// `service.telemetry`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The agent's own log, on standard error.
    pub logs: Logs,
    /// The agent's own metrics.
    pub metrics: Metrics,
    /// The agent's own traces.
    pub traces: Traces,
    /// Attributes that say which agent it is, sent with pushed metrics and traces.
    pub resource: BTreeMap<String, String>,
}

/// `service.telemetry.logs`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// The least severity that is written.
    pub level: LogLevel,
    /// How lines are written.
    pub encoding: LogEncoding,
}

/// A severity of the agent's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, for developers.
    #[serde(alias = "DEBUG")]
    Debug,
    /// What happens.
    #[default]
    #[serde(alias = "INFO")]
    Info,
    /// What may need attention.
    #[serde(alias = "WARN")]
    Warn,
    /// What went wrong.
    #[serde(alias = "ERROR")]
    Error,
}

/// How lines of the agent's own log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogEncoding {
    /// For people.
    #[default]
    Console,
    /// One JSON object a line.
    Json,
}

/// `service.telemetry.metrics`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// `none` turns the agent's metrics off; there is one set of them at every other level.
    pub level: MetricsLevel,
    /// How the metrics leave.
    pub readers: Vec<Reader>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            level: MetricsLevel::default(),
            readers: vec![Reader {
                pull: Some(Pull::default()),
                periodic: None,
            }],
        }
    }
}

/// How much the agent measures of itself, in the Collector's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricsLevel {
    /// Nothing leaves.
    None,
    /// As `normal`.
    Basic,
    /// All metrics.
    #[default]
    Normal,
    /// As `normal`.
    Detailed,
}

/// One way for metrics to leave: one of its two.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// They are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// They are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub periodic: Option<Periodic>,
}

/// `pull`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pull {
    /// Who fetches.
    pub exporter: PullExporter,
}

/// `pull.exporter`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullExporter {
    /// Prometheus.
    pub prometheus: Prometheus,
}

/// `pull.exporter.prometheus`: where `/metrics` is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prometheus {
    /// Host name or address to listen on.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 8888,
        }
    }
}

impl Prometheus {
    /// `host:port`
    pub fn endpoint(&self) -> String {
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// `periodic`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Periodic {
    /// Milliseconds from one sending to the next.
    #[serde(default = "minute_ms")]
    pub interval: u64,
    /// Milliseconds that one sending may take.
    #[serde(default = "half_minute_ms")]
    pub timeout: u64,
    /// Where they go.
    pub exporter: PeriodicExporter,
}

fn minute_ms() -> u64 {
    60_000
}

fn half_minute_ms() -> u64 {
    30_000
}

/// `periodic.exporter`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodicExporter {
    /// An OTLP endpoint.
    pub otlp: OtlpPushSettings,
}

impl Telemetry {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// What is wrong and what to write instead, after the key.
    pub fn validate(&self) -> Result<(), String> {
        if self.metrics.level != MetricsLevel::None && self.metrics.readers.is_empty() {
            return Err("metrics: `readers` is empty; name a reader, or write `level: none`".to_owned());
        }
        for reader in &self.metrics.readers {
            if reader.pull.is_some() == reader.periodic.is_some() {
                return Err(
                    "metrics: each of `readers` is either `pull: …` or `periodic: …`; write one of them".to_owned(),
                );
            }
            if let Some(periodic) = &reader.periodic {
                let otlp = &periodic.exporter.otlp;
                otlp.validate().map_err(|problem| format!("metrics: {problem}"))?;
                if periodic.interval == 0 || periodic.timeout == 0 {
                    return Err("metrics: `interval` and `timeout` are milliseconds, 1 or more".to_owned());
                }
            }
        }
        self.traces.validate().map_err(|problem| format!("traces: {problem}"))
    }
}
