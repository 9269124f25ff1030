//! What a receiver brings, counted and traced at the entry: in front of the memory limiter and the rooms.
//!
//! What enters: requests of one receiver by one transport. What leaves: the same, and counts of what came of them. Promises: a
//! record is accepted or refused, never both and never neither, also when its caller hangs up; whether a request is traced is
//! decided here, once, and the rooms read it from the request's metadata. Absent on purpose: what is refused before a
//! request is whole, which the receiver counts.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    edge::{BoxFuture, Intake, Refusal, Request},
    engine::view,
    telemetry::{Counter, DurationHistogram, Metrics, SizeHistogram, Span, TRACEPARENT, Traces},
};

/// See the module.
pub struct Received {
    intake: Arc<dyn Intake>,
    accepted: Arc<Counter>,
    refused: Arc<Counter>,
    malformed: Arc<Counter>,
    duration: Arc<DurationHistogram>,
    sizes: Arc<SizeHistogram>,
    traces: Traces,
    receiver: Arc<str>,
    transport: Arc<str>,
    span_name: String,
}

impl Received {
    /// Counts what the receiver of this id and transport hands to `intake`.
    pub fn new(intake: Arc<dyn Intake>, labels: [&str; 2], metrics: &Metrics, traces: Traces) -> Self {
        let [receiver, transport] = labels;
        Self {
            intake,
            accepted: metrics.receiver_accepted_log_records.of(labels),
            refused: metrics.receiver_refused_log_records.of(labels),
            malformed: metrics.receiver_malformed_requests.of(labels),
            duration: metrics.receiver_request_duration.of(labels),
            sizes: metrics.receiver_request_log_records.of(labels),
            traces,
            receiver: Arc::from(receiver),
            transport: Arc::from(transport),
            // As the Collector's receivers call it.
            span_name: format!("receiver/{receiver}/LogsDataReceived"),
        }
    }

    async fn hand_on(&self, mut request: Request) -> Result<Bytes, Refusal> {
        let records = view::record_count(&request.body).unwrap_or_default() as u64;
        let parent = request.metadata.values(TRACEPARENT).next();
        let mut span = self.traces.receive(&self.span_name, parent);
        if let Some(traceparent) = span.traceparent() {
            span.set("receiver", Arc::clone(&self.receiver));
            span.set("transport", Arc::clone(&self.transport));
            span.count("harbinger.request.bytes", request.body.len() as u64);
            request.metadata = request.metadata.with(TRACEPARENT, traceparent);
        }
        self.sizes.record(records);
        let mut arrived = Arrived {
            by: self,
            records,
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
    records: u64,
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
                self.by.accepted.add(self.records);
                self.span.count("accepted_log_records", self.records);
                return;
            }
            Some(Some(refusal)) => refusal.clone(),
            None => Refusal::Unavailable {
                message: "the caller went away, or its time was over".into(),
                retry_after: None,
            },
        };
        self.by.refused.add(self.records);
        if matches!(refusal, Refusal::Malformed(_)) {
            self.by.malformed.add(1);
        }
        self.span.count("refused_log_records", self.records);
        self.span.fail(refusal.kind(), refusal.to_string());
    }
}
