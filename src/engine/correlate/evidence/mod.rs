//! `mode: evidence`: incidents by what speaks for them, as they happen.
//!
//! In: one node per record, with times in any order. Out: the id of its incident at that moment, [`Event`]s for the journal,
//! [`Change`]s for whoever watches. Anomalous records become episodes (`episode`), the log of which is folded into
//! incidents (`fold`, `group`, `rhythm`, `companions`) in the order of their first records. What is older than the
//! watermark is folded once and for all (`settle`); what is younger is folded on top, and again whenever a record comes
//! out of order. So the partition depends on the records, not on the order or the batches they came in, as long as none is
//! later than `allowed_lateness` behind its own service. Names are kept beside (`names`): an id is given at opening and
//! never taken back; what the log teaches later is told as a merge.
//!
//! A normal record that is alike and near joins as context: it carries the id, is counted apart, and changes nothing.
//! Promises: as of the room; and an incident ends after `window` of silence, lives `max_life` at most (then it has a child)
//! and is never reopened. Absent on purpose: weights to be set, see `group`.

mod companions;
mod context;
mod episode;
mod fold;
mod group;
mod log;
mod names;
mod replica;
mod rhythm;
mod seen;
mod settle;
mod state;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

pub use self::state::EvidenceState;

use self::context::Context;
use self::episode::{Episode, MAX_IDS, Place};
use self::fold::{Fold, Limits, Step};
use self::names::Names;
use self::replica::Sharing;
use self::seen::Seen;
use self::told::Past;
use super::clock::Clock;
use super::event::Event;
use super::id::{IncidentId, Mixing};
use super::incident::{Change, Incident, Link};
use super::{Counters, Node, Settings, nanos};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Records of a kind at most so far apart are one episode; a service that pauses no longer still speaks. Nanoseconds.
const UTTERANCE_NANO: u64 = 1_000_000_000;
/// An episode stays within one such span of time, so that what is long since over is not changed by what comes.
const SPAN_NANO: u64 = 60 * 1_000_000_000;
/// A service may be so far behind the others and still be waited for, nanoseconds.
const MAX_LAG_NANO: u64 = 900 * 1_000_000_000;

/// An episode of the log, and what became of it.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    episode: Episode,
    /// The group it belongs to now.
    group: Place,
    /// Why; `None` where it opened that.
    link: Option<Link>,
    /// Its last record as told to the journal.
    told: u64,
}

/// The serial state. See the module.
#[derive(Clone, Debug)]
pub struct Evidence {
    settings: Settings,
    limits: Limits,
    id_seed: u64,
    clock: Clock,
    /// By service: its latest time, and how far behind the latest of all that was.
    services: BTreeMap<u64, (u64, u64)>,
    /// Everything before this is folded for good.
    settled: u64,
    base: Fold,
    /// The base, and the log folded on top.
    live: Fold,
    log: BTreeMap<Place, Entry>,
    /// The latest episode of a kind.
    latest: HashMap<(u64, u64), Place, Mixing>,
    names: Names,
    /// What is counted of open incidents and is in no entry of the log.
    past: BTreeMap<Place, Past>,
    /// Open incidents that were told: when last, and how.
    announced: BTreeMap<IncidentId, (u64, Arc<Incident>)>,
    /// Ids of incidents that are over and may have children.
    parents: BTreeMap<Place, IncidentId>,
    context: Context,
    seen: Seen,
    /// In a cluster.
    sharing: Sharing,
    /// Episodes were united since the last fold.
    altered: bool,
    /// Scratch: the fresh ids of a record, sorted.
    fresh: Vec<u64>,
    events: Vec<Event>,
    changes: Vec<Change>,
    replaying: bool,
    counters: Counters,
}

impl Evidence {
    /// Knows nothing yet.
    pub fn new(settings: Settings) -> Self {
        let limits = Limits {
            idle: nanos(settings.window),
            life: nanos(settings.max_life),
            groups: settings.max_open_incidents,
        };
        Self {
            clock: Clock::new(limits.idle, nanos(settings.allowed_lateness)),
            limits,
            id_seed: 0,
            services: BTreeMap::new(),
            settled: 0,
            base: Fold::default(),
            live: Fold::default(),
            log: BTreeMap::new(),
            latest: HashMap::default(),
            names: Names::new(settings.max_aliases),
            past: BTreeMap::new(),
            announced: BTreeMap::new(),
            parents: BTreeMap::new(),
            context: Context::default(),
            seen: Seen::default(),
            sharing: Sharing::default(),
            altered: false,
            fresh: Vec::new(),
            events: Vec::new(),
            changes: Vec::new(),
            replaying: false,
            counters: Counters::default(),
            settings,
        }
    }

    /// Goes on by these settings, as far as they can change.
    pub fn adjust(&mut self, settings: &Settings) {
        self.settings.adjust(settings);
    }

