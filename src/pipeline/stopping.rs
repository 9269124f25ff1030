//! The end of what is in flight: answers that are still waited for when there is no more time.
//!
//! What enters: work on a request. What leaves: its answer; or, once it is given up, that the caller should send again.
//! Promise: an answer that is there goes before giving up. Absent on purpose: when that is (the app's).

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::edge::Refusal;

/// The wait asked of callers that come while the agent stops.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub struct Stopping(watch::Sender<bool>);

impl Default for Stopping {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopping {
    /// Requests in flight are answered now: their callers should send them again, to whoever is there then.
    pub fn give_up(&self) {
        self.0.send_replace(true);
    }

    /// What comes of `work`, unless it is given up first.
    ///
    /// # Errors
    /// That of the work, or that the agent is stopping.
    pub async fn answer(&self, work: impl Future<Output = Result<Bytes, Refusal>>) -> Result<Bytes, Refusal> {
        let mut given_up = self.0.subscribe();
        tokio::select! {
            biased;
            outcome = work => outcome,
            _ = given_up.wait_for(|given_up| *given_up) => Err(Refusal::Unavailable {
                message: "the agent is stopping".into(),
                retry_after: Some(RETRY_AFTER),
            }),
        }
    }
}
