//! What `harbinger analyze` writes to be looked at, with the real model: the report says what the lists say, and what is
//! redacted says nothing; the graph's components are the incidents. What others make of the graph, `integration/test_graph.py` asks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use clap::Parser;
use serde_json::Value;

use crate::analyzing::{Command, Table, analyze, outage};

/// Another fault, long after the outage: what it says must not end what it is put into.
const NASTY: &str =
    "1700009003,mail,FATAL,crashed: out of memory </script><script>alert(1)</script> & \"quoted\" ]]> process killed\n";

/// The data inside a report.
fn data_of(report: &Path) -> Value {
    let page = fs::read_to_string(report).unwrap();
    let (_, rest) = page.split_once(r#"id="harbinger-data">"#).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

/// Runs the command on an outage; returns its two tables, and the report's data.
fn reported(folder: &Path, options: &[&str]) -> (Table, Table, Value) {
    let (input, report) = (folder.join("outage.csv"), folder.join("report.html"));
    fs::write(&input, outage() + NASTY).unwrap();
    let arguments = [input.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let (annotated, incidents) = analyze(&[&arguments[..], options].concat(), &folder.join("out"));
    (annotated, incidents, data_of(&report))
}

fn numbers(of: &Value) -> Vec<u64> {
    of.as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_u64().unwrap())
        .collect()
}

#[test]
fn the_report_says_what_the_lists_say() {
    let folder = tempfile::tempdir().unwrap();
    let (annotated, incidents, data) = reported(folder.path(), &[]);
    assert_eq!(
        (data["kind"].as_str(), data["version"].as_u64()),
        (Some("report"), Some(1))
    );
    assert_eq!(
        (&data["inputs"], &data["redacted"]),
        (&serde_json::json!(["outage.csv"]), &Value::Bool(false))
    );
    let anomalous = annotated.iter().filter(|row| row["is_anomaly"] == "true").count();
    assert_eq!(
        (data["rows"].as_u64(), data["anomalous_rows"].as_u64()),
        (Some(1021), Some(anomalous as u64))
    );

    let told: BTreeMap<&str, &Value> = (data["incidents"].as_array().unwrap().iter())
        .map(|incident| (incident["id"].as_str().unwrap(), incident))
        .collect();
    assert_eq!(
        (told.len(), data["incidents_left_out"].as_u64()),
        (incidents.len(), Some(0))
    );
    assert_eq!(incidents.len(), 2, "an outage, and one more line long after it");
    for row in &incidents {
        let told = told[row["incident_id"].as_str()];
        for count in ["records", "anomalous_records"] {
            assert_eq!(told[count].to_string(), row[count], "{count}");
        }
        for key in ["first_time", "last_time"] {
            assert_eq!(told[key], *row[key], "{key}");
        }
        assert_eq!(told["announced"].to_string(), row["announced"]);
        assert_eq!(
            (told["worst"]["severity"].as_str(), told["aliases"].to_string().as_str()),
            (Some(&*row["worst_severity"]), &*row["aliases"])
        );
        let of_templates = told["templates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|template| template["records"].as_u64().unwrap());
        assert_eq!(of_templates.sum::<u64>(), told["records"], "of templates");
        let of_services = told["service_counts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| service["records"].as_u64().unwrap());
        assert_eq!(of_services.sum::<u64>(), told["records"], "of services");
        assert_eq!(
            numbers(&told["course"]["records"]).iter().sum::<u64>(),
            told["records"],
            "over time"
        );
        assert_ne!(told["leading_edge"]["reason"], "", "why it is anomalous");
    }
    let gravest = &data["incidents"][0];
    assert_eq!(gravest["worst"]["severity"], "FATAL", "the gravest comes first");
}

#[test]
fn scores_errors_and_the_map_cover_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let (annotated, incidents, data) = reported(folder.path(), &[]);
    let scores = &data["scores"];
    let anomalous = annotated.iter().filter(|row| row["is_anomaly"] == "true").count() as u64;
    let counted = ["records", "anomalous"].map(|key| numbers(&scores[key]));
    assert_eq!(counted.each_ref().map(|all| all.iter().sum::<u64>()), [1021, anomalous]);
    assert!(counted[0].len() <= 400 && scores["threshold"] == 0.5);
    let spans = |key: &str| -> Vec<Option<f64>> { scores[key].as_array().unwrap().iter().map(Value::as_f64).collect() };
    for (place, ((median, p99), max)) in spans("median")
        .into_iter()
        .zip(spans("p99"))
        .zip(spans("max"))
        .enumerate()
    {
        assert_eq!(
            [median, p99, max].map(|value| value.is_some()),
            [counted[0][place] > 0; 3],
            "a score where records are"
        );
        let (Some(median), Some(p99), Some(max)) = (median, p99, max) else {
            continue;
        };
        assert!(
            0.0 <= median && median <= p99 && p99 <= max && max <= 1.0,
            "{median} {p99} {max}"
        );
    }
    // The column has log-odds, the report the probability of the same.
    let highest = annotated
        .iter()
        .map(|row| row["anomaly_score"].parse::<f64>().unwrap())
        .fold(f64::MIN, f64::max);
    let peaks = scores["peaks"].as_array().unwrap();
    assert!((peaks[0]["score"].as_f64().unwrap() - 1.0 / (1.0 + (-highest).exp())).abs() < 1e-5);
    assert!(peaks.is_sorted_by(|one, next| one["score"].as_f64() >= next["score"].as_f64()));
    assert!(peaks.iter().all(|peak| peak["text"] != ""));

    let map = data["map"]["templates"].as_array().unwrap();
    let texts: BTreeSet<&str> = map.iter().map(|template| template["text"].as_str().unwrap()).collect();
    assert!(
        texts.contains("wrote a checkpoint <n>") && texts.iter().any(|text| text.contains("</script>")),
        "{texts:?}"
    );
    assert_eq!(
        map.iter()
            .map(|template| template["records"].as_u64().unwrap())
            .sum::<u64>(),
        1021
    );
    let ids: BTreeSet<&str> = incidents.iter().map(|row| row["incident_id"].as_str()).collect();
    let of_incidents: BTreeSet<&str> = map
        .iter()
        .filter_map(|it| it["incident_id"].as_str().filter(|id| !id.is_empty()))
        .collect();
    assert!(!of_incidents.is_empty() && of_incidents.is_subset(&ids));
    let explained: f64 = data["map"]["explained"]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| share.as_f64().unwrap())
        .sum();
    assert!(0.0 < explained && explained <= 1.0);

    let errors = &data["reconstruction_error"];
    let counted = ["usual", "anomalous"].map(|key| numbers(&errors[key]));
    assert_eq!(
        counted.iter().flatten().sum::<u64>() as usize,
        map.len(),
        "each template once"
    );
    assert!(
        counted
            .iter()
            .all(|counts| counts.len() + 1 == errors["edges"].as_array().unwrap().len())
    );
}

#[test]
fn a_redacted_report_has_no_text_of_a_log_and_keeps_the_largest_incidents() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("incidents.json");
    let options = [
        "--redact",
        "--report-incidents",
        "1",
        "--incidents-json",
        json.to_str().unwrap(),
    ];
    let (annotated, incidents, data) = reported(folder.path(), &options);
    assert_eq!(data["redacted"], true);
    let largest = incidents.iter().map(|row| row["records"].parse::<u64>().unwrap()).max();
    assert_eq!(
        (
            data["incidents"].as_array().unwrap().len(),
            data["incidents"][0]["records"].as_u64()
        ),
        (1, largest)
    );
    assert_eq!(data["incidents_left_out"], incidents.len() - 1);
    assert_ne!(data["map"]["templates"].as_array().unwrap().len(), 0);

    // As it stands in the file, whatever that is made of; the page itself speaks of none of this.
    let file = fs::read_to_string(folder.path().join("report.html")).unwrap();
    let listed: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let templates = listed
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|incident| incident["templates"].as_array().unwrap());
    let mut texts: BTreeSet<String> = templates
        .map(|template| template["text"].as_str().unwrap().to_owned())
        .collect();
    texts.extend(annotated.iter().map(|row| row["message"].clone()));
    assert!(texts.len() > 1000, "messages of the log");
    for text in &texts {
        let quoted = serde_json::to_string(text).unwrap().replace('<', r"\u003c");
        for said in [text.as_str(), quoted.trim_matches('"')] {
            assert!(!file.contains(said), "{said}");
        }
    }
    for words in [
        "checkpoint",
        "disk failure",
        "checksum mismatch",
        "signed in",
        "never said before",
    ] {
        assert!(!file.contains(words), "{words}");
    }
    assert!(
        file.contains("outage.csv") && file.contains(r#""shop""#),
        "names of inputs and services stay"
    );
}

#[test]
fn the_graph_s_components_are_the_incidents_whatever_the_order_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let text = outage();
    let (header, lines) = text.split_once('\n').unwrap();
    let mut mixed: Vec<&str> = lines.lines().collect();
    fastrand::Rng::with_seed(6).shuffle(&mut mixed);
    let graph_of = |name: &str, text: String| {
        let (input, graph) = (folder.path().join(name), folder.path().join("graph.gexf"));
        fs::write(&input, text).unwrap();
        let arguments = [input.to_str().unwrap(), "--graph", graph.to_str().unwrap()];
        let (_, incidents) = analyze(&arguments, &folder.path().join("out"));
        (fs::read_to_string(graph).unwrap(), incidents)
    };
    let (graph, incidents) = graph_of("in_order.csv", text.clone());
    let between = |line: &str, start: &str| {
        let (_, rest) = line.split_once(start).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    let mut at = String::new();
    let (mut nodes, mut edges) = (0, 0);
    for line in graph.lines() {
        if line.contains("<node id=") {
            nodes += 1;
            at = between(line, "id=\"");
        } else if line.contains("for=\"records\"") {
            let incident = at.split_once('/').unwrap().0.to_owned();
            *records.entry(incident).or_default() += between(line, "value=\"").parse::<u64>().unwrap();
        } else if line.contains("<edge id=") {
            edges += 1;
            let [source, target] = ["source=\"", "target=\""].map(|end| between(line, end));
            let [(from, place), (to, before)] = [&source, &target].map(|end| end.split_once('/').unwrap());
            assert_eq!(from, to, "an edge leads out of its incident");
            assert!(
                before.parse::<u32>().unwrap() < place.parse().unwrap(),
                "an edge leads on"
            );
        }
    }
    let listed = incidents
        .iter()
        .map(|row| (row["incident_id"].clone(), row["records"].parse().unwrap()));
    assert_eq!(records, listed.collect::<BTreeMap<String, u64>>());
    // A tree each: so many edges, each to what was before, hold all nodes of an incident together.
    assert_eq!((nodes > incidents.len(), edges), (true, nodes - incidents.len()));
    let (again, _) = graph_of("mixed.csv", format!("{header}\n{}\n", mixed.join("\n")));
    assert_eq!(again, graph);
}

#[test]
fn what_cannot_be_written_is_said_before_anything_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("outage.csv");
    fs::write(&input, outage()).unwrap();
    let [input, out] = [input.to_str().unwrap(), folder.path().to_str().unwrap()];
    let complaint = |options: &[&str]| {
        let command = [&["analyze", input, "--out", out], options].concat();
        let command = Command::parse_from(command);
        format!("{:#}", harbinger::commands::analyze::run(&command.args).unwrap_err())
    };
    assert!(complaint(&["--graph", "/no/where/g.gexf"]).contains("--graph: cannot write /no/where/g.gexf"));
    assert!(complaint(&["--report", out]).contains("--report: cannot write"));
    let notebook = complaint(&["--profile", "notebook", "--report", "r.html"]);
    assert!(notebook.contains("leave --profile out"), "{notebook}");
    let alone = Command::try_parse_from(["analyze", input, "--out", out, "--redact"])
        .err()
        .unwrap();
    assert!(alone.to_string().contains("--report"), "{alone}");
}
