//! What users write: every way of getting it wrong gives one clear error, and every example we ship is right.
//!
//! A file in `refused/` begins with the errors it must give, in lines of `#= `, with FILE for its own path; a line that
//! ends in `…` goes on with what other rooms may change. A file in `warned/` begins likewise with its warnings.

/// What editors check by.
mod schema;

use std::{fs, path::PathBuf};

use harbinger::{
    config::{self, Harbinger, Loaded},
    pipeline::Mode,
};

/// The environment of every test here.
fn environment(name: &str) -> Option<String> {
    match name {
        "HARBINGER_TEST_WORD" => Some("word".to_owned()),
        "HARBINGER_TEST_WHOLE" => Some(WHOLE.to_owned()),
        "HARBINGER_TEST_ENDPOINT" => Some("http://collector:4317".to_owned()),
        _ => None,
    }
}

fn load(paths: &[&str], sets: &[&str]) -> Result<Loaded, String> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    config::load(&owned(paths), &owned(sets), &environment).map_err(|error| error.to_string())
}

/// Every YAML file below `directory`, sorted.
fn yaml_files(directory: &str) -> Vec<String> {
    let mut files: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{directory}");
    files
}

/// What the file's head says must come of it.
fn expected(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map_while(|line| line.strip_prefix("#= "))
        .collect::<Vec<_>>()
        .join("\n")
}

