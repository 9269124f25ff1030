//! A template said more often than by its own past: within the last minute against its rate before.
//!
//! The log-likelihood ratio of a Poisson count, `c·ln(c/λ) − (c − λ)` for `c` records where `λ` were to be expected.

use super::{detector::Sighting, episode::Series};

/// Length of one of the window's buckets.
const BUCKET_NANO: u64 = 10 * 1_000_000_000;
const BUCKETS: usize = 6;
const WINDOW_NANO: u64 = BUCKET_NANO * BUCKETS as u64;

/// A burst says no more than this, however large.
const MAX_RATIO: f64 = 50.0;

/// No value is larger: a little more than `ln(1 + MAX_RATIO)`.
pub(super) const MAX_VALUE: f64 = 3.94;

/// Counts of the last minute, and of all time before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// Number of the bucket of the latest record.
    pub(super) latest: u64,
    /// Records of the bucket `latest − n` at `(latest − n) % BUCKETS`.
    pub(super) counts: [u32; BUCKETS],
    /// Records before the window.
    pub(super) before: u64,
}

impl Window {
    /// Counts a record; one that is late counts as now.
    pub(super) fn count(&mut self, time_unix_nano: u64) {
        let bucket = (time_unix_nano / BUCKET_NANO).max(self.latest);
        if bucket != self.latest {
            for passed in (self.latest + 1..=bucket).take(BUCKETS) {
                if let Some(count) = self.counts.get_mut((passed % BUCKETS as u64) as usize) {
                    self.before += u64::from(*count);
                    *count = 0;
                }
            }
            if bucket - self.latest > BUCKETS as u64 {
                self.before += self.counts.iter().map(|count| u64::from(*count)).sum::<u64>();
                self.counts = [0; BUCKETS];
            }
            self.latest = bucket;
        }
        if let Some(count) = self.counts.get_mut((bucket % BUCKETS as u64) as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Records within the window.
    fn recent(&self) -> f64 {
        self.counts.iter().map(|count| f64::from(*count)).sum()
    }
}

/// `ln(1 + ratio)` of the last minute, 0 to about 4.
pub(super) fn value(sighting: &Sighting<'_>) -> f64 {
    let (recent, expected) = (sighting.series.window.recent(), expected(sighting));
    if recent <= expected {
        return 0.0;
    }
    (recent * (recent / expected).ln() - (recent - expected))
        .min(MAX_RATIO)
        .ln_1p()
}

/// Records a minute that the series' past lets expect; half a record where there is none.
fn expected(sighting: &Sighting<'_>) -> f64 {
    let Series {
        window,
        last_seen_unix_nano,
        ..
    } = sighting.series;
    let past = last_seen_unix_nano
        .saturating_sub(sighting.stream.first_unix_nano)
        .saturating_sub(WINDOW_NANO)
        .max(WINDOW_NANO);
    window.before as f64 / past as f64 * WINDOW_NANO as f64 + 0.5
}

pub(super) fn reason(sighting: &Sighting<'_>) -> String {
    let times = sighting.series.window.recent() / expected(sighting);
    format!("{times:.0}x its usual rate")
}
