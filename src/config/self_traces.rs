//! `service.telemetry.traces`: the agent's own traces, in the Collector's shape.
//!
//! What enters: the section, as OpenTelemetry's configuration 0.3 writes it. What leaves: [`Traces`]. Promise: without a
//! processor there are no traces, and nothing is traced. Absent on purpose: what there is no use for here: processor
//! `simple`, exporters `console` and `zipkin`, sampler `jaeger_remote`, `limits` and `propagators` (`traceparent` is read).

use serde::{Deserialize, Serialize};

use crate::edge::push_otlp::Settings as OtlpPushSettings;

/// `service.telemetry.traces`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// `none` turns traces off, whatever stands beside it.
    pub level: TracesLevel,
    /// Where spans go; left out, there are no traces.
    pub processors: Vec<Processor>,
    /// Which requests are traced.
    #[serde(serialize_with = "serde_yaml::with::singleton_map_recursive::serialize")]
    pub sampler: Sampler,
}

/// How much the agent traces of itself, in the Collector's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TracesLevel {
    /// Nothing.
    None,
    /// As `normal`.
    Basic,
    /// All steps of a request that is sampled.
    #[default]
    Normal,
    /// As `normal`.
    Detailed,
}

/// One way for spans to leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// In batches.
    pub batch: Batch,
}

/// `batch`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Milliseconds from one batch to the next, unless one is full before.
    #[serde(default = "five_seconds_ms")]
    pub schedule_delay: u64,
    /// Milliseconds that sending one may take.
    #[serde(default = "half_minute_ms")]
    pub export_timeout: u64,
    /// Spans that wait at the same time; what comes beyond is dropped and counted.
    #[serde(default = "two_thousand")]
    pub max_queue_size: usize,
    /// Spans of one batch.
    #[serde(default = "five_hundred")]
    pub max_export_batch_size: usize,
    /// Where they go.
    pub exporter: SpanExporter,
}

fn five_seconds_ms() -> u64 {
    5_000
}

fn half_minute_ms() -> u64 {
    30_000
}

fn two_thousand() -> usize {
    2_048
}

fn five_hundred() -> usize {
    512
}

/// `batch.exporter`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanExporter {
    /// An OTLP endpoint.
    pub otlp: OtlpPushSettings,
}

/// Which requests are traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampler {
    /// All.
    AlwaysOn {},
    /// None.
    AlwaysOff {},
    /// A share, by the trace's id.
    TraceIdRatioBased {
        /// The share, 0 to 1.
        ratio: f64,
    },
    /// As the caller has decided in its `traceparent`.
    ParentBased {
        /// Decides where a caller has not.
        #[serde(default = "always_on")]
        root: Box<Sampler>,
    },
}

fn always_on() -> Box<Sampler> {
    Box::new(Sampler::AlwaysOn {})
}

impl Default for Sampler {
    fn default() -> Self {
        Self::ParentBased { root: always_on() }
    }
}

impl Sampler {
    fn validate(&self) -> Result<(), String> {
        match self {
            Self::TraceIdRatioBased { ratio } if !(0.0..=1.0).contains(ratio) => Err(format!(
                "sampler: `ratio: {ratio}` is no share; write one from 0 to 1, as 0.01"
            )),
            Self::ParentBased { root } => root.validate(),
            _ => Ok(()),
        }
    }
}

impl Traces {
    /// The processors that run.
    pub fn running(&self) -> &[Processor] {
        match self.level {
            TracesLevel::None => &[],
            _ => &self.processors,
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.sampler.validate()?;
        for Processor { batch } in &self.processors {
            batch.exporter.otlp.validate()?;
            if batch.schedule_delay == 0 || batch.export_timeout == 0 {
                return Err("`schedule_delay` and `export_timeout` are milliseconds, 1 or more".to_owned());
            }
            if batch.max_queue_size == 0 || !(1..=batch.max_queue_size).contains(&batch.max_export_batch_size) {
                return Err("`max_export_batch_size` must be 1 or more, and no more than `max_queue_size`".to_owned());
            }
        }
        Ok(())
    }
}
