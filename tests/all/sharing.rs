//! Agents that each see a part of a stream and share what they know judge as one that sees the whole of it.

use std::{collections::BTreeSet, sync::Arc};

use harbinger::engine::{
    self,
    feedback::{Book, Feedback, Opinion, Subject},
    score::{Anomaly, Committee, Fact, Phase, Scorer, Settings},
    tenant::Tenant,
    tenants::Tenants,
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
}

impl Marked {
    fn take(&mut self, line: &Line, anomaly: Option<Arc<Anomaly>>) {
        if anomaly.is_some() {
            self.records += 1;
            self.texts.insert((line.text.clone(), Arc::clone(&line.service)));
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

/// Within what one record more or less of an exchange can make: the same texts are marked, and nearly as many records.
#[test]
fn three_agents_on_thirds_judge_as_one_on_the_whole() {
    let lines = stream(3000);
    let whole = as_one(&lines);
    let (thirds, agents, told) = as_many(&lines, 3, 4);
    assert!(whole.texts.len() >= 8, "{whole:?}");
    assert_eq!(whole.texts, thirds.texts);
    assert!(
        whole.records.abs_diff(thirds.records) * 20 <= whole.records,
        "{whole:?} {thirds:?}"
    );
    assert!(agents.iter().all(|agent| matches!(agent.phase(), Phase::Ready { .. })));
    let phases: BTreeSet<String> = agents.iter().map(|agent| format!("{:?}", agent.phase())).collect();
    assert_eq!(phases.len(), 1, "all judge by the same training: {phases:?}");
    assert!(told < lines.len() * 2, "{told} facts");
    let races: u64 = agents.iter().map(|agent| agent.tally().first_sight_races).sum();
    assert!(races <= 6, "{races} races");
    // Alone each of them sees a third of what is rare together, and takes for news what the others know.
    let (alone, ..) = as_many(&lines, 3, usize::MAX);
    assert_ne!(alone.texts, whole.texts);
}

/// An agent that has learned from this stream, and trained.
fn learned(lines: &[Line]) -> Scorer {
    let mut scorer = agent(1);
    scorer.set_elsewhere(0, true);
    for line in lines {
        say(&mut scorer, line);
        fit(&mut scorer);
    }
    scorer
}

/// What a new agent has heard is all it needs, in whatever order, and said twice.
#[test]
fn a_new_agent_starts_warm() {
    let lines = stream(2600);
    let (before, after) = lines.split_at(2000);
    let mut old = learned(before);
    let facts = old.drain_knowledge(usize::MAX);
    for is_reversed in [false, true] {
        let (mut old, mut new) = (old.clone(), agent(2));
        let mut facts = facts.clone();
        if is_reversed {
            facts.reverse();
        }
        let heard = facts.iter().chain(&facts).map(|fact| new.hear(fact.clone()));
        let embeddings = heard.filter(|heard| heard.embedding.is_some()).count();
        assert_eq!(embeddings as u64, old.tally().templates, "each once");
        new.set_elsewhere(old.records(), false);
        assert_eq!(new.phase(), old.phase());
        assert!(new.drain_knowledge(usize::MAX).is_empty(), "nothing heard is told back");
        let differ = after
            .iter()
            .filter(|line| say(&mut old, line).is_some() != say(&mut new, line).is_some());
        assert_eq!(differ.count(), 0);
        assert!(new.take_fit().is_none(), "it is not here that is trained");
    }
}

/// A template that was forgotten where it was trained never comes: once the memory was read, or after a while, its model waits no longer.
#[test]
fn a_model_does_not_wait_for_ever() {
    let mut old = learned(&stream(1200));
    let (templates, others): (Vec<Fact>, Vec<Fact>) = old
        .drain_knowledge(usize::MAX)
        .into_iter()
        .partition(|fact| matches!(fact, Fact::Template(_)));
    let mut new = agent(2);
    for fact in others.into_iter().chain(templates.into_iter().skip(1)) {
        new.hear(fact);
    }
    let is_ready = |agent: &Scorer| matches!(agent.phase(), Phase::Ready { .. });
    assert!(!is_ready(&new), "one template is missing");
    let mut patient = new.clone();
    assert!(new.remembered().is_some() && is_ready(&new));
    (0..40).for_each(|_| patient.set_elsewhere(0, false));
    assert!(is_ready(&patient));
}

/// What was usual elsewhere before the first training is so for every later one, also where the agent that trains had no record itself.
#[test]
fn what_was_heard_before_the_first_training_counts_in_all_trainings() {
    let mut agents = [agent(1), agent(2)];
    for line in stream(600) {
        say(&mut agents[1], &line);
    }
    exchange(&mut agents);
    let [idle, _] = &mut agents;
    let first = idle.take_fit().unwrap().run();
    let said = first.summary();
    idle.install(first);
    let second = idle.force_fit().unwrap().run();
    assert_eq!(second.summary(), said.replace("generation 1", "generation 2"));
}

/// Known anywhere, news nowhere; and an anomaly goes on where its next record is read, with its verdict and without a second opening.
#[test]
fn what_is_known_elsewhere_is_no_news_and_what_runs_there_goes_on_here() {
    let lines = stream(1200);
    let mut old = learned(&lines);
    let mut new = agent(2);
    for fact in old.drain_knowledge(usize::MAX) {
        new.hear(fact);
    }
    new.set_elsewhere(old.records(), false);
    let fault = |seconds: u64| Line {
        text: "Segmentation fault, core dumped. never before".to_owned(),
        service: Arc::from("shop"),
        severity: 17,
        time: START + 300 * SECOND + seconds * SECOND,
    };
    let opened = say(&mut old, &fault(1)).expect("it is new and grave");
    for fact in old.drain_knowledge(usize::MAX) {
        new.hear(fact);
    }
    let goes_on = say(&mut new, &fault(2)).expect("it goes on");
    assert_eq!(
        (opened.score, opened.p_value, &opened.reason),
        (goes_on.score, goes_on.p_value, &goes_on.reason)
    );
    assert_eq!(new.tally().first_sight_races, 0);
    // What was usual there is no first sight here, whatever it says.
    let usual = lines.iter().find(|line| line.text.starts_with("item")).unwrap();
    assert!(
        say(
            &mut new,
            &Line {
                time: fault(3).time,
                ..usual.clone()
            }
        )
        .is_none()
    );
    // Both saw it first.
    let mut both = Line {
        text: "Segmentation fault, core dumped. twice at once".to_owned(),
        ..fault(4)
    };
    say(&mut old, &both);
    both.time += SECOND;
    say(&mut new, &both);
    let (from_old, from_new) = (old.drain_knowledge(usize::MAX), new.drain_knowledge(usize::MAX));
    from_old.into_iter().for_each(|fact| drop(new.hear(fact)));
    from_new.into_iter().for_each(|fact| drop(old.hear(fact)));
    assert_eq!((old.tally().first_sight_races, new.tally().first_sight_races), (0, 1));
}

#[test]
fn where_texts_are_not_kept_none_is_told_or_taken() {
    let mut old = learned(&stream(1200));
    let facts = old.drain_knowledge(usize::MAX);
    assert!(format!("{facts:?}").contains("stored in"));
    let mut new = Scorer::new(Settings::default());
    new.share(2, false);
    for fact in facts {
        new.hear(fact);
    }
    assert!(new.known_templates().all(|template| template.text.is_empty()));
    new.share(3, false);
    let told = new.drain_knowledge(usize::MAX);
    assert!(!told.is_empty() && !format!("{told:?}").contains("stored in"));
}

/// Nothing is noted before it is shared, and what is noted is bounded by what is remembered.
#[test]
fn what_is_to_be_told_is_bounded() {
    let settings = Settings {
        max_templates: 50,
        ..Settings::default()
    };
    let mut scorer = Scorer::new(settings);
    scorer.share(1, true);
    for line in stream(3000) {
        say(&mut scorer, &line);
        assert!(scorer.untold() <= 50 * 5 + 4);
    }
    let mut alone = agent(0);
    stream(100).iter().for_each(|line| drop(say(&mut alone, line)));
    assert_eq!((alone.untold(), alone.drain_knowledge(9).len()), (0, 0));
}

fn two() -> [Tenants; 2] {
    ["one", "two"].map(|name| {
        let mut tenants = engine::Settings::default().tenants();
        tenants.share(name, "words");
        tenants
    })
}

/// All that one has to tell is told to the other: whether the other's book has changed.
fn tell(from: &mut Tenants, to: &mut Tenants) -> bool {
    let told = from.drain_knowledge(100);
    assert!(told.iter().all(|it| Tenants::is_knowledge(&it.key)));
    told.iter().filter(|it| to.hear(&it.record).book_changed).count() > 0
}

#[test]
fn what_a_person_says_to_one_agent_holds_for_all() {
    let [mut one, mut two] = two();
    let tenant = Tenant::default();
    let say = |opinion, given_at| {
        let mut book = Book::default();
        let feedback = Feedback {
            subject: Subject::Template(TemplateKey(7)),
            service: None,
            opinion,
            comment: "known".to_owned(),
            author: "jo".to_owned(),
        };
        book.enter(&tenant, &[(TemplateKey(7), "a text".to_owned())], &feedback, given_at)
            .unwrap();
        book
    };
    one.hold(say(Opinion::Normal, 5));
    assert!(tell(&mut one, &mut two));
    assert_eq!(two.book(), one.book());
    assert!(!tell(&mut two, &mut one), "what was heard is not told back");
    // An earlier one changes nothing, and is told what holds.
    let mut late = engine::Settings::default().tenants();
    late.hold(say(Opinion::Real, 3));
    late.share("late", "other words");
    assert!(!tell(&mut late, &mut one));
    assert!(tell(&mut one, &mut late));
    assert_eq!(late.book(), one.book());
    // Taken back, also where nobody knows that it was said.
    two.hold(Book::default());
    assert!(tell(&mut two, &mut one));
    assert!(one.book().is_empty());
    late.hold(say(Opinion::Normal, 5));
    assert!(!tell(&mut late, &mut one) && one.book().is_empty());
    // Said again it holds again.
    two.hold(say(Opinion::Real, 9));
    assert!(tell(&mut two, &mut one));
    assert_eq!(one.book(), two.book());
}

#[test]
fn what_is_not_understood_is_counted() {
    let [mut one, _] = two();
    assert!(one.hear(b"no knowledge").ignored);
    assert_eq!(one.shared(), (0, 1));
}
