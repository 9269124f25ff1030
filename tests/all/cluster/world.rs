//! Agents and their log in a time of their own: what happens is an event, and the next one is always the earliest.
//!
//! In: a plan, with its seed. Out: agents as they are once all was delivered, the log, and every id that was given to a record. Promises: the
//! same plan gives the same world; agents are driven as the pipeline drives them: one entry under way at a time, appended until it is
//! answered. Absent on purpose: threads, clocks, Kafka.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use harbinger::engine::{
    correlate::{Event, IncidentId},
    embed::Embedding,
    front::{Batch, BatchService, BatchTemplate, Observation, Treatment},
    tenant::Tenant,
    tenants::{Committed, Tenants},
};

use super::stream::{Record, Stream, tenants};

pub const MILLI: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;
const DEADLINE: u64 = 500 * MILLI;
const AGAIN_AFTER: u64 = 500 * MILLI;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deal {
    Record,
    Service,
    Trace,
}

/// What happens.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub agents: usize,
    pub deal: Deal,
    /// Everything is faster than anybody waits for, and nothing is ever away.
    pub calm: bool,
}

/// What is in the log, and when it came.
#[derive(Clone, Debug)]
pub struct Logged {
    pub time: u64,
    pub body: Vec<u8>,
}

enum Happens {
    Batch(usize, Vec<usize>),
    Tick(usize, u64),
    Landing(usize, u64),
    Read(usize, u64, usize),
    Deadline(usize, u64, u64),
    Die(usize),
    Start(usize),
    Dismiss(usize),
    Supply(usize, usize),
}

struct Waiting {
    which: u64,
    ticket: u64,
    batch: Batch,
    embeddings: Vec<Option<Embedding>>,
    committed: Committed,
    records: Vec<usize>,
}

/// An agent in one of its lives.
pub struct Agent {
    pub name: String,
    pub tenants: Tenants,
    life: u64,
    queue: VecDeque<Vec<u8>>,
    due: bool,
    tick_due: bool,
    next: usize,
    read_at: u64,
    waiting: Vec<Waiting>,
    away_since: Option<u64>,
    written_at: u64,
    /// Latency of its own, milliseconds.
    append_ms: u64,
    read_ms: u64,
}

