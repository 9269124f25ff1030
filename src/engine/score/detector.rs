//! The detectors there are, by name.
//!
//! What enters: nothing. What leaves: names, in a fixed order that indexes whatever is said for each detector.
//! Promise: the order never depends on settings. Absent on purpose: what a detector does.

use serde::{Deserialize, Serialize};

/// One way of finding a record unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// How badly the autoencoder reproduces what the record says.
    Autoencoder,
    /// How far what it says is from all that is known.
    Neighbour,
    /// How rarely it is said.
    Rarity,
    /// How much it sounds like a failure.
    Failure,
    /// What its sender thinks of it.
    Severity,
    /// How much more often than usual it is said.
    Burst,
}

impl Detector {
    /// All, in order.
    pub const ALL: [Detector; 6] = [
        Self::Autoencoder,
        Self::Neighbour,
        Self::Rarity,
        Self::Failure,
        Self::Severity,
        Self::Burst,
    ];

    /// Its name, as configuration and reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Neighbour => "neighbour",
            Self::Rarity => "rarity",
            Self::Failure => "failure",
            Self::Severity => "severity",
            Self::Burst => "burst",
        }
    }

    /// Its place in [`Detector::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}
