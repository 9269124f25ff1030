//! What a destination does with records, counted where it does it: behind a queue, if there is one.
//!
//! What enters: requests on their way to a destination. What leaves: the same, and counts. Promise: `sent` means that the
//! destination has it. Absent on purpose: attempts, which the exporter counts.

use std::sync::Arc;

use bytes::Bytes;

use super::items::Items;
use crate::{
    edge::{self, BoxFuture, Exporter, Refusal, Request},
    engine::view,
    telemetry::Metrics,
};

/// See the module.
pub struct Counted {
    destination: Arc<dyn Exporter>,
    metrics: Arc<Metrics>,
}

impl Counted {
    /// Counts what comes of requests to this destination.
    pub fn new(destination: Arc<dyn Exporter>, metrics: Arc<Metrics>) -> Self {
        Self { destination, metrics }
    }

    async fn send(&self, request: Request) -> Result<Bytes, Refusal> {
        let items = Items::of(&self.metrics, request.signal);
        let count = view::item_count(request.signal, &request.body).unwrap_or_default() as u64;
        let outcome = self.destination.export(request).await;
        match &outcome {
            Ok(response) => {
                let rejected = edge::rejected_items(response).min(count);
                items.sent.add(count - rejected);
                items.rejected.add(rejected);
            }
            // It goes on in halves, which are counted each.
            Err(refusal) if refusal.is_too_large() && count > 1 => {}
            Err(_) => items.send_failed.add(count),
        }
        outcome
    }
}

impl Exporter for Counted {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.send(request))
    }
}
