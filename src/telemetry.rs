//! What the agent says of itself: every metric declared once, and its self-log.
//!
//! What enters: counts from the rooms and the edges. What leaves: Prometheus text on request, OTLP by push, and log
//! lines on standard error. Promises: counting is one relaxed atomic addition; names follow the Collector's
//! (`…_receiver_accepted_log_records`), with the prefix `harbinger_`. Absent on purpose: thresholds and judgement.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use tracing_subscriber::EnvFilter;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets the sum to one that is kept elsewhere.
    pub fn follow(&self, sum: u64) {
        self.0.store(sum, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is what it is now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds one for as long as the guard lives.
    pub fn hold(&self) -> impl Drop + '_ {
        struct Held<'a>(&'a AtomicU64);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Held(&self.0)
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
}

/// One metric, as it is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Name without the prefix.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// One sentence, with the unit.
    pub description: &'static str,
    /// Its value now.
    pub value: u64,
}

/// Who brings metrics up to date that are kept elsewhere.
#[derive(Default)]
struct Sources(Mutex<Vec<Source>>);

/// Sets metrics to what they are now.
type Source = Box<dyn Fn(&Metrics) + Send + Sync>;

impl Sources {
    fn bring_up_to_date(&self, metrics: &Metrics) {
        for source in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(metrics);
        }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sources").finish_non_exhaustive()
    }
}

macro_rules! metrics {
    ($($kind:ident $name:ident: $description:literal;)*) => {
        /// Every metric of the agent.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $description] pub $name: $kind,)*
            sources: Sources,
        }

        impl Metrics {
            /// Every metric with its value now, in the order of declaration.
            pub fn read(&self) -> Vec<Reading> {
                self.sources.bring_up_to_date(self);
                vec![$(Reading {
                    name: stringify!($name),
                    kind: Kind::$kind,
                    description: $description,
                    value: self.$name.get(),
                },)*]
            }
        }
    };
}

metrics! {
    Counter receiver_accepted_log_records: "Records taken from callers and acknowledged.";
    Counter receiver_refused_log_records: "Records whose request was answered with an error.";
    Counter receiver_malformed_requests: "Requests whose bytes are not an ExportLogsServiceRequest.";
    Counter receiver_unauthenticated_requests: "Requests of callers that are not known; their bodies were not read.";
    Counter receiver_refused_connections: "Connections closed at once because there were max_connections already.";
    Counter exporter_sent_log_records: "Records the next hop has accepted.";
    Counter exporter_send_failed_log_records: "Records the next hop did not accept in time, or refused.";
    Counter exporter_rejected_log_records: "Records the next hop reported as rejected in a partial success.";
    Counter exporter_enqueue_failed_log_records: "Records for which a sending queue had no room, or that its disk did not take.";
    Counter exporter_dead_letter_log_records: "Records refused for good that a sending queue keeps to be looked at.";
    Counter exporter_queue_set_aside_entries: "Requests of sending queues whose bytes on disk were damaged.";
    Counter exporter_queue_set_aside_files: "Files of sending queues that were corrupt.";
    Counter processor_incoming_items: "Records that reached the engine.";
    Counter processor_outgoing_items: "Records that left the engine with a verdict.";
    Counter repeated_requests: "Identical retries, answered with the verdicts they got before.";
    Counter anomalous_log_records: "Records judged anomalous.";
    Counter over_budget_episodes: "Episodes not marked because their service had detection.max_episodes_per_hour already.";
    Counter released_episodes: "Episodes not marked because many harmless ones began at once, as after a release.";
    Counter drift_alarms: "Times that what is usual had changed, and training began anew.";
    Counter clock_jumps_back: "Times that this machine's clock went back by more than a minute; open incidents were closed.";
    Counter evicted_templates: "Templates forgotten for want of room (detection.max_templates).";
    Counter degraded_log_records: "Records without a verdict because their embedding was missing.";
    Counter warming_up_log_records: "Records that passed before the model was trained.";
    Counter overflow_tenant_log_records: "Records of tenants beyond tenant.max_tenants, judged together and without quotations.";
    Counter odd_log_records: "Records that could not be read in full (invalid UTF-8, too deep, cut); forwarded unchanged.";
    Counter replaced_attributes: "Inbound attributes that had one of our names.";
    Counter opened_incidents: "Incidents opened.";
    Counter merged_incidents: "Incidents that turned out to be part of an older one.";
    Counter announced_incidents: "Incidents that became large enough to be told.";
    Counter incidents_closed_by_silence: "Announced incidents of which nothing more was said.";
    Counter incidents_closed_by_max_life: "Announced incidents that reached the longest life.";
    Counter incidents_closed_by_bound: "Announced incidents closed because too many were open.";
    Counter incidents_closed_by_dismissal: "Announced incidents that somebody dismissed.";
    Counter incident_events_sent: "Events of incidents that the next hop has accepted.";
    Counter incident_events_failed: "Events of incidents that the next hop did not accept.";
    Counter incident_events_dropped: "Events of incidents for which there was no room, as the next hop was too slow.";
    Counter notifications_sent: "Alerts and documents that a notifier's endpoint has accepted.";
    Counter notifications_failed: "Attempts at alerts that failed, and documents that were given up.";
    Counter notifications_dropped: "Changes of incidents that notifiers had no room for.";
    Counter embedding_templates: "Templates the model has embedded.";
    Counter embedding_failed_templates: "Templates the model failed on.";
    Counter embedding_hangs: "Times that the model was seen to hang.";
    Counter embedding_late_templates: "Embeddings that came after a request's deadline.";
    Counter embedding_queue_overflow_templates: "Templates that found the queue to the model full.";
    Counter fits: "Trainings of the autoencoder that have finished.";
    Counter journal_failed_writes: "Journal entries that could not be written.";
    Counter snapshot_failed_writes: "Snapshots that could not be written.";
    Counter snapshots: "Snapshots written.";
    Gauge exporter_queue_size: "What is in the sending queues, each in units of its sizer.";
    Gauge exporter_queue_capacity: "What fits into them.";
    Gauge exporter_queue_log_records: "Records in them.";
    Gauge exporter_dead_letters: "Requests among their dead letters.";
    Gauge tenants: "Tenants that are told apart, as of the last record that met a tenant still learning.";
    Gauge open_incidents: "Incidents now open.";
    Gauge templates: "Templates now known.";
    Gauge process_memory_rss_bytes: "Bytes of memory the process has resident; known where a memory_limiter looks.";
    Gauge memory_limited: "1 while requests are refused because memory is near its limit, else 0.";
    Gauge requests_in_flight: "Requests now between a caller and the next hop.";
    Gauge config_reload_success: "1 when the configuration was last read without a mistake, 0 when a reload was refused.";
    Gauge config_reload_success_time_seconds: "When that was last the case, in seconds since the Unix epoch.";
    Gauge detection_ready: "1 when the model is trained and works, else 0.";
    Gauge warm_up_remaining_log_records: "Records still needed before the first training, 0 once it is done.";
}

