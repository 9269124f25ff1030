//! A record opens an incident, begins or extends a run, or attaches.
//!
//! In: nodes, late embeddings, the passing of time. Out: ids and the events `Opened`, `Joined` and `Extended`. Promise: every step is decided by event times,
//! the order of input and keys, never by the place something has in a table. Absent on purpose: anything that reads a
//! clock.

use std::sync::Arc;

use super::super::clock::Arrival;
use super::super::event::{Event, Extended, Joined, Opened, Origin};
use super::super::id::IncidentId;
use super::super::incident::{Happened, KeyRecord, MAX_SERVICE_BYTES, Status};
use super::super::tally::{Tally, Templates};
use super::super::{Node, Scope};
use super::incident::Group;
use super::{Components, Member};
use crate::engine::embed::Embedding;
use crate::engine::text::TemplateKey;

/// Events tell a run's reach when it moved by this part of the window.
const STEPS_PER_WINDOW: u64 = 10;

impl Components {
    /// Takes the next record. Its incident at this moment; `None` when it is part of none.
    pub fn observe(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        let end = node.service.floor_char_boundary(MAX_SERVICE_BYTES);
        let node = &Node {
            service: node.service.get(..end).unwrap_or_default(),
            ..*node
        };
        self.sequence += 1;
        self.counters.records += 1;
        let arrival = self.clock.observe(node.time_unix_nano);
        self.counters.late += u64::from(arrival == Arrival::Late);
        self.close_silent();
        let template = self.runs.find(node.template);
        if let (Some(template), Some(embedding)) = (template, node.embedding) {
            self.learn_at(template, embedding);
        }
        if self.settings.scope == Scope::Anomalous && !node.anomalous {
            return self.attach(node);
        }
        let mut near = std::mem::take(&mut self.near);
        near.clear();
        if let Some(template) = self.runs.find(node.template) {
            self.runs
                .own(template, node.time_unix_nano, node.time_unix_nano, &mut near);
        }
        let id = match near.first() {
            Some(run) => self.extend(node, *run, &near),
            None => self.begin(node, arrival),
        };
        self.near = near;
        id
    }

    /// A template's embedding becomes known after records of it were observed without. Nothing if it was known.
    pub fn learn(&mut self, key: TemplateKey, embedding: &Embedding) {
        if let Some(template) = self.runs.find(key) {
            self.learn_at(template, embedding);
        }
    }

    fn learn_at(&mut self, place: u32, embedding: &Embedding) {
        if !self.runs.learn(place, embedding) {
            return;
        }
        let runs = self
            .runs
            .template(place)
            .map(|template| template.runs.clone())
            .unwrap_or_default();
        for run in runs {
            self.unite_around(run);
        }
    }

    /// It is at least this late, as one knows who sees more than the records: closes what has been silent long enough.
    pub fn advance(&mut self, time_unix_nano: u64) {
        self.clock.advance(time_unix_nano);
        self.close_silent();
    }

    /// Time begins anew, earlier than it was: everything is closed.
    pub fn turn_back(&mut self) {
        let Some(now) = self.clock.now else { return };
        self.advance(now.saturating_add(self.clock.reach().saturating_mul(2)));
        self.clock.begin_anew();
    }

    /// A record within reach of one or two runs of its template.
    fn extend(&mut self, node: &Node<'_>, run: u32, near: &[u32]) -> Option<IncidentId> {
        let time = node.time_unix_nano;
        let (template, start) = self.runs.get(run).map(|run| (run.template, run.start))?;
        let looks = self.runs.extend(run, time, time);
        if looks || near.len() > 1 {
            let mut links = std::mem::take(&mut self.links);
            links.clear();
            self.runs.touch(template, time, time, &mut links);
            self.unite_runs(near.iter().chain(&links));
            self.links = links;
            self.absorb_runs(run, near);
        }
        let member = &mut self.runs.get_mut(run)?.payload;
        member
            .tally
            .add(time, node.service, node.anomalous, node.severity_number);
        let incident = member.incident;
        let led = time < start && self.lead(incident, node, template);
        self.worsen(incident, node, template);
        self.tell_reach(run, led);
        Some(self.incidents.get(incident)?.id)
    }

