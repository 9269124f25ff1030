//! `harbinger explain`, with the real model: by what an analysis has learned, and by nothing but the shipped priors.

use std::{
    fmt::Write,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::model::assets;

fn harbinger(arguments: &[&str]) -> Output {
    assets();
    Command::new(env!("CARGO_BIN_EXE_harbinger"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = harbinger(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Leaves in the folder what 600 healthy lines of two services teach.
fn learn(folder: &Path) {
    let mut table = "timestamp,service,severity,message\n".to_owned();
    for n in 0..600 {
        let (service, message) = match n % 4 {
            0 => ("shop", format!("order {n} placed by customer {}", n * 7)),
            1 => ("shop", format!("cart {n} was emptied")),
            2 => ("bank", format!("payment {n} received")),
            _ => ("bank", format!("statement {n} sent to the customer")),
        };
        let _ = writeln!(
            table,
            "2024-11-18T10:{:02}:{:02}Z,{service},INFO,{message}",
            n / 60,
            n % 60
        );
    }
    let input = folder.join("healthy.csv");
    fs::write(&input, table).unwrap();
    let (input, out, learned) = (input, folder.join("out"), folder.join("learned"));
    let [input, out, learned] = [&input, &out, &learned].map(|path| path.to_str().unwrap());
    printed(&["analyze", input, "--out", out, "--save-snapshot", learned]);
}

#[test]
fn a_line_is_explained_by_what_was_learned_and_nothing_is_learned_from_it() {
    let folder = tempfile::tempdir().unwrap();
    learn(folder.path());
    let learned = folder.path().join("learned");
    let before = fs::read(learned.join("snapshot")).unwrap();
    let learned_name = learned.to_str().unwrap();
    // An agent has the directory; that is no obstacle.
    let _agent = harbinger::edge::store::StateDirectory::open(&learned).unwrap();

    let json = |line: &str, more: &[&str]| -> Value {
        let arguments = [&["explain", line, "--snapshot", learned_name, "--json"], more].concat();
        serde_json::from_str(&printed(&arguments)).unwrap()
    };
    let usual = json("order 9999 placed by customer 3", &[]);
    assert_eq!(usual["template"], "order <n> placed by customer <n>");
    assert_eq!(usual["known"]["lines"], 150);
    assert_eq!(usual["unknown_share"], 0.0);
    assert_eq!(usual["known"]["services"][0][0], "shop");
    assert_eq!(usual["service"], "shop");
    assert_eq!(usual["verdict"]["outcome"], "normal");

    let broken = json(
        "payment 7 failed: the database is corrupt and cannot be read",
        &["--service", "bank", "--severity", "ERROR"],
    );
    assert_eq!(broken["verdict"]["outcome"], "anomalous");
    assert!(broken["verdict"]["reason"].is_string() && broken["known"].is_null());
    assert_eq!(broken["nearest"][0]["template"], "payment <n> received");
    assert_eq!(broken["difference"][0]["words"], "payment <n>");
    assert_eq!(broken["difference"][1]["of"], "known");
    assert!(broken["failure"]["failing"][0]["cosine"].as_f64().unwrap() > 0.5);

    let text = printed(&["explain", "cart 5 was emptied", "--state", learned_name]);
    assert!(
        text.starts_with("template   cart <n> was emptied\nkey        a356435ce40813ec ")
            && text.contains("\nknown      150 records (shop 150), first 2024-11-18T10:0"),
        "{text}"
    );
    for part in [
        "\nverdict    normal\n",
        "\nautoencoder ",
        "\nnearest known templates\n",
        "\nsounds like failure: ",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(fs::read(learned.join("snapshot")).unwrap(), before);
}

#[test]
fn without_a_snapshot_the_shipped_priors_are_all_there_is() {
    let text = printed(&["explain", "giving up after 3 attempts"]);
    assert!(text.contains("shipped priors only"), "{text}");
    assert!(text.contains("template   giving up after <n> attempts"), "{text}");
    assert!(text.contains("verdict    none before the first training"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().to_str().unwrap();
    assert!(printed(&["explain", "boom", "--state", empty]).starts_with("There is no snapshot in "));
    let missing = harbinger(&["explain", "boom", "--state", "/nowhere/to/be/found"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/to/be/found"));
    assert_eq!(
        harbinger(&["explain", "boom", "--severity", "loud"]).status.code(),
        Some(2)
    );
}