/// See the module.
pub struct World {
    plan: Plan,
    random: fastrand::Rng,
    pub stream: Stream,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Happens>,
    pub agents: BTreeMap<usize, Agent>,
    pub log: Vec<Logged>,
    /// Nobody (or not this agent) reaches the log meanwhile.
    outages: Vec<(u64, u64, Option<usize>)>,
    written: Option<(usize, Vec<u8>)>,
    end: u64,
    hashes: u128,
    /// The ids that records were given.
    pub given: Vec<(usize, IncidentId)>,
    pub without_id: usize,
    pub aliases: u64,
    pub waits: u64,
    pub alone: u64,
    /// What an id was opened by.
    opened: BTreeMap<u64, (u64, String, u64)>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let stream = Stream::new(&mut random, if plan.calm { 300 } else { 900 });
        let (begin, end) = (stream.begin, stream.end + 60 * SECOND);
        let mut world = Self {
            random,
            now: begin - 10 * SECOND,
            sequence: 0,
            events: BTreeMap::new(),
            agents: BTreeMap::new(),
            log: Vec::new(),
            outages: Vec::new(),
            written: None,
            end,
            hashes: 0,
            given: Vec::new(),
            without_id: 0,
            aliases: 0,
            waits: 0,
            alone: 0,
            opened: BTreeMap::new(),
            stream,
            plan,
        };
        world.set_up(begin);
        world
    }

    fn set_up(&mut self, begin: u64) {
        let calm = self.plan.calm;
        for agent in 0..self.plan.agents {
            let is_late = !calm && agent > 1 && self.random.u8(..4) == 0;
            let from = if is_late { self.random.u64(60..600) } else { 0 };
            self.at(
                begin - 10 * SECOND + from * SECOND + agent as u64 * 37 * MILLI,
                Happens::Start(agent),
            );
        }
        if !calm {
            let within = |random: &mut fastrand::Rng| begin + random.u64(0..800) * SECOND;
            for _ in 0..self.random.usize(0..3) {
                let from = within(&mut self.random);
                let whose = (self.random.u8(..2) == 0).then(|| self.random.usize(..self.plan.agents));
                let long = self.random.u64(2..90) * SECOND;
                self.outages.push((from, from + long, whose));
            }
            for _ in 0..self.random.usize(0..3) {
                let (from, agent) = (within(&mut self.random), self.random.usize(..self.plan.agents));
                self.at(from, Happens::Die(agent));
                let dead = self.random.u64(500..60_000) * MILLI;
                self.at(from + dead, Happens::Start(agent));
            }
        }
        if !calm {
            for _ in 0..self.random.usize(0..3) {
                let agent = self.random.usize(..self.plan.agents);
                let time = begin + self.random.u64(60..900) * SECOND;
                self.at(time, Happens::Dismiss(agent));
            }
            for template in 0..self.stream.templates.len() {
                if self.random.u8(..4) == 0 {
                    let time = begin + self.random.u64(0..600) * SECOND;
                    self.stream.templates[template].unknown_until = time;
                    for agent in 0..self.plan.agents {
                        let later = self.random.u64(0..3000) * MILLI;
                        self.at(time + later, Happens::Supply(agent, template));
                    }
                }
            }
        }
        let mut batches: BTreeMap<(u64, usize), Vec<usize>> = BTreeMap::new();
        for (index, record) in self.stream.records.iter().enumerate() {
            let by = match self.plan.deal {
                Deal::Record => self.random.u64(..),
                Deal::Service => record.service as u64,
                Deal::Trace => record.ids.first().copied().unwrap_or(record.time),
            };
            let late = self.random.u64(0..if calm { 50 } else { 900 });
            let arrival = record.time / MILLI + late;
            let whose = (by % self.plan.agents as u64) as usize;
            batches.entry((arrival / 100 + 1, whose)).or_default().push(index);
        }
        for ((window, whose), records) in batches {
            let offset = whose as u64 * 3 * MILLI;
            self.at(window * 100 * MILLI + offset, Happens::Batch(whose, records));
        }
    }

    fn at(&mut self, time: u64, what: Happens) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), what);
    }

    /// Until nothing happens any more.
    pub fn run(mut self) -> Self {
        while let Some(((time, _), what)) = self.events.pop_first() {
            self.now = self.now.max(time);
            match what {
                Happens::Batch(agent, records) => self.batch(agent, records),
                Happens::Tick(agent, life) => self.tick(agent, life),
                Happens::Landing(agent, life) => self.land(agent, life),
                Happens::Read(agent, life, until) => self.read(agent, life, until),
                Happens::Deadline(agent, life, which) => self.give_up(agent, life, which),
                Happens::Die(agent) => {
                    self.agents.remove(&agent);
                }
                Happens::Start(agent) => self.start(agent),
                Happens::Dismiss(agent) => self.dismiss(agent),
                Happens::Supply(agent, template) => self.supply(agent, template),
            }
        }
        let all: Vec<usize> = self.agents.keys().copied().collect();
        for agent in all {
            self.with(agent, |_, agent| agent.tenants.caught_up());
        }
        self
    }

    /// How long the log is away for an agent, if it is.
    fn away_until(&self, agent: usize) -> Option<u64> {
        let now = self.now;
        let is_away = |(from, to, whose): &&(u64, u64, Option<usize>)| {
            (*from..*to).contains(&now) && whose.is_none_or(|whose| whose == agent)
        };
        self.outages.iter().filter(is_away).map(|(_, to, _)| *to).max()
    }

    /// Something that lasts about so long: mostly less, at times much longer.
    fn lasts(&mut self, milliseconds: u64) -> u64 {
        let tail = if !self.plan.calm && self.random.u8(..20) == 0 {
            10
        } else {
            1
        };
        self.random.u64(MILLI..=(milliseconds * MILLI * tail).max(MILLI))
    }

    /// Does something with an agent, and then what follows of everything: tells, places, reports.
    fn with(&mut self, number: usize, what: impl FnOnce(&mut Self, &mut Agent)) {
        let Some(mut agent) = self.agents.remove(&number) else {
            return;
        };
        what(self, &mut agent);
        let read = agent.tenants.read_back();
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut agent.waiting)
            .into_iter()
            .partition(|waiting| waiting.ticket <= read);
        agent.waiting = waiting;
        for mut waiting in ready {
            agent
                .tenants
                .place(&waiting.batch, &waiting.embeddings, &mut waiting.committed);
            self.note(&waiting.committed, &waiting.records);
        }
        agent.due |= agent.tenants.has_aliases();
        if agent.queue.is_empty() && (agent.due || agent.tick_due) {
            let entries = agent.tenants.entries(agent.tick_due);
            agent.queue.extend(entries.into_iter().map(|(_, body)| body));
            (agent.due, agent.tick_due) = (false, false);
            if !agent.queue.is_empty() {
                let lasts = self.lasts(agent.append_ms);
                self.at(self.now + lasts, Happens::Landing(number, agent.life));
            }
        }
        for (_, events) in agent.tenants.drain_events() {
            for event in events {
                if let Event::Opened(opened) = event
                    && let Some(origin) = opened.origin
                {
                    let by = (origin.time_unix_nano, origin.service, origin.template);
                    let known = self.opened.entry(opened.id).or_insert_with(|| by.clone());
                    assert_eq!(*known, by, "no id is given twice");
                }
            }
        }
        agent.tenants.drain_changes();
        self.agents.insert(number, agent);
    }

    fn note(&mut self, committed: &Committed, records: &[usize]) {
        let ids = committed.verdicts.incident_by_record(records.len());
        for (record, id) in records.iter().zip(ids) {
            match id {
                Some(id) => self.given.push((*record, id)),
                None if self.stream.records[*record].fault.is_some() => self.without_id += 1,
                None => {}
            }
        }
    }

    fn start(&mut self, number: usize) {
        if self.agents.contains_key(&number) {
            return;
        }
        let mut tenants = tenants(&self.stream);
        let name = format!("agent-{number}");
        tenants.join(&name, self.now);
        let mut next = 0;
        if let Some((folded, written)) = &self.written {
            assert_eq!(tenants.adopt(written), Ok(*folded as u64));
            next = folded + 1;
        }
        let slow = if self.plan.calm { 1 } else { self.random.u64(1..8) };
        let agent = Agent {
            name,
            tenants,
            life: self.now,
            queue: VecDeque::new(),
            due: false,
            tick_due: false,
            next,
            read_at: 0,
            waiting: Vec::new(),
            away_since: None,
            written_at: self.now,
            append_ms: self.random.u64(2..60) * slow,
            read_ms: self.random.u64(2..80) * slow,
        };
        self.agents.insert(number, agent);
        let (life, delay) = (self.now, self.random.u64(1..900) * MILLI);
        if let Some(last) = self.log.len().checked_sub(1) {
            self.at(self.now + delay, Happens::Read(number, life, last));
        }
        self.at(self.now + delay, Happens::Tick(number, life));
    }

    fn batch(&mut self, number: usize, records: Vec<usize>) {
        let here: Vec<usize> = self.agents.keys().copied().collect();
        let Some(number) = here.iter().find(|here| **here >= number).or(here.first()).copied() else {
            return;
        };
        self.hashes += 1;
        let of: Vec<&Record> = records.iter().map(|index| &self.stream.records[*index]).collect();
        let (batch, embeddings) = read(&of, self.hashes, self.now, &self.stream);
        self.with(number, |world, agent| {
            let mut committed = agent.tenants.commit(&batch, &embeddings);
            let is_normal = records.iter().all(|index| world.stream.records[*index].fault.is_none());
            assert!(!is_normal || !committed.waits, "a normal record never waits");
            let alone = agent.tenants.is_alone();
            world.alone += u64::from(committed.waits && alone);
            if committed.waits && alone {
                agent.tenants.place(&batch, &embeddings, &mut committed);
            }
            if !committed.waits {
                return world.note(&committed, &records);
            }
            world.waits += 1;
            agent.due = true;
            let which = world.hashes as u64;
            let ticket = agent.tenants.ticket();
            world.at(world.now + DEADLINE, Happens::Deadline(number, agent.life, which));
            agent.waiting.push(Waiting {
                which,
                ticket,
                batch,
                embeddings,
                committed,
                records,
            });
        });
    }

    fn lives(&self, number: usize, life: u64) -> bool {
        self.agents.get(&number).is_some_and(|agent| agent.life == life)
    }

    fn give_up(&mut self, number: usize, life: u64, which: u64) {
        if !self.lives(number, life) {
            return;
        }
        self.with(number, |world, agent| {
            let Some(at) = agent.waiting.iter().position(|waiting| waiting.which == which) else {
                return;
            };
            let mut waiting = agent.waiting.remove(at);
            agent.tenants.go_alone();
            agent
                .tenants
                .place(&waiting.batch, &waiting.embeddings, &mut waiting.committed);
            world.note(&waiting.committed, &waiting.records);
        });
    }

    fn tick(&mut self, number: usize, life: u64) {
        if !self.lives(number, life) {
            return;
        }
        let away = self.away_until(number);
        let end = self.log.len();
        self.with(number, |world, agent| {
            agent.tenants.pass(world.now);
            agent.tick_due = true;
            match away {
                Some(_) => {
                    let since = *agent.away_since.get_or_insert(world.now);
                    if world.now - since >= 5 * SECOND {
                        agent.tenants.go_alone();
                    }
                }
                None => {
                    agent.away_since = None;
                    if agent.next == end {
                        agent.tenants.caught_up();
                        if agent.tenants.is_speaker() && world.now >= agent.written_at + 30 * SECOND {
                            agent.written_at = world.now;
                            if let Some((folded, written)) = agent.tenants.write_down() {
                                world.written = Some((folded as usize, written));
                            }
                        }
                    }
                }
            }
        });
        if self.now < self.end {
            self.at(self.now + SECOND, Happens::Tick(number, life));
        }
    }

    fn land(&mut self, number: usize, life: u64) {
        if let Some(until) = self.away_until(number) {
            let lasts = self.lasts(100);
            self.at(until + lasts, Happens::Landing(number, life));
            return;
        }
        if !self.lives(number, life) {
            return; // what was under way is lost with it
        }
        let calm = self.plan.calm;
        if !calm && self.random.u8(..30) == 0 {
            self.at(self.now + AGAIN_AFTER, Happens::Landing(number, life));
            return;
        }
        let Some(body) = self.agents[&number].queue.front().cloned() else {
            return;
        };
        self.log.push(Logged { time: self.now, body });
        let last = self.log.len() - 1;
        let readers: Vec<usize> = self.agents.keys().copied().collect();
        for reader in readers {
            let lasts = self.lasts(self.agents[&reader].read_ms);
            let at = self.agents[&reader].read_at.max(self.now + lasts);
            if let Some(reader) = self.agents.get_mut(&reader) {
                reader.read_at = at;
            }
            let life = self.agents[&reader].life;
            self.at(at, Happens::Read(reader, life, last));
        }
        if !calm && self.random.u8(..30) == 0 {
            // It is in the log, but nobody said so.
            self.at(self.now + AGAIN_AFTER, Happens::Landing(number, life));
            return;
        }
        self.with(number, |world, agent| {
            agent.queue.pop_front();
            if !agent.queue.is_empty() {
                let lasts = world.lasts(agent.append_ms);
                world.at(world.now + lasts, Happens::Landing(number, life));
            }
        });
    }

    fn read(&mut self, number: usize, life: u64, until: usize) {
        if !self.lives(number, life) {
            return;
        }
        if let Some(back) = self.away_until(number) {
            let lasts = self.lasts(100);
            self.at(back + lasts, Happens::Read(number, life, until));
            return;
        }
        while self.agents[&number].next <= until {
            self.with(number, |world, agent| {
                let Logged { time, body } = &world.log[agent.next];
                world.aliases += agent.tenants.fold(agent.next as u64, *time, body).unwrap_or_default();
                agent.next += 1;
            });
        }
    }

    /// Somebody says to an agent that an incident is none.
    fn dismiss(&mut self, number: usize) {
        self.with(number, |world, agent| {
            let open = agent
                .tenants
                .of(&Tenant::default())
                .map(|state| state.incidents())
                .unwrap_or_default();
            if let Some(incident) = open.get(world.random.usize(..open.len().max(1))) {
                agent.tenants.dismiss(&Tenant::default(), incident.id);
            }
        });
    }

    /// An agent's model says what a template means.
    fn supply(&mut self, number: usize, template: usize) {
        self.with(number, |world, agent| {
            let template = &world.stream.templates[template];
            let known = BatchTemplate {
                key: template.key,
                text: Arc::clone(&template.text),
                records: 0,
            };
            agent.tenants.supply(&known, &template.embedding);
        });
    }

    /// Every id that was given.
    pub fn ids(&self) -> BTreeSet<IncidentId> {
        self.given.iter().map(|(_, id)| *id).collect()
    }
}

