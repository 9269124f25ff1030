//! What of the evidence survives a restart: the state as a message, and the replay of the journal on top.
//!
//! In: a state, events since. Out: a correlator that goes on with the same ids. Promises: export and restore change nothing
//! that can be observed, to the bit; the journal tells the entries of the log and the names they were given, and replaying
//! them folds the same incidents; an event that is known already changes nothing, and none reopens what is over. Absent on
//! purpose: what is folded on top of the base, which is folded again; since when ids are known: all are fresh again (`seen`).

mod messages;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::messages::EvidenceState;

use self::messages::{
    AliasState, AnnouncedState, CarrierState, EntryState, GroupState, NameState, PairState, ParentState, PastState,
    SaidState, ServiceState, VoiceState, place_of, place_state,
};
use super::super::course::Course;
use super::super::event::{Event, Origin};
use super::super::id::IncidentId;
use super::super::incident::Tie;
use super::super::{Node, Settings};
use super::episode::{Episode, Place};
use super::group::{Group, Said};
use super::told::Past;
use super::{Entry, Evidence, UTTERANCE_NANO};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

impl Evidence {
    /// The state, for a snapshot. Drain events and changes first: those not drained are not in it.
    pub fn export(&self) -> EvidenceState {
        let (rhythm, companions) = (&self.base.rhythm, &self.base.companions);
        EvidenceState {
            now: self.clock.now,
            ahead_time: self.clock.ahead.0,
            ahead_count: self.clock.ahead.1,
            late_time: self.clock.late.0,
            late_count: self.clock.late.1,
            settled: self.settled,
            furthest: self.sharing.furthest,
            services: (self.services.iter())
                .map(|(service, (latest, lag))| ServiceState {
                    service: *service,
                    latest: *latest,
                    lag: *lag,
                })
                .collect(),
            groups: self
                .base
                .groups
                .iter()
                .map(|(place, it)| group_state(*place, it))
                .collect(),
            silences_s: rhythm.silences_s.iter().copied().collect(),
            latest: rhythm.latest,
            rate: rhythm.rate,
            within: rhythm.within,
            kinds: (companions.incidents.iter())
                .map(|(kind, incidents)| PairState {
                    one: Some(place_state(Place { first: 0, kind: *kind })),
                    other: None,
                    count: *incidents,
                })
                .collect(),
            pairs: (companions.pairs.iter())
                .map(|((one, other), count)| PairState {
                    one: Some(place_state(Place { first: 0, kind: *one })),
                    other: Some(place_state(Place { first: 0, kind: *other })),
                    count: *count,
                })
                .collect(),
            neighbours: (companions.services.iter())
                .map(|(kind, count)| PairState {
                    one: Some(place_state(Place { first: 0, kind: *kind })),
                    other: None,
                    count: *count,
                })
                .collect(),
            voices: (self.base.voices.iter())
                .map(|((service, id), (group, heard))| VoiceState {
                    service: *service,
                    id: *id,
                    group: Some(place_state(*group)),
                    heard: *heard,
                })
                .collect(),
            carriers: (self.base.carriers.iter())
                .map(|(id, service)| CarrierState {
                    id: *id,
                    service: *service,
                })
                .collect(),
            log: self
                .log
                .iter()
                .map(|(place, entry)| entry_state(*place, entry))
                .collect(),
            names: (self.names.by_group.iter())
                .map(|(group, (id, named))| NameState {
                    group: Some(place_state(*group)),
                    id: id.to_raw(),
                    named: *named,
                })
                .collect(),
            named: self.names.named,
            aliases: (self.names.aliases())
                .map(|(alias, survivor)| AliasState {
                    alias: alias.to_raw(),
                    survivor: survivor.to_raw(),
                })
                .collect(),
            used: self.names.used.iter().map(IncidentId::to_raw).collect(),
            past: self.past.iter().map(|(group, past)| past.state(*group)).collect(),
            announced: (self.announced.iter())
                .map(|(id, (told, _))| AnnouncedState {
                    id: id.to_raw(),
                    told: *told,
                })
                .collect(),
            parents: (self.parents.iter())
                .map(|(group, id)| ParentState {
                    group: Some(place_state(*group)),
                    id: id.to_raw(),
                })
                .collect(),
        }
    }

