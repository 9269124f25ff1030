//! Agents that each see a part of a stream and share what they know judge as one that sees the whole of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use harbinger::engine::{
    score::{Anomaly, Committee, Phase, Scorer, Settings},
    text::TemplateKey,
};

use super::words::{Words, embedding};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// A record: its text, its service, its severity and its time.
#[derive(Clone)]
struct Line {
    text: String,
    service: Arc<str>,
    severity: i32,
    time: u64,
}

/// Twenty usual texts in two services, four a second; now and then something new and harmless, and every 500 records a fault: rare
/// lines that speak of failure, for ten seconds.
fn stream(records: u64) -> Vec<Line> {
    let services: [Arc<str>; 2] = [Arc::from("shop"), Arc::from("bank")];
    let mut rng = fastrand::Rng::with_seed(7);
    let mut news = 0;
    let line = |n: u64| {
        let at = n % 500;
        let service = &services[rng.usize(..2)];
        let in_fault = n > 1000 && at < 40;
        let (text, severity) = if in_fault && rng.u8(..4) == 0 {
            let fault = n / 500;
            let part = rng.u8(..4);
            (format!("Segmentation fault, core dumped. fault{fault} part{part}"), 17)
        } else if rng.u8(..100) == 0 {
            news += 1;
            (format!("shelf{news} moved{news} to place{news}"), 9)
        } else {
            let usual = rng.u32(..20);
            (format!("item{usual} stored in shelf{usual} by hand{usual}"), 9)
        };
        Line {
            text,
            service: Arc::clone(service),
            severity,
            time: START + n * SECOND / 4,
        }
    };
    (0..records).map(line).collect()
}

fn agent(name: u64) -> Scorer {
    let mut scorer = Scorer::new(Settings::default());
    scorer.appoint(Committee::embed(&Words).unwrap());
    if name > 0 {
        scorer.share(name, true);
    }
    scorer
}

fn say(scorer: &mut Scorer, line: &Line) -> Option<Arc<Anomaly>> {
    let key = TemplateKey::of(&line.text);
    scorer.observe(
        key,
        || Arc::from(line.text.as_str()),
        Some(&embedding(&line.text)),
        1,
        line.time,
    );
    let id = scorer.service(&line.service);
    let mut seat = scorer.seat(key);
    scorer.mark(seat.as_mut(), id, line.severity, line.time)
}

fn fit(scorer: &mut Scorer) {
    if let Some(job) = scorer.take_fit() {
        scorer.install(job.run());
    }
}

/// What was told last of each thing, as a memory keeps it, and what is read of it by all: until nobody has anything to tell.
fn exchange(agents: &mut [Scorer]) -> usize {
    let mut told = 0;
    let all: u64 = agents.iter().map(Scorer::records).sum();
    for (place, agent) in agents.iter_mut().enumerate() {
        let others = all - agent.records();
        agent.set_elsewhere(others, place == 0);
    }
    for round in 0.. {
        assert!(round < 10, "agents tell each other the same again and again");
        let facts: Vec<_> = agents
            .iter_mut()
            .flat_map(|agent| agent.drain_knowledge(usize::MAX))
            .collect();
        if facts.is_empty() {
            break;
        }
        told += facts.len();
        for agent in agents.iter_mut() {
            for fact in &facts {
                agent.hear(fact.clone());
            }
        }
    }
    told
}

/// What was marked: how many records, and which texts in which services.
#[derive(Debug, Default, PartialEq)]
struct Marked {
    records: usize,
    texts: BTreeSet<(String, Arc<str>)>,
    by_text: BTreeMap<String, usize>,
}

impl Marked {
    fn take(&mut self, line: &Line, anomaly: Option<Arc<Anomaly>>) {
        if anomaly.is_some() {
            self.records += 1;
            self.texts.insert((line.text.clone(), Arc::clone(&line.service)));
            *self.by_text.entry(line.text.clone()).or_default() += 1;
        }
    }
}

fn as_one(lines: &[Line]) -> Marked {
    let (mut scorer, mut marked) = (agent(0), Marked::default());
    for line in lines {
        let anomaly = say(&mut scorer, line);
        marked.take(line, anomaly);
        fit(&mut scorer);
    }
    marked
}

/// The same stream dealt to so many agents, which tell each other after every `every` records.
fn as_many(lines: &[Line], count: usize, every: usize) -> (Marked, Vec<Scorer>, usize) {
    let mut agents: Vec<Scorer> = (1..=count as u64).map(agent).collect();
    let (mut marked, mut told) = (Marked::default(), 0);
    for (n, line) in lines.iter().enumerate() {
        let scorer = &mut agents[n % count];
        let anomaly = say(scorer, line);
        marked.take(line, anomaly);
        fit(scorer);
        if n % every == every - 1 {
            told += exchange(&mut agents);
        }
    }
    (marked, agents, told)
}

#[test]
fn three_agents_on_thirds_judge_as_one_on_the_whole() {
    let lines = stream(6000);
    let whole = as_one(&lines);
    let (thirds, agents, told) = as_many(&lines, 3, 4);
    let races: u64 = agents.iter().map(|agent| agent.tally().first_sight_races).sum();
    let missed: Vec<_> = whole.texts.difference(&thirds.texts).collect();
    let more: Vec<_> = thirds.texts.difference(&whole.texts).collect();
    eprintln!(
        "whole {} thirds {} missed {missed:?} more {more:?} told {told} races {races}",
        whole.records, thirds.records
    );
    assert!(agents.iter().all(|agent| matches!(agent.phase(), Phase::Ready { .. })));
    let generations: BTreeSet<String> = agents.iter().map(|agent| format!("{:?}", agent.phase())).collect();
    assert_eq!(generations.len(), 1, "all judge by the same training");
}

/// What a new agent has heard is all it needs.
#[test]
fn a_new_agent_starts_warm() {
    let lines = stream(4000);
    let (before, after) = lines.split_at(3100);
    let mut old = agent(1);
    old.set_elsewhere(0, true);
    for line in before {
        say(&mut old, line);
        fit(&mut old);
    }
    let mut new = agent(2);
    let facts = old.drain_knowledge(usize::MAX);
    let mut embeddings = 0;
    // In any order.
    for fact in facts.into_iter().rev() {
        embeddings += usize::from(new.hear(fact).embedding.is_some());
    }
    new.set_elsewhere(old.records(), false);
    assert_eq!(embeddings as u64, old.tally().templates);
    assert_eq!(new.phase(), old.phase());
    let (mut by_old, mut by_new) = (Vec::new(), Vec::new());
    for line in after {
        by_old.push(say(&mut old, line).is_some());
        by_new.push(say(&mut new, line).is_some());
    }
    let differ = by_old.iter().zip(&by_new).filter(|(one, other)| one != other).count();
    eprintln!(
        "{differ} of {} differ, {} anomalous",
        after.len(),
        by_old.iter().filter(|it| **it).count()
    );
    assert!(by_old.iter().any(|it| *it));
}
