//! How often something new goes wrong in this stream, by its own rhythm.
//!
//! In: when anomalous records come. Out: the rate at which unrelated ones begin, per second. The silences between anomalous
//! records are a mixture of two kinds: within an incident (they follow the modified Omori law, as aftershocks do: Utsu 1961)
//! and between incidents (exponential: nothing links them). One step of expectation maximisation a silence tells how many
//! are of which kind and how long the second kind is, as in the stochastic declustering of earthquake catalogues (Zhuang,
//! Ogata and Vere-Jones, "Stochastic declustering of space-time earthquake occurrences", JASA 2002). A quiet system so
//! waits minutes for what follows; a busy one seconds. Promises: bounded; a function of what it was told.
//! Absent on purpose: what the records say.

use std::collections::VecDeque;

use super::UTTERANCE_NANO;

/// Silences remembered.
const REMEMBERED: usize = 64;
/// Before anything was seen: as if so many silences between incidents had been, of so many seconds each.
const PRIOR_BETWEEN: f64 = 3.0;
const PRIOR_BETWEEN_S: f64 = 600.0;
/// And so many within incidents.
const PRIOR_WITHIN: f64 = 6.0;
/// Exponent of the density of silences within an incident.
const WITHIN_EXPONENT: f64 = 1.5;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rhythm {
    /// Seconds, oldest first.
    pub silences_s: VecDeque<f64>,
    /// The latest anomalous record, Unix nanoseconds.
    pub latest: Option<u64>,
    /// Rate of what is unrelated, per second.
    pub rate: f64,
    /// Share of silences that are within an incident.
    pub within: f64,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            silences_s: VecDeque::new(),
            latest: None,
            rate: 1.0 / PRIOR_BETWEEN_S,
            within: PRIOR_WITHIN / (PRIOR_WITHIN + PRIOR_BETWEEN),
        }
    }
}

impl Rhythm {
    /// An episode begins at `time` and reaches to `end` so far.
    pub fn begin(&mut self, time: u64, end: u64) {
        let silence = self.latest.map_or(0, |latest| time.saturating_sub(latest));
        if silence > UTTERANCE_NANO {
            if self.silences_s.len() == REMEMBERED {
                self.silences_s.pop_front();
            }
            self.silences_s.push_back(silence as f64 / 1e9);
            self.learn();
        }
        self.touch(end);
    }

    /// An episode goes on.
    pub fn touch(&mut self, time: u64) {
        self.latest = Some(self.latest.map_or(time, |latest| latest.max(time)));
    }

    /// One step of expectation maximisation over what is remembered.
    fn learn(&mut self) {
        let (mut between, mut between_s) = (PRIOR_BETWEEN, PRIOR_BETWEEN * PRIOR_BETWEEN_S);
        for silence_s in &self.silences_s {
            let unrelated = (1.0 - self.within) * self.rate * (-self.rate * silence_s).exp();
            let related = self.within * (WITHIN_EXPONENT - 1.0) * (1.0 + silence_s).powf(-WITHIN_EXPONENT);
            let share = unrelated / (unrelated + related);
            between += share;
            between_s += share * silence_s;
        }
        let silences = self.silences_s.len() as f64;
        self.rate = between / between_s;
        self.within = (PRIOR_WITHIN + PRIOR_BETWEEN + silences - between) / (PRIOR_WITHIN + PRIOR_BETWEEN + silences);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Bursts of five records two seconds apart, every `period_s`.
    fn after_bursts(period_s: u64) -> Rhythm {
        let mut rhythm = Rhythm::default();
        for burst in 0..20 {
            for record in 0..5 {
                let time = (burst * period_s + record * 2) * SECOND;
                rhythm.begin(time, time);
            }
        }
        rhythm
    }

    /// What comes every minute may as well follow from what came before: it only shortens the wait.
    #[test]
    fn the_rate_is_that_of_bursts_not_of_records() {
        assert!(after_bursts(60).rate > after_bursts(600).rate);
        for period_s in [600, 6000] {
            let found_s = 1.0 / after_bursts(period_s).rate;
            let period_s = period_s as f64;
            assert!(
                found_s > period_s / 2.5 && found_s < period_s * 2.5,
                "{found_s} for {period_s}"
            );
        }
    }

    #[test]
    fn records_in_a_row_are_no_silence() {
        let mut rhythm = Rhythm::default();
        for tenth in 0..1000 {
            rhythm.begin(tenth * SECOND / 10, tenth * SECOND / 10);
        }
        assert_eq!(rhythm.silences_s.len(), 0);
        assert_eq!(
            rhythm,
            Rhythm {
                latest: Some(999 * SECOND / 10),
                ..Rhythm::default()
            }
        );
    }
}
