//! What agents tell each other, as protobuf messages, and the keys under which a memory keeps the latest of each.
//!
//! What enters: facts of a tenant. What leaves: bytes, and back. Promises: field numbers are never reused; a key is the same in every
//! version, and readable; what another sentence model has made has other keys, and is told apart. Bytes that are no
//! knowledge, of a later major version, or with numbers that cannot be meant are told as `None`. Absent on purpose: what facts
//! mean to a scorer (the neighbours), and how two of one key become one (`join`).

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::super::state::{AnomalyState, AssessmentState};
use crate::engine::tenant::Tenant;

/// The major version of these messages: a later one is not understood here.
pub const VERSION: u32 = 1;

/// How every key begins.
const PREFIX: &str = "harbinger/knowledge/1/";

/// So many bytes of a name are readable in a key.
const NAME_BYTES: usize = 80;

/// One thing that an agent knows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Knowledge {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Empty for the tenant of records that name none.
    #[prost(string, tag = "2")]
    tenant: String,
    /// A hash of the sentence model's version; 0 where it makes no difference.
    #[prost(fixed64, tag = "3")]
    model: u64,
    #[prost(oneof = "Fact", tags = "4, 5, 6, 7, 8, 9, 10")]
    fact: Option<Fact>,
}

/// What is known.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Fact {
    /// A template.
    #[prost(message, tag = "4")]
    Template(TemplateFact),
    /// A template in a service.
    #[prost(message, tag = "5")]
    Series(SeriesFact),
    /// A service.
    #[prost(message, tag = "6")]
    Service(ServiceFact),
    /// The stream of a tenant.
    #[prost(message, tag = "7")]
    Stream(StreamFact),
    /// What a training came to.
    #[prost(message, tag = "8")]
    Model(ModelFact),
    /// What a person said.
    #[prost(message, tag = "9")]
    Opinion(OpinionFact),
    /// What is usual in a service, by one agent.
    #[prost(message, tag = "10")]
    Usual(UsualFact),
}

/// A template.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TemplateFact {
    #[prost(fixed64, tag = "1")]
    pub(super) key: u64,
    /// Empty where texts are not kept.
    #[prost(string, tag = "2")]
    pub(super) text: String,
    /// Empty when missing.
    #[prost(float, repeated, tag = "3")]
    pub(super) embedding: Vec<f32>,
    #[prost(float, tag = "4")]
    pub(super) unknown_share: f32,
    #[prost(uint64, tag = "5")]
    pub(super) lines: u64,
    #[prost(fixed64, tag = "6")]
    pub(super) first_seen_unix_nano: u64,
    #[prost(fixed64, tag = "7")]
    pub(super) last_seen_unix_nano: u64,
    #[prost(message, optional, tag = "8")]
    pub(super) flagged: Option<FlaggedFact>,
}

/// Since when a template counts as anomalous.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FlaggedFact {
    /// The training by which it did: what a later one has learned counts no more.
    #[prost(uint32, tag = "1")]
    pub(super) generation: u32,
    #[prost(fixed64, tag = "2")]
    pub(super) since_unix_nano: u64,
}

/// A template in a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SeriesFact {
    #[prost(fixed64, tag = "1")]
    pub(super) template: u64,
    #[prost(string, tag = "2")]
    pub(super) service: String,
    /// Records that count as usual, decayed to when this was written.
    #[prost(double, tag = "3")]
    pub(super) known: f64,
    #[prost(fixed64, tag = "4")]
    pub(super) last_seen_unix_nano: u64,
    /// Its first record, 0 where nobody knows, and a hash of the agent that had it.
    #[prost(fixed64, tag = "5")]
    pub(super) first_seen_unix_nano: u64,
    #[prost(fixed64, tag = "6")]
    pub(super) first_seen_by: u64,
    #[prost(message, optional, tag = "7")]
    pub(super) episode: Option<EpisodeFact>,
}

/// The running episode of a series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EpisodeFact {
    #[prost(fixed64, tag = "1")]
    pub(super) started_unix_nano: u64,
    #[prost(bool, tag = "2")]
    pub(super) judged: bool,
    #[prost(double, tag = "3")]
    pub(super) known: f64,
    #[prost(uint64, tag = "4")]
    pub(super) quiet_nano: u64,
    #[prost(message, optional, tag = "5")]
    pub(super) assessment: Option<AssessmentState>,
    #[prost(message, optional, tag = "6")]
    pub(super) anomaly: Option<AnomalyState>,
    #[prost(bool, tag = "7")]
    pub(super) suppressed: bool,
    /// How often its verdict has changed.
    #[prost(uint32, tag = "8")]
    pub(super) turns: u32,
}

