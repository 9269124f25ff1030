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
