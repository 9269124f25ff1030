//! How large an error has to be before it means something: errors of usual texts the network was not trained on.
//!
//! What enters: errors of known templates with their line counts, errors of the same templates where each was held out
//! of training, and how often the stream says something new. What leaves: for any error the share of lines that would
//! show one as large in a healthy stream (a p-value). Promises: monotone; no shipped threshold, all comes from this
//! stream. Absent on purpose: verdicts.
//!
//! A line either repeats a known template (its error is a training error) or, with the stream's own rate of novelty ν,
//! is a new one (its error is that of a held-out template). So the share of lines above `e` is
//! `(1 − ν)·K(e) + ν·H(e)`. Where the wanted share lies beyond what the held-out errors can resolve, their upper quarter
//! is continued by an exponential tail, the limit law of excesses over a high threshold (Balkema and de Haan, 1974;
//! Pickands, 1975) with shape 0.

/// Share of the held-out errors that the tail is fitted on.
const TAIL_SHARE: f64 = 0.25;

/// Smallest mean excess of a fitted tail: a few equal errors are no reason to expect no larger one.
const MIN_MEAN_EXCESS: f64 = 0.01;

/// What is usual in this stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Error and number of lines of every known template, ascending by error.
    known: Vec<(f64, f64)>,
    /// Held-out errors, ascending.
    held_out: Vec<f64>,
    /// Share of lines whose template is new.
    novelty: f64,
    tail: Option<Tail>,
}

/// `P(error > e) = share · exp(−(e − from) / mean_excess)` for `e > from`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tail {
    from: f64,
    share: f64,
    mean_excess: f64,
}

impl Calibration {
    /// Calibrates for verdicts at the share `alpha` of lines; `known` is (error, lines).
    pub fn new(mut known: Vec<(f64, f64)>, mut held_out: Vec<f64>, novelty: f64, alpha: f64) -> Self {
        known.sort_by(|left, right| left.0.total_cmp(&right.0));
        held_out.sort_by(f64::total_cmp);
        let novelty = novelty.clamp(0.0, 1.0);
        let resolved = held_out.len() as f64 * alpha / novelty.max(f64::MIN_POSITIVE) >= 1.0;
        let tail = if resolved { None } else { Tail::fit(&held_out) };
        Self {
            known,
            held_out,
            novelty,
            tail,
        }
    }

    /// How many templates were held out and measured.
    pub fn units(&self) -> usize {
        self.held_out.len()
    }

    /// Whether the errors were too few for the wanted percentile, and their tail was fitted.
    pub fn tail_fitted(&self) -> bool {
        self.tail.is_some()
    }

    /// Share of lines, 0 to 1, that in a healthy stream have an error larger than `error`.
    pub fn p_value(&self, error: f64) -> f64 {
        (1.0 - self.novelty) * self.known_above(error) + self.novelty * self.held_out_above(error)
    }

    /// The smallest error whose p-value is at most `alpha`, to six digits.
    pub fn threshold(&self, alpha: f64) -> f64 {
        let (mut low, mut high) = (0.0, 16.0);
        for _ in 0..48 {
            let middle = (low + high) / 2.0;
            if self.p_value(middle) <= alpha {
                high = middle
            } else {
                low = middle
            }
        }
        high
    }

    fn known_above(&self, error: f64) -> f64 {
        let all: f64 = self.known.iter().map(|(_, lines)| lines).sum();
        let from = self.known.partition_point(|(known, _)| *known <= error);
        let above: f64 = self.known.iter().skip(from).map(|(_, lines)| lines).sum();
        if all > 0.0 { above / all } else { 0.0 }
    }

    fn held_out_above(&self, error: f64) -> f64 {
        match &self.tail {
            Some(tail) if error > tail.from => tail.share * (-(error - tail.from) / tail.mean_excess).exp(),
            _ if self.held_out.is_empty() => 1.0,
            _ => {
                let above = self.held_out.len() - self.held_out.partition_point(|held_out| *held_out <= error);
                above as f64 / self.held_out.len() as f64
            }
        }
    }

    /// Known errors and lines, held-out errors, novelty: for a snapshot.
    pub(super) fn parts(&self) -> (&[(f64, f64)], &[f64], f64) {
        (&self.known, &self.held_out, self.novelty)
    }
}

impl Tail {
    /// Fits the mean excess over the value that a quarter of the errors (two at least) lie above.
    fn fit(ascending: &[f64]) -> Option<Self> {
        let count = ascending.len();
        let above = ((count as f64 * TAIL_SHARE).ceil() as usize).clamp(2, count.max(2));
        let from = *ascending.get(count.saturating_sub(above + 1))?;
        let excesses = ascending.iter().rev().take(above).map(|error| error - from);
        let mean_excess = (excesses.sum::<f64>() / above.min(count) as f64).max(MIN_MEAN_EXCESS);
        Some(Self {
            from,
            share: above.min(count) as f64 / count as f64,
            mean_excess,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evenly(count: usize) -> Vec<f64> {
        (0..count).map(|n| (n as f64 + 0.5) / count as f64).collect()
    }

    #[test]
    fn with_enough_errors_the_threshold_is_their_percentile() {
        let calibration = Calibration::new(vec![(0.0, 1.0)], evenly(10_000), 1.0, 0.01);
        assert!(!calibration.tail_fitted());
        assert!((calibration.threshold(0.01) - 0.99).abs() < 1e-3);
    }

    #[test]
    fn with_few_errors_the_tail_goes_on_beyond_the_largest() {
        let calibration = Calibration::new(vec![(0.0, 1.0)], evenly(20), 0.1, 0.001);
        assert!(calibration.tail_fitted());
        assert!(calibration.threshold(0.001) > 0.975);
    }

    #[test]
    fn a_stream_that_says_nothing_new_flags_what_is_new() {
        let known = vec![(0.1, 900.0), (0.2, 100.0)];
        let calibration = Calibration::new(known, evenly(20), 0.0005, 0.001);
        assert!(calibration.threshold(0.001) <= 0.21, "{}", calibration.threshold(0.001));
    }

    #[test]
    fn the_p_value_falls_as_the_error_grows() {
        let calibration = Calibration::new(vec![(0.1, 5.0), (0.3, 1.0)], evenly(9), 0.05, 0.001);
        let values: Vec<f64> = (0..200).map(|n| calibration.p_value(f64::from(n) / 100.0)).collect();
        assert!(
            values
                .windows(2)
                .all(|pair| matches!(pair, [left, right] if left >= right)),
            "{values:?}"
        );
        assert!((calibration.p_value(-1.0) - 1.0).abs() < 1e-12);
    }
}
