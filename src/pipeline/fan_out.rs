//! One request to several destinations.
//!
//! What enters: requests with their verdicts. What leaves: the same to every exporter, and one answer. Promises: the answer is
//! good only when each destination has the request, or a queue has it on disk; a refusal of one leaves as few duplicates as
//! can be: room is reserved in all queues first, then comes the one destination without a queue, and only when it has
//! answered the request goes into the queues. That one's answer is the caller's, as it is. Absent on purpose: a second
//! destination without a queue, for whose refusal the first would get everything again.

use std::sync::Arc;

use bytes::Bytes;

use crate::edge::{BoxFuture, Exporter, Keeper, Refusal, Request};

/// See the module.
pub struct FanOut {
    direct: Vec<Arc<dyn Exporter>>,
    keepers: Vec<Arc<dyn Keeper>>,
}

impl FanOut {
    /// To all of these. Of those without a queue only the first may refuse; its answer is the caller's.
    pub fn new(direct: Vec<Arc<dyn Exporter>>, keepers: Vec<Arc<dyn Keeper>>) -> Self {
        Self { direct, keepers }
    }

    async fn spread(&self, request: Request) -> Result<Bytes, Refusal> {
        // In the same order for all, so that nobody waits for room that waits for him.
        let mut reserved = Vec::with_capacity(self.keepers.len());
        for keeper in &self.keepers {
            reserved.push(keeper.reserve(&request).await?);
        }
        let mut answer = None;
        for direct in &self.direct {
            let said = direct.export(request.clone()).await?;
            answer.get_or_insert(said);
        }
        // In tasks: a caller that goes away now leaves no queue without what others have.
        let keeping: Vec<_> = reserved
            .into_iter()
            .map(|room| tokio::spawn(room.keep(request.clone())))
            .collect();
        let mut refusal = None;
        for kept in keeping {
            let kept = kept.await.unwrap_or_else(|problem| {
                Err(Refusal::Unavailable {
                    message: format!("a queue failed: {problem}"),
                    retry_after: None,
                })
            });
            refusal = refusal.or(kept.err());
        }
        refusal.map_or(Ok(answer.unwrap_or_default()), Err)
    }
}

impl Exporter for FanOut {
    fn export(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(self.spread(request))
    }
}
