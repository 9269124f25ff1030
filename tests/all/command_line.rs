//! The program as the shell sees it: exit codes, what goes to which stream, and help that helps.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

fn harbinger(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harbinger"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn here(arguments: &[&str]) -> Output {
    harbinger(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn without_arguments_help_is_printed_and_nothing_failed() {
    let output = here(&[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("harbinger run --config config-examples/quickstart.yaml"));
    assert!(output.stderr.is_empty());
}

#[test]
fn wrong_arguments_and_configurations_exit_with_2() {
    let output = here(&["frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("unrecognized subcommand 'frobnicate'"));

    let output = here(&["print-config", "--config", "tests/all/config/refused/unknown_key.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).starts_with(
            "error: tests/all/config/refused/unknown_key.yaml:8:5: processors.harbinger.detecton: unknown key; did you mean"
        ),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn without_a_configuration_the_examples_are_named() {
    let directory = tempfile::tempdir().unwrap();
    for command in ["run", "validate", "print-config"] {
        let output = harbinger(directory.path(), &[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let error = text(&output.stderr);
        assert!(
            error.starts_with("error: no configuration: there is no harbinger.yaml in this directory\n"),
            "{error}"
        );
        assert!(error.contains("config-examples/quickstart.yaml"), "{error}");
    }
}

#[test]
fn harbinger_yaml_of_the_current_directory_is_used() {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(
        "tests/all/config/warned/unused.yaml",
        directory.path().join("harbinger.yaml"),
    )
    .unwrap();
    let output = harbinger(directory.path(), &["print-config"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).contains("\n  harbinger:\n"),
        "the configuration goes to standard output"
    );
    assert!(
        text(&output.stderr).starts_with("warning: harbinger.yaml:8:3: receivers.otlp/second: "),
        "warnings do not"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_harbinger"))
        .args(["print-config", "--config", "tests/all/config/warned/unused.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let complaints: Vec<String> = BufReader::new(&*output.stderr)
        .lines()
        .map(Result::unwrap)
        .filter(|line| !line.starts_with("warning:"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(output.status.success());
}

/// Completions and manual pages come from what `--help` comes from: every command is in them.
#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = here(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        for word in ["analyze", "dead-letters", "require-model"] {
            assert!(text(&output.stdout).contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(here(&["completions", "tcsh"]).status.code(), Some(2));
    let page = here(&["man"]);
    assert!(text(&page.stdout).contains(".TH harbinger 1"));
    assert!(text(&page.stdout).contains("harbinger\\-analyze(1)"));
    let directory = tempfile::tempdir().unwrap();
    let output = harbinger(directory.path(), &["man", "--out", "pages/man1"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
    let pages = directory.path().join("pages/man1");
    for name in ["harbinger.1", "harbinger-run.1", "harbinger-incidents-list.1"] {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
}

/// What is printed is the committed schema to the byte, so that it can be redirected to the file.
#[test]
fn the_schema_is_printed_and_nothing_else() {
    let output = here(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    assert_eq!(
        text(&output.stdout),
        fs::read_to_string("config-examples/harbinger.schema.json").unwrap()
    );
}

#[test]
fn components_are_listed_with_their_stability() {
    let output = here(&["components"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("receivers\n  otlp             beta"));
}

/// A log that tries to take over the terminal is read, and does nothing; in JSON it is what it was.
#[test]
fn a_digest_of_marked_logs_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let record = |second: u64, body: &str, is_anomaly: bool| {
        serde_json::json!({
            "timeUnixNano": (1_731_924_000 + second).to_string() + "000000000",
            "severityNumber": 17,
            "body": {"stringValue": body},
            "attributes": [
                {"key": "is_anomaly", "value": {"boolValue": is_anomaly}},
                {"key": "incident_id", "value": {"stringValue": "20241118-100000-k7f3qa"}},
            ],
        })
    };
    let evil = "\u{1b}[2Jdisk \u{202e}lluf";
    let service = serde_json::json!({"key": "service.name", "value": {"stringValue": "shop\u{9b}2J"}});
    let request = serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": [service]},
        "scopeLogs": [{"logRecords": [record(2, evil, true), record(0, "usual", false)]}],
    }]});
    fs::write(directory.path().join("marked.jsonl"), format!("{request}\n")).unwrap();

    let told = harbinger(directory.path(), &["incidents", "digest", "marked.jsonl"]);
    let told = text(&told.stdout);
    assert!(told.contains("2024-11-18T10:00:00Z +2s   shop�2J"), "{told:?}");
    assert!(told.contains("began with   shop�2J: �[2Jdisk �lluf"), "{told:?}");
    let json = harbinger(directory.path(), &["incidents", "digest", "--json", "marked.jsonl"]);
    let json = text(&json.stdout);
    assert!(json.trim_end().is_ascii(), "{json:?}");
    let incident: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (
            &incident["records"],
            &incident["anomalous_records"],
            &incident["leading_edge"]["text"]
        ),
        (&2.into(), &1.into(), &evil.into())
    );
    assert_eq!(incident["service_counts"][0]["first_time"], "2024-11-18T10:00:00Z");
}