/// Prefix of every metric's name.
pub const PREFIX: &str = "harbinger_";

impl Metrics {
    /// Has `source` set, before each reading, what it keeps itself.
    pub fn follow(&self, source: impl Fn(&Metrics) + Send + Sync + 'static) {
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.push(Box::new(source));
    }

    /// Every metric in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for Reading {
            name,
            kind,
            description,
            value,
        } in self.read()
        {
            let (suffix, kind) = match kind {
                Kind::Counter => ("_total", "counter"),
                Kind::Gauge => ("", "gauge"),
            };
            let _ = write!(
                text,
                "# HELP {PREFIX}{name}{suffix} {description}\n# TYPE {PREFIX}{name}{suffix} {kind}\n{PREFIX}{name}{suffix} {value}\n"
            );
        }
        text
    }
}

/// Has the agent's own log begin at another level.
pub type SetLevel = Box<dyn Fn(tracing::Level) + Send + Sync>;

/// Starts the agent's own log on standard error; a second call changes nothing.
pub fn start_log(level: tracing::Level, json: bool) -> SetLevel {
    // Our own words at `level`; what libraries say only from warnings on, or HTTP/2 frames would fill the log at debug.
    let filter = |level| EnvFilter::new(format!("warn,harbinger={level}"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
    // A line that cannot be written (disk full, pipe closed) is lost; complaining of that on standard error would panic.
    let log = log.log_internal_errors(false);
    macro_rules! started {
        ($log:expr) => {{
            let log = $log.with_filter_reloading();
            let handle = log.reload_handle();
            // Only fails when there is a log already, as in tests.
            let _ = log.try_init();
            Box::new(move |level| {
                let _ = handle.reload(filter(level));
            })
        }};
    }
    if json { started!(log.json()) } else { started!(log) }
}

/// Sends every metric by OTLP at an interval; ends when dropped.
#[derive(Debug)]
pub struct Push(SdkMeterProvider);

impl Push {
    /// Starts sending `metrics` to `endpoint` (OTLP gRPC). Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The endpoint is not usable.
    pub fn start(
        metrics: &Arc<Metrics>,
        endpoint: &str,
        interval: Duration,
        timeout: Duration,
        resource: &BTreeMap<String, String>,
    ) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let exporter = opentelemetry_otlp::MetricExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(timeout)
            .build()?;
        let attributes = resource
            .iter()
            .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let resource = Resource::builder()
            .with_service_name("harbinger")
            .with_attributes(attributes)
            .build();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter).with_interval(interval).build())
            .with_resource(resource)
            .build();
        let meter = provider.meter("harbinger");
        for (
            index,
            Reading {
                name,
                kind,
                description,
                ..
            },
        ) in metrics.read().into_iter().enumerate()
        {
            let metrics = Arc::clone(metrics);
            let now = move || metrics.read().get(index).map_or(0, |reading| reading.value);
            let name = format!("{PREFIX}{name}");
            // The instruments live in the provider; the handles are not needed.
            match kind {
                Kind::Counter => {
                    let counter = meter.u64_observable_counter(name).with_description(description);
                    counter
                        .with_callback(move |observer| observer.observe(now(), &[]))
                        .build();
                }
                Kind::Gauge => {
                    let gauge = meter.u64_observable_gauge(name).with_description(description);
                    gauge
                        .with_callback(move |observer| observer.observe(now(), &[]))
                        .build();
                }
            }
        }
        Ok(Self(provider))
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        // A destination that is gone at the end is no news.
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn every_source_is_followed() {
        let metrics = Metrics::default();
        metrics.follow(|metrics| metrics.exporter_queue_size.set(3));
        metrics.follow(|metrics| metrics.receiver_refused_connections.follow(4));
        let text = metrics.prometheus();
        assert!(text.contains("harbinger_exporter_queue_size 3") && text.contains("refused_connections_total 4"));
    }

    #[test]
    fn prometheus_text_has_help_type_and_value() {
        let metrics = Metrics::default();
        metrics.anomalous_log_records.add(3);
        let held = metrics.requests_in_flight.hold();
        let text = metrics.prometheus();
        assert!(text.contains(
            "# TYPE harbinger_anomalous_log_records_total counter\nharbinger_anomalous_log_records_total 3\n"
        ));
        assert!(text.contains("\nharbinger_requests_in_flight 1\n"));
        drop(held);
        assert_eq!(metrics.requests_in_flight.get(), 0);
    }
}
