//! An incident as it is folded: its core, and how strongly an episode belongs to it.
//!
//! In: episodes that joined. Out: [`Group::weigh`], log-odds against the rate of what is unrelated. What an incident says
//! triggers more, ever less as time passes (modified Omori law, as in the ETAS model: Ogata, "Statistical models for
//! earthquake occurrences", JASA 1988): each kind of its core for itself, and the strongest counts. A kind that is repeated
//! triggers the less: a chatty one bridges nothing. What the incident never said has the harder a time the longer nothing
//! new was said in it: a steady outage stays one, and does not take in what begins beside it. Likeness, service, shared ids
//! and company seen before add to that. Promises: bounded; a function of episodes. Absent on purpose: names.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::incident::{Link, Tie};
use super::UTTERANCE_NANO;
use super::companions::{Companions, Kind};
use super::episode::{Episode, Place};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Kinds of an incident that others are compared with; the one silent longest makes room.
const MAX_KINDS: usize = 32;
/// Ids of an incident; the oldest make room.
const MAX_IDS: usize = 256;

/// Omori law: exponent, and the time within which nothing has decayed yet.
const DECAY: f64 = 2.0;
const DECAY_S: f64 = 4.0;
/// How much less a kind triggers others once it is repeated: −ln of its repetitions in such steps.
const TRIGGERS: f64 = 20.0;
/// How much less a kind that another incident repeats wanders into this one: as above.
const WANDERS: f64 = 6.0;
/// How much the time since the incident last said something new counts, in such spans.
const SETTLED: f64 = 3.0;
const SETTLED_S: f64 = 45.0;
/// What a likeness of 1 counts, and from which on it counts.
const LIKENESS: f64 = 1.2;
const LIKENESS_FROM: f64 = 0.1;
/// The same template of the same service.
const SAME: f64 = 1.2;
/// The same service; a neighbour.
const SERVICE: f64 = 0.5;
const NEIGHBOUR: f64 = 0.5;
/// A fresh id that the incident has.
const SHARED_ID: f64 = 4.0;
/// Always in one incident so far.
const COMPANION: f64 = 2.0;

/// What an incident says: a template of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub kind: Kind,
    /// The service that says it.
    pub service: Arc<str>,
    pub embedding: Option<Embedding>,
    pub last: u64,
    /// When the latest of its episodes began.
    pub begun: u64,
    pub episodes: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// The incident whose longest life it outlived.
    pub parent: Option<Place>,
    pub first: u64,
    pub last: u64,
    /// When the latest of its episodes began.
    pub begun: u64,
    /// When it last said something new.
    pub novel: u64,
    pub core: Vec<Said>,
    pub ids: VecDeque<u64>,
    pub records: u64,
    /// It has a child: nothing joins any more.
    pub ended: bool,
    pub ties: [u64; Tie::ALL.len()],
}

/// What speaks for an episode to belong to an incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    /// Log of a rate, per second.
    pub score: f64,
    /// What said most.
    pub tie: Tie,
    /// What of the incident it was tied to.
    pub to: Kind,
}

impl Group {
    pub fn new(parent: Option<Place>, first: u64) -> Self {
        Self {
            parent,
            first,
            last: first,
            begun: first,
            novel: first,
            core: Vec::new(),
            ids: VecDeque::new(),
            records: 0,
            ended: false,
            ties: [0; Tie::ALL.len()],
        }
    }

    /// The weight of an episode that begins at `place`; `None` where it cannot reach `bar`.
    /// `elsewhere` is how often another incident has said the same: what is chatty there does not wander.
    pub fn weigh(
        &self,
        place: Place,
        episode: &Episode,
        companions: &Companions,
        elsewhere: u32,
        bar: f64,
    ) -> Option<Weight> {
        let shares_id = episode.ids.iter().any(|id| self.ids.contains(id));
        let id = if shares_id { SHARED_ID } else { 0.0 };
        let said_before = self.core.iter().any(|said| said.kind == place.kind);
        let settled_s = seconds(place.first.saturating_sub(self.novel));
        let settled = if said_before {
            0.0
        } else {
            SETTLED * (settled_s / SETTLED_S).ln_1p() + repeated(elsewhere, WANDERS)
        };
        let mut best: Option<Weight> = None;
        for said in &self.core {
            let decayed = DECAY * (seconds(silence(said.last, place.first)) / DECAY_S).ln_1p();
            let same = said.kind == place.kind;
            let chatty = if same { 0.0 } else { repeated(said.episodes, TRIGGERS) };
            let without_link = id - settled - decayed - chatty;
            if without_link + LIKENESS + SERVICE + COMPANION <= best.map_or(bar, |best| best.score) {
                continue;
            }
            let (service, service_tie) = if said.kind.1 == place.kind.1 {
                (SERVICE, Tie::Service)
            } else if companions.are_neighbours(said.kind.1, place.kind.1) {
                (NEIGHBOUR, Tie::Service)
            } else {
                (0.0, Tie::Time)
            };
            let (linked, tie) = if same {
                (SAME, Tie::Meaning)
            } else {
                let meaning = LIKENESS * (likeness(said, episode) - LIKENESS_FROM).max(0.0);
                let company = COMPANION * companions.together(said.kind, place.kind);
                let strongest = [
                    (company, Tie::Companion),
                    (meaning, Tie::Meaning),
                    (service, service_tie),
                ]
                .into_iter()
                .reduce(|one, other| if other.0 > one.0 { other } else { one });
                let tie = strongest
                    .filter(|(weight, _)| *weight > 0.0)
                    .map_or(Tie::Time, |(_, tie)| tie);
                (meaning + service + company, tie)
            };
            let score = without_link + linked;
            if best.is_none_or(|best| score > best.score) {
                let tie = if shares_id { Tie::SharedId } else { tie };
                best = Some(Weight {
                    score,
                    tie,
                    to: said.kind,
                });
            }
        }
        best.filter(|best| best.score > bar)
    }

