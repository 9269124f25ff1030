//! What a person's opinion does to a verdict, and to what is learned.
//!
//! What enters: the opinions of the tenant's templates. What leaves: whether detectors decide at all, and whether what was
//! said may become usual. Promises: an opinion decides from the next record on and changes nothing that lasts but the end
//! of an anomalous episode: taken back, detectors decide again. Absent on purpose: how opinions are kept (`feedback`).

use std::sync::Arc;

use super::{Anomaly, Scorer, ServiceId, judge::Change};
use crate::engine::{
    opinions::{Opinion, Opinions},
    text::TemplateKey,
};

/// Why a record is anomalous that somebody said matters.
pub const SAID_TO_BE_REAL: &str = "someone said that it is real";

/// What becomes of a template's place among the usual ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is usual: somebody said so.
    Granted,
    /// It keeps the place that it has, and gets none.
    Kept,
    /// It has none.
    Refused,
}

/// What an opinion does to the verdict of an episode; without one the detectors decide.
pub(super) fn overrule(opinion: Opinion) -> Change {
    match opinion {
        Opinion::Normal | Opinion::MuteUntil { .. } => Change::Release,
        Opinion::Real => Change::Stay,
    }
}

/// What is said of a record that somebody said matters. It is no part of the episode, which the detectors own.
pub(super) fn real(episode: u64) -> Arc<Anomaly> {
    Arc::new(Anomaly {
        score: 1.0,
        p_value: 0.0,
        detector: None,
        reason: Arc::from(SAID_TO_BE_REAL),
        episode,
    })
}

impl Scorer {
    /// Asks these opinions from the next record on.
    pub fn hold(&mut self, opinions: Opinions) {
        self.opinions = opinions;
    }

    /// Asks this opinion as well from the next record on, or (`None`) not any more.
    pub fn change_opinion(&mut self, key: TemplateKey, service: Option<&Arc<str>>, opinion: Option<Opinion>) {
        match opinion {
            Some(opinion) => self.opinions.take(key, service, opinion),
            None => self.opinions.drop(key, service),
        }
    }

    /// What opinions say of a template's being learned; `None` leaves it to the usual rule. It is one template to the
    /// network whatever the service, so it is learned because of an opinion only if that is the opinion wherever it is said.
    pub(super) fn admission(&self, key: TemplateKey) -> Option<Admission> {
        if !self.opinions.knows(key) {
            return None;
        }
        let said_by = self.series.range((key, ServiceId(0))..=(key, ServiceId(u32::MAX)));
        let (mut is_normal, mut is_muted, mut is_undecided) = (false, false, false);
        for ((_, service), _) in said_by {
            let name = self
                .services
                .all
                .get(service.0 as usize)
                .map_or("", |known| &*known.name);
            match self.opinions.of(key, name, self.latest_unix_nano) {
                Some(Opinion::Real) => return Some(Admission::Refused),
                Some(Opinion::MuteUntil { .. }) => is_muted = true,
                Some(Opinion::Normal) => is_normal = true,
                None => is_undecided = true,
            }
        }
        if is_muted {
            return Some(Admission::Kept);
        }
        (is_normal && !is_undecided).then_some(Admission::Granted)
    }

    /// The opinion that would decide on a record of this service now.
    pub fn opinion(&self, key: TemplateKey, service: &str) -> Option<Opinion> {
        self.opinions.of(key, service, self.latest_unix_nano)
    }

    /// The text of a template that is remembered; empty where texts are not kept.
    pub fn text(&self, key: TemplateKey) -> Option<&Arc<str>> {
        self.templates.by_key.get(&key).map(|template| &template.text)
    }
}
