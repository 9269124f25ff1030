//! The names of the detectors, what they are shown, and their one fixed combination.
//!
//! What enters: a [`Sighting`], one record with everything remembered about its kind. What leaves: [`Evidence`], what
//! each detector makes of it and what they say together, in log-odds. Promises: a pure function of the sighting.
//! Absent on purpose: thresholds fitted to a stream (`calibration`), and what follows from a verdict (`mod`).
//!
//! Two ways lead to an anomaly, and the stronger one counts (their odds are added): *news*, a weighted sum over all
//! detectors (a logistic model), and *complaint*, for a sentence that speaks so plainly of failure that it needs not be
//! new: a chronic error is old news. The weights were fitted on labelled logs of three kinds of systems and on quiet ones;
//! they are the shipped prior, the same everywhere. A new detector is one file, one variant here, and an arm in each match.

use serde::{Deserialize, Serialize};

use super::{
    burst, company,
    episode::Series,
    failure, neighbour, rarity,
    service::{Service, Stream},
    severity,
    templates::Template,
};
use crate::engine::embed::Embedding;

/// One way a record can be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Error of the autoencoder's reconstruction.
    Autoencoder,
    /// Distance to the nearest known template.
    Neighbour,
    /// How seldom the template is said.
    Rarity,
    /// How much the text sounds like failure.
    Failure,
    /// The severity its author gave it.
    Severity,
    /// How much more often it is said than usual.
    Burst,
    /// What else is rare and sounds like failure in the same service at the same time.
    Company,
}

/// How many detectors there are.
pub const DETECTORS: usize = 7;

/// What a record is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'s> {
    pub(super) template: &'s Template,
    pub(super) series: &'s Series,
    pub(super) service: &'s Service,
    pub(super) stream: &'s Stream,
    pub(super) severity_number: i32,
    /// Whether the words or the severity speak of failure: then repetition alone does not make it usual.
    pub(super) grave: bool,
}

/// What the detectors make of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// What each detector adds to the log-odds of news, in the order of [`Detector::ALL`].
    pub contributions: [f64; DETECTORS],
    /// Log-odds that this is news, before calibration.
    pub news: f64,
    /// Log-odds that this is a complaint.
    pub complaint: f64,
}

/// Log-odds of news where every detector is silent.
pub(super) const NEWS_BIAS: f64 = -13.8;

/// Log-odds of a complaint: slope over the failure score, the score at which they are even, weight of the severity vote.
const COMPLAINT_SLOPE: f64 = 8.0;
const COMPLAINT_EVEN: f64 = 0.7;
const COMPLAINT_SEVERITY: f64 = 0.8;

/// Where both log-odds are below this, their sum is below 0: by ln 2, and a twentieth for rounding.
const SURELY: f64 = -0.75;

impl Detector {
    /// All of them, in the order of [`Evidence::contributions`].
    pub const ALL: [Self; DETECTORS] = [
        Self::Autoencoder,
        Self::Neighbour,
        Self::Rarity,
        Self::Failure,
        Self::Severity,
        Self::Burst,
        Self::Company,
    ];

