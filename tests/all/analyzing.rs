//! `harbinger analyze`, with the real model: the notebook's example, its graph on real logs, and the default on short files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use harbinger::{
    commands::analyze,
    edge::files,
    engine::embed::{Embedder, Embedding},
};

use crate::model::{assets, embedder};

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: analyze::Args,
}

/// Rows, each by column.
type Table = Vec<BTreeMap<String, String>>;

/// Runs the command; returns the two files as rows by column.
fn analyze(arguments: &[&str], out: &Path) -> (Table, Table) {
    assets();
    let out = out.to_str().unwrap();
    let command = Command::parse_from([&["analyze"], arguments, &["--out", out]].concat());
    analyze::run(&command.args).unwrap();
    let table = |name: &str| {
        let mut csv = csv::Reader::from_path(Path::new(out).join(name)).unwrap();
        csv.deserialize().map(Result::unwrap).collect()
    };
    (table("annotated.csv"), table("incidents.csv"))
}

const EXAMPLE: &str = "timestamp,log\n2024-11-18 10:00:00,User login failed.\n2024-11-18 10:01:00,Login unsuccessful.\n2024-11-18 10:05:00,Service unavailable.\n";

#[test]
fn the_notebooks_example_gives_its_code_s_two_incidents_and_its_table_s_one() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("example.csv");
    fs::write(&input, EXAMPLE).unwrap();
    let notebook = [input.to_str().unwrap(), "--profile", "notebook"];
    let (annotated, incidents) = analyze(&notebook, &folder.path().join("all"));
    assert_eq!(annotated.len(), 3);
    assert!(
        ["timestamp", "log", "is_anomaly", "anomaly_score", "incident_id"]
            .iter()
            .all(|c| annotated[0].contains_key(*c))
    );
    assert_eq!(incidents.len(), 2);
    assert_eq!(incidents[0]["incident_id"], "0");
    assert_eq!(incidents[0]["leading_edge"], "User login failed.");
    assert_eq!(incidents[0]["timestamp"], "2024-11-18T10:00:00Z");
    assert_eq!(
        incidents[0]["related_logs"],
        r#"["User login failed.","Login unsuccessful."]"#
    );
    assert_eq!(incidents[1]["leading_edge"], "Service unavailable.");

    let (_, incidents) = analyze(
        &[&notebook[..], &["--min-size", "2"]].concat(),
        &folder.path().join("two"),
    );
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["records"], "2");
}

#[test]
fn the_columns_of_incidents_csv_begin_with_the_notebooks_four() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("example.csv");
    fs::write(&input, EXAMPLE).unwrap();
    analyze(&[input.to_str().unwrap(), "--profile", "notebook"], folder.path());
    let header = fs::read_to_string(folder.path().join("incidents.csv")).unwrap();
    assert!(
        header.starts_with("incident_id,leading_edge,timestamp,related_logs,"),
        "{header}"
    );
}

#[test]
fn a_file_shorter_than_the_warm_up_is_judged_too_and_keeps_its_order_and_columns() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("short.csv");
    let mut text = "when,level,what,extra\n".to_owned();
    for n in (0..60).rev() {
        text += &format!("2024-11-18T10:{n:02}:00Z,INFO,request {n} served from cache,\"a, {n}\"\n");
    }
    fs::write(&input, &text).unwrap();
    let options = ["--message-column", "what", "--time-column", "when"];
    let (annotated, _) = analyze(
        &[&[input.to_str().unwrap()][..], &options].concat(),
        &folder.path().join("out"),
    );
    assert_eq!(annotated.len(), 60);
    assert_eq!(annotated[0]["extra"], "a, 59");
    assert!(
        annotated
            .iter()
            .all(|row| !row["anomaly_score"].is_empty() && row["is_anomaly"] == "false")
    );
}

/// Real logs that are not ours to publish; `None` prints SKIPPED.
fn data(name: &str) -> Option<PathBuf> {
    match std::env::var_os("HARBINGER_DATA_DIR") {
        Some(folder) => Some(Path::new(&folder).join(name)),
        None => {
            eprintln!("SKIPPED: set HARBINGER_DATA_DIR to compare with brute force on {name}");
            None
        }
    }
}

#[test]
fn the_notebooks_incidents_on_bgl_equal_the_brute_force_graph() {
    let Some(input) = data("bgl-2k.csv.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (annotated, incidents) = analyze(&[input.to_str().unwrap(), "--profile", "notebook"], folder.path());

    let rows: Vec<files::Row> = files::open(&input, &files::Settings::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let texts: Vec<&str> = annotated.iter().map(|row| row["message"].as_str()).collect();
    let mut distinct: BTreeMap<&str, Option<Embedding>> = texts.iter().map(|text| (*text, None)).collect();
    let some: Vec<&str> = distinct.keys().copied().collect();
    for (text, embedding) in some.iter().zip(embedder().embed(&some).unwrap()) {
        distinct.insert(text, Some(embedding));
    }
    let embeddings: Vec<&Embedding> = texts.iter().map(|text| distinct[text].as_ref().unwrap()).collect();
    // The notebook's graph: all pairs, then flooding.
    let mut component = vec![usize::MAX; rows.len()];
    let mut next = 0;
    for start in 0..rows.len() {
        if component[start] != usize::MAX {
            continue;
        }
        let mut pending = vec![start];
        component[start] = next;
        while let Some(row) = pending.pop() {
            for other in 0..rows.len() {
                let (Some(here), Some(there)) = (rows[row].time_unix_nano, rows[other].time_unix_nano) else {
                    continue;
                };
                let joined = here.abs_diff(there) < 300_000_000_000 && embeddings[row].cosine(embeddings[other]) > 0.8;
                if component[other] == usize::MAX && joined {
                    component[other] = next;
                    pending.push(other);
                }
            }
        }
        next += 1;
    }
    assert_eq!(incidents.len(), next);
    for (row, component) in annotated.iter().zip(component) {
        assert_eq!(row["incident_id"], component.to_string());
    }
    let anomalous = annotated.iter().filter(|row| row["is_anomaly"] == "true").count();
    assert!(
        (1..=100).contains(&anomalous),
        "the 95th percentile leaves at most one row in twenty: {anomalous}"
    );
}