/// What is going on in a service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceFact {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    /// When episodes of plain news were about to be opened, the latest few, ascending.
    #[prost(fixed64, repeated, tag = "2")]
    pub(super) plain_openings: Vec<u64>,
    /// Rare and grave records by agent, ascending by agent.
    #[prost(message, repeated, tag = "3")]
    pub(super) unrest: Vec<UnrestFact>,
    /// Records of it.
    #[prost(uint64, tag = "4")]
    pub(super) records: u64,
}

/// The rare and grave records that one agent has had of a service, fading.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct UnrestFact {
    #[prost(fixed64, tag = "1")]
    pub(super) agent: u64,
    #[prost(double, tag = "2")]
    pub(super) level: f64,
    #[prost(fixed64, tag = "3")]
    pub(super) at_unix_nano: u64,
}

/// What one agent adds to the calibration of a service: only that agent writes it, so there is nothing to join but its latest.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UsualFact {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(fixed64, tag = "2")]
    pub(super) agent: u64,
    /// Scores of its latest units, in order of time.
    #[prost(float, repeated, tag = "3")]
    pub(super) units: Vec<f32>,
    /// Units and records in all.
    #[prost(uint64, tag = "4")]
    pub(super) unit_count: u64,
    #[prost(uint64, tag = "5")]
    pub(super) record_count: u64,
}

/// A tenant's stream as a whole, for whoever is new to it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamFact {
    #[prost(fixed64, tag = "1")]
    pub(super) latest_unix_nano: u64,
    #[prost(double, tag = "2")]
    pub(super) records: f64,
    #[prost(fixed64, tag = "3")]
    pub(super) first_unix_nano: u64,
    #[prost(double, tag = "4")]
    pub(super) news: f64,
    #[prost(double, tag = "5")]
    pub(super) news_records: f64,
    /// The calibration of all services.
    #[prost(float, repeated, tag = "6")]
    pub(super) units: Vec<f32>,
    #[prost(uint64, tag = "7")]
    pub(super) unit_count: u64,
    #[prost(uint64, tag = "8")]
    pub(super) record_count: u64,
}

/// What a training came to. Embeddings and texts of what it knows are in the templates.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelFact {
    #[prost(uint32, tag = "1")]
    pub(super) generation: u32,
    #[prost(uint64, tag = "2")]
    pub(super) records: u64,
    /// Whether the output is a sigmoid.
    #[prost(bool, tag = "3")]
    pub(super) sigmoid: bool,
    #[prost(float, repeated, tag = "4")]
    pub(super) mean: Vec<f32>,
    #[prost(float, repeated, tag = "5")]
    pub(super) encode: Vec<f32>,
    #[prost(float, repeated, tag = "6")]
    pub(super) encode_bias: Vec<f32>,
    #[prost(float, repeated, tag = "7")]
    pub(super) decode: Vec<f32>,
    #[prost(float, repeated, tag = "8")]
    pub(super) decode_bias: Vec<f32>,
    /// The templates it knows, ascending, and the lines of each.
    #[prost(fixed64, repeated, tag = "9")]
    pub(super) bank: Vec<u64>,
    #[prost(uint64, repeated, tag = "10")]
    pub(super) lines: Vec<u64>,
}

/// What a person said of a template, or that it was taken back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OpinionFact {
    /// The template.
    #[prost(fixed64, tag = "1")]
    pub template: u64,
    /// In which service; missing for all that have no opinion of their own.
    #[prost(string, optional, tag = "2")]
    pub service: Option<String>,
    /// The later of two counts, Unix nanoseconds.
    #[prost(fixed64, tag = "3")]
    pub time_unix_nano: u64,
    /// What was said; missing where it was taken back.
    #[prost(message, optional, tag = "4")]
    pub said: Option<SaidFact>,
}

/// An opinion.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SaidFact {
    /// 1 is normal, 2 muted, 3 real.
    #[prost(uint32, tag = "1")]
    pub opinion: u32,
    /// Until when it is muted.
    #[prost(fixed64, tag = "2")]
    pub until_unix_nano: u64,
    /// The template's text; empty where texts are not kept.
    #[prost(string, tag = "3")]
    pub text: String,
    /// Why.
    #[prost(string, tag = "4")]
    pub comment: String,
    /// Who.
    #[prost(string, tag = "5")]
    pub author: String,
    /// When, Unix nanoseconds.
    #[prost(fixed64, tag = "6")]
    pub given_at_unix_nano: u64,
}

impl Knowledge {
    /// What an agent with the sentence model of this hash knows of a tenant; `None` of the overflow, whose tenants are
    /// others in every agent.
    pub fn new(tenant: &Tenant, model: u64, fact: Fact) -> Option<Self> {
        let Tenant::Named(name) = tenant else { return None };
        Some(Self {
            version: VERSION,
            tenant: name.to_string(),
            model: if fact.rests_on_model() { model } else { 0 },
            fact: Some(fact),
        })
    }

