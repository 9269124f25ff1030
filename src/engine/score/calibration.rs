//! How strong news has to be before it means something in this stream: the scores of its own episodes, each taken before
//! anything was learned from it.
//!
//! What enters: the news log-odds of every episode that nobody complained of (a unit), and how many records there were.
//! What leaves: for any score the share of records that begin a usual episode as strange (a p-value), and the score beyond
//! which that share is small. Promises: monotone; on exchangeable scores the p-values are uniform; no shipped threshold; bounded.
//! Absent on purpose: verdicts.
//!
//! `p(x) = ν·H(x)`: ν units a record, of which the share `H(x) = (1 + #{units ≥ x}) / (1 + #units)` (a conformal p-value:
//! Vovk, Gammerman and Shafer, 2005) is as strange. Beyond what the units can resolve, their upper quarter is continued by an
//! exponential tail, the limit law of excesses over a high threshold (Balkema and de Haan, 1974; Pickands, 1975) of shape 0.

use std::collections::VecDeque;

/// Units that are kept: the latest.
const MAX_UNITS: usize = 2048;

/// Share of the units that the tail is fitted on.
const TAIL_SHARE: f64 = 0.25;

/// Smallest mean excess of a fitted tail: a few equal scores are no reason to expect no larger one.
const MIN_MEAN_EXCESS: f64 = 0.5;

/// Units after which the threshold is looked up anew.
const STALE_UNITS: u64 = 16;

/// What is usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// Scores in order of time.
    pub(super) units: VecDeque<f32>,
    /// Units and records in all.
    pub(super) unit_count: u64,
    pub(super) record_count: u64,
    /// The threshold, the share it was asked for, and the number of units it rests on.
    pub(super) usual: f64,
    pub(super) usual_alpha: f64,
    pub(super) looked_up_at: u64,
}

impl Calibration {
    /// A calibration that starts from these scores.
    pub fn of(units: impl IntoIterator<Item = f32>, record_count: u64) -> Self {
        let mut calibration = Self {
            record_count,
            ..Self::default()
        };
        for unit in units {
            calibration.push(unit);
        }
        calibration
    }

    /// One more record.
    pub fn count(&mut self) {
        self.record_count += 1;
    }

    /// One more unit, with its score.
    pub fn push(&mut self, score: f32) {
        if self.units.len() >= MAX_UNITS {
            self.units.pop_front();
        }
        self.units.push_back(score);
        self.unit_count += 1;
    }

    /// So many more units, of which the scores are not known, and records.
    pub fn add_counts(&mut self, units: u64, records: u64) {
        self.unit_count = self.unit_count.saturating_add(units);
        self.record_count = self.record_count.saturating_add(records);
    }

    /// Forgets the older half: what was usual has changed.
    pub fn forget_half(&mut self) {
        self.units.drain(..self.units.len() / 2);
        self.looked_up_at = 0;
    }

    /// Share of units at least as strange, 0 to 1.
    pub fn rank(&self, score: f64) -> f64 {
        let above = self.units.iter().filter(|unit| f64::from(**unit) >= score).count();
        (above as f64 + 1.0) / (self.units.len() as f64 + 1.0)
    }

    /// Share of records, 0 to 1, that begin a usual episode at least as strange.
    pub fn p_value(&self, score: f64) -> f64 {
        let share = match Tail::fit(&self.ascending()) {
            Some(tail) if score > tail.from => tail.above(score),
            _ => self.rank(score),
        };
        (self.rate() * share).min(1.0)
    }

    /// The smallest score, 0 or more, whose p-value is at most `alpha`.
    pub fn usual(&mut self, alpha: f64) -> f64 {
        if self.looked_up_at == 0 || self.usual_alpha != alpha || self.unit_count >= self.looked_up_at + STALE_UNITS {
            self.looked_up_at = self.unit_count.max(1);
            self.usual_alpha = alpha;
            self.usual = self.threshold(alpha);
        }
        self.usual
    }

