//! What shared incidents cost: bytes of what is told, time of folding it. Nothing is asserted: run it with `--ignored --nocapture`.

use std::time::Duration;

use harbinger::engine::{
    self,
    cluster::{Entry, Section},
    correlate::{Direction, Report, Run},
    embed::{DIMENSIONS, Embedding},
    tenant::Tenant,
    tenants::Tenants,
};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use super::world::{MILLI, SECOND};

const START: u64 = 1_763_800_000 * SECOND;
const LATENESS: u64 = 120 * SECOND;

/// What this thread has had of a core.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn run(random: &mut fastrand::Rng, fault: u64, kind: u64, time: u64, is_known: bool) -> Run {
    let mut of_kind = fastrand::Rng::with_seed(fault * 100 + kind);
    let embedding = Embedding::new((0..DIMENSIONS).map(|_| of_kind.f32() - 0.5).collect()).unwrap();
    let said = |text: &str| if is_known { String::new() } else { text.to_owned() };
    Run {
        template: of_kind.u64(..),
        service: format!("service-{:03}", fault % 200),
        text: said(&"x".repeat(100)),
        embedding: (!is_known).then(|| Direction::from(&embedding)),
        first_time_unix_nano: time,
        last_time_unix_nano: time,
        records: 3,
        severity_number: 17,
        grave_time_unix_nano: time,
        ids: vec![random.u64(..), random.u64(..)],
        reason: said(&"y".repeat(60)),
    }
}

/// Entries, numbered as their agents would.
struct Log {
    tenants: Tenants,
    offset: u64,
    numbers: Vec<u64>,
}

impl Log {
    fn new(agents: usize) -> Self {
        Self::with(agents, &engine::Settings::default())
    }

    fn with(agents: usize, settings: &engine::Settings) -> Self {
        let mut tenants = settings.tenants();
        tenants.join("one", 1);
        Self {
            tenants,
            offset: 0,
            numbers: vec![0; agents],
        }
    }

    fn entry(&mut self, agent: usize, now: u64, runs: Vec<Run>) -> Vec<u8> {
        self.numbers[agent] += 1;
        let report = Report {
            runs,
            watermark_unix_nano: Some(now.saturating_sub(LATENESS)),
            ..Report::default()
        };
        let section = Section::new(&Tenant::default(), report, 1_000_000);
        Entry::new(&format!("agent-{agent:03}"), START, self.numbers[agent], vec![section]).encode_to_vec()
    }

    fn fold(&mut self, agent: usize, now: u64, runs: Vec<Run>) -> Duration {
        let entry = self.entry(agent, now, runs);
        self.offset += 1;
        let begun = cpu();
        self.tenants.fold(self.offset, now, &entry);
        let took = cpu() - begun;
        self.tenants.drain_events();
        self.tenants.drain_changes();
        took
    }
}

#[test]
#[ignore = "measures"]
fn bytes() {
    let mut random = fastrand::Rng::with_seed(1);
    let (new, known) = (
        run(&mut random, 1, 1, START, false),
        run(&mut random, 1, 1, START, true),
    );
    let mut log = Log::new(1);
    eprintln!(
        "run, new: {} bytes; run of a known episode: {}",
        new.encoded_len(),
        known.encoded_len()
    );
    eprintln!("entry with a new run: {} bytes", log.entry(0, START, vec![new]).len());
    eprintln!(
        "entry with a known run: {} bytes",
        log.entry(0, START, vec![known]).len()
    );
    eprintln!(
        "entry that only tells of presence: {} bytes",
        log.entry(0, START, Vec::new()).len()
    );
}

/// Runs begin at a rate, each an episode of its own, of the last three faults; a fault begins every ten seconds.
#[test]
#[ignore = "measures"]
fn folding() {
    for (agents, rate) in [(10, 1), (10, 10), (100, 1), (100, 10), (100, 40)] {
        for late in [0, 200] {
            let (mut random, mut log) = (fastrand::Rng::with_seed(2), Log::new(agents));
            let (warm, timed) = (200, if late > 0 && rate > 1 { 4 } else { 20 });
            let mut runs: Vec<(u64, u64)> = (0..(warm + timed) * rate)
                .map(|n| {
                    let time = START + n * SECOND / rate;
                    let delay = if n < warm * rate { 0 } else { random.u64(0..=late) };
                    (time + delay * MILLI, time)
                })
                .collect();
            runs.sort_unstable();
            let (mut folding, mut folded, mut present, mut told) = (Duration::ZERO, 0u32, Duration::ZERO, 0u32);
            let mut second = 0;
            for (n, (now, time)) in runs.into_iter().enumerate() {
                let is_timed = now >= START + warm * SECOND;
                while now >= START + second * SECOND {
                    for agent in 0..agents {
                        let took = log.fold(agent, START + second * SECOND, Vec::new());
                        if is_timed {
                            (present, told) = (present + took, told + 1);
                        }
                    }
                    second += 1;
                }
                let fault = ((time - START) / (10 * SECOND)).saturating_sub(random.u64(0..3));
                let kind = random.u64(0..8);
                let run = run(&mut random, fault, kind, time, false);
                let took = log.fold(n % agents, now, vec![run]);
                if is_timed {
                    (folding, folded) = (folding + took, folded + 1);
                }
            }
            let each = folding / folded.max(1);
            eprintln!(
                "{agents} agents, {rate} runs/s, up to {late} ms late: {each:?} a run, {:?} a presence: a core is full at {:.0} runs/s",
                present / told.max(1),
                1.0 / each.as_secs_f64()
            );
        }
    }
}

#[test]
#[ignore = "measures"]
fn joining() {
    // So that a hundred are open at a time: they stay open for long.
    let mut settings = engine::Settings::default();
    settings.correlate.window = Duration::from_secs(7200);
    settings.correlate.max_life = Duration::from_secs(7200);
    let (mut random, mut log) = (fastrand::Rng::with_seed(3), Log::with(10, &settings));
    for n in 0..1000u64 {
        let time = START + n / 10 * 60 * SECOND + n % 10 * 90 * MILLI;
        let run = run(&mut random, n / 10, n % 5, time, false);
        log.fold(n as usize % 10, time, vec![run]);
    }
    let begun = cpu();
    let (_, written) = log.tenants.write_down().unwrap();
    let writing = cpu() - begun;
    let mut later = Log::with(1, &settings);
    let begun = cpu();
    later.tenants.adopt(&written).unwrap();
    let adopting = cpu() - begun;
    later.tenants.caught_up();
    let open = later.tenants.of(&Tenant::default()).unwrap().incidents().len();
    eprintln!(
        "{open} open incidents, {} bytes, written in {writing:?}, adopted in {adopting:?}",
        written.len()
    );
}