    /// The knowledge in these bytes, where it is understood here.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let knowledge = Self::decode(bytes).ok()?;
        let is_understood = knowledge.version == VERSION && knowledge.fact.as_ref().is_some_and(Fact::is_sane);
        is_understood.then_some(knowledge)
    }

    /// Whether a key of the memory is one of these.
    pub fn has_key(key: &[u8]) -> bool {
        key.starts_with(PREFIX.as_bytes())
    }

    /// Whether a key of the memory is of what somebody said.
    pub fn has_key_of_opinion(key: &[u8]) -> bool {
        key.strip_prefix(PREFIX.as_bytes())
            .is_some_and(|kind| kind.starts_with(b"opinion/"))
    }

    /// Whose it is.
    pub fn tenant(&self) -> Tenant {
        Tenant::named(&self.tenant)
    }

    /// Whether an agent with the sentence model of this hash can use it.
    pub fn is_of(&self, model: u64) -> bool {
        self.model == model || !self.fact.as_ref().is_some_and(Fact::rests_on_model)
    }

    /// What is known.
    pub fn into_fact(self) -> Option<Fact> {
        self.fact
    }

    /// The key under which the latest of it is kept.
    pub fn key(&self) -> Vec<u8> {
        let tenant = match self.tenant.as_str() {
            "" => "-".to_owned(),
            name => format!("={}", readable(name)),
        };
        let kind = self.fact.as_ref().map_or("nothing", Fact::kind);
        let mut key = format!("{PREFIX}{kind}/{tenant}");
        if self.fact.as_ref().is_some_and(Fact::rests_on_model) {
            key.push_str(&format!("/{:016x}", self.model));
        }
        match &self.fact {
            Some(Fact::Template(it)) => key.push_str(&format!("/{:016x}", it.key)),
            Some(Fact::Series(it)) => key.push_str(&format!("/{:016x}/{}", it.template, readable(&it.service))),
            Some(Fact::Service(it)) => key.push_str(&format!("/{}", readable(&it.service))),
            Some(Fact::Usual(it)) => key.push_str(&format!("/{:016x}/{}", it.agent, readable(&it.service))),
            Some(Fact::Opinion(it)) => {
                let service = it.service.as_deref().map(|name| format!("={}", readable(name)));
                key.push_str(&format!("/{:016x}/{}", it.template, service.as_deref().unwrap_or("-")));
            }
            Some(Fact::Stream(_) | Fact::Model(_)) | None => {}
        }
        key.into_bytes()
    }

    /// What two agents know under one key, as one.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            fact: match (self.fact, other.fact) {
                (Some(one), Some(other)) => Some(one.join(other)),
                (one, other) => one.or(other),
            },
            ..other
        }
    }
}

/// A name as a part of a key: others than letters, digits and `-_.` as `%XX`; a long one is cut, with a hash of all.
fn readable(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    for byte in name.bytes() {
        if written.len() >= NAME_BYTES {
            return format!("{written}~{:016x}", xxh3_64(name.as_bytes()));
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => written.push(char::from(byte)),
            _ => written.push_str(&format!("%{byte:02X}")),
        }
    }
    written
}

impl Fact {
    fn kind(&self) -> &'static str {
        match self {
            Self::Template(_) => "template",
            Self::Series(_) => "series",
            Self::Service(_) => "service",
            Self::Stream(_) => "stream",
            Self::Model(_) => "model",
            Self::Opinion(_) => "opinion",
            Self::Usual(_) => "usual",
        }
    }

    /// Whether it would be another one with another sentence model.
    fn rests_on_model(&self) -> bool {
        !matches!(self, Self::Opinion(_))
    }

    /// Whether its numbers can be meant.
    fn is_sane(&self) -> bool {
        let counts = |numbers: &[f64]| numbers.iter().all(|number| number.is_finite() && *number >= 0.0);
        match self {
            Self::Template(it) => it.embedding.iter().all(|value| value.is_finite()) && it.unknown_share.is_finite(),
            Self::Series(it) => {
                let of_episode = |episode: &EpisodeFact| {
                    let anomaly = episode.anomaly.as_ref();
                    counts(&[episode.known])
                        && anomaly.is_none_or(|anomaly| anomaly.score.is_finite() && anomaly.p_value.is_finite())
                };
                counts(&[it.known]) && it.episode.as_ref().is_some_and(of_episode)
            }
            Self::Service(it) => it.unrest.iter().all(|unrest| counts(&[unrest.level])),
            Self::Stream(it) => {
                counts(&[it.records, it.news, it.news_records]) && it.units.iter().all(|unit| unit.is_finite())
            }
            Self::Model(it) => {
                let parts = [&it.mean, &it.encode, &it.encode_bias, &it.decode, &it.decode_bias];
                it.bank.len() == it.lines.len()
                    && it.bank.is_sorted_by(|one, next| one < next)
                    && parts.iter().all(|part| part.iter().all(|value| value.is_finite()))
            }
            Self::Opinion(_) => true,
            Self::Usual(it) => it.units.iter().all(|unit| unit.is_finite()),
        }
    }
}
