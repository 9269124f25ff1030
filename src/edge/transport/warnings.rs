//! Warnings that stay readable when every request fails.
//!
//! What enters: the wish to warn. What leaves: leave to do so, with the number of warnings left out since the last.
//! Promise: at most one warning per interval, none lost from the count. Absent on purpose: the warning's text.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Time between two warnings of one kind, unless it is said.
const INTERVAL: Duration = Duration::from_secs(10);

/// One kind of warning.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::every(INTERVAL)
    }
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// With this time between two.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            state: Mutex::default(),
        }
    }

    /// `Some(left_out)` when a warning is due, with how many were left out before it.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < self.interval) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_next_warning_tells_how_many_were_left_out() {
        let throttle = Throttle::default();
        assert_eq!(
            [throttle.admit(), throttle.admit(), throttle.admit()],
            [Some(0), None, None]
        );
        tokio::time::advance(INTERVAL).await;
        assert_eq!([throttle.admit(), throttle.admit()], [Some(2), None]);
    }
}
