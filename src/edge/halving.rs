//! What a destination finds too large is sent in halves, and their halves, until one item is left that is too large alone.
//!
//! What enters: [`Request`]s. What leaves: the same, or parts of it, to the exporter inside; one answer for all parts.
//! Promises: parts go in order; an item that is too large by itself stops no other one: it is reported in a
//! `partial_success`, never as a refusal of the whole. A request that was not halved has the destination's own answer.
//! A destination that becomes unavailable between two parts has the caller send all again: what was delivered of it arrives
//! twice. Absent on purpose: what a queue does about that (it remembers what is left), and any limit of our own: only
//! the destination knows what is too large.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    BoxFuture, Exporter, Refusal, Request,
    transport::{
        partial_success::{self, PartialSuccess},
        parts::Parts,
        warnings::Throttle,
    },
};
use crate::engine::view;

/// See the module.
pub struct Halving {
    inner: Arc<dyn Exporter>,
    rejected: Throttle,
}

impl Halving {
    /// Around an exporter that sends requests as they are.
    pub fn around(inner: Arc<dyn Exporter>) -> Self {
        Self {
            inner,
            rejected: Throttle::default(),
        }
    }

    async fn deliver(&self, request: Request) -> Result<Bytes, Refusal> {
        let Request {
            signal,
            body,
            metadata,
            deadline,
        } = request;
        let mut parts = Parts::of(signal, body);
        let mut said = PartialSuccess::default();
        while let Some(part) = parts.next() {
            let sent = self.inner.export(Request {
                signal,
                body: part.clone(),
                metadata: metadata.clone(),
                deadline,
            });
            match sent.await {
                answer if parts.is_whole() && !answer.as_ref().is_err_and(Refusal::is_too_large) => return answer,
                Ok(response) => said.add(partial_success::read(&response).ok().flatten().unwrap_or_default()),
                Err(refusal) if refusal.is_too_large() && parts.halve(&part) => {}
                Err(refusal) if parts.is_whole() => return Err(refusal),
                Err(Refusal::Unavailable { message, retry_after }) => {
                    return Err(Refusal::Unavailable { message, retry_after });
                }
                Err(refusal) => {
                    let items = view::item_count(signal, &part).unwrap_or_default();
                    if let Some(left_out) = self.rejected.admit() {
                        tracing::warn!(
                            items,
                            bytes = part.len(),
                            left_out,
                            "{refusal}; the other {} went on",
                            signal.items()
                        );
                    }
                    said.add(PartialSuccess {
                        rejected_items: items as i64,
                        error_message: refusal.to_string(),
                    });
                }
            }
        }
        Ok(partial_success::write(&said).into())
    }
}

impl Exporter for Halving {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.deliver(request))
    }
}
