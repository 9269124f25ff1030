//! What a destination does with items, counted and traced where it does it: behind a queue, if there is one.
//!
//! What enters: requests on their way to a destination. What leaves: the same, and counts. Promise: `sent` means that the
//! destination has it. Absent on purpose: what happens to one attempt, which the exporter knows.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::items::{OfExporter, SpanAttributes};
use crate::{
    edge::{self, BoxFuture, Exporter, Refusal, Request, Signal},
    engine::view,
    telemetry::{DurationHistogram, Metrics, Span, TRACEPARENT, Traces},
};

/// See the module.
pub struct Counted {
    destination: Arc<dyn Exporter>,
    signals: Vec<Counts>,
    duration: Arc<DurationHistogram>,
    traces: Traces,
    exporter: Arc<str>,
}

/// The counts of one signal.
struct Counts {
    signal: Signal,
    items: OfExporter,
    span_name: String,
    attributes: SpanAttributes,
}

impl Counted {
    /// Counts what comes of requests of these signals to this destination, under the exporter's id.
    pub fn new(
        destination: Arc<dyn Exporter>,
        exporter: &str,
        signals: &[Signal],
        metrics: &Metrics,
        traces: Traces,
    ) -> Self {
        let counts = |signal: &Signal| Counts {
            signal: *signal,
            items: OfExporter::new(metrics, *signal, exporter),
            // As the Collector's exporters call it.
            span_name: format!("exporter/{exporter}/{signal}"),
            attributes: SpanAttributes::of(*signal),
        };
        Self {
            destination,
            signals: signals.iter().map(counts).collect(),
            duration: metrics.exporter_send_duration.of([exporter]),
            traces,
            exporter: Arc::from(exporter),
        }
    }

    async fn send(&self, request: Request) -> Result<Bytes, Refusal> {
        let Some(counts) = self.signals.iter().find(|counts| counts.signal == request.signal) else {
            return self.destination.export(request).await;
        };
        let items = view::item_count(request.signal, &request.body).unwrap_or_default() as u64;
        let trace = self.traces.of(request.metadata.values(TRACEPARENT).next());
        let mut span = trace.call(&counts.span_name);
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
        counts.count(items, &outcome, &mut span);
        outcome
    }
}

impl Counts {
    fn count(&self, items: u64, outcome: &Result<Bytes, Refusal>, span: &mut Span) {
        match outcome {
            Ok(response) => {
                let rejected = edge::rejected_items(response).min(items);
                self.items.sent.add(items - rejected);
                self.items.rejected.add(rejected);
                span.count(self.attributes.sent, items - rejected);
                span.count(self.attributes.failed, rejected);
            }
            Err(refusal) => {
                // What is too large goes on in halves, which are counted each.
                if !refusal.is_too_large() || items <= 1 {
                    self.items.send_failed.add(items);
                }
                span.count(self.attributes.failed, items);
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
