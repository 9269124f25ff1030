//! What else is rare and sounds like failure in the same service at the same time: one rare line is an oddity, ten rare
//! lines within seconds are an event. Their surprise fades within [`FADING_S`] seconds.

use super::{
    detector::Sighting,
    rarity::{self, MAX_SURPRISE},
    severity,
};

/// Seconds in which what was said counts for a third.
const FADING_S: f64 = 10.0;

/// Surprise below which a line is no company.
const RARE: f64 = 6.0;

/// Surprise up to which a line belongs to daily life, whatever happens around it.
const COMMON: f64 = 3.0;

/// Failure score from which a line is company, and how much of it counts.
const UNDECIDED: f64 = 0.1;
const GAIN: f64 = 1.3;

/// Company that a line finds whose author says that all is well.
const LOW_SEVERITY_SHARE: f64 = 0.6;

/// Rare and grave records of one service, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Unrest {
    pub(super) level: f64,
    pub(super) at_unix_nano: u64,
}

impl Unrest {
    /// Lets the level fade up to `now`; a late record changes nothing.
    pub(super) fn fade(&mut self, now_unix_nano: u64) {
        let passed = now_unix_nano.saturating_sub(self.at_unix_nano);
        if passed > 0 {
            if self.level > 0.0 {
                self.level *= (-(passed as f64) / (FADING_S * 1e9)).exp();
            }
            self.at_unix_nano = now_unix_nano;
        }
    }

    /// The level faded up to `now`.
    pub(super) fn level_at(mut self, now_unix_nano: u64) -> f64 {
        self.fade(now_unix_nano);
        self.level
    }

    /// Adds a record of this surprise and failure score.
    pub(super) fn add(&mut self, surprise: f64, failing: f64) {
        self.level += ((surprise - RARE) / 4.0).max(0.0) * (GAIN * (failing - UNDECIDED)).clamp(0.0, 1.0);
    }
}

/// The unrest that the record finds, the more the rarer it is itself.
pub(super) fn value(sighting: &Sighting<'_>) -> f64 {
    let level = sighting.service.unrest.level;
    if level == 0.0 {
        return 0.0;
    }
    let share = if severity::vote(sighting.severity_number) < 0.0 {
        LOW_SEVERITY_SHARE
    } else {
        1.0
    };
    share * level.ln_1p() * ((rarity::value(sighting) - COMMON) / (MAX_SURPRISE - COMMON)).max(0.0)
}

/// No less than [`value`] of a record that is surprising by no more than this: `ln(1 + x) ≤ x`.
pub(super) fn at_most(sighting: &Sighting<'_>, surprise: f64) -> f64 {
    sighting.service.unrest.level * ((surprise - COMMON) / (MAX_SURPRISE - COMMON)).max(0.0)
}

pub(super) fn reason() -> String {
    "rare, together with other rare lines that speak of failure".to_owned()
}
