//! The agent's own metrics and traces: what of the process is measured, and where all of it is sent.
//!
//! What enters: settings that have been checked. What leaves: a push of metrics and traces, where the configuration wants
//! them, until they are finished. Promises: no record waits for them; at the end what is left is sent, as far as there is time.
//! Absent on purpose: the Prometheus page, which is a status page.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::timeout_at;

use crate::{
    config::{
        Settings,
        self_traces::{Processor, Sampler},
    },
    edge::memory_limiter,
    telemetry::{self, Batching, Metrics, Push, Resource, Traces},
};

/// How long the end waits, at most, for what has not been sent yet.
const LAST: Duration = Duration::from_secs(2);
/// The attribute that tells one agent from another of the same kind.
const INSTANCE: &str = "service.instance.id";

/// Measures the process whenever metrics are read.
pub(super) fn follow_process(metrics: &Metrics) {
    let began = Instant::now();
    metrics.follow(move |metrics| {
        metrics.process_uptime.follow(began.elapsed());
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(cpu.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(cpu.tv_nsec).unwrap_or_default();
        metrics.process_cpu_seconds.follow(Duration::new(seconds, nanoseconds));
        if let Some(resident) = memory_limiter::resident_bytes() {
            metrics.process_memory_rss.set(resident);
        }
    });
}

/// Who says all this. As in the Collector, each process has an id of its own, unless the configuration gives it one.
pub(super) fn resource(settings: &Settings) -> Resource {
    let mut attributes = settings.telemetry.resource.clone();
    let instance = attributes.entry(INSTANCE.to_owned());
    instance.or_insert_with(|| format!("{:032x}", fastrand::u128(..)));
    telemetry::resource(&attributes)
}

/// Starts pushing metrics where the configuration says so; they stop when the result is dropped.
///
/// # Errors
/// A destination that cannot be one, as a certificate that cannot be read.
pub(super) fn push_metrics(settings: &Settings, metrics: &Arc<Metrics>, resource: Resource) -> Result<Option<Push>> {
    let mut exporters = Vec::new();
    for periodic in super::readers(settings)
        .iter()
        .filter_map(|reader| reader.periodic.as_ref())
    {
        let exporter = periodic.exporter.otlp.metrics(Duration::from_millis(periodic.timeout));
        let exporter = exporter.map_err(anyhow::Error::msg);
        let exporter = exporter.context("service.telemetry.metrics.readers: periodic")?;
        exporters.push((exporter, Duration::from_millis(periodic.interval)));
    }
    Ok((!exporters.is_empty()).then(|| Push::start(metrics, exporters, resource)))
}

/// Starts tracing where the configuration says so.
///
/// # Errors
/// A destination that cannot be one, as a certificate that cannot be read.
pub(super) fn trace(settings: &Settings, metrics: &Arc<Metrics>, resource: Resource) -> Result<Traces> {
    let traces = &settings.telemetry.traces;
    let mut exporters = Vec::new();
    for Processor { batch } in traces.running() {
        let exporter = batch.exporter.otlp.spans(Duration::from_millis(batch.export_timeout));
        let exporter = exporter.map_err(anyhow::Error::msg);
        let exporter = exporter.context("service.telemetry.traces.processors: batch")?;
        let batching = Batching {
            schedule_delay: Duration::from_millis(batch.schedule_delay),
            max_queue_size: batch.max_queue_size,
            max_export_batch_size: batch.max_export_batch_size,
        };
        exporters.push((exporter, batching));
    }
    if exporters.is_empty() {
        return Ok(Traces::default());
    }
    Ok(Traces::start(metrics, exporters, sampler(&traces.sampler), resource))
}

fn sampler(written: &Sampler) -> telemetry::Sampler {
    match written {
        Sampler::AlwaysOn {} => telemetry::Sampler::AlwaysOn,
        Sampler::AlwaysOff {} => telemetry::Sampler::AlwaysOff,
        Sampler::TraceIdRatioBased { ratio } => telemetry::Sampler::TraceIdRatioBased(*ratio),
        Sampler::ParentBased { root } => telemetry::Sampler::ParentBased(Box::new(sampler(root))),
    }
}

/// What sends the agent's own metrics and traces.
pub(super) struct Sending {
    pub(super) push: Option<Push>,
    pub(super) traces: Traces,
}

/// Sends what is left, as far as somebody takes it before `end`, and soon.
pub(super) async fn finish(Sending { push, traces }: Sending, end: tokio::time::Instant) {
    let finishing = tokio::task::spawn_blocking(move || {
        traces.finish();
        drop(push);
    });
    let until = end.min(tokio::time::Instant::now() + LAST);
    if timeout_at(until, finishing).await.is_err() {
        tracing::warn!("the agent's last metrics and traces could not be sent in time");
    }
}