    /// The runs of one template beside the first become part of it; their incidents are one already.
    pub(super) fn absorb_runs(&mut self, run: u32, near: &[u32]) {
        for other in near.iter().skip(1) {
            let Some(member) = self.runs.absorb(run, *other) else {
                continue;
            };
            self.detach(&member);
            if let Some(run) = self.runs.get_mut(run) {
                run.payload.tally.absorb(&member.tally);
            }
        }
    }

    /// A record out of reach of any run of its template.
    fn begin(&mut self, node: &Node<'_>, arrival: Arrival) -> Option<IncidentId> {
        let time = node.time_unix_nano;
        let mut links = std::mem::take(&mut self.links);
        links.clear();
        if arrival == Arrival::Late {
            self.runs.touch_of(node.template, node.embedding, time, &mut links);
            if links.is_empty() {
                self.links = links;
                self.counters.late_unplaced += 1;
                return None;
            }
            links.clear();
        }
        self.make_room_for(node.template);
        self.runs.touch_of(node.template, node.embedding, time, &mut links);
        let joined = self.unite_runs(links.iter());
        self.links = links;
        if joined.is_none() {
            while self.incidents.len() >= self.settings.max_open_incidents && self.evict_run() {}
        }
        // Nothing is evicted from here on: places stay valid.
        let template = self.runs.admit(node.template, || Arc::from(node.text), node.embedding);
        let origin = self.origin(node, template);
        let incident = match joined {
            Some(incident) => {
                let id = self.incidents.get(incident)?.id.to_raw();
                self.tell(Event::Joined(Joined {
                    id,
                    origin: Some(origin),
                    link: None,
                }));
                self.lead(incident, node, template);
                self.worsen(incident, node, template);
                incident
            }
            None => {
                let id = self.fresh_id(node);
                let incident = self.open(id, self.edge(node, template));
                self.tell(Event::Opened(Opened {
                    id: id.to_raw(),
                    origin: Some(origin),
                }));
                incident
            }
        };
        let mut tally = Tally::default();
        tally.add(time, node.service, node.anomalous, node.severity_number);
        self.insert_run(template, (time, time), incident, tally);
        if joined.is_none()
            && let Some(told) = self.incidents.get(incident).map(|group| self.describe(group))
        {
            self.announce(Happened::Opened, Status::Open, time, told);
        }
        let id = self.incidents.get(incident)?.id;
        if arrival == Arrival::Ahead {
            self.shed_ahead();
        }
        Some(id)
    }

    /// A normal record in scope `anomalous`.
    fn attach(&mut self, node: &Node<'_>) -> Option<IncidentId> {
        if self.runs.len() == 0 {
            return None;
        }
        let time = node.time_unix_nano;
        let mut near = std::mem::take(&mut self.near);
        near.clear();
        if let Some(template) = self.runs.find(node.template) {
            self.runs.own(template, time, time, &mut near);
        }
        self.runs.touch_of(node.template, node.embedding, time, &mut near);
        let nearest = (near.iter())
            .filter_map(|run| {
                let run = self.runs.get(*run)?;
                let incident = run.payload.incident;
                Some((
                    self.runs.gap(run, time, time),
                    self.incidents.get(incident)?.opened,
                    incident,
                ))
            })
            .min();
        self.near = near;
        let incident = self.incidents.get_mut(nearest?.2)?;
        self.counters.attached += 1;
        incident.past.add(time, node.service, false, node.severity_number);
        incident
            .past_templates
            .add_context(node.template, node.text, time, node.service);
        Some(incident.id)
    }

    /// A new incident, still without runs.
    pub(super) fn open(&mut self, id: IncidentId, leading: KeyRecord) -> u32 {
        self.used.remember(id);
        self.counters.opened += 1;
        let place = self.incidents.insert(Group {
            id,
            opened: self.sequence,
            worst: leading.clone(),
            leading,
            leading_sequence: self.sequence,
            runs: Vec::new(),
            aliases: Vec::new(),
            past: Tally::default(),
            past_templates: Templates::default(),
        });
        self.by_id.insert(id, place);
        place
    }