    /// A correlator that goes on from `state` under `settings`.
    pub fn restore(settings: Settings, state: EvidenceState) -> Self {
        let mut new = Self::new(settings);
        if state.now.is_some() {
            new.clock.now = state.now;
            new.clock.ahead = (state.ahead_time, state.ahead_count);
            new.clock.late = (state.late_time, state.late_count);
        }
        new.settled = state.settled;
        new.sharing.furthest = state.furthest;
        new.services = (state.services.iter())
            .map(|it| (it.service, (it.latest, it.lag)))
            .collect();
        for group in state.groups {
            let (place, group) = group_of(group);
            new.base.groups.insert(place, group);
        }
        let rhythm = &mut new.base.rhythm;
        rhythm.silences_s = VecDeque::from(state.silences_s);
        rhythm.latest = state.latest;
        if state.rate > 0.0 && state.rate.is_finite() && (0.0..=1.0).contains(&state.within) {
            (rhythm.rate, rhythm.within) = (state.rate, state.within);
        }
        let companions = &mut new.base.companions;
        let kind = |written| place_of(written).kind;
        companions.incidents = state.kinds.iter().map(|it| (kind(&it.one), it.count)).collect();
        companions.pairs = (state.pairs.iter())
            .map(|it| ((kind(&it.one), kind(&it.other)), it.count))
            .collect();
        companions.services = state.neighbours.iter().map(|it| (kind(&it.one), it.count)).collect();
        new.base.voices = (state.voices.iter())
            .map(|it| ((it.service, it.id), (place_of(&it.group), it.heard)))
            .collect();
        new.base.carriers = state.carriers.iter().map(|it| (it.id, it.service)).collect();
        for entry in state.log {
            let (place, entry) = entry_of(entry);
            let latest = new.latest.entry(place.kind).or_insert(place);
            *latest = place.max(*latest);
            new.log.insert(place, entry);
        }
        for id in state.used {
            new.names.used.remember(IncidentId::from_raw(id));
        }
        let mut names = state.names;
        names.sort_by_key(|name| name.named);
        for name in names {
            new.names.named = name.named.saturating_sub(1);
            new.names.give(place_of(&name.group), IncidentId::from_raw(name.id));
        }
        new.names.named = state.named;
        for AliasState { alias, survivor } in state.aliases {
            let (alias, survivor) = (IncidentId::from_raw(alias), IncidentId::from_raw(survivor));
            new.names.alias(alias, survivor);
        }
        for past in state.past {
            let (group, past) = Past::of(past);
            new.past.insert(group, past);
        }
        new.parents = (state.parents.iter())
            .map(|it| (place_of(&it.group), IncidentId::from_raw(it.id)))
            .collect();
        new.replaying = true;
        new.fold_again();
        for AnnouncedState { id, told } in state.announced {
            let id = IncidentId::from_raw(id);
            if let Some(incident) = new.incident(id) {
                let mut incident = incident;
                incident.announced = true;
                new.announced.insert(id, (told, Arc::new(incident)));
            }
        }
        new.replaying = false;
        new.counters = super::Counters::default();
        new
    }

    /// Replays what the journal tells.
    pub fn apply(&mut self, event: &Event) {
        self.replaying = true;
        match event {
            Event::Opened(it) => self.replay_origin(it.id, it.origin.as_ref()),
            Event::Joined(it) => self.replay_origin(it.id, it.origin.as_ref()),
            Event::Extended(it) => {
                let service = it.services.first().map_or("", String::as_str);
                let place = Place {
                    first: it.first_time_unix_nano,
                    kind: (it.template, super::service_hash(service)),
                };
                self.replay_reach(place, it.last_time_unix_nano, it.records, it.worst_severity_number);
            }
            Event::Merged(it) => {
                let (from, into) = (IncidentId::from_raw(it.from), IncidentId::from_raw(it.into));
                self.names.used.remember(from);
                self.names.used.remember(into);
                if self.names.group(from).is_none() && self.names.resolve(into) != from {
                    self.names.alias(from, into);
                }
            }
            Event::Closed(it) => {
                let id = IncidentId::from_raw(it.id);
                self.names.used.remember(id);
                if self.names.group(id).is_some() {
                    self.dismiss(id);
                }
            }
        }
        self.replaying = false;
    }

    fn replay_origin(&mut self, id: u64, origin: Option<&Origin>) {
        let Some(origin) = origin else { return };
        let id = IncidentId::from_raw(id);
        let open = self.names.group(self.names.resolve(id)).is_some();
        if !open && self.names.used.contains(id) {
            // A journal read again tells of an incident that has closed since: it is never reopened.
            return;
        }
        let place = Place {
            first: origin.time_unix_nano,
            kind: (origin.template, super::service_hash(&origin.service)),
        };
        if self.log.contains_key(&place) || origin.time_unix_nano < self.settled && open {
            return;
        }
        let embedding = Embedding::new(origin.embedding.clone()).ok();
        let node = Node {
            time_unix_nano: origin.time_unix_nano,
            service: &origin.service,
            template: TemplateKey(origin.template),
            text: &origin.text,
            embedding: embedding.as_ref(),
            anomalous: true,
            severity_number: origin.severity_number,
            ids: &origin.ids,
            delayed: false,
            reason: &origin.reason,
        };
        let given = self.observe(&node);
        // The fold decides as it did; under other settings it may not, and then the given id stands for what it is now.
        if let Some(given) = given.filter(|given| *given != id) {
            match self.names.group(given) {
                Some(group) if group == place && !open => {
                    self.names.release(group);
                    self.names.give(group, id);
                }
                _ if self.names.group(id).is_none() => {
                    self.names.alias(id, given);
                }
                _ => {}
            }
        }
        self.names.used.remember(id);
    }

