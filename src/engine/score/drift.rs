//! Notices that what is usual has changed: the ranks of new episodes among the old ones are uniform as long as they are
//! exchangeable; when they crowd at the strange end, a bet against it wins.
//!
//! The betting martingale `Π ε·p^(ε−1)` (Vovk, Nouretdinov and Gammerman, 2003) with ε = ½, restarted whenever it falls
//! below 1 (a CUSUM, Page 1954). Promises: deterministic. Absent on purpose: the training that follows, see `mod`.

use super::{calibration::Calibration, judge::MIN_UNITS};

/// Exponent of the bet.
const EPSILON: f64 = 0.5;

/// Logarithm of the stake that ends the belief in exchangeability.
const ALARM: f64 = 16.0;

/// The running bet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Drift {
    pub(super) log_stake: f64,
}

impl Drift {
    /// Bets on the score of one more unit of the stream and takes it into what is usual there; true when the stream has changed: then the
    /// older half of that is forgotten.
    pub(super) fn takes_in(&mut self, score: f64, stream: &mut Calibration) -> bool {
        let has_changed = stream.units.len() >= MIN_UNITS && self.bet(stream.rank(score));
        if has_changed {
            stream.forget_half();
        }
        stream.push(score as f32);
        has_changed
    }

    /// Bets on one rank, 0 (strangest) to 1; true when the stake is so large that the stream has changed. Then it starts anew.
    fn bet(&mut self, rank: f64) -> bool {
        let gain = EPSILON.ln() + (EPSILON - 1.0) * rank.clamp(1e-6, 1.0).ln();
        self.log_stake = (self.log_stake + gain).max(0.0);
        let alarm = self.log_stake > ALARM;
        if alarm {
            self.log_stake = 0.0;
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use super::Drift;

    #[test]
    fn uniform_ranks_raise_no_alarm_and_small_ones_do() {
        let mut drift = Drift::default();
        let mut rng = fastrand::Rng::with_seed(1);
        assert!((0..20_000).all(|_| !drift.bet(rng.f64())));
        assert!((0..100).any(|_| drift.bet(rng.f64() * 0.05)));
    }
}