    /// An id that no incident has or had, as far as is remembered.
    fn fresh_id(&self, node: &Node<'_>) -> IncidentId {
        let mut salt = 0u32;
        loop {
            let id = IncidentId::of(self.id_seed, node.time_unix_nano, node.service, node.template, salt);
            if !self.used.contains(id) && !self.by_id.contains_key(&id) && self.aliases.get(id).is_none() {
                return id;
            }
            salt = salt.wrapping_add(1); // far fewer ids are remembered than there are in a second
        }
    }

    pub(super) fn insert_run(&mut self, template: u32, reach: (u64, u64), incident: u32, tally: Tally) -> Option<u32> {
        let position = self.incidents.get(incident)?.runs.len() as u32;
        let run = self.runs.insert(
            template,
            reach.0,
            reach.1,
            Member {
                incident,
                position,
                tally,
                told: reach,
            },
        );
        self.incidents.get_mut(incident)?.runs.push(run);
        Some(run)
    }

    /// The record is its incident's gravest, if it is.
    fn worsen(&mut self, incident: u32, node: &Node<'_>, template: u32) {
        let gravest = self.incidents.get(incident).map(|it| it.worst.severity_number);
        if node.anomalous && gravest.is_some_and(|gravest| node.severity_number > gravest) {
            let record = self.edge(node, template);
            if let Some(incident) = self.incidents.get_mut(incident) {
                incident.worsen(record);
            }
        }
    }

    fn edge(&self, node: &Node<'_>, template: u32) -> KeyRecord {
        KeyRecord {
            time_unix_nano: node.time_unix_nano,
            service: Arc::from(node.service),
            template: node.template,
            text: (self.runs.template(template)).map_or_else(|| Arc::from(node.text), |it| Arc::clone(&it.text)),
            severity_number: node.severity_number,
            reason: Arc::from(node.reason),
        }
    }

    fn origin(&self, node: &Node<'_>, template: u32) -> Origin {
        let embedding = self
            .runs
            .template(template)
            .and_then(|template| template.embedding.as_ref());
        Origin {
            time_unix_nano: node.time_unix_nano,
            service: node.service.to_owned(),
            template: node.template.0,
            text: node.text.to_owned(),
            embedding: embedding
                .map(|embedding| embedding.as_slice().to_vec())
                .unwrap_or_default(),
            anomalous: node.anomalous,
            severity_number: node.severity_number,
            ids: Vec::new(),
            reason: node.reason.to_owned(),
        }
    }

    /// The record leads its incident if it is the earliest. Whether it does.
    fn lead(&mut self, incident: u32, node: &Node<'_>, template: u32) -> bool {
        let earliest = self
            .incidents
            .get(incident)
            .map_or(0, |incident| incident.leading.time_unix_nano);
        if node.time_unix_nano >= earliest {
            return false; // of equally early ones the one that came first
        }
        let edge = self.edge(node, template);
        let sequence = self.sequence;
        self.incidents
            .get_mut(incident)
            .is_some_and(|incident| incident.lead(edge, sequence))
    }

