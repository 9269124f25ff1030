//! `harbinger evaluate`, with the real model: its figures on logs whose truth is known, and that nothing but the past
//! decides.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Parser;
use harbinger::{
    commands::{embeddings::Embeddings, evaluate, offline::Offline},
    edge::files,
    engine::{self, embed::Embedder},
};
use serde_json::Value;

use crate::model::{assets, embedder};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: evaluate::Args,
}

/// Runs the command; returns its JSON without what differs from run to run.
fn evaluate(arguments: &[&str]) -> Value {
    assets();
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("figures.json");
    let command = Command::parse_from([&["evaluate"], arguments, &["--json", json.to_str().unwrap()]].concat());
    evaluate::run(&command.args).unwrap();
    let mut document: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    for figures in document["files"].as_array_mut().unwrap() {
        let run = figures.as_object_mut().unwrap().remove("run").unwrap();
        assert!(run["records_per_second"].as_f64().unwrap() > 0.0);
    }
    document
}

const USUAL: [&str; 10] = [
    "request served from cache",
    "opened a connection to the database",
    "closed a connection to the database",
    "user signed in",
    "wrote a checkpoint",
    "sent a heartbeat to the coordinator",
    "rotated the access log",
    "started a worker",
    "stopped an idle worker",
    "published metrics",
];

/// A second a line, with a fault of two sentences at its end; `label` says what is written for a true line.
fn logs(healthy: usize, label: &str) -> String {
    let mut text = "timestamp,service,severity,message,label,fault\n".to_owned();
    for n in 0..healthy {
        text += &format!("{},shop,INFO,{} {n},0,\n", 1_000_000 + n, USUAL[n * 7 % 10]);
    }
    for n in 0..20 {
        let what = ["disk failure: cannot write block", "checksum mismatch on page"][n % 2];
        let time = 1_000_000 + healthy + n;
        text += &format!("{time},shop,ERROR,{what} {n},{label},disk\n");
    }
    text
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_fault_is_counted_as_its_labels_say_and_two_runs_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let input = written(folder.path(), "shop.csv", &logs(1180, "1"));
    let document = evaluate(&[input.to_str().unwrap()]);
    let figures = &document["files"][0];
    assert_eq!(
        (figures["lines"].as_u64(), figures["counted"].as_u64()),
        (Some(1200), Some(960))
    );
    assert_eq!(figures["without_score"], 0);
    assert_eq!(figures["by_line"]["positives"], 20);
    assert_eq!(figures["by_template"]["positives"], 2);
    assert_eq!(figures["templates"], 12);
    assert_eq!(figures["by_line"]["roc_auc"], 1.0);
    assert_eq!(figures["faults"]["each"][0]["name"], "disk");
    assert_eq!(figures["faults"]["each"][0]["lines"], 20);
    assert_eq!(figures["faults"]["true_lines"], 20);
    assert_eq!(figures["faults"]["leading_edge_error_worst_s"], 0.0);
    assert_eq!(figures["faults"]["id_churn_without_aliases"], 0.0);
    assert_eq!(document, evaluate(&[input.to_str().unwrap()]));
}

#[test]
fn labels_are_not_seen_by_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let said = |label: &str| {
        let input = written(folder.path(), "shop.csv", &logs(1180, label));
        let document = evaluate(&[input.to_str().unwrap()]);
        let lines = &document["files"][0]["by_line"];
        (
            lines["flagged"].clone(),
            document["files"][0]["episodes"]["count"].clone(),
        )
    };
    assert_eq!(said("1"), said("0"));
    assert_eq!(said("1"), said(""));
}

#[test]
fn without_labels_errors_are_what_incidents_are_held_against_also_where_their_severity_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let text = logs(1180, "").replace(",INFO,user signed in 1179,0,", ",INFO,user signed in 1179,,disk");
    let text = text.replace(",0,\n", ",,\n");
    let input = written(folder.path(), "shop.csv", &text);
    for options in [&[][..], &["--hide", "severity"]] {
        let document = evaluate(&[&[input.to_str().unwrap()], options].concat());
        let figures = &document["files"][0];
        assert_eq!(figures["labelled"], false);
        assert_eq!(figures["faults"]["true_lines"], 20);
        assert!(figures["faults"]["adjusted_rand_index"].is_f64(), "{figures}");
    }
}