    /// Hashes the ids to come with this seed.
    pub fn seed_ids(&mut self, seed: u64) {
        self.id_seed = seed;
    }

    /// Takes the next record alone, see [`Evidence::observe_all`].
    pub fn observe(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        self.observe_all(std::slice::from_ref(node))
            .into_iter()
            .next()
            .flatten()
    }

    /// Takes the records of a batch, in order of time. For each its incident at this moment; `None` when it is part of none.
    pub fn observe_all(&mut self, nodes: &[Node<'_>]) -> Vec<Option<IncidentId>> {
        let mut begun: Vec<Place> = Vec::new();
        let mut late = vec![false; nodes.len()];
        for (node, late) in nodes.iter().zip(&mut late) {
            *late = self.enter(node, &mut begun);
        }
        self.fold_begun(&begun);
        let mut ids = Vec::with_capacity(nodes.len());
        for (node, late) in nodes.iter().zip(late) {
            ids.push(if late || node.delayed {
                None
            } else {
                self.incident_of(node)
            });
        }
        if self.log.len() > self.settings.max_live_templates.saturating_mul(2) {
            self.make_room();
        }
        if span_start(self.clock.watermark()) > self.settled {
            self.settle();
        }
        ids
    }

    /// The incident of a record that has entered.
    fn incident_of(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        if !node.anomalous && self.live.groups.is_empty() {
            return None;
        }
        let service = service_hash(node.service);
        if !node.anomalous {
            let mut ids = std::mem::take(&mut self.fresh);
            self.fresh_ids(node, &mut ids);
            let id = self.attach(node, service, &ids);
            self.fresh = ids;
            return id;
        }
        let place = self.entry_of((node.template.0, service), node.time_unix_nano)?;
        let group = self.log.get(&place)?.group;
        self.grown(group, node.time_unix_nano, node.severity_number);
        self.names.of(group)
    }

    /// The fresh ids of a record, sorted.
    fn fresh_ids(&mut self, node: &Node<'_>, ids: &mut Vec<u64>) {
        ids.clear();
        ids.extend(node.ids.iter().filter(|id| self.seen.note(**id, node.time_unix_nano)));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(MAX_IDS);
    }

    /// Folds the episodes that have begun: on top, if they are the youngest, else the log again.
    fn fold_begun(&mut self, begun: &[Place]) {
        let Some(earliest) = begun.iter().min().copied() else {
            if std::mem::take(&mut self.altered) {
                self.fold_again();
            }
            return;
        };
        let before = self.log.range(..earliest).next_back().map(|(place, _)| place.first);
        let after = self.log.range(earliest..).count();
        let altered = std::mem::take(&mut self.altered);
        if altered || after > begun.len() || before == Some(earliest.first) {
            self.fold_again();
        } else {
            let young = self
                .log
                .range(earliest..)
                .map(|(place, entry)| (*place, &entry.episode));
            for (place, step) in self.live.take_all(young, &self.limits) {
                self.take_step(place, &step);
            }
        }
        self.counters.runs += begun.len() as u64;
        for place in begun {
            self.join_told(*place);
        }
    }

    /// What a step of the live fold means for the log and the names.
    fn take_step(&mut self, place: Place, step: &Step) {
        for younger in &step.merged {
            for entry in self.log.values_mut().filter(|entry| entry.group == *younger) {
                entry.group = step.group;
            }
        }
        if let Some(entry) = self.log.get_mut(&place) {
            entry.group = step.group;
            entry.link.clone_from(&step.link);
        }
        if step.opened {
            self.name(step.group);
        }
        for younger in &step.merged {
            self.merge_names(*younger, step.group);
        }
        self.context.changed();
    }

    /// Folds the whole log again on top of the base: a record has come out of order.
    fn fold_again(&mut self) {
        self.live = self.base.clone();
        let mut merged: Vec<(Place, Place)> = Vec::new();
        let mut groups: Vec<(Place, Place, Option<Link>)> = Vec::with_capacity(self.log.len());
        let all = self.log.iter().map(|(place, entry)| (*place, &entry.episode));
        for (place, step) in self.live.take_all(all, &self.limits) {
            merged.extend(step.merged.iter().map(|younger| (*younger, step.group)));
            groups.push((place, step.group, step.link));
        }
        let survivor = |mut group: Place| {
            while let Some((_, into)) = merged.iter().find(|(younger, _)| *younger == group) {
                group = *into;
            }
            group
        };
        for (place, group, link) in groups {
            if let Some(entry) = self.log.get_mut(&place) {
                entry.link = link;
                entry.group = survivor(group);
            }
        }
        self.rename(&merged);
        self.context.changed();
    }

    /// Names what the log now opens, and says which names are aliases.
    fn rename(&mut self, merged: &[(Place, Place)]) {
        let orphans: Vec<(Place, u64)> = (self.names.by_group.iter())
            .filter(|(group, _)| !self.live.groups.contains_key(group))
            .map(|(group, (_, named))| (*group, *named))
            .collect();
        let now_in = |group: Place| {
            let entry = self.log.get(&group).map(|entry| entry.group);
            let merged = merged
                .iter()
                .find(|(younger, _)| *younger == group)
                .map(|(_, into)| *into);
            entry.or(merged)
        };
        let mut moved: Vec<(Place, Place)> = Vec::new();
        for group in self.live.groups.keys().filter(|group| self.names.of(**group).is_none()) {
            let heirs = orphans.iter().filter(|(orphan, _)| now_in(*orphan) == Some(*group));
            if let Some((heir, _)) = heirs.min_by_key(|(_, named)| *named) {
                moved.push((*heir, *group));
            }
        }
        // What a bound has ended on top is still its own, or the base's: it ends for good when that is settled.
        let aliases: Vec<(Place, Place)> = (orphans.iter())
            .filter(|(orphan, _)| moved.iter().all(|(heir, _)| heir != orphan))
            .filter_map(|(orphan, _)| Some((*orphan, now_in(*orphan).filter(|into| into != orphan)?)))
            .collect();
        for (from, to) in moved {
            self.names.opener_moved(from, to);
            if let Some(past) = self.past.remove(&from) {
                self.past.entry(to).or_default().absorb(past);
            }
        }
        let unnamed: Vec<Place> = self.live.groups.keys().copied().collect();
        for group in unnamed {
            self.name(group);
        }
        for (orphan, into) in aliases {
            self.merge_names(orphan, into);
        }
    }

    /// A template's embedding becomes known after records of it were observed without.
    pub fn learn(&mut self, key: TemplateKey, embedding: &Embedding) {
        let mut learned = false;
        for (place, entry) in &mut self.log {
            if place.kind.0 == key.0 && entry.episode.embedding.is_none() {
                entry.episode.embedding = Some(embedding.clone());
                learned = true;
            }
        }
        if learned {
            self.fold_again();
        }
    }

    /// It is at least this late, as one knows who sees more than the records.
    pub fn advance(&mut self, time_unix_nano: u64) {
        self.clock.advance(time_unix_nano);
        self.settle();
    }

    /// Time begins anew, earlier than it was: everything is settled and closed.
    pub fn turn_back(&mut self) {
        let Some(now) = self.clock.now else { return };
        let lateness = nanos(self.settings.allowed_lateness);
        let beyond = self.limits.idle.saturating_add(lateness).saturating_add(MAX_LAG_NANO);
        self.advance(now.saturating_add(beyond.saturating_add(SPAN_NANO).saturating_mul(2)));
        self.clock.begin_anew();
        self.services.clear();
        self.settled = 0;
    }

    /// The incident that goes on under this id or the one it became part of; an unknown id stands for itself.
    pub fn resolve(&self, id: IncidentId) -> IncidentId {
        self.names.resolve(id)
    }

    /// Moves the events since the last drain to `out`, in order.
    pub fn drain(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.events);
    }

