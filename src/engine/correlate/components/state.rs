//! What of the correlator survives a restart: its state as a message, and the replay of the journal on top.
//!
//! In: a state, events since. Out: a correlator that goes on with the same ids. Promises: export and restore change
//! nothing that can be observed, to the bit; a state made with other settings is brought into line with these (runs and
//! incidents that now touch are united, told by event); replay never fails and an event that is known already changes
//! nothing. Absent on purpose: caches, counters, and events not drained before the export.

mod forget;

use std::sync::Arc;

use super::super::Settings;
use super::super::event::{Event, Extended, Origin};
use super::super::id::IncidentId;
use super::super::incident::{Ending, KeyRecord, TemplateCount};
use super::super::tally::{Tally, TallyState, TemplateCountState, Templates};
use super::Components;
use super::incident::{Group, Survivor};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// The correlator's state. Ids are raw numbers, times Unix nanoseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ComponentsState {
    /// Latest believed time; absent before the first record.
    #[prost(fixed64, optional, tag = "1")]
    now: Option<u64>,
    #[prost(fixed64, tag = "2")]
    ahead_time: u64,
    #[prost(uint32, tag = "3")]
    ahead_count: u32,
    #[prost(fixed64, tag = "4")]
    late_time: u64,
    #[prost(uint32, tag = "5")]
    late_count: u32,
    /// Records observed.
    #[prost(uint64, tag = "6")]
    sequence: u64,
    /// By id.
    #[prost(message, repeated, tag = "7")]
    incidents: Vec<IncidentState>,
    /// By key.
    #[prost(message, repeated, tag = "8")]
    templates: Vec<TemplateState>,
    /// Oldest first.
    #[prost(message, repeated, tag = "9")]
    aliases: Vec<AliasState>,
    /// Ids given, oldest first.
    #[prost(fixed64, repeated, tag = "10")]
    used: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct IncidentState {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    opened: u64,
    #[prost(message, optional, tag = "3")]
    leading: Option<Origin>,
    #[prost(uint64, tag = "4")]
    leading_sequence: u64,
    #[prost(message, optional, tag = "5")]
    past: Option<TallyState>,
    #[prost(message, repeated, tag = "6")]
    past_templates: Vec<TemplateCountState>,
    #[prost(uint64, tag = "7")]
    other_templates: u64,
    #[prost(message, optional, tag = "8")]
    worst: Option<Origin>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TemplateState {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(float, repeated, tag = "3")]
    embedding: Vec<f32>,
    /// By start.
    #[prost(message, repeated, tag = "4")]
    runs: Vec<RunState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunState {
    #[prost(fixed64, tag = "1")]
    start: u64,
    #[prost(fixed64, tag = "2")]
    end: u64,
    #[prost(fixed64, tag = "3")]
    incident: u64,
    #[prost(message, optional, tag = "4")]
    tally: Option<TallyState>,
    #[prost(fixed64, tag = "5")]
    told_start: u64,
    #[prost(fixed64, tag = "6")]
    told_end: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AliasState {
    #[prost(fixed64, tag = "1")]
    alias: u64,
    #[prost(fixed64, tag = "2")]
    survivor: u64,
}

impl ComponentsState {
    /// How many incidents are open in it.
    pub fn open_incidents(&self) -> usize {
        self.incidents.len()
    }
}

impl Components {
    /// The state, for a snapshot. Drain the events first: those not drained are not in it.
    pub fn export(&self) -> ComponentsState {
        let mut incidents: Vec<IncidentState> = self.incidents.iter().map(|(_, it)| incident_state(it)).collect();
        incidents.sort_unstable_by_key(|incident| incident.id);
        let mut templates: Vec<TemplateState> = (self.runs.templates())
            .map(|template| TemplateState {
                key: template.key.0,
                text: template.text.to_string(),
                embedding: template
                    .embedding
                    .as_ref()
                    .map(|it| it.as_slice().to_vec())
                    .unwrap_or_default(),
                runs: template.runs.iter().filter_map(|run| self.run_state(*run)).collect(),
            })
            .collect();
        templates.sort_unstable_by_key(|template| template.key);
        ComponentsState {
            now: self.clock.now,
            ahead_time: self.clock.ahead.0,
            ahead_count: self.clock.ahead.1,
            late_time: self.clock.late.0,
            late_count: self.clock.late.1,
            sequence: self.sequence,
            incidents,
            templates,
            aliases: (self.aliases.iter())
                .map(|(alias, _)| AliasState {
                    alias: alias.to_raw(),
                    survivor: self.resolve(alias).to_raw(),
                })
                .collect(),
            used: self.used.iter().map(IncidentId::to_raw).collect(),
        }
    }

    fn run_state(&self, place: u32) -> Option<RunState> {
        let run = self.runs.get(place)?;
        let member = &run.payload;
        Some(RunState {
            start: run.start,
            end: run.end,
            incident: self.incidents.get(member.incident)?.id.to_raw(),
            tally: Some(TallyState::from(&member.tally)),
            told_start: member.told.0,
            told_end: member.told.1,
        })
    }

    /// A correlator that goes on from `state` under `settings`.
    pub fn restore(settings: Settings, state: ComponentsState) -> Self {
        let mut new = Self::new(settings);
        if state.now.is_some() {
            new.clock.now = state.now;
            new.clock.ahead = (state.ahead_time, state.ahead_count);
            new.clock.late = (state.late_time, state.late_count);
        }
        new.sequence = state.sequence;
        for id in state.used {
            new.used.remember(IncidentId::from_raw(id));
        }
        for incident in state.incidents {
            new.restore_incident(incident);
        }
        for template in state.templates {
            new.restore_template(template);
        }
        for AliasState { alias, survivor } in state.aliases {
            new.set_alias(IncidentId::from_raw(alias), IncidentId::from_raw(survivor));
        }
        let abandoned: Vec<u32> = new
            .incidents
            .iter()
            .filter(|(_, incident)| incident.runs.is_empty())
            .map(|(place, _)| place)
            .collect();
        for incident in abandoned {
            new.close(incident, Ending::Silence);
        }
        // Nothing to do unless the settings are others: then what now touches becomes one.
        let mut keys: Vec<TemplateKey> = new.runs.templates().map(|template| template.key).collect();
        keys.sort_unstable();
        for key in keys {
            new.settle(key);
        }
        new.trim_aliases();
        new.changes.clear();
        new.counters = super::Counters::default();
        new.runs.work = super::runs::Work::default();
        new
    }

    fn restore_incident(&mut self, state: IncidentState) {
        let id = IncidentId::from_raw(state.id);
        if self.by_id.contains_key(&id) {
            return;
        }
        let place = self.open(id, KeyRecord::from(&state.leading.unwrap_or_default()));
        let Some(incident) = self.incidents.get_mut(place) else {
            return;
        };
        incident.opened = state.opened;
        if let Some(worst) = &state.worst {
            incident.worst = KeyRecord::from(worst);
        }
        incident.leading_sequence = state.leading_sequence;
        incident.past = state.past.map(Tally::from).unwrap_or_default();
        let listed = (state.past_templates.into_iter())
            .map(|count| (TemplateKey(count.key), TemplateCount::from(&count)))
            .collect();
        incident.past_templates = Templates {
            listed,
            others: state.other_templates,
        };
    }

    fn restore_template(&mut self, state: TemplateState) {
        let key = TemplateKey(state.key);
        let text: Arc<str> = Arc::from(state.text);
        let embedding = Embedding::new(state.embedding).ok();
        for run in state.runs {
            let Some(incident) = self.by_id.get(&IncidentId::from_raw(run.incident)).copied() else {
                continue;
            };
            self.make_room_for(key);
            if self.incidents.get(incident).is_none() {
                continue; // closed for want of room
            }
            let template = self.runs.admit(key, || Arc::clone(&text), embedding.as_ref());
            let reach = (run.start.min(run.end), run.end);
            let tally = run.tally.map(Tally::from).unwrap_or_default();
            let Some(place) = self.insert_run(template, reach, incident, tally) else {
                continue;
            };
            if let Some(run_now) = self.runs.get_mut(place) {
                run_now.payload.told = (run.told_start, run.told_end.min(run.end));
            }
        }
    }

    fn set_alias(&mut self, alias: IncidentId, survivor: IncidentId) {
        if alias == survivor || self.by_id.contains_key(&alias) {
            return;
        }
        let Some(place) = self.by_id.get(&survivor).copied() else {
            self.aliases.set(alias, Survivor::Closed(survivor));
            return;
        };
        self.aliases.set(alias, Survivor::Open(place));
        if let Some(incident) = self.incidents.get_mut(place)
            && !incident.aliases.contains(&alias)
        {
            incident.aliases.push(alias);
        }
    }

    /// Unites the runs of a template that are within the window of each other, then what they touch.
    fn settle(&mut self, key: TemplateKey) {
        let Some(template) = self.runs.find(key) else { return };
        let mut runs = self
            .runs
            .template(template)
            .map(|template| template.runs.clone())
            .unwrap_or_default();
        while let Some(run) = runs.first().copied() {
            let Some((start, end)) = self.runs.get(run).map(|run| (run.start, run.end)) else {
                break;
            };
            let mut near = Vec::new();
            self.runs.own(template, start, end, &mut near);
            if near.first() == Some(&run) && near.len() > 1 {
                self.unite_runs(near.iter());
                self.absorb_runs(run, &near);
                runs.retain(|other| *other == run || !near.contains(other));
                continue; // it has grown
            }
            self.unite_around(run);
            runs.remove(0);
        }
    }

    /// Replays an event told after the snapshot this was restored from. What it tells is not told again.
    pub fn apply(&mut self, event: &Event) {
        self.replaying = true;
        match event {
            Event::Opened(it) => self.replay_origin(it.id, it.origin.as_ref()),
            Event::Joined(it) => self.replay_origin(it.id, it.origin.as_ref()),
            Event::Extended(it) => self.replay_reach(it),
            Event::Merged(it) => self.replay_merge(IncidentId::from_raw(it.from), IncidentId::from_raw(it.into)),
            Event::Closed(it) => self.replay_close(IncidentId::from_raw(it.id)),
        }
        self.replaying = false;
    }

    fn replay_origin(&mut self, id: u64, origin: Option<&Origin>) {
        let Some(origin) = origin else { return };
        self.sequence += 1;
        let (time, key) = (origin.time_unix_nano, TemplateKey(origin.template));
        self.clock.observe(time);
        let id = IncidentId::from_raw(id);
        let live = self.by_id.get(&self.resolve(id)).copied();
        if live.is_none() && self.used.contains(id) {
            // A journal read again tells of an incident that has closed since: it is never reopened.
            return;
        }
        self.used.remember(id);
        self.make_room_for(key);
        let edge = KeyRecord::from(origin);
        let incident = match live {
            Some(incident) => {
                let sequence = self.sequence;
                if let Some(incident) = self.incidents.get_mut(incident) {
                    incident.worsen(edge.clone());
                    incident.lead(edge, sequence);
                }
                incident
            }
            None => self.open(id, edge),
        };
        let embedding = Embedding::new(origin.embedding.clone()).ok();
        let template = self
            .runs
            .admit(key, || Arc::from(origin.text.as_str()), embedding.as_ref());
        if let Some(embedding) = &embedding {
            self.runs.learn(template, embedding);
        }
        let mut near = Vec::new();
        self.runs.own(template, time, time, &mut near);
        if near.is_empty() {
            let mut tally = Tally::default();
            tally.add(time, &origin.service, origin.anomalous, origin.severity_number);
            self.insert_run(template, (time, time), incident, tally);
        } else {
            self.replay_grow(&near, (time, time), incident);
        }
    }

    fn replay_reach(&mut self, event: &Extended) {
        let reach = (
            event.first_time_unix_nano.min(event.last_time_unix_nano),
            event.last_time_unix_nano,
        );
        self.clock.observe(reach.1);
        let id = self.resolve(IncidentId::from_raw(event.id));
        let Some(incident) = self.by_id.get(&id).copied() else {
            return;
        };
        let mut near = Vec::new();
        if let Some(template) = self.runs.find(TemplateKey(event.template)) {
            self.runs.own(template, reach.0, reach.1, &mut near);
        }
        if let Some(run) = self.replay_grow(&near, reach, incident) {
            let tally = &mut run.tally;
            tally.records = tally.records.max(event.records);
            tally.anomalous = tally.anomalous.max(event.anomalous_records);
            tally.worst_severity = tally.worst_severity.max(event.worst_severity_number);
            for service in &event.services {
                tally.name(service, 0, reach.0);
            }
        }
        let sequence = self.sequence;
        if let Some(edge) = &event.leading_edge
            && let Some(incident) = self
                .by_id
                .get(&self.resolve(id))
                .and_then(|it| self.incidents.get_mut(*it))
        {
            incident.lead(KeyRecord::from(edge), sequence);
        }
    }

    /// Grows the first of these runs of one template to `reach`, the others become part of it, all of `incident`.
    fn replay_grow(&mut self, near: &[u32], reach: (u64, u64), incident: u32) -> Option<&mut super::Member> {
        let run = *near.first()?;
        let of_incident = self.incidents.get(incident)?.runs.first().copied();
        self.unite_runs(near.iter().chain(&of_incident));
        self.runs.extend(run, reach.0, reach.1);
        self.absorb_runs(run, near);
        let run = self.runs.get_mut(run)?;
        run.payload.told = (run.start, run.end);
        run.payload.tally.first = run.payload.tally.first.min(run.start);
        run.payload.tally.last = run.payload.tally.last.max(run.end);
        Some(&mut run.payload)
    }

    fn replay_merge(&mut self, from: IncidentId, into: IncidentId) {
        self.used.remember(from);
        self.used.remember(into);
        let place = |id| self.by_id.get(&id).copied();
        match (place(from), place(self.resolve(into))) {
            (Some(one), Some(two)) if one != two => {
                // The journal knows which was older.
                let opened = self.incidents.get(two).map_or(0, |incident| incident.opened);
                if let Some(incident) = self.incidents.get_mut(one) {
                    incident.opened = incident.opened.max(opened.saturating_add(1));
                }
                self.merge(one, two);
            }
            (Some(place), None) => {
                if let Some(incident) = self.incidents.get_mut(place) {
                    incident.id = into;
                }
                self.by_id.remove(&from);
                self.by_id.insert(into, place);
                self.set_alias(from, into);
            }
            _ => self.set_alias(from, self.resolve(into)),
        }
    }

    fn replay_close(&mut self, id: IncidentId) {
        self.used.remember(id);
        let Some(place) = self.by_id.get(&id).copied() else {
            return;
        };
        let runs = self
            .incidents
            .get(place)
            .map(|incident| incident.runs.clone())
            .unwrap_or_default();
        for run in runs {
            self.drop_run(run, Ending::Silence);
        }
        self.close(place, Ending::Silence);
    }
}

fn incident_state(incident: &Group) -> IncidentState {
    IncidentState {
        id: incident.id.to_raw(),
        opened: incident.opened,
        leading: Some(Origin::from(&incident.leading)),
        leading_sequence: incident.leading_sequence,
        past: Some(TallyState::from(&incident.past)),
        past_templates: (incident.past_templates.listed.values())
            .map(TemplateCountState::from)
            .collect(),
        other_templates: incident.past_templates.others,
        worst: Some(Origin::from(&incident.worst)),
    }
}
