//! What a record costs the serial half, by how much is remembered: live templates, records in the window, open incidents.
//!
//! In: nothing; the streams are made here, all of one service. Out: tables of nanoseconds of processor time a record, and of bytes a
//! template. Promise: all but the times repeat. Absent on purpose: reading and writing of bytes, which know no state.

use std::{
    fs,
    io::{self, Write},
    sync::Arc,
};

use anyhow::{Context, Result};
use harbinger::engine::{
    Settings,
    correlate::{Correlator, Node},
    embed::{DIMENSIONS, Embedding},
    front::{Batch, BatchService, BatchTemplate, Observation, Treatment},
    tenant::Tenant,
    tenants::Tenants,
    text::TemplateKey,
};
use rustix::time::{ClockId, clock_gettime};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECOND_NANO: u64 = 1_000_000_000;
/// When the streams begin.
const BEGIN_NANO: u64 = 1_700_000_040 * SECOND_NANO;
/// Records of a request.
const BATCH: usize = 1000;
/// Requests a figure is of.
const MEASURED: usize = 100;

fn main() -> Result<()> {
    live_templates()?;
    records_in_the_window()?;
    open_incidents()
}

/// Known templates, all equally often or a few of them mostly; and one new one in a hundred records.
fn live_templates() -> Result<()> {
    say("live templates     ns a record: all equally often   a few mostly   1 % new     bytes a template")?;
    for live in [10, 100, 1_000, 10_000, 100_000] {
        let before = resident_bytes()?;
        let mut stream = Stream::new(live)?;
        let bytes = resident_bytes()? - before;
        let bytes = if live < 1_000 {
            String::new()
        } else {
            (bytes / live as i64).to_string()
        };
        let equally = stream.cost(MEASURED, |rng| rng.usize(..live));
        let mostly = stream.cost(MEASURED, |rng| (live as f64).powf(rng.f64()) as usize - 1);
        let mut next = live;
        let new = stream.cost(MEASURED, |rng| {
            if rng.usize(..100) == 0 {
                next += 1;
                next
            } else {
                (live as f64).powf(rng.f64()) as usize - 1
            }
        });
        say(&format!(
            "{live:>14} {equally:>42.0} {mostly:>14.0} {new:>9.0} {bytes:>20}"
        ))?;
    }
    Ok(())
}

/// A thousand known templates, ever more densely.
fn records_in_the_window() -> Result<()> {
    let window_nano = Settings::default().correlate.window.as_nanos() as u64;
    say("\nrecords within the window     ns a record")?;
    for records in [1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        let mut stream = Stream::new(1_000)?;
        stream.step_nano = window_nano / records;
        let mostly = |rng: &mut fastrand::Rng| 1000f64.powf(rng.f64()) as usize - 1;
        stream.cost(records as usize / BATCH, mostly);
        let cost = stream.cost(MEASURED.min(records as usize / BATCH).max(10), mostly);
        say(&format!("{records:>25} {cost:>15.0}"))?;
    }
    Ok(())
}

/// Incidents of three templates each, apart from each other in meaning, service and time.
fn open_incidents() -> Result<()> {
    say("\nopen incidents     ns a record: normal     of an episode     beginning one")?;
    for incidents in [1, 10, 100, 250, 1_000] {
        let mut settings = Settings::default().correlate;
        settings.max_open_incidents = 1 << 20;
        settings.window = std::time::Duration::from_secs(1 << 20);
        settings.max_life = settings.window;
        let mut correlator = Correlator::new(settings);
        let mut now = BEGIN_NANO;
        let mut at = 0;
        while correlator.open_incidents() < incidents && at < 50 * incidents as u64 {
            now += 40 * SECOND_NANO;
            for part in 0..3 {
                correlator.observe(&node(
                    3 * at + part,
                    &format!("service {at}"),
                    now,
                    true,
                    &direction(3 * at + part),
                ));
            }
            at += 1;
        }
        let (mut events, mut changes) = (Vec::new(), Vec::new());
        let mut measure = |anomalous: bool, fresh: bool, rounds: usize| {
            let mut spent = 0;
            for round in 0..rounds as u64 {
                now += if fresh { 2 * SECOND_NANO } else { SECOND_NANO / 1000 };
                let keys: Vec<u64> = (0..10).map(|key| (round * 7 + key) % (3 * at)).collect();
                let directions: Vec<Embedding> = keys.iter().map(|key| direction(*key)).collect();
                let services: Vec<String> = keys.iter().map(|key| format!("service {}", key / 3)).collect();
                let of_key = keys.iter().zip(&services).zip(&directions);
                let nodes: Vec<Node<'_>> = of_key
                    .map(|((key, service), direction)| node(*key, service, now, anomalous, direction))
                    .collect();
                let began = cpu_nano();
                correlator.observe_all(&nodes);
                spent += cpu_nano() - began;
                correlator.drain(&mut events);
                correlator.drain_changes(&mut changes);
                events.clear();
                changes.clear();
            }
            spent as f64 / (10 * rounds) as f64
        };
        let beginning = measure(true, true, 100);
        let going_on = measure(true, false, 300);
        let normal = measure(false, false, 1000);
        say(&format!(
            "{incidents:>14} {normal:>24.0} {going_on:>17.0} {beginning:>17.0}"
        ))?;
    }
    Ok(())
}