    /// Moves what happened to incidents since the last drain to `out`, in order.
    pub fn drain_changes(&mut self, out: &mut Vec<Change>) {
        out.append(&mut self.changes);
    }

    /// The open incidents, by id.
    pub fn incidents(&self) -> Vec<Incident> {
        let mut all: Vec<Incident> = (self.live.groups.keys())
            .filter_map(|group| self.describe(*group))
            .collect();
        all.sort_unstable_by_key(|incident| incident.id);
        all
    }

    /// The open incident of this id or alias.
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        self.describe(self.names.group(self.names.resolve(id))?)
    }

    /// The incident that an anomalous record is in by all that is known now, as long as that may still change.
    pub fn incident_at(&self, template: TemplateKey, service: &str, time_unix_nano: u64) -> Option<IncidentId> {
        let kind = (template.0, service_hash(service));
        let until = Place {
            first: time_unix_nano,
            kind: (u64::MAX, u64::MAX),
        };
        let mut earlier = self.log.range(..=until).rev().filter(|(place, _)| place.kind == kind);
        let (_, entry) = earlier
            .next()
            .filter(|(_, entry)| time_unix_nano <= entry.episode.last)?;
        self.names.of(entry.group)
    }

    /// Episodes that may still change.
    pub fn unsettled(&self) -> usize {
        self.log.len()
    }

    /// How many incidents are open.
    pub fn open_incidents(&self) -> usize {
        self.live.groups.len()
    }

    /// What happened since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn tell(&mut self, event: Event) {
        if !self.replaying {
            self.events.push(event);
        }
    }
}

fn service_hash(service: &str) -> u64 {
    xxh3_64(service.as_bytes())
}

fn span_start(time: u64) -> u64 {
    time - time % SPAN_NANO
}

fn same_span(one: u64, other: u64) -> bool {
    span_start(one) == span_start(other)
}
