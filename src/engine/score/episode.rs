//! Episodes: a run of one template in one service. What is judged is the episode, and its records share its verdict, so
//! that the hundredth line of a new error is as anomalous as the first.
//!
//! An episode begins at first sight, at a return after quiet, after half an hour that was not anomalous, and when the
//! warm-up ends. How rare and how new its template was is frozen then. Promises: a function of the times alone; a late record never ends an episode.
//! Absent on purpose: verdicts.

use std::sync::Arc;

use super::{Anomaly, burst::Window, templates::Assessment};

/// Silence that ends an episode.
pub(super) const QUIET_NANO: u64 = 60 * 1_000_000_000;

/// An episode that is not anomalous is looked at anew after so long.
const LIFE_NANO: u64 = 1800 * 1_000_000_000;

/// Records after which what was counted weighs half.
const HALF_LIFE_RECORDS: f64 = 200_000.0;

/// A template in a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    /// Records that count as usual, decayed.
    pub(super) known: f64,
    /// Number of the stream's record up to which `known` is decayed.
    pub(super) decayed_at: u64,
    pub(super) last_seen_unix_nano: u64,
    pub(super) window: Window,
    pub(super) episode: Episode,
}

/// A run of a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Episode {
    /// Counts all episodes; 0 is none yet.
    pub(super) number: u64,
    pub(super) started_unix_nano: u64,
    /// Whether it began with a judge at work.
    pub(super) judged: bool,
    /// Usual records of the series when it began.
    pub(super) known: f64,
    /// Silence before it; 0 at first sight.
    pub(super) quiet_nano: u64,
    /// What the judge made of the template when it began.
    pub(super) assessment: Assessment,
    /// What is said of its records, where it is anomalous.
    pub(super) anomaly: Option<Arc<Anomaly>>,
    /// It would be anomalous, but there are too many such, or they are a release.
    pub(super) suppressed: bool,
    /// How often its verdict has changed.
    pub(super) turns: u32,
}

/// What a record's count falls to with the next record: `decay(1.0)`.
pub(super) const DECAY: f64 = 0.999_996_534_270_102_8;

/// What a record's count falls to with further records.
pub(super) fn decay(records: f64) -> f64 {
    (-records / HALF_LIFE_RECORDS).exp2()
}

impl Series {
    /// Whether a record at this time begins an episode.
    pub(super) fn begins_episode(&self, time_unix_nano: u64, judged: bool) -> bool {
        let episode = &self.episode;
        episode.number == 0
            || judged != episode.judged
            || time_unix_nano.saturating_sub(self.last_seen_unix_nano) > QUIET_NANO
            || (episode.anomaly.is_none() && time_unix_nano.saturating_sub(episode.started_unix_nano) > LIFE_NANO)
    }

    /// Decays what is known to the stream's record `record`.
    pub(super) fn decay_to(&mut self, record: u64) {
        self.known *= decay(record.saturating_sub(self.decayed_at) as f64);
        self.decayed_at = record;
    }

    /// Begins the episode of this number at the stream's record `record`.
    pub(super) fn begin(
        &mut self,
        number: u64,
        time_unix_nano: u64,
        judged: bool,
        record: u64,
        assessment: &Assessment,
    ) {
        self.decay_to(record);
        let first_sight = self.episode.number == 0;
        self.episode = Episode {
            number,
            started_unix_nano: time_unix_nano,
            judged,
            known: self.known,
            quiet_nano: if first_sight {
                0
            } else {
                time_unix_nano.saturating_sub(self.last_seen_unix_nano)
            },
            assessment: *assessment,
            anomaly: None,
            suppressed: false,
            turns: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_of_one_record_is_that_of_one() {
        assert_eq!(DECAY, decay(1.0));
    }
}
