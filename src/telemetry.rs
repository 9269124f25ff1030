//! What the agent says of itself: every metric declared once, its own traces, and its self-log.
//!
//! What enters: counts and spans from the rooms and the edges. What leaves: Prometheus text on request, metrics and traces
//! by OTLP, and log lines on standard error. Promises: counting is a relaxed atomic addition; names follow the Collector's
//! (`…_receiver_accepted_log_records`), with the prefix `harbinger_`; no text of a log is in any of it. Absent on purpose:
//! thresholds and judgement, and connections: whoever starts a push brings an exporter.

mod exposition;
mod instruments;
mod log;
mod push;
mod traces;

use std::sync::{Mutex, PoisonError};

use instruments::Readable;

pub use opentelemetry_sdk::Resource;

pub use instruments::{Counter, DurationHistogram, Family, Gauge, Kind, SecondsCounter, Series, SizeHistogram, Value};
pub use log::{SetLevel, start_log};
pub use push::{Push, resource};
pub use traces::{Batching, Sampler, Span, TRACEPARENT, Trace, Traces};

/// Prefix of every metric's name.
pub const PREFIX: &str = "harbinger_";

/// A metric as it is declared.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Name without the prefix.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Unit, as UCUM has it; empty where there is none.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
}

/// One metric, as it is read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it is.
    pub declared: &'static Declaration,
    /// Its values now; none where no set of labels has been seen.
    pub series: Vec<Series>,
}

/// Who brings metrics up to date that are kept elsewhere.
#[derive(Default)]
struct Sources(Mutex<Vec<Source>>);

/// Sets metrics to what they are now.
type Source = Box<dyn Fn(&Metrics) + Send + Sync>;

impl std::fmt::Debug for Sources {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// The type of a metric with these labels.
macro_rules! instrument {
    ($kind:ident) => { $kind };
    ($kind:ident $($label:ident)+) => { Family<$kind, { [$(stringify!($label)),+].len() }> };
}

/// `Kind name{label, label} in "unit": "One sentence.";`, labels and unit where there are any.
macro_rules! metrics {
    ($($kind:ident $name:ident $({$($label:ident),+})? $(in $unit:literal)?: $description:literal;)*) => {
        /// Every metric of the agent.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $description] pub $name: instrument!($kind $($($label)+)?),)*
            sources: Sources,
        }

        /// Every metric, in the order of declaration.
        pub const DECLARATIONS: &[Declaration] = &[$(Declaration {
            name: stringify!($name),
            kind: <$kind as instruments::Instrument>::KIND,
            labels: &[$($(stringify!($label)),+)?],
            unit: concat!($($unit)?),
            description: $description,
        },)*];

        impl Metrics {
            /// Every metric with how it is read, in the same order.
            fn readable(&self) -> [&dyn Readable; DECLARATIONS.len()] {
                [$(&self.$name,)*]
            }
        }
    };
}

