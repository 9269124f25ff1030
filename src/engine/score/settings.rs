//! What a user may say about scoring, and what of it cannot be meant.

use serde::{Deserialize, Serialize};

use super::{
    autoencoder::Activation,
    detector::{DETECTORS, Detector},
};

/// How records are scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The detectors that have a say.
    pub detectors: Vec<Detector>,
    /// Output of the autoencoder.
    pub activation: Activation,
    /// Share of a healthy stream's records, in percent, that must not begin an episode of news as strange.
    pub percentile: f64,
    /// Anomalous episodes that may begin in a service within an hour; what is beyond is counted and not marked.
    pub max_episodes_per_hour: usize,
    /// Records needed before the first training.
    pub warm_up_records: u64,
    /// Templates needed before the first training.
    pub warm_up_templates: usize,
    /// Templates remembered.
    pub max_templates: usize,
    /// Start of all randomness in training.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            detectors: Detector::ALL.to_vec(),
            activation: Activation::Linear,
            percentile: 99.5,
            max_episodes_per_hour: 600,
            warm_up_records: 500,
            warm_up_templates: 2,
            max_templates: 20_000,
            seed: 0,
        }
    }
}

impl Settings {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if !(50.0..100.0).contains(&self.percentile) {
            return Err(format!(
                "percentile: {} is not between 50 and 100; write 99.5",
                self.percentile
            ));
        }
        if self.detectors.is_empty() {
            return Err("detectors: nobody is left to judge; leave the key out to have them all".to_owned());
        }
        if self.max_episodes_per_hour == 0 {
            return Err("max_episodes_per_hour: 0 marks nothing; for that write mode: shadow, else 600".to_owned());
        }
        if self.warm_up_records == 0 || self.warm_up_templates < 2 {
            return Err(
                "warm_up_records, warm_up_templates: nothing is learned from nothing; write 500 and 2".to_owned(),
            );
        }
        if self.max_templates < self.warm_up_templates {
            return Err(format!(
                "max_templates: less than warm_up_templates ({}); write 20000",
                self.warm_up_templates
            ));
        }
        Ok(())
    }

    /// The keys that [`Settings::adjust`] takes over: they are asked for at the moment of a verdict, and nothing that was
    /// learned rests on them.
    pub const ADJUSTABLE: [&'static str; 2] = ["percentile", "max_episodes_per_hour"];

    /// From now on as these say, as far as that can change in a running engine.
    pub(in crate::engine) fn adjust(&mut self, to: &Self) {
        self.percentile = to.percentile;
        self.max_episodes_per_hour = to.max_episodes_per_hour;
    }

    /// Share of healthy records that may begin an anomalous episode of news.
    pub(super) fn alpha(&self) -> f64 {
        1.0 - self.percentile / 100.0
    }

    /// Which detectors have a say, in the order of [`Detector::ALL`].
    pub(super) fn detectors_on(&self) -> [bool; DETECTORS] {
        Detector::ALL.map(|detector| self.detectors.contains(&detector))
    }
}
