//! The JSON Schema that editors check by, held against the reader: what the one takes the other takes, and what is written
//! of a key in the reference an editor shows.

use std::{collections::BTreeSet, fs};

use harbinger::config;
use jsonschema::Validator;
use serde_json::Value;

use super::{Files, LEAST, REFERENCE, examples, load, yaml_files};

const SCHEMA: &str = "config-examples/harbinger.schema.json";

/// Refused by the reader for what its types say: what an editor, too, marks.
const OF_TYPES: [&str; 35] = [
    "all_mistakes_at_once",
    "batch_processor",
    "boolean_expected",
    "cluster_of_an_unknown_key",
    "component_id_without_name",
    "connectors",
    "duration_misspelt",
    "duration_negative",
    "duration_without_unit",
    "header_of_a_wrong_shape",
    "http_protocol_of_grpc_key",
    "key_in_the_wrong_section",
    "key_of_nobody",
    "list_expected",
    "list_instead_of_ids",
    "not_a_mapping",
    "notifier_of_nobody",
    "number_expected",
    "port_out_of_range",
    "queue_of_a_file",
    "queue_of_the_collector",
    "section_expected",
    "string_expected",
    "telemetry_level",
    "tls_key_in_the_configuration",
    "tls_too_old",
    "token_is_a_number",
    "unknown_key",
    "unknown_key_deeper",
    "unknown_key_of_a_service",
    "unknown_processor",
    "unknown_receiver",
    "unknown_top_level_key",
    "unknown_word",
    "whole_number_expected",
];

fn schema() -> Value {
    serde_json::from_str(&config::schema().unwrap()).unwrap()
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).unwrap()
}

/// A YAML file as an editor sees it.
fn document(file: &str) -> Option<Value> {
    serde_yaml::from_str(&fs::read_to_string(file).unwrap()).ok()
}