    /// Tells how far a run reaches if that moved much, or `led` if its incident's leading edge changed.
    fn tell_reach(&mut self, place: u32, led: bool) -> Option<()> {
        let step = (self.window / STEPS_PER_WINDOW).max(1);
        let run = self.runs.get(place)?;
        let (member, reach) = (&run.payload, (run.start, run.end));
        if !led && reach.1 - member.told.1 < step && member.told.0.saturating_sub(reach.0) < step {
            return None;
        }
        let incident = self.incidents.get(member.incident)?;
        let extended = Extended {
            id: incident.id.to_raw(),
            template: self.runs.template(run.template)?.key.0,
            first_time_unix_nano: reach.0,
            last_time_unix_nano: reach.1,
            records: member.tally.records,
            anomalous_records: member.tally.anomalous,
            worst_severity_number: member.tally.worst_severity,
            services: member
                .tally
                .services
                .iter()
                .map(|count| count.service.to_string())
                .collect(),
            leading_edge: led.then(|| Origin::from(&incident.leading)),
        };
        self.tell(Event::Extended(extended));
        self.runs.get_mut(place)?.payload.told = reach;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::ComponentsState;
    use super::*;
    use crate::engine::correlate::{Closed, Merged, Settings};
    use crate::engine::embed::DIMENSIONS;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_731_924_000 * SECOND;

    /// Direction `degrees` in a plane; templates less than 36.8° apart are similar.
    fn direction(degrees: f32) -> Embedding {
        let mut values = vec![0.0; DIMENSIONS];
        values[0] = degrees.to_radians().cos();
        values[1] = degrees.to_radians().sin();
        Embedding::new(values).unwrap()
    }

    /// A stream whose template is its direction.
    struct Stream {
        correlator: Components,
    }

    impl Stream {
        fn new(settings: Settings) -> Self {
            Self {
                correlator: Components::new(settings),
            }
        }

        fn all() -> Self {
            Self::new(Settings {
                scope: Scope::All,
                ..Settings::default()
            })
        }

        /// A record at `seconds` after the start.
        fn at(&mut self, seconds: u64, degrees: u16) -> Option<IncidentId> {
            self.record(START + seconds * SECOND, degrees, true)
        }

        fn record(&mut self, time: u64, degrees: u16, anomalous: bool) -> Option<IncidentId> {
            self.correlator.observe(&Node {
                time_unix_nano: time,
                service: "api",
                template: TemplateKey(u64::from(degrees)),
                text: &degrees.to_string(),
                embedding: Some(&direction(f32::from(degrees))),
                anomalous,
                severity_number: 17,
                ids: &[],
                delayed: false,
                reason: "",
            })
        }

        fn events(&mut self) -> Vec<Event> {
            let mut events = Vec::new();
            self.correlator.drain(&mut events);
            events
        }
    }

    #[test]
    fn the_window_and_the_similarity_are_strict() {
        let mut stream = Stream::all();
        let first = stream.at(0, 0);
        assert_eq!(stream.record(START + 300 * SECOND - 1, 30, true), first);
        let mut stream = Stream::all();
        let first = stream.at(0, 0);
        assert_ne!(stream.at(300, 0), first, "a gap of the window is no edge");
        assert_ne!(stream.at(300, 40), first, "cos 40° < 0.8");
    }

    /// A and C are unlike; B is like both and comes last: the older id goes on, the other resolves to it.
    #[test]
    fn a_bridge_unites_two_incidents_under_the_older_id() {
        let mut stream = Stream::all();
        let (a, c) = (stream.at(0, 0).unwrap(), stream.at(10, 60).unwrap());
        assert_ne!(a, c);
        assert_eq!(stream.at(20, 30), Some(a));
        assert_eq!(stream.correlator.resolve(c), a);
        let incidents = stream.correlator.incidents();
        assert_eq!(incidents.len(), 1);
        assert_eq!((incidents[0].id, &incidents[0].aliases[..]), (a, &[c][..]));
        assert_eq!((incidents[0].records, incidents[0].worst.severity_number), (3, 17));
        assert_eq!(stream.correlator.incident(c), stream.correlator.incident(a));
        let kinds: Vec<Event> = stream.events();
        assert!(matches!(
            &kinds[..],
            [Event::Opened(_), Event::Opened(_), Event::Merged(_), Event::Joined(_)]
        ));
        // After the end the alias still resolves.
        stream.correlator.advance(START + 1000 * SECOND);
        assert_eq!(
            (stream.correlator.open_incidents(), stream.correlator.resolve(c)),
            (0, a)
        );
        assert!(matches!(
            stream.events()[..],
            [Event::Closed(Closed {
                records: 3,
                evicted: false,
                ..
            })]
        ));
    }

    /// Of equally early records the first in the order of input leads, also when it came to the younger incident.
    #[test]
    fn equally_early_records_lead_by_order_of_input() {
        let mut stream = Stream::all();
        stream.at(50, 0);
        stream.at(10, 60);
        stream.at(10, 0);
        stream.at(20, 30);
        assert_eq!(&*stream.correlator.incidents()[0].leading_edge.text, "60");
    }

    /// A normal record between two unlike anomalies attaches to the nearer and does not bridge.
    #[test]
    fn normal_records_attach_and_never_bridge_nor_extend() {
        let mut stream = Stream::new(Settings::default());
        assert_eq!(stream.record(START, 30, false), None);
        let (a, c) = (stream.at(0, 0).unwrap(), stream.at(10, 60).unwrap());
        assert_eq!(stream.record(START + 20 * SECOND, 30, false), Some(c));
        assert_eq!(stream.record(START + SECOND, 30, false), Some(a));
        assert_eq!(stream.record(START + 20 * SECOND, 150, false), None);
        assert_eq!(stream.correlator.open_incidents(), 2);
        assert_eq!(stream.record(START + 305 * SECOND, 61, false), Some(c));
        assert_eq!(
            stream.record(START + 311 * SECOND, 61, false),
            None,
            "the run still ends at 10 s"
        );
        let incident = stream.correlator.incident(c).unwrap();
        assert_eq!((incident.records, incident.anomalous_records), (3, 1));
        assert_eq!(incident.leading_edge.time_unix_nano, START + 10 * SECOND);
        assert_eq!(stream.correlator.counters().attached, 3);
    }

    /// The same recording played again: other incidents, so other ids, the same ones in every run.
    #[test]
    fn no_id_is_given_twice() {
        let mut given = BTreeSet::new();
        let mut stream = Stream::all();
        for _ in 0..5 {
            let id = stream.at(0, 0).unwrap();
            assert!(given.insert(id), "{id} given twice");
            assert!(id.to_string().starts_with("20241118-100000-"));
            stream.correlator.advance(START + 3600 * SECOND);
            let state = stream.correlator.export();
            stream.correlator = Components::restore(
                Settings {
                    scope: Scope::All,
                    ..Settings::default()
                },
                state,
            );
            // The clock of the recording starts again: after enough late records it is believed.
            (0..64).for_each(|_| assert_ne!(stream.at(0, 150), Some(id)));
            stream.correlator.advance(START + 3600 * SECOND);
            (0..64).for_each(|_| assert_ne!(stream.at(0, 150), Some(id)));
        }
        assert_eq!(given.len(), 5);
    }

    #[test]
    fn late_records_join_what_is_retained_and_open_nothing() {
        let mut stream = Stream::all();
        let id = stream.at(1000, 0);
        assert_eq!(stream.at(800, 10), id, "late, but a retained run can take it exactly");
        assert_eq!(stream.at(850, 90), None);
        assert_eq!(stream.at(900, 90).map(|late| Some(late) == id), Some(false), "not late");
        let counters = stream.correlator.counters();
        assert_eq!((counters.late, counters.late_unplaced), (2, 1));
    }

    /// A year 2100 in the stream spoils nothing for its neighbours, however often, and takes bounded room.
    #[test]
    fn absurd_times_do_not_harm_the_others() {
        let mut stream = Stream::all();
        let id = stream.at(0, 0);
        for n in 1..200 {
            stream.record(u64::MAX - n * 1_000_000 * SECOND, 90, true);
            assert_eq!(stream.at(n, 0), id);
        }
        assert!(stream.correlator.open_incidents() < 70);
        assert_eq!(stream.correlator.counters().late, 0);
    }

    /// The reach of a run is told when it moved by a tenth of the window, not at every record.
    #[test]
    fn reach_is_told_in_steps() {
        let mut stream = Stream::all();
        for second in 0..=300 {
            stream.at(second, 0);
        }
        let told: Vec<u64> = (stream.events().iter())
            .filter_map(|event| match event {
                Event::Extended(it) => Some((it.last_time_unix_nano - START) / SECOND),
                _ => None,
            })
            .collect();
        assert_eq!(told, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]);
    }

