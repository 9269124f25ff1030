//! A stream with faults in it, made up.
//!
//! In: a seed. Out: records in order of time, what their templates mean, and the opinion that makes those of faults anomalous without any
//! training. Promises: no two records have one time; embeddings are as they are after a report has carried them. Absent on purpose: agents.

use std::sync::Arc;

use harbinger::engine::{
    self,
    correlate::{Correlator, Direction, IncidentId, Node, Settings},
    embed::{DIMENSIONS, Embedding},
    feedback::{Book, Feedback, Opinion, Subject},
    tenant::Tenant,
    tenants::Tenants,
    text::TemplateKey,
};

use super::world::{MILLI, SECOND};

const START: u64 = 1_763_800_000 * SECOND;
/// Templates that are said where all is well.
const USUAL: usize = 8;

/// What is said.
pub struct Template {
    pub key: TemplateKey,
    pub text: Arc<str>,
    pub embedding: Embedding,
    /// Until then nobody knows what it means.
    pub unknown_until: u64,
}

/// When, and of what.
#[derive(Clone, Debug)]
pub struct Record {
    pub time: u64,
    pub service: usize,
    pub template: usize,
    pub ids: Vec<u64>,
    pub fault: Option<usize>,
}

/// See the module.
pub struct Stream {
    pub begin: u64,
    pub end: u64,
    pub services: Vec<Arc<str>>,
    pub templates: Vec<Template>,
    pub records: Vec<Record>,
}

impl Stream {
    pub fn new(random: &mut fastrand::Rng, seconds: u64) -> Self {
        let services = (0..6).map(|n| Arc::from(format!("service-{n}"))).collect();
        let mut templates: Vec<Template> = (0..USUAL).map(|n| template(random, n, None)).collect();
        let mut records = Vec::new();
        for fault in 0..random.usize(2..7) {
            let about = direction(random, None);
            let first = templates.len();
            let kinds = random.usize(2..6);
            templates.extend((0..kinds).map(|n| template(random, first + n, Some(&about))));
            let mut of: Vec<usize> = (first..first + kinds).collect();
            if fault > 0 && random.u8(..3) == 0 {
                of.push(USUAL); // what the first fault said too
            }
            let among: Vec<usize> = (0..random.usize(1..4)).map(|_| random.usize(..6)).collect();
            let ids: Vec<u64> = (0..3).map(|_| random.u64(1 << 40..)).collect();
            let mut time = START + random.u64(0..seconds * 1000 - 60_000) * MILLI;
            for _ in 0..random.usize(5..50) {
                time += match random.u8(..4) {
                    0 => random.u64(0..6 * SECOND),
                    _ => random.u64(0..900 * MILLI),
                };
                let ids = ids.iter().copied().filter(|_| random.u8(..6) == 0).collect();
                records.push(Record {
                    time,
                    service: among[some(random, among.len())],
                    template: of[some(random, of.len())],
                    ids,
                    fault: Some(fault),
                });
            }
        }
        for _ in 0..seconds {
            records.push(Record {
                time: START + random.u64(0..seconds * SECOND),
                service: random.usize(..6),
                template: random.usize(..USUAL),
                ids: vec![random.u64(1..)],
                fault: None,
            });
        }
        records.sort_by_key(|record| record.time);
        records.dedup_by_key(|record| record.time);
        let last = records.last().map_or(START, |record| record.time);
        Self {
            begin: START,
            end: last.max(START + seconds * SECOND),
            services,
            templates,
            records,
        }
    }

    /// The incidents that one correlator gives, which reads everything in order of time.
    pub fn alone(&self) -> Vec<Option<IncidentId>> {
        let mut correlator = Correlator::new(Settings::default());
        let of = |record: &Record, correlator: &mut Correlator| {
            let template = &self.templates[record.template];
            correlator.observe(&Node {
                time_unix_nano: record.time,
                service: &self.services[record.service],
                template: template.key,
                text: &template.text,
                embedding: Some(&template.embedding),
                anomalous: true,
                severity_number: 17,
                ids: &record.ids,
                delayed: false,
                reason: "",
            })
        };
        let given: Vec<_> = (self.records.iter())
            .map(|record| record.fault.and_then(|_| of(record, &mut correlator)))
            .collect();
        given.into_iter().map(|id| Some(correlator.resolve(id?))).collect()
    }
}

/// One of so many: half of the time the first.
fn some(random: &mut fastrand::Rng, count: usize) -> usize {
    if random.bool() { 0 } else { random.usize(..count) }
}

fn direction(random: &mut fastrand::Rng, near: Option<&[f32]>) -> Vec<f32> {
    let mut one = || random.f32() - 0.5;
    match near {
        None => (0..DIMENSIONS).map(|_| one()).collect(),
        Some(near) => near.iter().map(|value| value + 0.9 * one()).collect(),
    }
}

fn template(random: &mut fastrand::Rng, number: usize, near: Option<&[f32]>) -> Template {
    let embedding = Embedding::new(direction(random, near)).unwrap();
    Template {
        key: TemplateKey(number as u64 * 7919 + 1),
        text: Arc::from(format!(
            "sentence {number} of about as many letters as such sentences have, on the whole, in many a system"
        )),
        embedding: Direction::from(&embedding).embedding().unwrap(),
        unknown_until: 0,
    }
}

/// An agent's state, to which only what faults say is anomalous.
pub fn tenants(stream: &Stream) -> Tenants {
    let mut tenants = engine::Settings::default().tenants();
    let mut book = Book::default();
    for template in stream.templates.iter().skip(USUAL) {
        let meant = [(template.key, template.text.to_string())];
        let feedback = Feedback {
            subject: Subject::Template(template.key),
            service: None,
            opinion: Opinion::Real,
            comment: String::new(),
            author: String::new(),
        };
        book.enter(&Tenant::default(), &meant, &feedback, 1).unwrap();
    }
    tenants.hold(book);
    tenants
}
