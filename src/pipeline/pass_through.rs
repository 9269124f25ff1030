//! The way of traces and metrics: past the engine, to their exporters, unjudged.
//!
//! What enters: requests of a signal that is not logs, through [`Intake`]. What leaves: the same bytes, to the exporter; the
//! exporter's answer, to the caller. Promises: those of the way of logs (the acknowledgement waits for the exporter's, nothing is
//! changed, nothing is kept here); bytes that cannot be framed as far as items go are refused. Absent on purpose: any
//! judgement, any state, any look into an item.

use std::sync::Arc;

use bytes::Bytes;

use super::stopping::Stopping;
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
        view::item_count(request.signal, &request.body)
            .map_err(|malformed| Refusal::Malformed(malformed.to_string()))?;
        self.exporter.export(request).await
    }
}

impl Intake for PassThrough {
    fn accept(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.stopping.answer(self.pass(request)))
    }
}
