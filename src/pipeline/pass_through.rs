//! The way of traces and metrics: past the engine, to their exporters, unjudged.
//!
//! What enters: requests of a signal that is not logs, through [`Intake`]. What leaves: the same bytes, to the exporter; the
//! exporter's answer, to the caller. Promises: those of the way of logs (the acknowledgement waits for the exporter's, nothing is
//! changed, nothing is kept here); bytes that cannot be framed as far as they are counted are refused. Absent on purpose: any
//! judgement, any state, any look into an item.

use std::sync::Arc;

use bytes::Bytes;

use super::{items::Items, stopping::Stopping};
use crate::{
    edge::{BoxFuture, Exporter, Intake, Refusal, Request},
    engine::view,
    telemetry::Metrics,
};

/// See the module.
pub struct PassThrough {
    exporter: Arc<dyn Exporter>,
    metrics: Arc<Metrics>,
    stopping: Stopping,
}

impl PassThrough {
    /// A way to `exporter`.
    pub fn new(exporter: Arc<dyn Exporter>, metrics: Arc<Metrics>) -> Self {
        Self {
            exporter,
            metrics,
            stopping: Stopping::default(),
        }
    }

    /// Requests in flight are answered now: their callers should send them again, to whoever is there then.
    pub fn give_up(&self) {
        self.stopping.give_up();
    }

    async fn pass(&self, request: Request) -> Result<Bytes, Refusal> {
        let _in_flight = self.metrics.requests_in_flight.hold();
        let signal = request.signal;
        let counted = view::item_count(signal, &request.body).map_err(|malformed| {
            self.metrics.receiver_malformed_requests.add(1);
            Refusal::Malformed(malformed.to_string())
        })?;
        let outcome = self.exporter.export(request).await;
        let items = Items::of(&self.metrics, signal);
        let counter = if outcome.is_ok() { items.accepted } else { items.refused };
        counter.add(counted as u64);
        outcome
    }
}

impl Intake for PassThrough {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.stopping.answer(self.pass(request)))
    }
}
