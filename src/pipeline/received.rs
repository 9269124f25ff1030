//! What a receiver brings, counted and traced at the entry: in front of the memory limiter and the rooms.
//!
//! What enters: requests of one signal that one receiver takes by one transport. What leaves: the same, and counts of what
//! came of them. Promises: an item is accepted or refused, never both and never neither, also when its caller hangs up;
//! whether a request is traced is decided here, once, and the rooms read it from the request's metadata. Absent on purpose:
//! what is refused before a request is whole, which the receiver counts.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::items::{OfReceiver, SpanAttributes};
use crate::{
    edge::{BoxFuture, Intake, Refusal, Request, Signal},
    engine::view,
    telemetry::{Counter, DurationHistogram, Metrics, SizeHistogram, Span, TRACEPARENT, Traces},
};

/// See the module.
pub struct Received {
    intake: Arc<dyn Intake>,
    items: OfReceiver,
    attributes: SpanAttributes,
    malformed: Arc<Counter>,
    duration: Arc<DurationHistogram>,
    /// Of logs alone: what the rooms take at once.
    sizes: Option<Arc<SizeHistogram>>,
    traces: Traces,
    receiver: Arc<str>,
    transport: Arc<str>,
    span_name: String,
}

impl Received {
    /// Counts what the receiver of this id and transport hands to `intake` of one signal.
    pub fn new(intake: Arc<dyn Intake>, signal: Signal, labels: [&str; 2], metrics: &Metrics, traces: Traces) -> Self {
        let [receiver, transport] = labels;
        // As the Collector's receivers call it.
        let data = match signal {
            Signal::Logs => "LogsDataReceived",
            Signal::Traces => "TraceDataReceived",
            Signal::Metrics => "MetricsReceived",
        };
        Self {
            intake,
            items: OfReceiver::new(metrics, signal, labels),
            attributes: SpanAttributes::of(signal),
            malformed: metrics.receiver_malformed_requests.of(labels),
            duration: metrics.receiver_request_duration.of(labels),
            sizes: (signal == Signal::Logs).then(|| metrics.receiver_request_log_records.of(labels)),
            traces,
            receiver: Arc::from(receiver),
            transport: Arc::from(transport),
            span_name: format!("receiver/{receiver}/{data}"),
        }
    }

    async fn hand_on(&self, mut request: Request) -> Result<Bytes, Refusal> {
        let items = view::item_count(request.signal, &request.body).unwrap_or_default() as u64;
        let parent = request.metadata.values(TRACEPARENT).next();
        let mut span = self.traces.receive(&self.span_name, parent);
        if let Some(traceparent) = span.traceparent() {
            span.set("receiver", Arc::clone(&self.receiver));
            span.set("transport", Arc::clone(&self.transport));
            span.count("harbinger.request.bytes", request.body.len() as u64);
            request.metadata = request.metadata.with(TRACEPARENT, traceparent);
        }
        if let Some(sizes) = &self.sizes {
            sizes.record(items);
        }
        let mut arrived = Arrived {
            by: self,
            items,
            began: Instant::now(),
            span,
            outcome: None,
        };
        let outcome = self.intake.accept(request).await;
        arrived.outcome = Some(outcome.as_ref().err().cloned());
        outcome
    }
}

impl Intake for Received {
    fn ready(&self) -> Result<(), Refusal> {
        self.intake.ready()
    }

    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.hand_on(request))
    }
}

/// A request under way; counted when it is dropped, because a caller that goes away drops its request.
struct Arrived<'r> {
    by: &'r Received,
    items: u64,
    began: Instant,
    span: Span,
    /// The refusal, or none; nothing as long as there is no answer.
    outcome: Option<Option<Refusal>>,
}

impl Drop for Arrived<'_> {
    fn drop(&mut self) {
        self.by.duration.record(self.began.elapsed());
        let refusal = match &self.outcome {
            Some(None) => {
                self.by.items.accepted.add(self.items);
                self.span.count(self.by.attributes.accepted, self.items);
                return;
            }
            Some(Some(refusal)) => refusal.clone(),
            None => Refusal::Unavailable {
                message: "the caller went away, or its time was over".into(),
                retry_after: None,
            },
        };
        self.by.items.refused.add(self.items);
        if matches!(refusal, Refusal::Malformed(_)) {
            self.by.malformed.add(1);
        }
        self.span.count(self.by.attributes.refused, self.items);
        self.span.fail(refusal.kind(), refusal.to_string());
    }
}
