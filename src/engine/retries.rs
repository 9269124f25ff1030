//! Remembers the verdicts of recent requests, so that a caller's identical retry is answered as before.
//!
//! What enters: the hash of a request's bytes and its verdicts. What leaves: the same verdicts, for the same bytes, for
//! ten minutes. Promises: bounded by age and by number; the oldest go first. Absent on purpose: persistence (after a
//! restart a retry is judged again, by the restored state).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::verdict::Verdicts;

const MAX_AGE_NANO: u64 = 600 * 1_000_000_000;
const MAX_REQUESTS: usize = 65_536;
/// What the verdicts may mention in all, for a request of a thousand anomalous records is a thousand others': about 16 MiB.
const MAX_MENTIONS: usize = 1 << 20;

/// Verdicts by request hash, oldest first.
#[derive(Debug, Default)]
pub struct Retries {
    verdicts: HashMap<u128, Arc<Verdicts>>,
    order: VecDeque<(u64, u128)>,
    /// Sum over the verdicts.
    mentions: usize,
    /// What is said of most requests.
    nothing: Arc<Verdicts>,
}

impl Retries {
    /// What was said of a request with this hash, if it was judged less than ten minutes before `now_unix_nano`.
    pub fn recall(&mut self, request_hash: u128, now_unix_nano: u64) -> Option<Arc<Verdicts>> {
        while let Some((judged_at, hash)) = self.order.front().copied() {
            let is_bounded = self.order.len() <= MAX_REQUESTS && self.mentions <= MAX_MENTIONS;
            if now_unix_nano.saturating_sub(judged_at) < MAX_AGE_NANO && is_bounded {
                break;
            }
            self.order.pop_front();
            let forgotten = self.verdicts.remove(&hash);
            self.mentions -= forgotten.map_or(0, |verdicts| verdicts.mentions());
        }
        self.verdicts.get(&request_hash).cloned()
    }

    /// Remembers what was said; the caller has made sure by [`Retries::recall`] that the hash is new.
    pub fn remember(&mut self, request_hash: u128, now_unix_nano: u64, verdicts: Arc<Verdicts>) {
        let mentions = verdicts.mentions();
        let verdicts = if mentions == 0 {
            Arc::clone(&self.nothing)
        } else {
            verdicts
        };
        if self.verdicts.insert(request_hash, verdicts).is_none() {
            self.order.push_back((now_unix_nano, request_hash));
            self.mentions += mentions;
        }
    }

    /// More is known of a request that is remembered.
    pub fn amend(&mut self, request_hash: u128, verdicts: Arc<Verdicts>) {
        if let Some(known) = self.verdicts.get_mut(&request_hash) {
            self.mentions = self.mentions - known.mentions() + verdicts.mentions();
            *known = if verdicts.mentions() == 0 {
                Arc::clone(&self.nothing)
            } else {
                verdicts
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn an_identical_retry_is_remembered_for_ten_minutes_and_no_longer() {
        let mut retries = Retries::default();
        retries.remember(1, 0, Arc::default());
        assert!(retries.recall(1, MAX_AGE_NANO - 1).is_some());
        assert!(retries.recall(1, MAX_AGE_NANO).is_none());
        assert!(retries.order.is_empty(), "what is forgotten takes no room");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let mut retries = Retries::default();
        for hash in 0..=MAX_REQUESTS as u128 {
            retries.remember(hash, 0, Arc::default());
        }
        assert!(retries.recall(0, 0).is_none());
        assert!(retries.recall(1, 0).is_some());
    }

    #[test]
    fn requests_of_which_much_is_said_count_for_more() {
        let mut retries = Retries::default();
        let verdicts = Arc::new(Verdicts {
            degraded: (0..1000).collect(),
            ..Verdicts::default()
        });
        for hash in 0..2000 {
            assert!(retries.recall(hash, 0).is_none());
            retries.remember(hash, 0, Arc::clone(&verdicts));
        }
        assert_eq!(retries.recall(1999, 0), Some(verdicts));
        assert!(retries.mentions <= MAX_MENTIONS && retries.order.len() == retries.verdicts.len());
        assert_eq!(retries.order.len(), MAX_MENTIONS / 1000);
    }
}