    /// As it is written in settings and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Neighbour => "neighbour",
            Self::Rarity => "rarity",
            Self::Failure => "failure",
            Self::Severity => "severity",
            Self::Burst => "burst",
            Self::Company => "company",
        }
    }

    /// Its place in [`Detector::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Log-odds per unit of the detector's value.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::Autoencoder => 1.8,
            Self::Neighbour => 0.4,
            Self::Rarity => 1.3,
            Self::Failure => 2.0,
            Self::Severity => 1.85,
            Self::Burst => 0.1,
            Self::Company => 6.0,
        }
    }

    /// The detector's value, of what it contributed.
    pub fn value_of(self, contribution: f64) -> f64 {
        contribution / self.weight()
    }

    /// The value of a record that is nothing special: what a detector that is left out is taken to say.
    pub(super) fn neutral(self) -> f64 {
        match self {
            Self::Autoencoder | Self::Neighbour => 0.3,
            Self::Rarity => 4.0,
            Self::Failure | Self::Severity | Self::Burst | Self::Company => 0.0,
        }
    }

    /// How unusual the record is, in the detector's own unit.
    pub(super) fn value(self, sighting: &Sighting<'_>) -> f64 {
        match self {
            Self::Autoencoder => self.as_far_as_known(sighting, sighting.series.episode.assessment.error.into()),
            Self::Neighbour => self.as_far_as_known(sighting, neighbour::value(sighting)),
            Self::Rarity => rarity::value(sighting),
            Self::Failure => failure::value(sighting),
            Self::Severity => severity::vote(sighting.severity_number),
            Self::Burst => burst::value(sighting),
            Self::Company => company::value(sighting),
        }
    }

    /// A value that rests on what the words mean, drawn towards the neutral one as far as the model does not know them:
    /// what it makes of a foreign script tells texts apart, but not by what they say. [`failure`] hears by the same rule.
    fn as_far_as_known(self, sighting: &Sighting<'_>, value: f64) -> f64 {
        let unknown = sighting
            .template
            .embedding
            .as_ref()
            .map_or(0.0, Embedding::unknown_share);
        value + (self.neutral() - value) * f64::from(unknown)
    }

    /// No less than its value, of a record whose template was surprising by so much when the episode began; found at once.
    fn at_most(self, sighting: &Sighting<'_>, surprise: f64) -> f64 {
        match self {
            Self::Autoencoder | Self::Neighbour | Self::Failure | Self::Severity => self.value(sighting),
            Self::Rarity => surprise,
            Self::Burst => burst::MAX_VALUE,
            Self::Company => company::at_most(sighting, surprise),
        }
    }

    /// Why, in one short sentence, where this detector contributed most.
    pub(super) fn reason(self, sighting: &Sighting<'_>, nearest: Option<&str>) -> String {
        match self {
            Self::Autoencoder | Self::Neighbour => neighbour::reason(sighting, nearest),
            Self::Rarity => rarity::reason(sighting),
            Self::Failure => failure::reason(sighting),
            Self::Severity => severity::reason(sighting),
            Self::Burst => burst::reason(sighting),
            Self::Company => company::reason(),
        }
    }
}

impl Sighting<'_> {
    /// Whether the evidence cannot but be that the record is normal: its log-odds are below 0 even if every detector says
    /// the most it can. Without the logarithms of the evidence itself, as most records are not worth them.
    pub(super) fn is_surely_normal(&self, on: &[bool; DETECTORS], usual: f64, surprise: f64) -> bool {
        let mut news = NEWS_BIAS;
        let mut complaint = f64::NEG_INFINITY;
        for (detector, on) in Detector::ALL.into_iter().zip(on) {
            let value = if *on {
                detector.at_most(self, surprise)
            } else {
                detector.neutral()
            };
            news += detector.weight() * value;
            if detector == Detector::Failure && *on {
                complaint = complaint_of(value, self.severity_number);
            }
        }
        news - usual < SURELY && complaint < SURELY
    }
}

/// Log-odds that a text which sounds so much like failure is a complaint.
fn complaint_of(failing: f64, severity_number: i32) -> f64 {
    COMPLAINT_SLOPE * (failing - COMPLAINT_EVEN) + COMPLAINT_SEVERITY * severity::vote(severity_number)
}

impl Evidence {
    /// What the detectors that are `on` make of the sighting; the others are taken to say nothing special.
    pub(super) fn of(sighting: &Sighting<'_>, on: &[bool; DETECTORS]) -> Self {
        let mut evidence = Self {
            news: NEWS_BIAS,
            complaint: f64::NEG_INFINITY,
            ..Self::default()
        };
        for ((detector, on), contribution) in Detector::ALL.into_iter().zip(on).zip(&mut evidence.contributions) {
            let value = if *on {
                detector.value(sighting)
            } else {
                detector.neutral()
            };
            *contribution = detector.weight() * value;
            evidence.news += *contribution;
            if detector == Detector::Failure && *on {
                evidence.complaint = complaint_of(value, sighting.severity_number);
            }
        }
        evidence
    }

    /// Log-odds that the record is anomalous, where the stream's own news usually reaches `usual` (0 or more).
    pub fn log_odds(&self, usual: f64) -> f64 {
        let (news, complaint) = (self.news - usual, self.complaint);
        let (more, less) = if news > complaint {
            (news, complaint)
        } else {
            (complaint, news)
        };
        more + (less - more).exp().ln_1p()
    }

    /// The detector that says most.
    pub fn leading(&self, usual: f64) -> Detector {
        if self.complaint > self.news - usual {
            return Detector::Failure;
        }
        let mut leading = (Detector::Rarity, f64::NEG_INFINITY);
        for (detector, contribution) in Detector::ALL.into_iter().zip(self.contributions) {
            let above = contribution - detector.weight() * detector.neutral();
            if above > leading.1 {
                leading = (detector, above);
            }
        }
        leading.0
    }
}