/// A request of these records, read.
fn read(records: &[&Record], hash: u128, arrival: u64, stream: &Stream) -> (Batch, Vec<Option<Embedding>>) {
    let mut batch = Batch {
        request_hash: hash,
        arrival_unix_nano: arrival,
        tenants: vec![Tenant::default()],
        ..Batch::default()
    };
    let mut embeddings = Vec::new();
    for record in records {
        let (name, template) = (&stream.services[record.service], &stream.templates[record.template]);
        let service = batch
            .services
            .iter()
            .position(|it| it.name == *name)
            .unwrap_or_else(|| {
                let name = Arc::clone(name);
                batch.services.push(BatchService { tenant: 0, name });
                batch.services.len() - 1
            });
        let at = batch
            .templates
            .iter()
            .position(|it| it.key == template.key)
            .unwrap_or_else(|| {
                batch.templates.push(BatchTemplate {
                    key: template.key,
                    text: Arc::clone(&template.text),
                    records: 0,
                });
                embeddings.push((template.unknown_until <= arrival).then(|| template.embedding.clone()));
                batch.templates.len() - 1
            });
        batch.templates[at].records += 1;
        let first = batch.ids.len() as u32;
        batch.ids.extend(&record.ids);
        batch.records.push(Observation {
            time_unix_nano: record.time,
            service: service as u32,
            treatment: Treatment::Judge { template: at as u32 },
            severity_number: 17,
            ids: (first, record.ids.len() as u8),
            delay_nano: 0,
        });
    }
    (batch, embeddings)
}