    fn replay_reach(&mut self, place: Place, last: u64, records: u64, severity_number: i32) {
        let Some(entry) = self.log.get_mut(&place) else { return };
        if last > place.first.saturating_add(super::SPAN_NANO + UTTERANCE_NANO) {
            return; // no journal of ours says so
        }
        let more = records.saturating_sub(entry.episode.records);
        if more == 0 && last <= entry.episode.last {
            return;
        }
        entry.episode.extend(last, severity_number);
        entry.episode.records = records.max(entry.episode.records - 1);
        entry.episode.course.add(last, more.saturating_sub(1));
        entry.told = last;
        self.clock.observe(last);
        self.fold_again();
    }
}

impl Past {
    fn state(&self, group: Place) -> PastState {
        PastState {
            group: Some(place_state(group)),
            tally: Some((&self.tally).into()),
            templates: self.templates.listed.values().map(Into::into).collect(),
            other_templates: self.templates.others,
            leading: self.leading.as_ref().map(Origin::from),
            worst: self.worst.as_ref().map(Origin::from),
        }
    }

    fn of(state: PastState) -> (Place, Self) {
        let templates = state.templates.into_iter().map(|count| {
            let count = super::super::incident::TemplateCount::from(&count);
            (count.template, count)
        });
        let past = Self {
            templates: super::super::tally::Templates {
                listed: templates.collect(),
                others: state.other_templates,
            },
            tally: state.tally.map(Into::into).unwrap_or_default(),
            leading: state.leading.as_ref().map(Into::into),
            worst: state.worst.as_ref().map(Into::into),
        };
        (place_of(&state.group), past)
    }
}

fn group_state(place: Place, group: &Group) -> GroupState {
    GroupState {
        place: Some(place_state(place)),
        parent: group.parent.map(place_state),
        first: group.first,
        last: group.last,
        begun: group.begun,
        novel: group.novel,
        core: (group.core.iter())
            .map(|said| SaidState {
                kind: Some(place_state(Place {
                    first: 0,
                    kind: said.kind,
                })),
                embedding: written(said.embedding.as_ref()),
                last: said.last,
                begun: said.begun,
                episodes: said.episodes,
                service: said.service.to_string(),
            })
            .collect(),
        ids: group.ids.iter().copied().collect(),
        records: group.records,
        ended: group.ended,
        ties: group.ties.to_vec(),
    }
}

fn group_of(state: GroupState) -> (Place, Group) {
    let mut ties = [0; Tie::ALL.len()];
    ties.iter_mut().zip(state.ties).for_each(|(tie, count)| *tie = count);
    let core = state.core.into_iter().map(|said| Said {
        kind: place_of(&said.kind).kind,
        service: Arc::from(said.service),
        embedding: Embedding::new(said.embedding).ok(),
        last: said.last,
        begun: said.begun,
        episodes: said.episodes,
    });
    let group = Group {
        parent: state.parent.as_ref().map(|parent| place_of(&Some(*parent))),
        first: state.first,
        last: state.last,
        begun: state.begun,
        novel: state.novel,
        core: core.collect(),
        ids: VecDeque::from(state.ids),
        records: state.records,
        ended: state.ended,
        ties,
    };
    (place_of(&state.place), group)
}

fn entry_state(place: Place, entry: &Entry) -> EntryState {
    let episode = &entry.episode;
    EntryState {
        place: Some(place_state(place)),
        service: episode.service.to_string(),
        text: episode.text.to_string(),
        embedding: written(episode.embedding.as_ref()),
        last: episode.last,
        ids: episode.ids.clone(),
        records: episode.records,
        severity_number: episode.severity_number,
        grave: episode.grave_unix_nano,
        told: entry.told,
        reason: episode.reason.to_string(),
        course: Some((&episode.course).into()),
    }
}

fn entry_of(state: EntryState) -> (Place, Entry) {
    let place = place_of(&state.place);
    let episode = Episode {
        service: Arc::from(state.service),
        text: Arc::from(state.text),
        embedding: Embedding::new(state.embedding).ok(),
        last: state.last,
        ids: state.ids,
        records: state.records,
        severity_number: state.severity_number,
        grave_unix_nano: state.grave,
        reason: Arc::from(state.reason),
        course: state.course.map(Course::from).unwrap_or_default(),
    };
    let entry = Entry {
        episode,
        group: place,
        link: None,
        told: state.told,
    };
    (place, entry)
}

fn written(embedding: Option<&Embedding>) -> Vec<f32> {
    embedding.map(|it| it.as_slice().to_vec()).unwrap_or_default()
}
