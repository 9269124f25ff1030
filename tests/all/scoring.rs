//! Verdicts over any stream: an episode keeps its verdict, a budget is kept, and a restored scorer judges as the saved one.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use harbinger::engine::{
    opinions::{Opinion, Opinions},
    score::{Committee, Hypothesis, Judgement, Phase, Scorer, Settings},
    text::TemplateKey,
};
use proptest::prelude::*;

use super::{
    byte_path::config,
    words::{Words, embedding},
};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const START: u64 = 1_700_000_000 * SECOND;
const BUDGET: usize = 5;

/// A record: which of the texts, which service, ERROR or INFO, seconds since the one before.
type Record = (usize, usize, bool, u64);

fn texts() -> Vec<String> {
    let usual = (0..10).map(|n| format!("item{n} stored in shelf{n} by hand{n}"));
    let news = (0..10).map(|n| format!("odd{n} thing{n} happened{n} never before"));
    // Words of the committee's, so that the stub hears failure in them.
    let errors = (0..10).map(|n| format!("Segmentation fault, core dumped. odd{n}"));
    usual.chain(news).chain(errors).collect()
}

fn say(scorer: &mut Scorer, text: &str, service: &Arc<str>, severity: i32, time: u64) -> Option<Judgement> {
    let key = TemplateKey::of(text);
    scorer.observe(key, || Arc::from(text), Some(&embedding(text)), 1, time);
    let id = scorer.service(service);
    scorer.record(key, id, severity, time)
}

fn services() -> [Arc<str>; 2] {
    [Arc::from("shop"), Arc::from("bank")]
}

/// A scorer that knows the first ten texts; trained once for all tests.
fn trained() -> Scorer {
    static TRAINED: OnceLock<Scorer> = OnceLock::new();
    let train = || {
        let mut scorer = Scorer::new(Settings {
            max_episodes_per_hour: BUDGET,
            ..Settings::default()
        });
        scorer.appoint(Committee::embed(&Words).unwrap());
        let (texts, services) = (texts(), services());
        for n in 0..600u64 {
            let text = &texts[n as usize % 10];
            say(&mut scorer, text, &services[n as usize / 10 % 2], 9, START + n * SECOND);
        }
        let fitted = scorer.take_fit().expect("600 records are enough").run();
        scorer.install(fitted);
        scorer
    };
    TRAINED.get_or_init(train).clone()
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let seconds = prop_oneof![8 => 0..20u64, 1 => 61..4000u64];
    proptest::collection::vec((0..30usize, 0..2usize, any::<bool>(), seconds), 1..120)
}

/// What was thought of every record, with its time and place.
fn run(scorer: &mut Scorer, start: u64, records: &[Record]) -> Vec<(u64, (usize, usize), bool, Judgement)> {
    let (texts, services) = (texts(), services());
    let mut time = start;
    let judge = |(text, service, error, seconds): &Record| {
        time += seconds * SECOND;
        let severity = if *error { 17 } else { 9 };
        let judgement = say(scorer, &texts[*text], &services[*service], severity, time).expect("there is a judge");
        (time, (*text, *service), *error, judgement)
    };
    records.iter().map(judge).collect()
}

/// Warm-up ends by what was said: until then nothing is judged, and from then on everything is.
#[test]
fn nothing_is_judged_before_there_is_a_judge() {
    let mut scorer = Scorer::new(Settings::default());
    assert!(say(&mut scorer, "anything at all", &services()[0], 17, START).is_none());
    assert!(matches!(trained().phase(), Phase::Ready { generation: 1 }));
}

/// Texts that waited for the model when the process before died, and are never said again, do not keep a restart from judging.
#[test]
fn what_is_never_embedded_after_a_restart_is_not_waited_for() {
    let mut died = Scorer::new(Settings::default());
    for n in 0..30 {
        let text = format!("said once{n} and lost{n}");
        died.observe(TemplateKey::of(&text), || Arc::from(text.as_str()), None, 1, START + n);
    }
    let mut restored = Scorer::restore(Settings::default(), died.export()).unwrap();
    restored.appoint(Committee::embed(&Words).unwrap());
    let (texts, services) = (texts(), services());
    for n in 0..600u64 {
        say(
            &mut restored,
            &texts[n as usize % 10],
            &services[0],
            9,
            START + n * SECOND,
        );
    }
    assert!(restored.take_fit().is_some());
}

