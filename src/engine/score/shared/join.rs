//! What two agents know of one thing, as one: a join.
//!
//! What enters: two facts of one key. What leaves: what is known by both. Promises: commutative, associative and idempotent, so
//! that order, repetition and what a memory leaves out make no difference; nothing of it is ever taken back by hearing less.
//! Absent on purpose: what a scorer does with it (`hear`).

use std::cmp::Ordering;

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::messages::{
    EpisodeFact, Fact, FlaggedFact, ModelFact, OpinionFact, SeriesFact, ServiceFact, StreamFact, TemplateFact,
    UnrestFact,
};
use crate::engine::score::service::LATEST_PLAIN_OPENINGS;

/// What an agent has told of a service's unrest counts so long after it at most; by then it has faded.
const UNREST_NANO: u64 = 120 * 1_000_000_000;

impl Fact {
    /// See the module. Facts of two kinds have two keys; here the kind that comes first stays.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Template(one), Self::Template(other)) => Self::Template(one.join(other)),
            (Self::Series(one), Self::Series(other)) => Self::Series(one.join(other)),
            (Self::Service(one), Self::Service(other)) => Self::Service(one.join(other)),
            (Self::Stream(one), Self::Stream(other)) => Self::Stream(one.join(other)),
            (Self::Model(one), Self::Model(other)) => Self::Model(one.join(other)),
            (Self::Opinion(one), Self::Opinion(other)) => Self::Opinion(one.join(other)),
            (one, other) => greater(one, other, |it| it.encoded()),
        }
    }

    fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}

/// The one with the greater rank; the same rank is the same content.
fn greater<T, R: Ord>(one: T, other: T, rank: impl Fn(&T) -> R) -> T {
    if rank(&other) > rank(&one) { other } else { one }
}

/// The earlier of two times of which 0 is none.
fn earlier(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, time) | (time, 0) => time,
        (one, other) => one.min(other),
    }
}

impl TemplateFact {
    pub(super) fn join(self, other: Self) -> Self {
        let embedding = |it: &Self| {
            let bits = it.embedding.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
            (bits, it.unknown_share.to_bits())
        };
        let flagged = match (self.flagged, other.flagged) {
            (Some(one), Some(other)) => Some(one.join(other)),
            (one, other) => one.or(other),
        };
        let (key, lines) = (self.key.max(other.key), self.lines.max(other.lines));
        let first_seen_unix_nano = earlier(self.first_seen_unix_nano, other.first_seen_unix_nano);
        let last_seen_unix_nano = self.last_seen_unix_nano.max(other.last_seen_unix_nano);
        let text = (&self.text).max(&other.text).clone();
        Self {
            key,
            text,
            lines,
            first_seen_unix_nano,
            last_seen_unix_nano,
            flagged,
            ..greater(self, other, embedding)
        }
    }
}

impl FlaggedFact {
    /// The mark of the later training, as what it has learned is marked anew; of one training the earlier.
    fn join(self, other: Self) -> Self {
        greater(self, other, |it| (it.generation, std::cmp::Reverse(it.since_unix_nano)))
    }
}

impl SeriesFact {
    pub(super) fn join(self, other: Self) -> Self {
        let first = |it: &Self| match it.first_seen_unix_nano {
            0 => (u64::MAX, it.first_seen_by),
            time => (time, it.first_seen_by),
        };
        let (first_seen_unix_nano, first_seen_by) = match first(&self).min(first(&other)) {
            (u64::MAX, by) => (0, by),
            known => known,
        };
        let known = self.known.max(other.known);
        let (template, service) = (
            self.template.max(other.template),
            (&self.service).max(&other.service).clone(),
        );
        let later = greater(self, other, |it| {
            (it.last_seen_unix_nano, it.episode.as_ref().map(EpisodeFact::rank))
        });
        Self {
            template,
            service,
            known,
            first_seen_unix_nano,
            first_seen_by,
            ..later
        }
    }
}

impl EpisodeFact {
    /// Which of two episodes that were seen last at the same time counts: the anomalous one, the earlier one.
    fn rank(&self) -> (bool, std::cmp::Reverse<u64>, u32, Vec<u8>) {
        (
            self.anomaly.is_some(),
            std::cmp::Reverse(self.started_unix_nano),
            self.turns,
            self.encode_to_vec(),
        )
    }
}

impl ServiceFact {
    pub(super) fn join(self, other: Self) -> Self {
        let mut plain_openings = [self.plain_openings, other.plain_openings].concat();
        plain_openings.sort_unstable();
        plain_openings.dedup();
        plain_openings.drain(..plain_openings.len().saturating_sub(LATEST_PLAIN_OPENINGS));

        let mut unrest = [self.unrest, other.unrest].concat();
        let latest = unrest.iter().map(|it| it.at_unix_nano).max().unwrap_or_default();
        unrest.retain(|it| latest.saturating_sub(it.at_unix_nano) <= UNREST_NANO);
        // Of each agent the latest comes first, and stays.
        unrest.sort_by(|one, other| one.agent.cmp(&other.agent).then(other.recency(one)));
        unrest.dedup_by_key(|it| it.agent);
        Self {
            service: self.service.max(other.service),
            plain_openings,
            unrest,
            records: self.records.max(other.records),
        }
    }
}

impl UnrestFact {
    fn recency(&self, other: &Self) -> Ordering {
        let times = self.at_unix_nano.cmp(&other.at_unix_nano);
        times.then(self.level.total_cmp(&other.level))
    }
}

impl StreamFact {
    pub(super) fn join(self, other: Self) -> Self {
        let first_unix_nano = earlier(self.first_unix_nano, other.first_unix_nano);
        // The time of the first is joined by itself, so it must not decide.
        let rank = |it: &Self| {
            let rest = Self {
                first_unix_nano: 0,
                ..it.clone()
            };
            (it.latest_unix_nano, rest.encode_to_vec())
        };
        Self {
            first_unix_nano,
            ..greater(self, other, rank)
        }
    }
}

impl ModelFact {
    pub(super) fn join(self, other: Self) -> Self {
        greater(self, other, Self::rank)
    }

    /// The later training counts; of two at once the one that a hash of their numbers decides for.
    pub(super) fn rank(&self) -> (u32, u64) {
        (self.generation, xxh3_64(&self.encode_to_vec()))
    }
}

impl OpinionFact {
    /// The later one counts; of two at once, that it was taken back.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        greater(self, other, Self::rank)
    }

    /// See [`OpinionFact::join`].
    pub fn rank(&self) -> (u64, bool, Vec<u8>) {
        (self.time_unix_nano, self.said.is_none(), self.encode_to_vec())
    }
}