    #[test]
    fn caps_hold_and_what_they_cost_is_counted() {
        let settings = Settings {
            scope: Scope::All,
            max_live_templates: 4,
            max_open_incidents: 3,
            max_aliases: 2,
            ..Settings::default()
        };
        let mut stream = Stream::new(settings);
        for n in 0..40u64 {
            // Two unlike templates, then one between them.
            let within = [0, 60, 30][n as usize % 3];
            stream.at(n, (n / 3 * 110 % 360) as u16 + within);
            assert!(stream.correlator.live_templates() <= 4);
            assert!(stream.correlator.open_incidents() <= 3);
            assert!(stream.correlator.aliases.iter().count() <= 2);
        }
        let counters = stream.correlator.counters();
        assert!(counters.evicted_runs > 0 && counters.evicted_incidents > 0 && counters.forgotten_aliases > 0);
        assert!(counters.opened - counters.merged - counters.closed <= 3);
    }

    /// Bounded also when one template has many runs and the lateness reaches far.
    #[test]
    fn runs_are_bounded_beyond_templates() {
        let day = Duration::from_secs(86_400);
        let mut stream = Stream::new(Settings {
            scope: Scope::All,
            allowed_lateness: day,
            max_live_templates: 2,
            ..Settings::default()
        });
        for n in 0..100 {
            stream.at(n * 400, 0);
            assert!(stream.correlator.runs.len() <= 8);
        }
    }