/// Ten new errors within ten seconds: five are marked, five counted, and that is said once.
#[test]
fn what_is_beyond_the_budget_is_counted_and_said_once() {
    let mut scorer = trained();
    let errors: Vec<Record> = (20..30).map(|text| (text, 0, true, 1)).collect();
    let judged = run(&mut scorer, START + 600 * SECOND, &errors);
    let marked = judged.iter().filter(|(.., judgement)| judgement.anomaly.is_some());
    assert_eq!((marked.count(), scorer.tally().over_budget), (BUDGET, 5));
    let notes: Vec<String> = scorer.drain_notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].starts_with("shop has had 5 anomalous episodes within an hour"),
        "{notes:?}"
    );
}

/// An opinion decides on the place among the usual ones as well: granted, refused, or kept as it is.
#[test]
fn what_is_called_normal_is_learned_and_what_is_muted_or_real_is_not() {
    let (texts, services) = (texts(), services());
    let learned = |opinion: Option<Opinion>, said: &str| {
        let mut scorer = trained();
        if let Some(opinion) = opinion {
            let mut opinions = Opinions::default();
            opinions.take(TemplateKey::of(said), None, opinion);
            scorer.hold(opinions);
        }
        let judgement = say(&mut scorer, said, &services[0], 17, START + 601 * SECOND).unwrap();
        let fitted = scorer.force_fit().unwrap().run();
        scorer.install(fitted);
        let hypothesis = Hypothesis {
            key: TemplateKey::of(said),
            template: said,
            embedding: &embedding(said),
            service: None,
            severity_number: 17,
        };
        let explanation = scorer.explain(&hypothesis);
        assert_eq!(explanation.opinion, opinion);
        (judgement.anomaly.is_some(), explanation.known.unwrap().usual)
    };
    let mute = Opinion::MuteUntil {
        time_unix_nano: START + HOUR,
    };
    let error = texts[20].as_str();
    assert_eq!(learned(None, error), (true, false));
    assert_eq!(learned(Some(Opinion::Normal), error), (false, true));
    assert_eq!(learned(Some(mute), error), (false, false));
    assert_eq!(learned(Some(Opinion::Real), error), (true, false));
    // One that was usual before.
    assert_eq!(learned(Some(mute), &texts[0]), (false, true));
    assert_eq!(learned(Some(Opinion::Real), &texts[0]), (true, false));
}

/// Memory is bounded by services too: where many services say the same few things, what was not said for longest is forgotten.
#[test]
fn many_services_do_not_outgrow_the_bound() {
    let mut scorer = Scorer::new(Settings {
        max_templates: 10,
        ..Settings::default()
    });
    for n in 0..500u64 {
        let text = format!("line{}", n % 10);
        say(
            &mut scorer,
            &text,
            &Arc::from(format!("service{}", n / 10)),
            9,
            START + n * SECOND,
        );
    }
    assert!(scorer.tally().evicted_templates > 0);
    assert!(scorer.tally().templates <= 10);
}

/// When what is usual changes, that is said once and answered by a training that nothing else would call for yet.
#[test]
fn drift_is_said_and_answered_by_a_training() {
    let mut scorer = trained();
    let usual: Vec<Record> = (0..200).map(|n| (n % 10, 0, false, 61)).collect();
    run(&mut scorer, START + 600 * SECOND, &usual);
    assert!(scorer.drain_notes().is_empty() && scorer.take_fit().is_none());
    let (shop, start) = (&services()[0], START + 20_000 * SECOND);
    for n in 0..80 {
        say(
            &mut scorer,
            &format!("calm{n} words{n} of a new kind{n}"),
            shop,
            9,
            start + n * SECOND,
        );
    }
    let notes: Vec<String> = scorer.drain_notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["what is usual has changed; training anew"]);
    assert!(scorer.take_fit().is_some());
}

