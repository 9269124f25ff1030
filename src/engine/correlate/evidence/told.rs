//! Incidents in words, and when they are told.
//!
//! In: groups, the log, what is counted beside it. Out: [`Incident`]s and [`Change`]s. Promises: an incident is told once
//! it has `min_records` anomalous records or a fatal one, at most once a minute of event time while it grows, and when it
//! is over or part of another; what was never told is not told to be over: its closing comes unannounced. Absent on purpose: who listens.

use super::super::event::{Event, Joined, Merged, Opened, Origin};
use super::super::incident::{Change, Ending, Happened, Incident, KeyRecord, Link, Status};
use super::super::tally::{LinkState, Tally, Templates};
use super::episode::{Episode, Place};
use super::{Entry, Evidence, Node};
use crate::engine::correlate::{Closed, Extended, IncidentId};
use crate::engine::text::TemplateKey;
use std::sync::Arc;

/// Growth is told at most so often, nanoseconds of event time.
const UPDATE_NANO: u64 = 60 * 1_000_000_000;
/// From this severity on (OTLP: FATAL) one record is enough to be told.
const FATAL: i32 = 21;

/// What is counted of an incident and is in no entry of the log: settled episodes, and context.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Past {
    pub tally: Tally,
    pub templates: Templates,
    pub leading: Option<KeyRecord>,
    pub worst: Option<KeyRecord>,
}

impl Past {
    /// A normal record that belongs.
    pub fn add_context(&mut self, node: &Node<'_>, service: &str) {
        self.tally.add(node.time_unix_nano, service, false, 0);
        self.templates
            .add_context(node.template, node.text, node.time_unix_nano, service);
    }

    /// Counts an episode in, and why it is in.
    pub fn add(&mut self, place: Place, episode: &Episode, link: Option<&Link>) {
        self.tally.records += episode.records;
        self.tally.anomalous += episode.records;
        self.tally.first = self.tally.first.min(place.first);
        self.tally.last = self.tally.last.max(episode.last);
        self.tally.worst_severity = self.tally.worst_severity.max(episode.severity_number);
        self.tally.name(&episode.service, episode.records, place.first);
        self.tally.course.absorb(&episode.course);
        self.templates.add(episode.counted(place, link));
        self.lead(episode.leading(place));
        self.worsen(episode.gravest(place));
    }

    pub fn absorb(&mut self, other: Self) {
        self.tally.absorb(&other.tally);
        self.templates.absorb(other.templates);
        other.leading.into_iter().for_each(|record| self.lead(record));
        other.worst.into_iter().for_each(|record| self.worsen(record));
    }

    fn lead(&mut self, record: KeyRecord) {
        let order = |it: &KeyRecord| (it.time_unix_nano, it.template, Arc::clone(&it.service));
        if self.leading.as_ref().is_none_or(|known| order(&record) < order(known)) {
            self.leading = Some(record);
        }
    }

    fn worsen(&mut self, record: KeyRecord) {
        let grave = |it: &KeyRecord| {
            (
                -it.severity_number,
                it.time_unix_nano,
                it.template,
                Arc::clone(&it.service),
            )
        };
        if self.worst.as_ref().is_none_or(|known| grave(&record) < grave(known)) {
            self.worst = Some(record);
        }
    }
}

impl Evidence {
    /// An open incident as it stands.
    pub(super) fn describe(&self, group: Place) -> Option<Incident> {
        let of = self.live.groups.get(&group)?;
        let id = self.names.of(group)?;
        let mut sum = self.past.get(&group).cloned().unwrap_or_default();
        for (place, entry) in self.log.iter().filter(|(_, entry)| entry.group == group) {
            sum.add(*place, &entry.episode, entry.link.as_ref());
        }
        let (templates, records_of_other_templates) = sum.templates.ranked();
        let (services, service_counts) = sum.tally.services();
        let leading_edge = sum.leading?;
        Some(Incident {
            id,
            aliases: self.names.aliases_of(id),
            parent: of.parent.and_then(|parent| self.parent_of(parent)),
            status: Status::Open,
            announced: self.announced.contains_key(&id),
            worst: sum.worst.unwrap_or_else(|| leading_edge.clone()),
            leading_edge,
            records: sum.tally.records,
            anomalous_records: sum.tally.anomalous,
            first_time_unix_nano: sum.tally.first,
            last_time_unix_nano: sum.tally.last,
            services,
            records_of_other_services: sum.tally.other_services,
            service_counts,
            course: sum.tally.course,
            templates,
            records_of_other_templates,
            ties: of.ties,
        })
    }

    /// The parent's id, also when it is over.
    fn parent_of(&self, parent: Place) -> Option<IncidentId> {
        self.names.of(parent).or_else(|| self.parents.get(&parent).copied())
    }

    /// An incident has one more record: tells it if that is due.
    pub(super) fn grown(&mut self, group: Place, time: u64, severity_number: i32) {
        let (Some(id), Some(of)) = (self.names.of(group), self.live.groups.get(&group)) else {
            return;
        };
        let (happened, due) = match self.announced.get(&id) {
            None => {
                let enough = of.records >= self.settings.min_records || severity_number >= FATAL;
                (Happened::Opened, enough)
            }
            Some(told) => (Happened::Updated, time >= told.0.saturating_add(UPDATE_NANO)),
        };
        if due {
            self.announce(group, id, happened, time);
        }
    }

