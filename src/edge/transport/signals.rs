//! What the signals are called on the wire, and what is said of one that is not served.
//!
//! What enters: signals and paths. What leaves: paths of gRPC and HTTP, and sentences. Promise: who sends what is not taken is
//! told what to write so that it is. Absent on purpose: who serves what.

use crate::edge::Signal;

/// The one method of a signal's service, as gRPC calls it.
pub const fn export_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    }
}

/// The signal whose method this is.
pub fn of_export_path(path: &str) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| export_path(*signal) == path)
}

/// A signal's path by HTTP, behind a base URL.
pub const fn url_path(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "/v1/logs",
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
    }
}

/// What whoever sends a signal that no pipeline takes is told.
pub fn unserved(signal: Signal) -> String {
    let processors = match signal {
        Signal::Logs => "processors: [harbinger], ",
        Signal::Traces | Signal::Metrics => "",
    };
    format!(
        "no pipeline takes {signal} from this receiver: write `service.pipelines.{signal}: {{receivers: [otlp], \
         {processors}exporters: [...]}}` in Harbinger's configuration, or send {signal} elsewhere, by setting \
         OTEL_EXPORTER_OTLP_{}_ENDPOINT in the sender",
        signal.name().to_ascii_uppercase()
    )
}

/// What is said of a path of profiles, if it is one.
pub fn profiles(path: &str) -> Option<&'static str> {
    let is_one = path.starts_with("/opentelemetry.proto.collector.profiles.") || path.ends_with("/profiles");
    is_one.then_some("profiles are not supported: they are in development in OTLP; send them elsewhere")
}