    /// With a wider window or a lower similarity after a restart, what now touches is one, and told.
    #[test]
    fn a_state_of_other_settings_is_brought_into_line() {
        let settings = Settings {
            scope: Scope::All,
            allowed_lateness: Duration::from_secs(3600),
            ..Settings::default()
        };
        let mut stream = Stream::new(settings.clone());
        let ids = [
            stream.at(0, 0),
            stream.at(400, 0),
            stream.at(800, 0),
            stream.at(800, 45),
            stream.at(800, 180),
        ];
        let state = stream.correlator.export();
        let wider = Settings {
            window: Duration::from_secs(500),
            similarity: 0.7,
            ..settings
        };
        stream.correlator = Components::restore(wider, state);
        let resolved: BTreeSet<_> = ids.iter().flatten().map(|id| stream.correlator.resolve(*id)).collect();
        assert_eq!(resolved, BTreeSet::from([ids[0].unwrap(), ids[4].unwrap()]));
        assert_eq!(
            stream
                .events()
                .iter()
                .filter(|event| matches!(event, Event::Merged(_)))
                .count(),
            3
        );
        assert_eq!(stream.correlator.incident(ids[0].unwrap()).unwrap().records, 4);
    }

    /// Neither a strange state nor strange events can make it panic or lie about its bounds.
    #[test]
    fn a_strange_state_and_strange_events_are_survived() {
        let mut stream = Stream::all();
        stream.at(0, 0);
        stream.at(1, 90);
        let mut events = stream.events();
        events.push(Event::Merged(Merged { from: 1, into: 2 }));
        events.push(Event::Merged(Merged { from: 2, into: 1 }));
        events.push(Event::Merged(Merged {
            from: events[1].id().to_raw(),
            into: 77,
        }));
        events.push(Event::Extended(Extended {
            id: 77,
            template: 90,
            first_time_unix_nano: 9,
            ..Extended::default()
        }));
        events.push(Event::Closed(Closed {
            id: 5,
            ..Closed::default()
        }));
        events.push(Event::Opened(Opened::default()));
        events.push(Event::Joined(Joined {
            link: None,
            id: 77,
            origin: Some(Origin::default()),
        }));
        let mut correlator = Components::restore(Settings::default(), ComponentsState::default());
        for _ in 0..2 {
            events.iter().for_each(|event| correlator.apply(event));
            events.reverse();
        }
        assert!(correlator.open_incidents() <= 4);
        let state = correlator.export();
        assert_eq!(Components::restore(Settings::default(), state.clone()).export(), state);
    }

    #[test]
    fn settings_refuse_what_cannot_be_meant() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let wrong = [
            Settings {
                window: Duration::ZERO,
                ..Settings::default()
            },
            Settings {
                similarity: 1.0,
                ..Settings::default()
            },
            Settings {
                similarity: f32::NAN,
                ..Settings::default()
            },
            Settings {
                max_aliases: 0,
                ..Settings::default()
            },
        ];
        for settings in wrong {
            assert!(settings.validate().unwrap_err().contains("write a"), "{settings:?}");
        }
    }

    #[test]
    fn settings_are_written_as_people_write_them() {
        let settings: Settings =
            serde_yaml::from_str("{window: 1m30s, similarity: 0.75, scope: all, allowed_lateness: 250ms}").unwrap();
        assert_eq!((settings.window, settings.scope), (Duration::from_secs(90), Scope::All));
        let text = serde_yaml::to_string(&Settings::default()).unwrap();
        assert!(
            text.contains("window: 5m") && text.contains("similarity: 0.8\n"),
            "{text}"
        );
        assert!(serde_yaml::from_str::<Settings>("{windw: 1m}").is_err());
    }
}