    fn threshold(&self, alpha: f64) -> f64 {
        let ascending = self.ascending();
        let share = alpha / self.rate().max(f64::MIN_POSITIVE);
        if share >= 1.0 {
            return 0.0;
        }
        let resolved = ascending.len() as f64 * share >= 1.0;
        let threshold = match Tail::fit(&ascending) {
            Some(tail) if !resolved => tail.score_of(share),
            _ => {
                let place = (ascending.len() as f64 * (1.0 - share)).ceil() as usize;
                ascending
                    .get(place.min(ascending.len().saturating_sub(1)))
                    .copied()
                    .unwrap_or(0.0)
            }
        };
        threshold.max(0.0)
    }

    /// Units a record.
    fn rate(&self) -> f64 {
        self.unit_count as f64 / self.record_count.max(self.unit_count).max(1) as f64
    }

    fn ascending(&self) -> Vec<f64> {
        let mut ascending: Vec<f64> = self.units.iter().map(|unit| f64::from(*unit)).collect();
        ascending.sort_unstable_by(f64::total_cmp);
        ascending
    }
}

/// `P(score > x) = share · exp(−(x − from) / mean_excess)` for `x > from`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    from: f64,
    share: f64,
    mean_excess: f64,
}

impl Tail {
    /// Fits the mean excess over the value that a quarter of the scores (two at least) lie above.
    fn fit(ascending: &[f64]) -> Option<Self> {
        let count = ascending.len();
        let above = ((count as f64 * TAIL_SHARE).ceil() as usize).clamp(2, count.max(2));
        let from = *ascending.get(count.checked_sub(above + 1)?)?;
        let excesses = ascending.iter().rev().take(above).map(|score| score - from);
        Some(Self {
            from,
            share: above as f64 / count as f64,
            mean_excess: (excesses.sum::<f64>() / above as f64).max(MIN_MEAN_EXCESS),
        })
    }

    fn above(&self, score: f64) -> f64 {
        self.share * (-(score - self.from) / self.mean_excess).exp()
    }

    fn score_of(&self, share: f64) -> f64 {
        self.from + self.mean_excess * (self.share / share).ln().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evenly(count: usize) -> Vec<f32> {
        (0..count).map(|n| (n as f32 + 0.5) / count as f32 * 10.0).collect()
    }

    #[test]
    fn with_enough_units_the_threshold_is_their_percentile() {
        let mut calibration = Calibration::of(evenly(2000), 2000);
        assert!(
            (calibration.usual(0.01) - 9.9).abs() < 0.02,
            "{}",
            calibration.usual(0.01)
        );
    }

    #[test]
    fn with_few_units_the_tail_goes_on_beyond_the_largest() {
        let mut calibration = Calibration::of(evenly(20), 200);
        assert!(calibration.usual(0.0001) > 9.75);
    }

    #[test]
    fn where_episodes_are_seldom_any_news_counts() {
        let mut calibration = Calibration::of(evenly(20), 1_000_000);
        assert!(calibration.usual(0.001) == 0.0);
    }

    #[test]
    fn the_p_value_falls_as_the_score_grows() {
        let calibration = Calibration::of(evenly(40), 100);
        let values: Vec<f64> = (-20..200).map(|n| calibration.p_value(f64::from(n) / 10.0)).collect();
        let falls = |pair: &[f64]| matches!(pair, [left, right] if *left >= *right - 0.02);
        assert!(values.windows(2).all(falls), "{values:?}");
    }

    /// On exchangeable scores the ranks are uniform: none of their quantiles is off by more than chance makes plausible
    /// (the Dvoretzky–Kiefer–Wolfowitz bound for 500 units and 2,000 ranks at one in a million).
    #[test]
    fn ranks_of_exchangeable_scores_are_uniform() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut score = || (0..6).map(|_| rng.f32()).sum::<f32>();
            let calibration = Calibration::of((0..500).map(|_| score()), 500);
            let mut ranks: Vec<f64> = (0..2000).map(|_| calibration.rank(f64::from(score()))).collect();
            ranks.sort_by(f64::total_cmp);
            for (place, rank) in ranks.iter().enumerate() {
                let expected = (place as f64 + 0.5) / 2000.0;
                assert!((rank - expected).abs() < 0.18, "seed {seed}: {rank} at {expected}");
            }
        }
    }
}
