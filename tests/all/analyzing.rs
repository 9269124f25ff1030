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
use serde_json::Value;

use crate::model::{assets, embedder};

#[derive(Parser)]
pub struct Command {
    #[command(flatten)]
    pub args: analyze::Args,
}

/// Rows, each by column.
pub type Table = Vec<BTreeMap<String, String>>;

/// Runs the command; returns the two files as rows by column.
pub fn analyze(arguments: &[&str], out: &Path) -> (Table, Table) {
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
    assert!(incidents[0]["related_logs"].contains("Login unsuccessful."));
}

/// The first line of incidents.csv.
fn header(out: &Path) -> String {
    let text = fs::read_to_string(out.join("incidents.csv")).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn by_the_notebooks_rule_incidents_csv_has_the_notebooks_four_columns() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("example.csv");
    fs::write(&input, EXAMPLE).unwrap();
    let json = folder.path().join("incidents.json");
    let notebook = ["--profile", "notebook", "--incidents-json", json.to_str().unwrap()];
    analyze(&[&[input.to_str().unwrap()][..], &notebook].concat(), folder.path());
    assert_eq!(header(folder.path()), "incident_id,leading_edge,timestamp,related_logs");
    let listed: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(listed[0].as_object().unwrap().len(), 4);
    assert_eq!(listed[0]["related_logs"][1], "Login unsuccessful.");
}

/// A thousand usual lines, a second each, then a fault of two sentences.
pub fn outage() -> String {
    let mut text = "timestamp,service,severity,message\n".to_owned();
    for n in 0..1000 {
        let usual = ["request served from cache", "wrote a checkpoint", "user signed in"][n % 3];
        text += &format!("{},shop,INFO,{usual} {n}\n", 1_700_000_000 + n);
    }
    for n in 0..20 {
        let (service, severity, what) = [
            ("disk", "ERROR", "disk failure: cannot write block"),
            ("db", "FATAL", "database aborted: checksum mismatch on page"),
        ][n % 2];
        text += &format!("{},{service},{severity},{what} {n}\n", 1_700_001_000 + n);
    }
    text
}

#[test]
fn incidents_are_listed_with_all_that_their_rows_say() {
    let folder = tempfile::tempdir().unwrap();
    let (input, json) = (folder.path().join("outage.csv"), folder.path().join("incidents.json"));
    fs::write(&input, outage()).unwrap();
    let arguments = [input.to_str().unwrap(), "--incidents-json", json.to_str().unwrap()];
    let (annotated, incidents) = analyze(&arguments, folder.path());
    assert_eq!(
        header(folder.path()),
        "incident_id,leading_edge,timestamp,related_logs,service,services,records,anomalous_records,first_time,last_time,\
         worst_severity,worst_message,aliases,parent_incident_id,announced,templates"
    );
    assert!(!incidents.is_empty(), "nothing was found");
    let listed: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), incidents.len());
    for (row, listed) in incidents.iter().zip(listed.as_array().unwrap()) {
        let id = &row["incident_id"];
        let members: Vec<_> = annotated.iter().filter(|line| line["incident_id"] == *id).collect();
        let anomalous = members.iter().filter(|line| line["is_anomaly"] == "true").count();
        assert_eq!(row["records"], members.len().to_string());
        assert_eq!(row["anomalous_records"], anomalous.to_string());
        assert_eq!(listed["incident_id"], **id);
        assert_eq!(listed["records"], members.len());
        let templates = listed["templates"].as_array().unwrap();
        assert_eq!(row["templates"], templates.len().to_string());
        let counted: u64 = templates
            .iter()
            .filter_map(|template| template["records"].as_u64())
            .sum();
        assert_eq!(counted, members.len() as u64);
        assert!(templates.iter().all(|template| template["text"] != ""));
    }
    let lasting = &incidents[0];
    assert_eq!(
        (lasting["announced"].as_str(), lasting["aliases"].as_str()),
        ("true", "[]")
    );
    let gravest = incidents.iter().find(|row| row["worst_severity"] == "FATAL").unwrap();
    assert!(gravest["worst_message"].starts_with("database aborted"));
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

/// The files that the command writes of this input, and its incidents as JSON.
fn written(input: &Path, options: &[&str]) -> [Vec<u8>; 3] {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("incidents.json");
    let arguments = [input.to_str().unwrap(), "--incidents-json", json.to_str().unwrap()];
    analyze(&[&arguments[..], options].concat(), folder.path());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "something is left behind: {left:?}");
    ["annotated.csv", "incidents.csv", "incidents.json"].map(|name| fs::read(folder.path().join(name)).unwrap())
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("outage.csv");
    fs::write(&input, outage()).unwrap();
    for profile in ["default", "notebook"] {
        let of = |threads: &str| written(&input, &["--profile", profile, "--threads", threads]);
        assert!(of("1") == of("3"), "--profile {profile}");
    }
}

/// Rows that are older than those before them, within stretches and across them, are judged as if they had come in order.
#[test]
fn rows_out_of_order_are_judged_in_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let text = outage();
    let (header, lines) = text.split_once('\n').unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    // No two rows have the same time, so it alone decides.
    let mut mixed = lines.clone();
    fastrand::Rng::with_seed(5).shuffle(&mut mixed);
    let of = |name: &str, lines: &[&str]| {
        let input = folder.path().join(name);
        fs::write(&input, format!("{header}\n{}\n", lines.join("\n"))).unwrap();
        let [annotated, incidents, json] = written(&input, &[]).map(|bytes| String::from_utf8(bytes).unwrap());
        let mut annotated: Vec<String> = annotated.lines().skip(1).map(str::to_owned).collect();
        assert!(
            annotated.iter().zip(lines).all(|(row, line)| row.starts_with(line)),
            "input order"
        );
        annotated.sort();
        (annotated, incidents, json)
    };
    let in_order = of("in_order.csv", &lines);
    assert!(in_order.0.iter().any(|row| row.contains(",true,")));
    assert!(of("mixed.csv", &mixed) == in_order);
}

/// A row without a time stands where the one before it does; those before the first time where that one does, however
/// many they are.
#[test]
fn rows_without_a_time_stand_where_their_neighbours_do() {
    let folder = tempfile::tempdir().unwrap();
    let text = outage();
    let (header, lines) = text.split_once('\n').unwrap();
    let of = |name: &str, timeless: usize| {
        let input = folder.path().join(name);
        let early = |time: &str| {
            (0..timeless)
                .map(|n| format!("{time},shop,INFO,starting part {n}\n"))
                .collect::<String>()
        };
        let judged = |time: &str| {
            fs::write(&input, format!("{header}\n{}{lines}", early(time))).unwrap();
            let (annotated, _) = analyze(&[input.to_str().unwrap()], folder.path());
            let judged = annotated.into_iter();
            let judged = judged.map(|mut row| {
                (
                    row.remove("is_anomaly"),
                    row.remove("anomaly_score"),
                    row.remove("incident_id"),
                )
            });
            judged.collect::<Vec<_>>()
        };
        assert_eq!(judged(""), judged("1700000000"), "{timeless} rows");
    };
    of("few.csv", 3);
    of("many.csv", 700);
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
