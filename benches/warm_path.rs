//! The path of records whose templates are known, for whoever counts its instructions (`instructions.py`).
//!
//! In: `learn FOLDER`, which learns the recording and leaves there what was learned and the requests to come, or `pass FOLDER
//! NAME`, which goes on from it with the requests of that name. Out: files; how many records were measured.
//! Promise: what is measured happens in [`measured`], and nothing else does. Absent on purpose: a clock.

use std::{
    env, fs,
    io::{self, Write},
    ops::Range,
    path::Path,
};

use anyhow::{Result, bail};
use harbinger::engine::Settings;
use inputs::{Agent, Recording};
use prost::Message;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where in the recording nothing is broken, and where the second third of the records tells of a fault.
const HEALTHY: Range<usize> = 2_000..6_000;
const FAULT: Range<usize> = 6_900..8_900;

/// Names of what is measured, the records of each, and how many make a request.
const SCENARIOS: [(&str, Range<usize>, usize); 4] = [
    ("healthy-1000", HEALTHY, 1000),
    ("healthy-10", HEALTHY, 10),
    ("healthy-1", HEALTHY, 1),
    ("fault-1000", FAULT, 1000),
];

/// The file of what was learned.
const STATE: &str = "state";

/// The recording is heard again so much later.
const AGAIN_NANO: u64 = 7200 * 1_000_000_000;

/// Records that come before those that are measured.
const BEFORE: usize = 2_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["learn", folder] => learn(Path::new(folder)),
        ["pass", folder, name] => pass(Path::new(folder), name),
        _ => bail!("usage: warm_path learn FOLDER | pass FOLDER NAME"),
    }
}

fn learn(folder: &Path) -> Result<()> {
    let recording = Recording::read()?;
    let mut agent = Agent::new(&Settings::default())?;
    agent.learn(&recording.requests(0..recording.len(), 1000, 0))?;
    fs::write(folder.join(STATE), agent.save())?;
    for (name, range, size) in SCENARIOS {
        let before = recording.requests(range.start - BEFORE..range.start, 1000, AGAIN_NANO);
        let measured = recording.requests(range, size, AGAIN_NANO);
        let requests = Requests { before, measured };
        fs::write(folder.join(name), requests.encode_to_vec())?;
    }
    Ok(())
}

fn pass(folder: &Path, name: &str) -> Result<()> {
    let requests = Requests::decode(fs::read(folder.join(name))?.as_slice())?;
    let mut agent = Agent::restore(&Settings::default(), &fs::read(folder.join(STATE))?)?;
    // No training, which would take most of the time; the verdicts are those of a judge that was trained.
    for request in &requests.before {
        agent.pass(request)?;
    }
    let (records, anomalous) = measured(&mut agent, &requests.measured)?;
    Ok(writeln!(
        io::stdout(),
        "{records} records, {anomalous} of them anomalous"
    )?)
}

/// What an agent gets, as a file.
#[derive(Clone, PartialEq, Message)]
struct Requests {
    #[prost(bytes = "vec", repeated, tag = "1")]
    before: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    measured: Vec<Vec<u8>>,
}

/// All that counts. How many records there were, and how many of them were anomalous.
#[inline(never)]
fn measured(agent: &mut Agent, requests: &[Vec<u8>]) -> Result<(usize, usize)> {
    let (mut records, mut anomalous) = (0, 0);
    for request in requests {
        let verdict = agent.pass(request)?;
        records += verdict.batch.records.len();
        anomalous += verdict.committed.verdicts.anomalies.len();
    }
    Ok((records, anomalous))
}