    fn announce(&mut self, group: Place, id: IncidentId, happened: Happened, time_unix_nano: u64) {
        let Some(mut incident) = self.describe(group) else {
            return;
        };
        incident.announced = true;
        self.announced.insert(id, (time_unix_nano, Arc::new(incident.clone())));
        if !self.replaying {
            self.changes.push(Change {
                happened,
                time_unix_nano,
                incident,
            });
        }
    }

    /// An incident turned out to be part of another.
    pub(super) fn merge_names(&mut self, younger: Place, into: Place) {
        let Some(survivor) = self.names.of(into) else { return };
        let Some(id) = self.names.release(younger) else { return };
        if let Some(past) = self.past.remove(&younger) {
            self.past.entry(into).or_default().absorb(past);
        }
        self.counters.forgotten_aliases += self.names.alias(id, survivor);
        self.counters.merged += 1;
        self.tell(Event::Merged(Merged {
            from: id.to_raw(),
            into: survivor.to_raw(),
        }));
        let time = self.clock.now.unwrap_or_default();
        if let Some((_, told)) = self.announced.remove(&id)
            && !self.replaying
        {
            let status = Status::Merged { into: survivor };
            let incident = Incident {
                status,
                ..Incident::clone(&told)
            };
            self.changes.push(Change {
                happened: Happened::Merged,
                time_unix_nano: time,
                incident,
            });
        }
    }

    /// An incident is over: the last that is told of it.
    pub(super) fn tell_closed(&mut self, group: Place, by: Ending) -> Option<Incident> {
        let incident = self.describe(group);
        let past = self.past.remove(&group).unwrap_or_default();
        let id = self.names.release(group)?;
        self.remember_parent(group, id);
        self.counters.closed += 1;
        self.counters.evicted_incidents += u64::from(by == Ending::Bound);
        self.tell(Event::Closed(Closed {
            id: id.to_raw(),
            records: past.tally.records,
            anomalous_records: past.tally.anomalous,
            first_time_unix_nano: past.tally.first,
            last_time_unix_nano: past.tally.last,
            worst_severity_number: past.tally.worst_severity,
            evicted: by == Ending::Bound,
            dismissed: by == Ending::Dismissed,
            outlived: by == Ending::Life,
        }));
        let told = self.announced.remove(&id).map(|(_, told)| told);
        // Whoever dismissed it knows of it, however small it was.
        let announced = told.is_some() || by == Ending::Dismissed;
        // A bound may have ended it on top of the base already: then as it was told last.
        let incident = incident.or_else(|| told.map(|told| Incident::clone(&told)))?;
        let incident = Incident {
            status: Status::Closed { by },
            announced,
            ..incident
        };
        if !self.replaying {
            self.changes.push(Change {
                happened: Happened::Closed,
                time_unix_nano: self.clock.now.unwrap_or_default(),
                incident: incident.clone(),
            });
        }
        Some(incident)
    }

    /// Gives a group that opened its id, and tells the journal.
    pub(super) fn name(&mut self, group: Place) {
        if self.names.of(group).is_none()
            && let Some(entry) = self.log.get(&group)
        {
            let (service, origin) = (Arc::clone(&entry.episode.service), origin(group, entry));
            self.give_name(group, &service, origin);
        }
    }

    fn give_name(&mut self, group: Place, service: &str, origin: Origin) {
        let template = TemplateKey(group.kind.0);
        let mut salt = 0u32;
        let id = loop {
            let id = IncidentId::of(self.id_seed, group.first, service, template, salt);
            if !self.names.is_taken(id) {
                break id;
            }
            salt = salt.wrapping_add(1); // far fewer ids are remembered than there are in a second
        };
        self.names.give(group, id);
        self.counters.opened += 1;
        self.tell(Event::Opened(Opened {
            id: id.to_raw(),
            origin: Some(origin),
        }));
    }

    /// Tells the journal that an episode joined; one that opened its incident is told already.
    pub(super) fn join_told(&mut self, place: Place) {
        let Some(entry) = self.log.get(&place) else { return };
        if entry.group == place {
            return;
        }
        let Some(id) = self.names.of(entry.group) else { return };
        let origin = Some(origin(place, entry));
        let link = entry.link.as_ref().map(LinkState::from);
        self.tell(Event::Joined(Joined {
            id: id.to_raw(),
            origin,
            link,
        }));
    }

    /// Tells the journal how far an episode reaches.
    pub(super) fn tell_reach(&mut self, place: Place) {
        let Some(entry) = self.log.get(&place) else { return };
        let Some(id) = self.names.of(entry.group) else { return };
        let episode = &entry.episode;
        let extended = Extended {
            id: id.to_raw(),
            template: place.kind.0,
            first_time_unix_nano: place.first,
            last_time_unix_nano: episode.last,
            records: episode.records,
            anomalous_records: episode.records,
            worst_severity_number: episode.severity_number,
            services: vec![episode.service.to_string()],
            leading_edge: None,
        };
        self.tell(Event::Extended(extended));
    }
}

fn origin(place: Place, entry: &Entry) -> Origin {
    let episode = &entry.episode;
    let embedding = episode.embedding.as_ref();
    Origin {
        time_unix_nano: place.first,
        service: episode.service.to_string(),
        template: place.kind.0,
        text: episode.text.to_string(),
        embedding: embedding.map(|it| it.as_slice().to_vec()).unwrap_or_default(),
        anomalous: true,
        severity_number: episode.severity_number,
        ids: episode.ids.clone(),
        reason: episode.reason.to_string(),
    }
}