#[test]
fn history_is_learned_from_and_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let history = written(folder.path(), "history.csv", &logs(600, "0"));
    let input = written(folder.path(), "shop.csv", &logs(80, "1"));
    let document = evaluate(&[input.to_str().unwrap(), "--history", history.to_str().unwrap()]);
    let figures = &document["files"][0];
    assert_eq!(
        (figures["counted"].as_u64(), figures["without_score"].as_u64()),
        (Some(100), Some(0))
    );
    // Every sentence was said in history.
    assert_eq!(figures["templates"], 12);
    assert_eq!(document["warmup_fraction"], 0.0);
}

#[test]
fn the_ablation_tells_of_every_detector() {
    let folder = tempfile::tempdir().unwrap();
    let input = written(folder.path(), "shop.csv", &logs(780, "1"));
    let document = evaluate(&[input.to_str().unwrap(), "--ablation", "--hide", "severity"]);
    let ablation = document["files"][0]["ablation"].as_array().unwrap();
    let names: Vec<&str> = ablation.iter().filter_map(|it| it["detector"].as_str()).collect();
    assert_eq!(
        names,
        [
            "autoencoder",
            "neighbour",
            "rarity",
            "failure",
            "severity",
            "burst",
            "company"
        ]
    );
    assert!(ablation.iter().all(|it| it["left_out"]["positives"] == 20));
    assert_eq!(document["hidden"][0], "severity");
}

/// What comes later changes no verdict: a log cut short is judged as its beginning was.
#[test]
fn a_verdict_rests_on_the_past_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = logs(1180, "1");
    let input = written(folder.path(), "shop.csv", &text);
    let rows: Vec<files::Row> = files::open(&input, &files::Settings::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let stream = |rows: &[files::Row]| {
        let mut engine = Offline::new(
            &engine::Settings::default(),
            Arc::new(Embeddings::new(Arc::new(Borrowed))),
        )
        .unwrap();
        let outcomes = engine.stream(rows, &|_| {}).unwrap();
        let verdicts = outcomes
            .iter()
            .map(|it| (it.is_anomaly, it.score, it.evidence, it.template));
        verdicts.collect::<Vec<_>>()
    };
    let whole = stream(&rows);
    assert!(whole.last().is_some_and(|(_, score, ..)| score.is_some()));
    for cut in [499, 501, 1185] {
        assert_eq!(stream(&rows[..cut]), whole[..cut]);
    }
}

/// The embedder that all tests share.
struct Borrowed;

impl Embedder for Borrowed {
    fn embed(&self, texts: &[&str]) -> Result<Vec<engine::embed::Embedding>, engine::embed::EmbedError> {
        embedder().embed(texts)
    }

    fn model_version(&self) -> &str {
        embedder().model_version()
    }
}

#[test]
fn public_sets_are_read_with_their_labels() {
    let Some(data) = std::env::var_os("HARBINGER_DATA_DIR") else {
        eprintln!("SKIPPED: set HARBINGER_DATA_DIR to evaluate public sets");
        return;
    };
    let file = |name: &str| Path::new(&data).join(name).to_str().unwrap().to_owned();
    let document = evaluate(&[&file("bgl-2k.csv.gz"), &file("apache-2k.csv.gz")]);
    let [bgl, apache] = &document["files"].as_array().unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        (bgl["counted"].as_u64(), bgl["by_line"]["positives"].as_u64()),
        (Some(1600), Some(49))
    );
    assert_eq!(
        (apache["labelled"].as_bool(), &apache["faults"]),
        (Some(false), &Value::Null)
    );
    assert_eq!(apache["by_line"]["roc_auc"], Value::Null);
}