proptest! {
    #![proptest_config(config())]

    /// The hundredth record of an anomalous episode is as anomalous as the first, and tells the same: as long as it is
    /// grave and never silent for more than a minute.
    #[test]
    fn an_episode_keeps_its_verdict(records in records()) {
        let mut open: BTreeMap<(usize, usize), (u64, Judgement)> = BTreeMap::new();
        for (time, place, error, judgement) in run(&mut trained(), START + 600 * SECOND, &records) {
            if let Some((latest, first)) = open.get(&place)
                && error
                && time - latest <= 60 * SECOND
            {
                prop_assert_eq!(&judgement.anomaly, &first.anomaly);
            }
            if judgement.anomaly.is_some() {
                open.insert(place, (time, judgement));
            } else {
                open.remove(&place);
            }
        }
    }

    /// Where only anomalies are asked for, most records are not judged in full: what is marked and what is remembered is the
    /// same to the bit, whatever people said of templates, and whether they are embedded.
    #[test]
    fn the_short_way_marks_and_remembers_the_same(
        batches in proptest::collection::vec(records(), 1..5),
        said in proptest::collection::vec((0..30usize, 0..3usize), 0..3),
    ) {
        let (texts, services) = (texts(), services());
        let mut opinions = Opinions::default();
        for (text, opinion) in said {
            let opinion = [Opinion::Normal, Opinion::Real, Opinion::MuteUntil { time_unix_nano: START + HOUR }][opinion];
            opinions.take(TemplateKey::of(&texts[text]), None, opinion);
        }
        let (mut long, mut short) = (trained(), trained());
        let mut time = START + 600 * SECOND;
        for records in &batches {
            for scorer in [&mut long, &mut short] {
                scorer.hold(opinions.clone());
                for (text, ..) in records {
                    let embedding = embedding(&texts[*text]);
                    let embedding = (text % 7 > 0).then_some(&embedding);
                    scorer.observe(TemplateKey::of(&texts[*text]), || Arc::from(&*texts[*text]), embedding, 1, time);
                }
            }
            let mut seats: Vec<_> = texts.iter().map(|text| short.seat(TemplateKey::of(text))).collect();
            for (text, service, error, seconds) in records {
                time += seconds * SECOND;
                let severity = if *error { 17 } else { 9 };
                let id = short.service(&services[*service]);
                let marked = short.mark(seats[*text].as_mut(), id, severity, time);
                let id = long.service(&services[*service]);
                let judged = long.record(TemplateKey::of(&texts[*text]), id, severity, time);
                prop_assert_eq!(marked, judged.and_then(|judgement| judgement.anomaly));
            }
            prop_assert!(short == long);
        }
        prop_assert_eq!(short.export(), long.export());
    }

    /// No service opens more anomalous episodes within an hour than its budget, and what is opened stays.
    #[test]
    fn a_budget_is_kept(records in records()) {
        let mut openings: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for (time, (_, service), _, judgement) in run(&mut trained(), START + 600 * SECOND, &records) {
            if let Some(anomaly) = judgement.anomaly {
                openings.entry((service, anomaly.episode)).or_insert(time);
            }
        }
        for (place, time) in &openings {
            let within = openings.iter().filter(|(other, at)| other.0 == place.0 && **at <= *time && time - **at < HOUR);
            prop_assert!(within.count() <= BUDGET);
        }
    }

    /// Whenever it is saved, a restored scorer judges all that follows to the bit as the one that was saved.
    #[test]
    fn a_restored_scorer_judges_the_same(before in records(), after in records()) {
        let mut saved = trained();
        run(&mut saved, START + 600 * SECOND, &before);
        let mut restored = Scorer::restore(
            Settings { max_episodes_per_hour: BUDGET, ..Settings::default() },
            saved.export(),
        ).unwrap();
        restored.appoint(Committee::embed(&Words).unwrap());
        let start = START + 1_000_000 * SECOND;
        let (left, right) = (run(&mut saved, start, &after), run(&mut restored, start, &after));
        for ((_, _, _, left), (_, _, _, right)) in left.iter().zip(&right) {
            prop_assert_eq!(left.log_odds.to_bits(), right.log_odds.to_bits());
            prop_assert_eq!(&left.anomaly, &right.anomaly);
        }
        prop_assert_eq!(saved.export(), restored.export());
    }
}
