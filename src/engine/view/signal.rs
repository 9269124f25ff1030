//! The signals of OTLP, and where a request of each keeps its items.
//!
//! Enters: nothing. Leaves: names, and field numbers of opentelemetry-proto 1.11. Promise: what is counted, and halved, is what the
//! Collector counts: log records, spans, data points of metrics. Deliberately absent: profiles, which are in development there.

use std::fmt;

/// What a request tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `ExportLogsServiceRequest`, of log records; the one that is judged.
    #[default]
    Logs,
    /// `ExportTraceServiceRequest`, of spans.
    Traces,
    /// `ExportMetricsServiceRequest`, of data points.
    Metrics,
}

impl Signal {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// As pipelines are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// What its items are called.
    pub fn items(self) -> &'static str {
        match self {
            Self::Logs => "log records",
            Self::Traces => "spans",
            Self::Metrics => "data points",
        }
    }

    /// Level by level from the request down, the fields that hold children; the last are the items.
    pub(super) fn nesting(self) -> &'static [&'static [u32]] {
        match self {
            // Resources, scopes, records or spans.
            Self::Logs | Self::Traces => &[&[1], &[2], &[2]],
            // Resources, scopes, metrics, the data of each kind, its points.
            Self::Metrics => &[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]],
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
