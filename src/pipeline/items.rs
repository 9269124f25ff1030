//! Which counters the items of a signal are in: log records, spans or metric points, as the Collector names them.
//!
//! What enters: a signal. What leaves: its counters. Promise: every signal is counted alike. Absent on purpose: counting.

use crate::{
    edge::Signal,
    telemetry::{Counter, Metrics},
};

/// The counters of one signal.
pub struct Items<'m> {
    /// Taken from callers and acknowledged.
    pub accepted: &'m Counter,
    /// Of requests that were answered with an error.
    pub refused: &'m Counter,
    /// That a destination has.
    pub sent: &'m Counter,
    /// That a destination did not take.
    pub send_failed: &'m Counter,
    /// That a destination reported as rejected.
    pub rejected: &'m Counter,
    /// For which a queue had no room.
    pub enqueue_failed: &'m Counter,
    /// That a queue keeps to be looked at.
    pub dead_letter: &'m Counter,
}

impl<'m> Items<'m> {
    /// Those of `signal`.
    pub fn of(metrics: &'m Metrics, signal: Signal) -> Self {
        match signal {
            Signal::Logs => Self {
                accepted: &metrics.receiver_accepted_log_records,
                refused: &metrics.receiver_refused_log_records,
                sent: &metrics.exporter_sent_log_records,
                send_failed: &metrics.exporter_send_failed_log_records,
                rejected: &metrics.exporter_rejected_log_records,
                enqueue_failed: &metrics.exporter_enqueue_failed_log_records,
                dead_letter: &metrics.exporter_dead_letter_log_records,
            },
            Signal::Traces => Self {
                accepted: &metrics.receiver_accepted_spans,
                refused: &metrics.receiver_refused_spans,
                sent: &metrics.exporter_sent_spans,
                send_failed: &metrics.exporter_send_failed_spans,
                rejected: &metrics.exporter_rejected_spans,
                enqueue_failed: &metrics.exporter_enqueue_failed_spans,
                dead_letter: &metrics.exporter_dead_letter_spans,
            },
            Signal::Metrics => Self {
                accepted: &metrics.receiver_accepted_metric_points,
                refused: &metrics.receiver_refused_metric_points,
                sent: &metrics.exporter_sent_metric_points,
                send_failed: &metrics.exporter_send_failed_metric_points,
                rejected: &metrics.exporter_rejected_metric_points,
                enqueue_failed: &metrics.exporter_enqueue_failed_metric_points,
                dead_letter: &metrics.exporter_dead_letter_metric_points,
            },
        }
    }
}