metrics! {
    Counter receiver_accepted_log_records{receiver, transport} in "{records}": "Records taken from callers and acknowledged.";
    Counter receiver_refused_log_records{receiver, transport} in "{records}":
        "Records whose request was answered with an error.";
    Counter receiver_accepted_spans{receiver, transport} in "{spans}":
        "Spans taken from callers and acknowledged; they pass unjudged.";
    Counter receiver_refused_spans{receiver, transport} in "{spans}": "Spans whose request was answered with an error.";
    Counter receiver_accepted_metric_points{receiver, transport} in "{points}":
        "Data points of metrics taken from callers and acknowledged; they pass unjudged.";
    Counter receiver_refused_metric_points{receiver, transport} in "{points}":
        "Data points of metrics whose request was answered with an error.";
    Counter receiver_malformed_requests{receiver, transport} in "{requests}":
        "Requests whose bytes are not an export request of their signal.";
    Counter receiver_unauthenticated_requests{receiver, transport} in "{requests}":
        "Requests of callers that are not known; their bodies were not read.";
    Counter receiver_refused_connections{receiver, transport} in "{connections}":
        "Connections closed at once because there were max_connections already.";
    DurationHistogram receiver_request_duration{receiver, transport} in "s":
        "From a request's arrival, read and unpacked, to its answer; with the next hop's, or the disk's.";
    SizeHistogram receiver_request_log_records{receiver, transport} in "{records}": "Records of one request.";
    Gauge cluster_members in "{agents}": "Agents of the cluster that are there, this one among them.";
    Gauge cluster_alone: "1 while incidents are this agent's own because the cluster does not answer, else 0.";
    Counter cluster_alone_log_records in "{records}":
        "Anomalous log records that got an incident of this agent's own, as the cluster did not answer in time.";
    Counter cluster_aliases in "{incidents}": "Incidents of one agent's own that turned out to be the cluster's.";
    Counter cluster_entries_appended in "{entries}": "Entries that this agent has written to the cluster's log.";
    Counter cluster_appended in "By": "Bytes of the entries that this agent has written to the cluster's log.";
    Counter cluster_failed_appends in "{attempts}": "Attempts to write an entry that failed; it was tried again.";
    Counter cluster_entries_folded in "{entries}": "Entries of the cluster's log that were read and folded.";
    Counter cluster_records_told in "{records}": "Records of what this agent has learned that it has written to the cluster's memory.";
    Counter cluster_records_heard in "{records}": "Records of what agents have learned that were read from the cluster's memory.";
    Counter cluster_first_sight_races in "{templates}":
        "Templates of services that several agents saw first at once, each without knowing of the other.";
    Counter cluster_unread_entries in "{entries}": "Entries of the cluster's log that this version does not understand.";
    DurationHistogram cluster_wait_duration in "s":
        "Time that requests with new anomalous records waited for the cluster to say which incident that is.";
    Counter kafka_receiver_messages{receiver} in "{messages}": "Messages read from Kafka, some of them again after a rebalance.";
    Counter kafka_receiver_unread_messages{receiver} in "{messages}":
        "Messages that nobody can read or take: passed over, or, without message_marking.on_permanent_error, in the way.";
    Counter kafka_receiver_retries{receiver} in "{attempts}": "Attempts to hand on messages beyond the first.";
    Gauge kafka_receiver_partitions{receiver} in "{partitions}": "Partitions that are this agent's at the moment.";
    Counter kafka_receiver_rebalances{receiver} in "{rebalances}": "Times that partitions came to this agent or went.";
    Counter processor_incoming_items in "{records}": "Records that reached the engine.";
    Counter processor_outgoing_items in "{records}": "Records that the engine has let go, judged or not.";
    Counter judged_log_records{service_name, verdict} in "{records}": "Records on their way out, by what was said of them.";
    Counter shadow_log_records{service_name, verdict} in "{records}":
        "What detection.mode shadow would have said of records, which are bypassed.";
    Counter exporter_sent_log_records{exporter} in "{records}": "Records the next hop has accepted.";
    Counter exporter_send_failed_log_records{exporter} in "{records}":
        "Records the next hop did not accept in time, or refused.";
    Counter exporter_rejected_log_records{exporter} in "{records}":
        "Records the next hop reported as rejected in a partial success.";
    Counter exporter_sent_spans{exporter} in "{spans}": "Spans the next hop has accepted.";
    Counter exporter_send_failed_spans{exporter} in "{spans}": "Spans the next hop did not accept in time, or refused.";
    Counter exporter_rejected_spans{exporter} in "{spans}":
        "Spans the next hop reported as rejected in a partial success.";
    Counter exporter_sent_metric_points{exporter} in "{points}": "Data points of metrics the next hop has accepted.";
    Counter exporter_send_failed_metric_points{exporter} in "{points}":
        "Data points of metrics the next hop did not accept in time, or refused.";
    Counter exporter_rejected_metric_points{exporter} in "{points}":
        "Data points of metrics the next hop reported as rejected in a partial success.";
    Counter exporter_enqueue_failed_log_records{exporter} in "{records}":
        "Records for which the sending queue had no room, or that its disk did not take.";
    Counter exporter_dead_letter_log_records{exporter} in "{records}":
        "Records refused for good that the sending queue keeps to be looked at.";
    Counter exporter_enqueue_failed_spans{exporter} in "{spans}":
        "Spans for which the sending queue had no room, or that its disk did not take.";
    Counter exporter_dead_letter_spans{exporter} in "{spans}":
        "Spans refused for good that the sending queue keeps to be looked at.";
    Counter exporter_enqueue_failed_metric_points{exporter} in "{points}":
        "Data points of metrics for which the sending queue had no room, or that its disk did not take.";
    Counter exporter_dead_letter_metric_points{exporter} in "{points}":
        "Data points of metrics refused for good that the sending queue keeps to be looked at.";
    DurationHistogram exporter_send_duration{exporter} in "s":
        "Of one request to its destination, with retries, whatever came of it.";
    Counter exporter_queue_set_aside_entries{exporter} in "{requests}":
        "Requests of the sending queue whose bytes on disk were damaged.";
    Counter exporter_queue_set_aside_files{exporter} in "{files}": "Files of the sending queue that were corrupt.";
    Counter repeated_requests in "{requests}": "Identical retries, answered with the verdicts they got before.";
    Counter over_budget_episodes in "{episodes}":
        "Episodes not marked because their service had detection.max_episodes_per_hour already.";
    Counter released_episodes in "{episodes}":
        "Episodes not marked because many harmless ones began at once, as after a release.";
    Counter drift_alarms in "{alarms}": "Times that what is usual had changed, and training began anew.";
    Counter clock_jumps_back in "{jumps}":
        "Times that this machine's clock went back by more than a minute; open incidents were closed.";
    Counter evicted_templates in "{templates}": "Templates forgotten for want of room (detection.max_templates).";
    Counter overflow_tenant_log_records in "{records}":
        "Records of tenants beyond tenant.max_tenants, judged together and without quotations.";
    Counter odd_log_records in "{records}":
        "Records that could not be read in full (invalid UTF-8, too deep, cut); forwarded unchanged.";
    Counter replaced_attributes in "{attributes}": "Inbound attributes that had one of our names.";
    Counter opened_incidents in "{incidents}": "Incidents opened.";
    Counter merged_incidents in "{incidents}": "Incidents that turned out to be part of an older one.";
    Counter announced_incidents in "{incidents}": "Incidents that became large enough to be told.";
    Counter incidents_closed_by_silence in "{incidents}": "Announced incidents of which nothing more was said.";
    Counter incidents_closed_by_max_life in "{incidents}": "Announced incidents that reached the longest life.";
    Counter incidents_closed_by_bound in "{incidents}": "Announced incidents closed because too many were open.";
    Counter incidents_closed_by_dismissal in "{incidents}": "Announced incidents that somebody dismissed.";
    Counter incident_events_sent in "{events}": "Events of incidents that the next hop has accepted.";
    Counter incident_events_failed in "{events}": "Events of incidents that the next hop did not accept.";
    Counter incident_events_dropped in "{events}":
        "Events of incidents for which there was no room, as the next hop was too slow.";
    Counter notifications_sent in "{notifications}": "Alerts and documents that a notifier's endpoint has accepted.";
    Counter notifications_failed in "{notifications}": "Attempts at alerts that failed, and documents that were given up.";
    Counter notifications_dropped in "{notifications}": "Changes of incidents that notifiers had no room for.";
    Counter embedding_templates in "{templates}": "Templates the model has embedded.";
    Counter embedding_failed_templates in "{templates}": "Templates the model failed on.";
    Counter embedding_hangs in "{hangs}": "Times that the model was seen to hang.";
    Counter embedding_late_templates in "{templates}": "Embeddings that came after a request's deadline.";
    Counter embedding_queue_overflow_templates in "{templates}": "Templates that found the queue to the model full.";
    DurationHistogram embedding_wait_duration in "s":
        "How long a request waited for embeddings, if it had a text that was not known.";
    Counter fits in "{trainings}": "Trainings of the autoencoder that have finished.";
    Counter journal_failed_writes in "{writes}": "Journal entries that could not be written.";
    Counter snapshot_failed_writes in "{writes}": "Snapshots that could not be written.";
    Counter snapshots in "{snapshots}": "Snapshots written.";
    Gauge exporter_queue_size{exporter}: "What is in the sending queue, in units of its sizer.";
    Gauge exporter_queue_capacity{exporter}: "What fits into the sending queue, in the same units.";
    Gauge exporter_queue_log_records{exporter} in "{records}":
        "Records in the sending queue, spans and data points among them.";
    Gauge exporter_dead_letters{exporter} in "{requests}": "Requests among the dead letters of the sending queue.";
    Gauge tenants in "{tenants}": "Tenants that are told apart.";
    Gauge open_incidents in "{incidents}": "Incidents now open.";
    Gauge templates in "{templates}": "Templates now known.";
    Gauge memory_limited: "1 while requests are refused because memory is near its limit, else 0.";
    Gauge requests_in_flight in "{requests}": "Requests now between a caller and the next hop.";
    Gauge config_reload_success:
        "1 when the configuration was last read without a mistake, 0 when a reload was refused.";
    Gauge config_reload_success_time in "s": "When that was last the case, since the Unix epoch.";
    Gauge detection_ready: "1 when the model is trained and works, else 0.";
    Gauge warm_up_remaining_log_records in "{records}": "Records still needed before the first training, 0 once it is done.";
    Counter self_trace_sent_spans in "{spans}": "Spans of the agent's own traces that their endpoint has accepted.";
    Counter self_trace_dropped_spans in "{spans}": "Spans that could not be sent, or for which there was no room.";
    SecondsCounter process_uptime in "s": "Since the agent was started.";
    SecondsCounter process_cpu_seconds in "s": "CPU time of the process, user and system.";
    Gauge process_memory_rss in "By": "Memory the process has resident.";
    Gauge build_info{version, model_version}: "Always 1; which Harbinger this is, and by which sentence model it judges.";
}

