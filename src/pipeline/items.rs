//! Which counters the items of a signal are in: log records, spans or metric points, as the Collector names them.
//!
//! What enters: a signal, and whose counts they are. What leaves: the counters. Promise: every signal is counted alike. Absent on
//! purpose: counting.

use std::sync::Arc;

use crate::{
    edge::Signal,
    telemetry::{Counter, Metrics},
};

/// What is said of items on a span, as the Collector's receivers and exporters call it.
pub struct SpanAttributes {
    /// At a receiver.
    pub accepted: &'static str,
    /// At a receiver.
    pub refused: &'static str,
    /// At an exporter.
    pub sent: &'static str,
    /// At an exporter.
    pub failed: &'static str,
}

impl SpanAttributes {
    /// Those of `signal`.
    pub const fn of(signal: Signal) -> Self {
        match signal {
            Signal::Logs => Self {
                accepted: "accepted_log_records",
                refused: "refused_log_records",
                sent: "sent_log_records",
                failed: "failed_log_records",
            },
            Signal::Traces => Self {
                accepted: "accepted_spans",
                refused: "refused_spans",
                sent: "sent_spans",
                failed: "failed_spans",
            },
            Signal::Metrics => Self {
                accepted: "accepted_metric_points",
                refused: "refused_metric_points",
                sent: "sent_metric_points",
                failed: "failed_metric_points",
            },
        }
    }
}

/// What a receiver brought.
pub struct OfReceiver {
    /// Taken from callers and acknowledged.
    pub accepted: Arc<Counter>,
    /// Of requests that were answered with an error.
    pub refused: Arc<Counter>,
}

impl OfReceiver {
    /// Those of `signal`, with the receiver's id and transport.
    pub fn new(metrics: &Metrics, signal: Signal, labels: [&str; 2]) -> Self {
        let (accepted, refused) = match signal {
            Signal::Logs => (
                &metrics.receiver_accepted_log_records,
                &metrics.receiver_refused_log_records,
            ),
            Signal::Traces => (&metrics.receiver_accepted_spans, &metrics.receiver_refused_spans),
            Signal::Metrics => (
                &metrics.receiver_accepted_metric_points,
                &metrics.receiver_refused_metric_points,
            ),
        };
        Self {
            accepted: accepted.of(labels),
            refused: refused.of(labels),
        }
    }
}

/// What became of items at a destination.
pub struct OfExporter {
    /// That it has.
    pub sent: Arc<Counter>,
    /// That it did not take.
    pub send_failed: Arc<Counter>,
    /// That it reported as rejected.
    pub rejected: Arc<Counter>,
}

impl OfExporter {
    /// Those of `signal`, with the exporter's id.
    pub fn new(metrics: &Metrics, signal: Signal, exporter: &str) -> Self {
        let (sent, send_failed, rejected) = match signal {
            Signal::Logs => (
                &metrics.exporter_sent_log_records,
                &metrics.exporter_send_failed_log_records,
                &metrics.exporter_rejected_log_records,
            ),
            Signal::Traces => (
                &metrics.exporter_sent_spans,
                &metrics.exporter_send_failed_spans,
                &metrics.exporter_rejected_spans,
            ),
            Signal::Metrics => (
                &metrics.exporter_sent_metric_points,
                &metrics.exporter_send_failed_metric_points,
                &metrics.exporter_rejected_metric_points,
            ),
        };
        Self {
            sent: sent.of([exporter]),
            send_failed: send_failed.of([exporter]),
            rejected: rejected.of([exporter]),
        }
    }
}

/// What a queue could not keep, or not deliver.
pub struct OfQueue {
    /// For which there was no room.
    pub enqueue_failed: Arc<Counter>,
    /// That are kept to be looked at.
    pub dead_letter: Arc<Counter>,
}

impl OfQueue {
    /// Those of `signal`, with the exporter's id.
    pub fn new(metrics: &Metrics, signal: Signal, exporter: &str) -> Self {
        let (enqueue_failed, dead_letter) = match signal {
            Signal::Logs => (
                &metrics.exporter_enqueue_failed_log_records,
                &metrics.exporter_dead_letter_log_records,
            ),
            Signal::Traces => (
                &metrics.exporter_enqueue_failed_spans,
                &metrics.exporter_dead_letter_spans,
            ),
            Signal::Metrics => (
                &metrics.exporter_enqueue_failed_metric_points,
                &metrics.exporter_dead_letter_metric_points,
            ),
        };
        Self {
            enqueue_failed: enqueue_failed.of([exporter]),
            dead_letter: dead_letter.of([exporter]),
        }
    }
}