/// A judged stream.
struct Stream {
    tenants: Tenants,
    service: Arc<str>,
    embeddings: Vec<Embedding>,
    rng: fastrand::Rng,
    now_unix_nano: u64,
    step_nano: u64,
    requests: u128,
}

impl Stream {
    /// It has said so many templates, and each of them once more since there is a judge.
    fn new(templates: usize) -> Result<Self> {
        let mut settings = Settings::default();
        settings.score.max_templates = 200_000;
        let mut stream = Self {
            tenants: settings.tenants(),
            service: Arc::from("shop"),
            embeddings: Vec::new(),
            rng: fastrand::Rng::with_seed(1),
            now_unix_nano: BEGIN_NANO,
            step_nano: SECOND_NANO / 1000,
            requests: 0,
        };
        // Until no training is due: then all have been seen by the judge that stays.
        let mut is_settled = false;
        while !is_settled {
            // After so much silence every one of them begins an episode.
            stream.now_unix_nano += 61 * SECOND_NANO;
            for first in (0..templates.max(BATCH)).step_by(BATCH) {
                let said: Vec<usize> = (first..first + BATCH).map(|at| at % templates).collect();
                let (batch, embeddings) = stream.batch(&said);
                stream.tenants.commit(&batch, &embeddings);
            }
            is_settled = match stream.tenants.take_fit() {
                Some((tenant, job)) => {
                    stream.tenants.install(&tenant, job.run());
                    false
                }
                None => true,
            };
        }
        Ok(stream)
    }

    /// Nanoseconds a record, over so many requests of templates that are picked.
    fn cost(&mut self, requests: usize, mut pick: impl FnMut(&mut fastrand::Rng) -> usize) -> f64 {
        let mut costs = Vec::with_capacity(requests);
        for _ in 0..requests {
            let said: Vec<usize> = (0..BATCH).map(|_| pick(&mut self.rng)).collect();
            let (batch, embeddings) = self.batch(&said);
            let began = cpu_nano();
            self.tenants.commit(&batch, &embeddings);
            self.tenants.drain_events();
            self.tenants.drain_changes();
            self.tenants.drain_notes();
            self.tenants.take_fit();
            costs.push((cpu_nano() - began) as f64 / BATCH as f64);
        }
        costs.iter().sum::<f64>() / costs.len().max(1) as f64
    }

    fn batch(&mut self, said: &[usize]) -> (Batch, Vec<Option<Embedding>>) {
        let mut distinct: Vec<usize> = said.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        while self.embeddings.len() <= distinct.last().copied().unwrap_or_default() {
            self.embeddings.push(direction(self.embeddings.len() as u64));
        }
        let place = |template: &usize| distinct.binary_search(template).unwrap_or_default() as u32;
        let mut records = vec![0; distinct.len()];
        let observations = said.iter().map(|template| {
            self.now_unix_nano += self.step_nano;
            records[place(template) as usize] += 1;
            Observation {
                time_unix_nano: self.now_unix_nano,
                service: 0,
                treatment: Treatment::Judge {
                    template: place(template),
                },
                severity_number: 9,
                ids: (0, 0),
                delay_nano: 0,
            }
        });
        let observations = observations.collect();
        self.requests += 1;
        let batch = Batch {
            request_hash: self.requests,
            arrival_unix_nano: self.now_unix_nano,
            tenants: vec![Tenant::default()],
            services: vec![BatchService {
                tenant: 0,
                name: Arc::clone(&self.service),
            }],
            templates: (distinct.iter().zip(&records))
                .map(|(template, records)| BatchTemplate {
                    key: key(*template as u64),
                    text: Arc::from(format!("template number {template}")),
                    records: *records,
                })
                .collect(),
            records: observations,
            ..Batch::default()
        };
        let embeddings = distinct.iter().map(|template| self.embeddings.get(*template).cloned());
        let embeddings = embeddings.collect();
        (batch, embeddings)
    }
}

fn node<'n>(number: u64, service: &'n str, time_unix_nano: u64, anomalous: bool, direction: &'n Embedding) -> Node<'n> {
    Node {
        time_unix_nano,
        service,
        template: key(number),
        text: "a template",
        embedding: Some(direction),
        anomalous,
        severity_number: 9,
        ids: &[],
        delayed: false,
        reason: "",
    }
}

fn key(number: u64) -> TemplateKey {
    TemplateKey::of(&number.to_string())
}

/// A direction of its own for every number.
fn direction(number: u64) -> Embedding {
    let mut rng = fastrand::Rng::with_seed(number);
    let values = (0..DIMENSIONS).map(|_| rng.f32() - 0.5);
    Embedding::new(values.collect()).unwrap_or_else(|_| inputs::embedding("none"))
}

fn cpu_nano() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * SECOND_NANO + time.tv_nsec as u64
}

fn resident_bytes() -> Result<i64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim_end_matches("kB").trim().parse::<i64>()? * 1024)
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
