//! How fast the model is at present, so that nobody waits for what cannot come in time.
//!
//! What enters: how long batches took, rests included. What leaves: how long so many templates will take. Promise: follows a change
//! within a few batches; nothing is expected before the first. Absent on purpose: what a text's length means, which evens out.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Nanoseconds that a template takes a thread; 0 as long as nobody knows.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    /// So many templates took a thread so long.
    pub fn took(&self, templates: usize, time: Duration) {
        let Some(sample) = (time.as_nanos() as u64).checked_div(templates as u64) else {
            return;
        };
        let paced = match self.0.load(Ordering::Relaxed) {
            0 => sample,
            known => known - known / 4 + sample / 4,
        };
        self.0.store(paced, Ordering::Relaxed);
    }

    /// How long so many templates take by so many threads.
    pub fn takes(&self, templates: usize, threads: usize) -> Duration {
        let nanos = self.0.load(Ordering::Relaxed).saturating_mul(templates as u64);
        Duration::from_nanos(nanos / threads.max(1) as u64)
    }
}
