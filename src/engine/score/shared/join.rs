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
    UnrestFact, UsualFact,
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
            (Self::Usual(one), Self::Usual(other)) => Self::Usual(one.join(other)),
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

impl UsualFact {
    /// The later of two that one agent wrote.
    fn join(self, other: Self) -> Self {
        greater(self, other, |it| (it.unit_count, it.record_count, it.encode_to_vec()))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::{collection::vec, option, prelude::*};

    use super::super::super::state::{AnomalyState, AssessmentState};
    use super::super::messages::{Knowledge, SaidFact};
    use super::*;
    use crate::engine::tenant::Tenant;

    /// Few values, so that ties are as frequent as differences.
    fn time() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, (0..4u64).prop_map(|n| n * 100 * 1_000_000_000)]
    }

    fn count() -> impl Strategy<Value = f64> {
        (0..4u32).prop_map(f64::from)
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), Just("a".to_owned()), Just("b".to_owned())]
    }

    prop_compose! {
        fn template()(text in word(), embedding in vec(0..3i32, 0..3), share in count(), lines in 0..3u64, first in time(), last in time(),
                      flagged in option::of((0..3u32, time()))) -> Fact {
            Fact::Template(TemplateFact {
                key: 7,
                text,
                embedding: embedding.into_iter().map(|value| value as f32).collect(),
                unknown_share: share as f32,
                lines,
                first_seen_unix_nano: first,
                last_seen_unix_nano: last,
                flagged: flagged.map(|(generation, since_unix_nano)| FlaggedFact { generation, since_unix_nano }),
            })
        }
    }

    prop_compose! {
        fn episode()(started in time(), judged: bool, known in count(), quiet in time(), turns in 0..3u32, suppressed: bool,
                     score in option::of(count())) -> EpisodeFact {
            EpisodeFact {
                started_unix_nano: started,
                judged,
                known,
                quiet_nano: quiet,
                assessment: Some(AssessmentState::default()),
                anomaly: score.map(|score| AnomalyState { score, ..AnomalyState::default() }),
                suppressed,
                turns,
            }
        }
    }

    prop_compose! {
        fn series()(known in count(), last in time(), first in (time(), 1..4u64), episode in option::of(episode())) -> Fact {
            Fact::Series(SeriesFact {
                template: 7,
                service: "shop".to_owned(),
                known,
                last_seen_unix_nano: last,
                first_seen_unix_nano: first.0,
                first_seen_by: first.1,
                episode,
            })
        }
    }

    prop_compose! {
        fn service()(openings in vec(time(), 0..6), unrest in vec((1..4u64, count(), time()), 0..4), records in 0..3u64) -> Fact {
            let unrest = unrest.into_iter().map(|(agent, level, at_unix_nano)| UnrestFact { agent, level, at_unix_nano });
            let one = ServiceFact { service: "shop".to_owned(), plain_openings: openings, unrest: unrest.collect(), records };
            // As agents write it: in order, each agent once.
            Fact::Service(one.join(ServiceFact::default()))
        }
    }

    prop_compose! {
        fn stream()(latest in time(), records in count(), first in time(), units in vec(0..3i32, 0..3)) -> Fact {
            Fact::Stream(StreamFact {
                latest_unix_nano: latest,
                records,
                first_unix_nano: first,
                units: units.into_iter().map(|unit| unit as f32).collect(),
                ..StreamFact::default()
            })
        }
    }

    prop_compose! {
        fn model()(generation in 0..3u32, records in 0..3u64, bank in vec(0..3u64, 0..3)) -> Fact {
            Fact::Model(ModelFact { generation, records, lines: bank.clone(), bank, ..ModelFact::default() })
        }
    }

    prop_compose! {
        fn usual()(units in vec(0..3i32, 0..3), unit_count in 0..3u64, record_count in 0..3u64) -> Fact {
            let units = units.into_iter().map(|unit| unit as f32).collect();
            Fact::Usual(UsualFact { service: "shop".to_owned(), agent: 3, units, unit_count, record_count })
        }
    }

    prop_compose! {
        fn opinion()(time_unix_nano in time(), said in option::of((1..4u32, word()))) -> Fact {
            let said = said.map(|(opinion, comment)| SaidFact { opinion, comment, ..SaidFact::default() });
            Fact::Opinion(OpinionFact { template: 7, service: None, time_unix_nano, said })
        }
    }

    fn three() -> impl Strategy<Value = (Fact, Fact, Fact)> {
        prop_oneof![
            (template(), template(), template()),
            (series(), series(), series()),
            (service(), service(), service()),
            (stream(), stream(), stream()),
            (model(), model(), model()),
            (opinion(), opinion(), opinion()),
            (usual(), usual(), usual()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(31), cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn order_repetition_and_grouping_make_no_difference((one, two, three) in three()) {
            let join = |one: &Fact, two: &Fact| one.clone().join(two.clone());
            prop_assert_eq!(join(&one, &two), join(&two, &one));
            prop_assert_eq!(join(&one, &one), one.clone());
            prop_assert_eq!(join(&join(&one, &two), &three), join(&one, &join(&two, &three)));
            let both = join(&one, &two);
            prop_assert_eq!(join(&both, &one), both);
        }

        #[test]
        fn what_is_written_is_read_and_keeps_its_key((one, two, _) in three()) {
            let tenant = Tenant::named("acme/ü");
            let [one, two] = [one, two].map(|fact| Knowledge::new(&tenant, 9, fact).unwrap());
            prop_assert_eq!(one.key(), two.key());
            if let Some(read) = Knowledge::read(&one.encode_to_vec()) {
                prop_assert_eq!(read.tenant(), tenant);
                prop_assert_eq!(read, one);
            }
        }

        #[test]
        fn any_bytes_are_read_or_not(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Knowledge::read(&bytes);
        }
    }

    #[test]
    fn keys_are_readable_and_tell_apart() {
        let key = |tenant: &Tenant, model, fact| {
            String::from_utf8(Knowledge::new(tenant, model, fact).unwrap().key()).unwrap()
        };
        let series = |service: &str| {
            Fact::Series(SeriesFact {
                template: 255,
                service: service.to_owned(),
                ..SeriesFact::default()
            })
        };
        assert_eq!(
            key(&Tenant::named("acme"), 1, series("check/out")),
            "harbinger/knowledge/1/series/=acme/0000000000000001/00000000000000ff/check%2Fout"
        );
        assert_ne!(
            key(&Tenant::default(), 1, series("a")),
            key(&Tenant::named("-"), 1, series("a"))
        );
        assert_ne!(
            key(&Tenant::default(), 1, series("a")),
            key(&Tenant::default(), 2, series("a"))
        );
        let long = |end: &str| key(&Tenant::default(), 1, series(&format!("{}{end}", "x".repeat(300))));
        assert!(long("a") != long("b") && long("a").len() < 200);
        let said = |model| key(&Tenant::default(), model, Fact::Opinion(OpinionFact::default()));
        assert_eq!(said(1), said(2), "opinions are of texts");
        assert!(Knowledge::new(&Tenant::Overflow, 1, series("a")).is_none());
        assert!(Knowledge::has_key(said(1).as_bytes()) && !Knowledge::has_key(b"harbinger/agent"));
    }

    #[test]
    fn a_later_version_is_not_read() {
        let mut bytes = Knowledge::new(&Tenant::default(), 1, Fact::Opinion(OpinionFact::default()))
            .unwrap()
            .encode_to_vec();
        assert!(Knowledge::read(&bytes).is_some());
        // Fields that are not known here: passed over. The last version in the bytes counts.
        bytes.extend([0xa0, 0x06, 1]);
        assert!(Knowledge::read(&bytes).is_some());
        bytes.extend([8, 2]);
        assert!(Knowledge::read(&bytes).is_none());
    }
}