fn complaints(validator: &Validator, document: &Value) -> Vec<String> {
    let errors = validator.iter_errors(document);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_schema_that_is_committed_is_the_one_that_is_made() {
    let committed = fs::read_to_string(SCHEMA).unwrap_or_default();
    assert!(
        committed == config::schema().unwrap(),
        "{SCHEMA} is not what the settings say; write it anew: cargo run --locked -- schema > {SCHEMA}"
    );
}

#[test]
fn every_example_keeps_to_the_schema_and_names_it_for_editors() {
    let validator = validator();
    for file in examples() {
        assert_eq!(complaints(&validator, &document(&file).unwrap()), [""; 0], "{file}");
        let first = fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
        let up = "../".repeat(file.matches('/').count() - 1);
        let named = format!("# yaml-language-server: $schema={up}harbinger.schema.json");
        assert_eq!(first, named, "the first line of {file}");
    }
}

/// What is refused for a key, a word or a type is marked in the editor; what it marks the reader refuses too.
#[test]
fn what_the_schema_refuses_the_reader_refuses_and_the_other_way_round() {
    let validator = validator();
    let mut marked = BTreeSet::new();
    for file in yaml_files("tests/all/config/refused") {
        // Twice the same key and the like is for the editor's YAML.
        let Some(document) = document(&file) else { continue };
        let name = file.rsplit('/').next().unwrap().trim_end_matches(".yaml").to_owned();
        if !complaints(&validator, &document).is_empty() {
            marked.insert(name);
        }
    }
    let missed: Vec<&str> = OF_TYPES.into_iter().filter(|name| !marked.contains(*name)).collect();
    assert_eq!(missed, [""; 0], "refused by the reader, taken by the schema");
    for file in yaml_files("tests/all/config/warned") {
        assert_eq!(complaints(&validator, &document(&file).unwrap()), [""; 0], "{file}");
    }
}

/// Whatever may stand for a value, each way of writing it, is taken or refused by both.
#[test]
fn values_are_taken_or_refused_by_both() {
    let files = Files::new(&[("c.yaml", LEAST)]);
    let validator = validator();
    let harbinger = "processors.harbinger";
    let mut wrong = Vec::new();
    for (key, values) in [
        (
            format!("{harbinger}.correlation.window"),
            "5m, 1h30m, 1h 30m, 2 hours, 1.5h, 90 secs, 400s, '${env:UNSET:-5m}', 7, soon, -1s, 5 bananas, [5m], {a: 5m}, true",
        ),
        (
            format!("{harbinger}.correlation.max_delay"),
            "0, 0s, 1h, '1', 1, ~, 500 ms, 30 minutes",
        ),
        (
            format!("{harbinger}.text.masking"),
            "true, false, yes, 'true', 1, ~, '${env:UNSET:-true}', []",
        ),
        (
            format!("{harbinger}.text.max_text_bytes"),
            "100, -1, 1.5, '100', x, ~, '${env:UNSET:-100}', 0x80",
        ),
        (
            format!("{harbinger}.detection.mode"),
            "mark, shadow, Mark, marks, 1, ~, '${env:UNSET:-off}', [mark]",
        ),
        (
            format!("{harbinger}.detection.percentile"),
            "99, 99.5, '99', ~, 9e1, none",
        ),
        (
            format!("{harbinger}.detection.detectors"),
            "[rarity], [rarity, ~], [seldom], rarity, '${yaml:[rarity]}'",
        ),
        (
            "exporters.otlp_grpc.tls.min_version".to_owned(),
            "'1.2', 1.2, 1.3, '1.1', 1.1, tls, '${env:UNSET:-1.2}'",
        ),
        (
            "exporters.otlp_grpc.headers".to_owned(),
            "{}, {a: b}, {a: {from_context: X}}, {a: {from: X}}, {a: 1}, {a: ~}, [a], a",
        ),
        (
            "exporters.otlp_grpc.headers.x".to_owned(),
            "a, 7, {from_context: X}, {from_context: 7}",
        ),
        (
            "receivers.otlp.protocols.grpc.endpoint".to_owned(),
            "localhost:1, 4317, '${env:UNSET:-localhost:1}', {a: b}, ~",
        ),
        ("service.telemetry.logs.level".to_owned(), "debug, DEBUG, Debug, trace"),
        (
            "service.telemetry.metrics.readers".to_owned(),
            "[{pull: {exporter: {prometheus: {port: 1}}}}, {pull: {exporter: {prometheus: {port: 65536}}}}], [{push: {}}], []",
        ),
        (
            "service.extensions".to_owned(),
            "[], [health_check], [1], health_check, ~",
        ),
        (
            "service.pipelines.logs".to_owned(),
            "{receivers: [otlp], processors: [harbinger], exporters: [otlp_grpc]}, {receiver: [otlp]}, 1",
        ),
        (
            "exporters".to_owned(),
            "{otlp/a: {endpoint: 'http://x:1'}, otlp_grpc: {endpoint: 'http://y:1'}, kafka: {}}, {'otlp/ ': {endpoint: 'http://x:1'}}",
        ),
        (
            format!("{harbinger}.text.services"),
            "{cart: }, {cart: {masking: false}}, {cart: {mask: false}}, {cart: 1}",
        ),
    ] {
        let texts: Vec<Value> = serde_yaml::from_str(&format!("[{values}]")).unwrap();
        for value in &texts {
            let set = format!("{key}={value}");
            let read = load(&[&files.path("c.yaml")], &[&set]);
            // What only holds together (ranges, what is defined) is not the schema's.
            let by_reader = read.as_ref().err().filter(|error| {
                [
                    "expected",
                    "a header is a text",
                    "unknown",
                    "has no unit",
                    "did you mean",
                    "nothing belongs",
                    "not a component id",
                ]
                .iter()
                .any(|word| error.contains(word))
            });
            let mut document: Value = value.clone();
            for step in key.rsplit('.') {
                document = serde_json::json!({ step: document });
            }
            let by_schema = complaints(&validator, &document);
            if by_reader.is_some() == by_schema.is_empty() {
                wrong.push(format!("{set}: {:?} against {by_schema:?}", read.err()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every key of the reference is in the schema, with what the reference says and its default; and everything in the schema
/// is explained.
#[test]
fn the_schema_says_what_the_reference_says() {
    let schema = schema();
    let reference = document(REFERENCE).unwrap();
    let (mut wrong, mut without_default) = (Vec::new(), Vec::new());
    compare(&schema, &schema, &reference, "", &mut wrong, &mut without_default);
    explained(&schema, "", &mut wrong);
    for definition in schema["definitions"].as_object().unwrap() {
        explained(definition.1, definition.0, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What has no default is what has to be set for the reference to be a configuration.
    let least: Value = serde_yaml::from_str(LEAST).unwrap();
    let mut set = Vec::new();
    leaves(&least, "", &mut set);
    let without_default: Vec<String> = without_default
        .into_iter()
        .filter(|key| !key.contains(".pipelines."))
        .collect();
    set.retain(|key| !key.contains(".pipelines."));
    assert_eq!(
        without_default.into_iter().collect::<BTreeSet<_>>(),
        set.into_iter().collect::<BTreeSet<_>>()
    );
}

fn leaves(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(section) => {
            for (name, below) in section {
                leaves(below, &format!("{key}.{name}"), found);
            }
        }
        Value::Null => {}
        _ => found.push(key.to_owned()),
    }
}

/// Holds the part of the schema at `key` against what the reference has there.
fn compare(
    schema: &Value,
    part: &Value,
    written: &Value,
    key: &str,
    wrong: &mut Vec<String>,
    without_default: &mut Vec<String>,
) {
    let part = match part["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => part,
    };
    match (part["properties"].as_object(), written) {
        (Some(known), Value::Object(section)) => {
            for (name, written) in section {
                let key = format!("{key}.{name}");
                match known.get(name) {
                    Some(part) => compare(schema, part, written, &key, wrong, without_default),
                    None => wrong.push(format!("{key} is not in the schema")),
                }
            }
        }
        (_, Value::Null) => {}
        _ if part["default"].is_null() => without_default.push(key.to_owned()),
        _ if part["default"] == *written => {}
        _ => wrong.push(format!(
            "{key}: the default is {}, the reference has {written}",
            part["default"]
        )),
    }
}

/// Complains of every key without words.
fn explained(part: &Value, key: &str, wrong: &mut Vec<String>) {
    for (name, part) in part["properties"].as_object().into_iter().flatten() {
        let key = format!("{key}.{name}");
        if part["description"].as_str().is_none_or(str::is_empty) && part["$ref"].is_null() {
            wrong.push(format!(
                "{key} is not explained: write a comment above it in {REFERENCE}, or in src/config/schema/unwritten.yaml"
            ));
        }
        explained(part, &key, wrong);
    }
    for below in ["items", "additionalProperties"] {
        if part[below].is_object() {
            explained(&part[below], key, wrong);
        }
    }
}
