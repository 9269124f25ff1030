//! What a destination does with records, counted and traced where it does it: behind a queue, if there is one.
//!
//! What enters: requests on their way to a destination. What leaves: the same, and counts. Promise: `sent` means that the
//! destination has it. Absent on purpose: what happens to one attempt, which the exporter knows.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    edge::{self, BoxFuture, Exporter, Refusal, Request},
    engine::view,
    telemetry::{Counter, DurationHistogram, Metrics, Span, TRACEPARENT, Traces},
};

/// See the module.
pub struct Counted {
    destination: Arc<dyn Exporter>,
    sent: Arc<Counter>,
    send_failed: Arc<Counter>,
    rejected: Arc<Counter>,
    duration: Arc<DurationHistogram>,
    traces: Traces,
    exporter: Arc<str>,
    span_name: String,
}

impl Counted {
    /// Counts what comes of requests to this destination, under the exporter's id.
    pub fn new(destination: Arc<dyn Exporter>, exporter: &str, metrics: &Metrics, traces: Traces) -> Self {
        Self {
            destination,
            sent: metrics.exporter_sent_log_records.of([exporter]),
            send_failed: metrics.exporter_send_failed_log_records.of([exporter]),
            rejected: metrics.exporter_rejected_log_records.of([exporter]),
            duration: metrics.exporter_send_duration.of([exporter]),
            traces,
            exporter: Arc::from(exporter),
            // As the Collector's exporters call it.
            span_name: format!("exporter/{exporter}/logs"),
        }
    }

    async fn send(&self, request: Request) -> Result<Bytes, Refusal> {
        let records = view::record_count(&request.body).unwrap_or_default() as u64;
        let trace = self.traces.of(request.metadata.values(TRACEPARENT).next());
        let mut span = trace.call(&self.span_name);
        let began = Instant::now();
        let outcome = if trace.is_sampled() {
            span.set("exporter", Arc::clone(&self.exporter));
            span.count("harbinger.request.bytes", request.body.len() as u64);
            let (outcome, attempts) = edge::counting_attempts(self.destination.export(request)).await;
            span.count("harbinger.attempts", attempts);
            outcome
        } else {
            self.destination.export(request).await
        };
        self.duration.record(began.elapsed());
        self.count(records, &outcome, &mut span);
        outcome
    }

    fn count(&self, records: u64, outcome: &Result<Bytes, Refusal>, span: &mut Span) {
        match outcome {
            Ok(response) => {
                let rejected = edge::rejected_log_records(response).min(records);
                self.sent.add(records - rejected);
                self.rejected.add(rejected);
                span.count("sent_log_records", records - rejected);
                span.count("failed_log_records", rejected);
            }
            Err(refusal) => {
                // What is too large goes on in halves, which are counted each.
                if !refusal.is_too_large() || records <= 1 {
                    self.send_failed.add(records);
                }
                span.count("failed_log_records", records);
                span.fail(refusal.kind(), refusal.to_string());
            }
        }
    }
}

impl Exporter for Counted {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.send(request))
    }
}