fn compare(directory: &str, outcome: impl Fn(&str) -> String) {
    let mut wrong = Vec::new();
    for file in yaml_files(directory) {
        let (expected, found) = (expected(&file), outcome(&file).replace(&file, "FILE"));
        let as_expected = expected.lines().count() == found.lines().count()
            && expected
                .lines()
                .zip(found.lines())
                .all(|(expected, found)| match expected.strip_suffix('…') {
                    Some(beginning) => found.starts_with(beginning),
                    None => found == expected,
                });
        if !as_expected {
            wrong.push(format!("{file}\n  expected: {expected}\n  found:    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mistake_gives_its_error_with_file_line_column_and_key() {
    compare("tests/all/config/refused", |file| match load(&[file], &[]) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error,
    });
}

#[test]
fn what_is_probably_not_meant_gives_a_warning() {
    compare("tests/all/config/warned", |file| match load(&[file], &[]) {
        Ok(loaded) => loaded
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        Err(error) => error,
    });
}

/// A directory with files, gone when dropped.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

const WHOLE: &str = "
receivers: {otlp: {protocols: {grpc: }}}
processors: {harbinger: {detection: {percentile: 95}, text: {body_fields: [a, b], masking: false}}}
exporters: {otlp_grpc: {endpoint: 'http://collector:4317'}}
service: {pipelines: {logs: {receivers: [otlp], processors: [harbinger], exporters: [otlp_grpc]}}}
";

/// Sections are merged, lists and values replaced.
#[test]
fn later_files_and_flags_win() {
    let files = Files::new(&[
        ("base.yaml", WHOLE),
        ("site.yaml", "processors: {harbinger: {text: {body_fields: [c]}}}"),
        ("empty.yaml", "# nothing here\n"),
    ]);
    let (base, site, empty) = (
        files.path("base.yaml"),
        format!("file:{}", files.path("site.yaml")),
        files.path("empty.yaml"),
    );
    let set = [
        "processors.harbinger.detection.percentile=90.5",
        "processors.harbinger.detection.mode = shadow",
    ];
    let harbinger = load(&[&base, &site, &empty], &set).unwrap().settings.harbinger;
    assert_eq!(harbinger.text.body_fields, ["c"]);
    assert!(!harbinger.text.masking);
    assert_eq!(harbinger.detection.score.percentile, 90.5);
    assert_eq!(harbinger.detection.mode, Mode::Shadow);
    let other_order = load(&[&site, &base], &[]).unwrap().settings.harbinger;
    assert_eq!(other_order.text.body_fields, ["a", "b"]);
}

/// A whole configuration in a variable, keys in one line with the Collector's `::`, files: each lies over the one before.
#[test]
fn a_configuration_comes_from_a_variable_a_line_or_a_file() {
    let files = Files::new(&[("mode", "shadow\n")]);
    let mode = format!(
        "yaml:processors::harbinger::detection::mode: ${{file:{}}}",
        files.path("mode")
    );
    let percentile =
        "yaml:{processors::harbinger::detection: {percentile: 90}, service::telemetry::logs::level: debug}";
    let harbinger = load(&["env:HARBINGER_TEST_WHOLE", &mode, percentile], &[])
        .unwrap()
        .settings
        .harbinger;
    assert_eq!(harbinger.detection.mode, Mode::Shadow);
    assert_eq!(harbinger.detection.score.percentile, 90.0);
    assert_eq!(harbinger.text.body_fields, ["a", "b"]);
    // Where it went wrong is told, and never what stood there: it may be a secret.
    for (config, message) in [
        (
            "yaml:processors: {harbinger: {text: {masking: hunter2}}}",
            "--config yaml:: processors.harbinger.text.masking: expected",
        ),
        (
            "yaml:exporters: [hunter2",
            "--config yaml:: exporters: this is not YAML",
        ),
        ("yaml:a::::b: c", "--config yaml:: `a::::b` holds an empty key"),
        ("yaml:hunter2", "--config yaml:: not a configuration"),
        (
            "env:HARBINGER_TEST_WORD",
            "env:HARBINGER_TEST_WORD:1:1: not a configuration",
        ),
    ] {
        let error = load(&["env:HARBINGER_TEST_WHOLE", config], &[]).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}

/// A mistake is told of where it was written, not in the file it was laid over.
#[test]
fn a_mistake_in_an_overlay_or_flag_names_the_overlay_or_flag() {
    let files = Files::new(&[
        ("base.yaml", WHOLE),
        ("site.yaml", "processors:\n  harbinger:\n    text:\n      masking: 7\n"),
    ]);
    let (base, site) = (files.path("base.yaml"), files.path("site.yaml"));
    assert_eq!(
        load(&[&base, &site], &[]).unwrap_err(),
        format!("{site}:4:16: processors.harbinger.text.masking: expected true or false, found the number 7")
    );
    assert_eq!(
        load(&[&base], &["processors.harbinger.text.maskin=true"])
            .unwrap_err()
            .split(';')
            .next()
            .unwrap(),
        "--set processors.harbinger.text.maskin: processors.harbinger.text.maskin: unknown key"
    );
    assert_eq!(
        load(&[&base], &["exporters.otlp_grpc.headers.authorization=[secret"]).unwrap_err(),
        "--set exporters.otlp_grpc.headers.authorization: the value is not YAML (this is not YAML: a list [ ] or \
         section { } is not closed; check its commas and its end); put it in quotes"
    );
    for wrong in ["processors.harbinger", ".a=1", "=1", "a..b=1"] {
        assert!(
            load(&[&base], &[wrong])
                .unwrap_err()
                .contains("write `--set key.below=value"),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_no_file_to_read_gives_its_error() {
    let files = Files::new(&[]);
    fs::write(files.path("latin1.yaml"), b"a: b\nc: \xe9\n").unwrap();
    let missing = files.path("missing.yaml");
    assert_eq!(
        load(&[&missing], &[]).unwrap_err(),
        format!(
            "{missing}: no such file; give the path of a configuration by `--config`, or copy \
             config-examples/quickstart.yaml"
        )
    );
    assert!(
        load(&[&files.path("latin1.yaml")], &[])
            .unwrap_err()
            .ends_with("not UTF-8 text in line 2; save the file as UTF-8")
    );
    assert!(
        load(&[files.0.path().to_str().unwrap()], &[])
            .unwrap_err()
            .ends_with("a directory; give the path of a YAML file in it")
    );
    assert!(
        load(&["https://example/config.yaml"], &[])
            .unwrap_err()
            .contains("fetch the configuration to a file before the start")
    );
    assert_eq!(
        load(&["env:CONFIG"], &[]).unwrap_err(),
        "env:CONFIG: the environment variable CONFIG is not set; set it to the text of a configuration"
    );
}

/// `harbinger: {}`, `harbinger:` and sections without a value are the defaults.
#[test]
fn what_is_left_out_has_its_default() {
    let written = |harbinger: &str| {
        let files = Files::new(&[(
            "c.yaml",
            &format!(
                "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nprocessors:\n  harbinger:{harbinger}\n\
                 exporters: {{otlp: {{endpoint: 'http://collector:4317'}}}}\n\
                 service: {{pipelines: {{logs: {{receivers: [otlp], processors: [harbinger], exporters: [otlp]}}}}}}"
            ),
        )]);
        load(&[&files.path("c.yaml")], &[]).unwrap().settings.harbinger
    };
    for nothing in ["", " {}", " ~", "\n    text:\n    detection: {mode: }\n    state: {}"] {
        assert_eq!(written(nothing), Harbinger::default(), "{nothing:?}");
    }
}

/// What is printed configures the same agent.
#[test]
fn a_printed_configuration_reads_back_as_itself() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    let config = load(&[&files.path("c.yaml")], &[]).unwrap().config;
    let printed = config::print(&config).unwrap();
    fs::write(files.path("printed.yaml"), &printed).unwrap();
    assert_eq!(
        load(&[&files.path("printed.yaml")], &[]).unwrap().config,
        config,
        "{printed}"
    );
}

/// Examples for the agent, wherever below `config-examples`: YAML with receivers; `collector*.yaml` are the Collector's.
pub(crate) fn examples() -> Vec<String> {
    let mut folders = vec![PathBuf::from("config-examples")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_yaml = name.ends_with(".yaml") && !name.starts_with("collector");
            let document =
                is_yaml.then(|| serde_yaml::from_str::<serde_json::Value>(&fs::read_to_string(&path).unwrap()));
            if document.is_some_and(|document| document.is_ok_and(|document| document["receivers"].is_object())) {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    assert!(files.len() > 1);
    files
}

#[test]
fn every_example_is_a_configuration_without_warnings() {
    for file in examples().iter().filter(|file| !file.ends_with("reference.yaml")) {
        assert_eq!(load(&[file], &[]).unwrap().warnings, [], "{file}");
    }
}

const REFERENCE: &str = "config-examples/reference.yaml";

/// What has no default, and nothing else.
const LEAST: &str = "receivers: {otlp: {protocols: {grpc: , http: }}, kafka: }
processors: {memory_limiter: {limit_mib: 2048}, harbinger: }
exporters:
  {otlp_grpc: {endpoint: 'http://localhost:14317'}, otlp_http: {endpoint: 'http://localhost:14318'}, kafka: , file: {path: ./harbinger-out.jsonl}, debug: }
extensions:
  health_check:
  harbinger_api:
  harbinger_page:
  file_storage:
  bearertokenauth: {filename: /etc/harbinger/tokens}
  basicauth: {htpasswd: {file: /etc/harbinger/htpasswd}}
service:
  extensions: [health_check, harbinger_api]
  pipelines: {logs: {receivers: [otlp], processors: [memory_limiter, harbinger], exporters: [otlp_grpc]}}";

/// The reference shows every key there is with its default: it is exactly what is printed when only what has no default
/// is set.
#[test]
fn the_reference_never_goes_stale() {
    let files = Files::new(&[("least.yaml", LEAST)]);
    let least = load(&[&files.path("least.yaml")], &[]).unwrap().config;
    let reference = load(&[REFERENCE], &[]).unwrap().config;
    assert_eq!(reference, least);
    let value = |text: &str| serde_yaml::from_str::<serde_yaml::Value>(text).unwrap();
    let (printed, written) = (config::print(&least).unwrap(), fs::read_to_string(REFERENCE).unwrap());
    let mut different = Vec::new();
    differences("", &value(&printed), &value(&written), &mut different);
    assert!(different.is_empty(), "{REFERENCE}:\n{}", different.join("\n"));
}

fn differences(key: &str, printed: &serde_yaml::Value, written: &serde_yaml::Value, different: &mut Vec<String>) {
    match (printed.as_mapping(), written.as_mapping()) {
        (Some(printed), Some(written)) => {
            for (name, value) in printed {
                let key = format!("{key}.{}", name.as_str().unwrap());
                match written.get(name) {
                    Some(written) => differences(&key, value, written, different),
                    None => different.push(format!("{key} is missing")),
                }
            }
            for name in written.keys().filter(|name| !printed.contains_key(name)) {
                different.push(format!("{key}.{} is no key (any more)", name.as_str().unwrap()));
            }
        }
        _ if printed == written => {}
        _ => different.push(format!("{key} is {written:?}, must be {printed:?}")),
    }
}

/// Incidents are shared where the section is there, unless it says otherwise.
#[test]
fn a_cluster_is_one_where_its_section_is() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    let shared = |sets: &[&str]| {
        let settings = load(&[&files.path("c.yaml")], sets).unwrap().settings;
        settings.harbinger.shared_by().cloned()
    };
    assert_eq!(shared(&[]), None);
    let cluster = shared(&["processors.harbinger.cluster="]).unwrap();
    assert_eq!(cluster.sharing.deadline.as_millis(), 250);
    assert_eq!(cluster.kafka.brokers, ["localhost:9092"]);
    let cluster = shared(&["processors.harbinger.cluster={agent_id: a-1, brokers: ['kafka:9092'], tls: {}}"]).unwrap();
    assert_eq!(cluster.sharing.agent_id(Some("host")), Ok("a-1".to_owned()));
    assert!(cluster.kafka.client().is_encrypted());
    // What is switched off does not have to go with the rest.
    let off = "processors.harbinger.cluster.enabled=false";
    assert_eq!(shared(&[off, "processors.harbinger.correlation.mode=components"]), None);
    // No password is shown.
    let auth = "processors.harbinger.cluster.auth={sasl: {username: agent, password: hunter2}}";
    let config = load(&[&files.path("c.yaml")], &[auth]).unwrap().config;
    let printed = config::print(&config).unwrap();
    assert!(
        printed.contains("log_topic: harbinger_incidents") && !printed.contains("hunter2"),
        "{printed}"
    );
}

/// With a queue the caller does not wait, so retries need no end; what is written holds.
#[test]
fn with_a_queue_retries_never_end_unless_they_are_told_to() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    let elapsed = |sets: &[&str]| {
        let queue = [
            "extensions.file_storage=",
            "service.extensions=[file_storage]",
            "exporters.otlp_grpc.sending_queue={storage: file_storage}",
        ];
        let settings = load(&[&files.path("c.yaml")], &[&queue, sets].concat())
            .unwrap()
            .settings;
        let [(_, config::Exporter::OtlpGrpc(otlp))] = settings.exporters.as_slice() else {
            panic!()
        };
        (
            otlp.exporter.retry_on_failure.max_elapsed_time.as_secs(),
            settings.exporters[0].1.sending_queue().is_some(),
        )
    };
    assert_eq!(elapsed(&[]), (0, true));
    assert_eq!(
        elapsed(&["exporters.otlp_grpc.retry_on_failure.initial_interval=1s"]),
        (0, true)
    );
    assert_eq!(
        elapsed(&["exporters.otlp_grpc.retry_on_failure.max_elapsed_time=1h"]),
        (3600, true)
    );
    assert_eq!(
        elapsed(&["exporters.otlp_grpc.sending_queue.enabled=false"]),
        (300, false)
    );
}

/// One destination may be waited for; `debug` never has to be.
#[test]
fn several_exporters_run_when_all_but_one_have_queues() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    let sets = [
        "extensions.file_storage/fast=",
        "service.extensions=[file_storage/fast]",
        "exporters.otlp_grpc/second={endpoint: 'http://other:4317', sending_queue: {storage: file_storage/fast}}",
        "exporters.debug=",
        "service.pipelines.logs.exporters=[otlp_grpc, otlp_grpc/second, debug]",
        "processors.harbinger.events.exporter=otlp_grpc/second",
    ];
    let settings = load(&[&files.path("c.yaml")], &sets).unwrap().settings;
    assert_eq!(settings.exporters.len(), 3);
    assert_eq!(settings.events_exporter.unwrap().to_string(), "otlp_grpc/second");
}

/// Traces and metrics have pipelines of their own, of the same receivers and exporters or others.
#[test]
fn each_signal_has_its_pipeline() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    let signals = |sets: &[&str]| {
        let settings = load(&[&files.path("c.yaml")], sets).unwrap().settings;
        let receivers = settings.receivers.iter();
        let taken = receivers.map(|(id, _)| {
            let signals: Vec<String> = settings.signals_of(id).map(|signal| signal.to_string()).collect();
            format!("{id}: {}", signals.join(" "))
        });
        let taken: Vec<String> = taken.collect();
        let limited = settings
            .pipelines
            .iter()
            .filter(|(_, pipeline)| pipeline.limits_memory());
        let limited: Vec<String> = limited.map(|(signal, _)| signal.to_string()).collect();
        (taken.join(", "), settings.exporters.len(), limited.join(" "))
    };
    let traces = "service.pipelines.traces={receivers: [otlp], exporters: [otlp_grpc]}";
    assert_eq!(signals(&[]), ("otlp: logs".to_owned(), 1, String::new()));
    assert_eq!(signals(&[traces]), ("otlp: logs traces".to_owned(), 1, String::new()));
    let more = [
        traces,
        "receivers.otlp/second={protocols: {http: {endpoint: 'localhost:14318'}}}",
        "exporters.otlp_http={traces_endpoint: 'http://a/1', metrics_endpoint: 'http://b/2'}",
        "processors.memory_limiter={limit_mib: 2048}",
        "service.pipelines.metrics/second={receivers: [otlp/second], processors: [memory_limiter], exporters: [otlp_http]}",
    ];
    assert_eq!(
        signals(&more),
        (
            "otlp: logs traces, otlp/second: metrics".to_owned(),
            2,
            "metrics".to_owned()
        )
    );
}

/// Values of headers are secrets; the names of headers that are passed on are not.
#[test]
fn secrets_are_not_printed() {
    let loaded = load(
        &["config-examples/multitenant-headers.yaml"],
        &["exporters.otlp_grpc.headers.x-key=hunter2"],
    )
    .unwrap();
    let printed = config::print(&loaded.config).unwrap();
    assert!(!printed.contains("hunter2") && !printed.contains("Bearer"), "{printed}");
    assert!(printed.contains("x-key: '[REDACTED]'"), "{printed}");
    assert!(printed.contains("from_context: X-Scope-OrgID"), "{printed}");
    assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
}

/// Nor is any other secret there is, wherever one can be written.
#[test]
fn no_secret_of_any_kind_is_printed() {
    let files = Files::new(&[(
        "c.yaml",
        "receivers: {otlp: {protocols: {grpc: {auth: {authenticator: bearertokenauth/many}}}}}
processors:
  harbinger:
    notifiers:
      alertmanager: {endpoint: 'http://am:9093', headers: {Authorization: Bearer hunter2}}
      webhook: {endpoint: 'http://hook:1/x', headers: {X-Key: hunter2}}
exporters:
  otlp_grpc: {endpoint: 'https://collector:4317', headers: {X-Key: hunter2}, auth: {authenticator: basicauth}}
extensions:
  bearertokenauth: {token: hunter2}
  bearertokenauth/many: {tokens: [hunter2, other-hunter2]}
  basicauth: {htpasswd: {inline: 'ann:hunter2'}, client_auth: {username: ann, password: hunter2}}
service:
  extensions: [bearertokenauth, bearertokenauth/many, basicauth]
  pipelines: {logs: {receivers: [otlp], processors: [harbinger], exporters: [otlp_grpc]}}",
    )]);
    let loaded = load(&[&files.path("c.yaml")], &[]).unwrap();
    let printed = config::print(&loaded.config).unwrap();
    assert!(!printed.contains("hunter2"), "{printed}");
    assert_eq!(printed.matches(config::REDACTED).count(), 8, "{printed}");
    assert!(!format!("{:?}", loaded).contains("hunter2"));
    assert!(
        !serde_yaml::to_string(&loaded.config.extensions)
            .unwrap()
            .contains("hunter2")
    );
}

/// A secret in a wrong place is not shown by the error either.
#[test]
fn secrets_are_not_in_errors() {
    let files = Files::new(&[("c.yaml", WHOLE)]);
    for set in [
        "exporters.otlp_grpc.headers.x-key={y: hunter2}",
        "exporters.otlp_grpc.headers.x-key=31337",
        "exporters.otlp_grpc.headers=hunter2",
        "exporters.otlp_grpc.endpoint=https://ann:hunter2@collector:4317",
        "exporters.otlp_grpc.endpoint=ftp://ann:hunter2@collector",
        "exporters.otlp_grpc.tls={key_pem: hunter2}",
        "processors.harbinger.notifiers.webhook.endpoint=https://ann:hunter2@hook",
        "extensions.bearertokenauth={token: 31337}",
        "extensions.bearertokenauth={tokens: hunter2}",
        "extensions.bearertokenauth={token: \"hunter2\\n\"}",
        "extensions.bearertokenauth={token: hunter2, tokens: [hunter2]}",
        "extensions.basicauth={htpasswd: {inline: hunter2}}",
        "extensions.basicauth={htpasswd: hunter2}",
        "extensions.basicauth={client_auth: {password: hunter2}}",
        "extensions.basicauth={client_auth: {username: ann, password: {x: hunter2}}}",
        "service.telemetry.metrics.readers=[{periodic: {exporter: {otlp: {endpoint: \"http://a:hunter2@b\"}}}}]",
    ] {
        let error = load(&[&files.path("c.yaml")], &[set]).unwrap_err();
        assert!(!error.contains("hunter2") && !error.contains("31337"), "{error}");
    }
}

/// Paths that a start would fail on are told of by `validate`.
#[test]
fn paths_that_cannot_work_are_found_without_a_start() {
    let files = Files::new(&[("c.yaml", WHOLE), ("file", "")]);
    let found = |sets: &[&str]| match config::preflight(&load(&[&files.path("c.yaml")], sets).unwrap().settings) {
        Ok(()) => "nothing".to_owned(),
        Err(error) => error.to_string().replace(files.0.path().to_str().unwrap(), "DIR"),
    };
    let directory = |below: &str| format!("processors.harbinger.state.directory={}", files.path(below));
    let file = |below: &str| format!("exporters={{otlp_grpc: null, file: {{path: {}}}}}", files.path(below));
    assert_eq!(found(&[&directory("made/if/missing")]), "nothing");
    assert_eq!(
        found(&[&directory("file/below")]),
        "processors.harbinger.state.directory: DIR/file is no directory; write the path of one, which is made if missing"
    );
    let to_file = "service.pipelines.logs.exporters=[file]";
    let endpoint = "exporters.otlp_grpc.endpoint=http://collector:4317";
    assert_eq!(found(&[&file("out.jsonl"), endpoint, to_file]), "nothing");
    assert_eq!(
        found(&[&file("missing/out.jsonl"), endpoint, to_file]),
        "exporters.file.path: the directory DIR/missing does not exist; make it (`mkdir -p DIR/missing`)"
    );
    assert_eq!(
        found(&[&file(""), endpoint, to_file]),
        "exporters.file.path: DIR/ is a directory; write the path of a file in it"
    );
    let tls = format!(
        "receivers.otlp.protocols.grpc.tls={{cert_file: {}, key_file: {}}}",
        files.path("server.pem"),
        files.path("server.key")
    );
    assert_eq!(
        found(&[&tls]),
        "receivers.otlp.protocols.grpc: tls.cert_file: cannot read DIR/server.pem (No such file or directory (os error 2)): write \
         the path of a file that exists"
    );
    let ca = format!("exporters.otlp_grpc.tls.ca_file={}", files.path("file"));
    assert_eq!(found(&[&ca]), "nothing", "http needs no certificate");
    assert!(
        found(&[&ca, "exporters.otlp_grpc.endpoint=https://collector:4317"])
            .starts_with("exporters.otlp_grpc: tls.ca_file: DIR/file: no certificate in PEM form")
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(12), failure_persistence: None, ..Default::default() })]

    /// Whatever is mistyped in a configuration, the answer is a configuration or errors that each name the file, or a key.
    #[test]
    fn no_mistyping_goes_without_an_answer(
        at in 0.0..1.0f64,
        cut in 0usize..12,
        typed in "[ \\ta-c0-9:\\-\\[\\]{},&*!|>'\"%@#?<\n.$~\\\\]{0,6}",
    ) {
        let mut text: Vec<char> = fs::read_to_string("config-examples/reference.yaml").unwrap().chars().collect();
        let at = (at * text.len() as f64) as usize;
        let end = (at + cut).min(text.len());
        text.splice(at..end, typed.chars());
        let files = Files::new(&[("c.yaml", &text.into_iter().collect::<String>())]);
        let path = files.path("c.yaml");
        if let Err(error) = load(&[&path], &[]) {
            for line in error.lines() {
                proptest::prop_assert!(line.starts_with(&path), "{line}");
            }
        }
    }
}