    /// What the weight of an episode says in words, where unrelated ones come at this rate, per second.
    pub fn link(&self, weight: Weight, rate: f64) -> Option<Link> {
        let said = self.core.iter().find(|said| said.kind == weight.to)?;
        Some(Link {
            tie: weight.tie,
            weight: weight.score - rate.ln(),
            template: TemplateKey(said.kind.0),
            service: Arc::clone(&said.service),
            first_time_unix_nano: said.begun,
        })
    }

    /// What an episode is tied to whose service is just speaking here: what that said last, by the time and the service alone.
    pub fn breath(&self, kind: Kind, rate: f64) -> Option<Link> {
        let latest = self
            .core
            .iter()
            .max_by_key(|said| (said.kind.1 == kind.1, said.last, said.kind))?;
        let weight = Weight {
            score: SERVICE.max(rate.ln()),
            tie: Tie::Time,
            to: latest.kind,
        };
        self.link(weight, rate)
    }

    /// How often the incident has said this.
    pub fn episodes_of(&self, kind: Kind) -> u32 {
        let said = self.core.iter().find(|said| said.kind == kind);
        said.map_or(0, |said| said.episodes)
    }

    /// Takes an episode in. Whether the incident had not said that before.
    pub fn take(&mut self, place: Place, episode: &Episode) -> bool {
        self.last = self.last.max(episode.last);
        self.begun = self.begun.max(place.first);
        self.records += episode.records;
        for id in &episode.ids {
            if !self.ids.contains(id) {
                self.ids.push_back(*id);
            }
        }
        while self.ids.len() > MAX_IDS {
            self.ids.pop_front();
        }
        if let Some(said) = self.core.iter_mut().find(|said| said.kind == place.kind) {
            said.last = said.last.max(episode.last);
            said.begun = said.begun.max(place.first);
            said.episodes = said.episodes.saturating_add(1);
            if said.embedding.is_none() {
                said.embedding.clone_from(&episode.embedding);
            }
            return false;
        }
        if self.core.len() >= MAX_KINDS
            && let Some((oldest, _)) = (self.core.iter().enumerate()).min_by_key(|(_, said)| (said.begun, said.kind))
        {
            self.core.remove(oldest);
        }
        self.novel = self.novel.max(place.first);
        self.core.push(Said {
            kind: place.kind,
            service: Arc::clone(&episode.service),
            embedding: episode.embedding.clone(),
            last: episode.last,
            begun: place.first,
            episodes: 1,
        });
        true
    }

    /// One more record of an episode that was taken in.
    pub fn touch(&mut self, kind: Kind, time: u64, records: u64) {
        self.last = self.last.max(time);
        self.records += records;
        if let Some(said) = self.core.iter_mut().find(|said| said.kind == kind) {
            said.last = said.last.max(time);
        }
    }

    /// Takes a younger incident in, which turned out to be the same.
    pub fn absorb(&mut self, other: Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.begun = self.begun.max(other.begun);
        self.novel = self.novel.max(other.novel);
        self.records += other.records;
        for (tie, more) in self.ties.iter_mut().zip(other.ties) {
            *tie += more;
        }
        self.ids.extend(other.ids);
        while self.ids.len() > MAX_IDS {
            self.ids.pop_front();
        }
        for said in other.core {
            let full = self.core.len() >= MAX_KINDS;
            match self.core.iter_mut().find(|known| known.kind == said.kind) {
                Some(known) => {
                    known.last = known.last.max(said.last);
                    known.begun = known.begun.max(said.begun);
                    known.episodes = known.episodes.saturating_add(said.episodes);
                }
                None if !full => self.core.push(said),
                None => {}
            }
        }
    }
}

/// Nanoseconds from what was last said to `now`; within an utterance there is no silence, whatever was said since.
pub(super) fn silence(last: u64, now: u64) -> u64 {
    let silence = now.saturating_sub(last);
    if silence <= UTTERANCE_NANO { 0 } else { silence }
}

/// How much less is expected of what was said in so many episodes.
fn repeated(episodes: u32, step: f64) -> f64 {
    (f64::from(episodes.saturating_sub(1)) / step).ln_1p()
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn likeness(said: &Said, episode: &Episode) -> f64 {
    match (&said.embedding, &episode.embedding) {
        (Some(one), Some(other)) => f64::from(one.cosine(other)),
        _ => 0.0,
    }
}