impl Metrics {
    /// Has `source` set, before each reading, what it keeps itself.
    pub fn follow(&self, source: impl Fn(&Metrics) + Send + Sync + 'static) {
        let mut sources = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.push(Box::new(source));
    }

    /// Every metric with its values now, in the order of declaration.
    pub fn read(&self) -> Vec<Reading> {
        self.bring_up_to_date();
        let readings = DECLARATIONS.iter().zip(self.readable());
        let readings = readings.map(|(declared, metric)| Reading {
            declared,
            series: metric.read(),
        });
        readings.collect()
    }

    /// Every metric in the Prometheus text format.
    pub fn prometheus(&self) -> String {
        exposition::prometheus(&self.read())
    }

    fn bring_up_to_date(&self) {
        for source in self.sources.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(self);
        }
    }
}

/// The table of all metrics, as `config-examples/guide/metrics.md` has it.
pub fn page() -> String {
    exposition::page(DECLARATIONS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn every_source_is_followed() {
        let metrics = Metrics::default();
        metrics.follow(|metrics| metrics.exporter_queue_size.of(["otlp_grpc"]).set(3));
        metrics.follow(|metrics| metrics.process_cpu_seconds.follow(Duration::from_millis(1500)));
        let text = metrics.prometheus();
        assert!(
            text.contains("\nharbinger_exporter_queue_size{exporter=\"otlp_grpc\"} 3\n"),
            "{text}"
        );
        assert!(text.contains("\nharbinger_process_cpu_seconds_total 1.5\n"), "{text}");
    }

    #[test]
    fn prometheus_text_has_help_type_and_value() {
        let metrics = Metrics::default();
        metrics.repeated_requests.add(3);
        let held = metrics.requests_in_flight.hold();
        let text = metrics.prometheus();
        assert!(
            text.contains("# TYPE harbinger_repeated_requests_total counter\nharbinger_repeated_requests_total 3\n")
        );
        assert!(text.contains("\nharbinger_requests_in_flight 1\n"));
        assert!(
            !text.contains("judged_log_records"),
            "a metric whose labels nobody has used yet is left out"
        );
        drop(held);
        assert_eq!(metrics.requests_in_flight.get(), 0);
    }

    /// A service can call itself what it likes.
    #[test]
    fn values_of_labels_are_escaped() {
        let metrics = Metrics::default();
        metrics.judged_log_records.of(["a\"b\\c\nd", "normal"]).add(2);
        let line = r#"harbinger_judged_log_records_total{service_name="a\"b\\c\nd",verdict="normal"} 2"#;
        let text = metrics.prometheus();
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn a_histogram_counts_each_value_in_its_bucket_and_all_above() {
        let metrics = Metrics::default();
        let sizes = metrics.receiver_request_log_records.of(["otlp", "grpc"]);
        for size in [1, 10, 11, 1_000_000] {
            sizes.record(size);
        }
        metrics.embedding_wait_duration.record(Duration::from_millis(250));
        let text = metrics.prometheus();
        let shows = |line: &str| assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        for (bound, count) in [("1", 1), ("10", 2), ("25", 3), ("25000", 3), ("+Inf", 4)] {
            shows(&format!(
                "harbinger_receiver_request_log_records_bucket{{receiver=\"otlp\",transport=\"grpc\",le=\"{bound}\"}} {count}"
            ));
        }
        shows("harbinger_receiver_request_log_records_sum{receiver=\"otlp\",transport=\"grpc\"} 1000022");
        shows("harbinger_receiver_request_log_records_count{receiver=\"otlp\",transport=\"grpc\"} 4");
        shows("harbinger_embedding_wait_duration_seconds_bucket{le=\"0.1\"} 0");
        shows("harbinger_embedding_wait_duration_seconds_bucket{le=\"0.25\"} 1");
        shows("harbinger_embedding_wait_duration_seconds_sum 0.25");
    }

    /// What Prometheus's own linter asks of names and help: it is not there in every build.
    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut seen = std::collections::BTreeSet::new();
        for declared in DECLARATIONS {
            let name = declared.prometheus_name();
            let is_plain = |text: &str| {
                text.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            };
            assert!(seen.insert(name.clone()), "{name} is declared twice");
            assert!(
                is_plain(&name) && declared.labels.iter().all(|label| is_plain(label) && *label != "le"),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), declared.kind == Kind::Counter, "{name}");
            let reserved = ["_count", "_sum", "_bucket", "_info"];
            let is_reserved = reserved.iter().any(|end| name.ends_with(end)) && declared.name != "build_info";
            assert!(!is_reserved, "{name}");
            assert!(
                declared.description.ends_with('.') && !declared.description.contains('\n'),
                "{name}"
            );
        }
    }
}
