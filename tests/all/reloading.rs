//! SIGHUP as the shell sends it: what can change without a restart does, all else is told, and a broken file changes nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
};

use harbinger::{engine, pipeline::Mode};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use crate::{
    end_to_end::{Model, attribute, pipeline, request, send, warm_up},
    otlp::{Client, Hop, logs},
};

/// An agent in a process of its own, and what it says.
struct Agent {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    directory: tempfile::TempDir,
}

impl Agent {
    fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("harbinger.yaml"), config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_harbinger"))
            .arg("run")
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, said, directory }
    }

    /// What it says up to a line with `last` in it.
    fn said_until(&mut self, last: &str) -> String {
        let mut said = String::new();
        loop {
            let line = self.said.next().unwrap_or_else(|| panic!("it ended: {said}")).unwrap();
            said.push_str(&line);
            said.push('\n');
            if line.contains(last) {
                return said;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Has it reread this configuration; what it says of it.
    fn reload(&mut self, config: &str) -> String {
        fs::write(self.directory.path().join("harbinger.yaml"), config).unwrap();
        self.signal("-HUP");
        self.said_until("feedback.yaml reread")
    }

    fn stop(mut self) {
        self.signal("-TERM");
        self.said_until("stopped");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Where the test has failed; else it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CONFIG: &str = "
receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}
processors:
  memory_limiter: {limit_mib: 4096}
  harbinger:
    embedding: {model_directory: ./none}
    detection: {mode: mark, percentile: 99.5}
    text: {exclude: []}
    state: {enabled: false}
exporters: {otlp_grpc: {endpoint: 'http://HOP', timeout: 10s}}
extensions: {bearertokenauth: {token: hunter2}}
service:
  extensions: [bearertokenauth]
  pipelines: {logs: {receivers: [otlp], processors: [memory_limiter, harbinger], exporters: [otlp_grpc]}}
  telemetry: {logs: {level: info}, metrics: {level: none}}
";

#[tokio::test(flavor = "multi_thread")]
async fn what_can_change_does_and_what_cannot_is_told() {
    let hop = Hop::default();
    let config = CONFIG.replace("HOP", &hop.start().await.to_string());
    let mut agent = Agent::start(&config);
    // The addresses stand in the line, as `addresses=[127.0.0.1:41234]`.
    let serving = agent.said_until("receiving OTLP by gRPC");
    let address = serving.rsplit("addresses=[").next().unwrap().split(']').next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let mut client = Client::to(address).await;
    let came = async |client: &mut Client, text: &str| {
        client.export(logs(text)).await.unwrap();
        hop.seen.lock().unwrap().last().unwrap().message.clone()
    };
    assert_ne!(came(&mut client, "one").await, logs("one"), "marked");

    let said = agent.reload(&config);
    assert!(said.contains("nothing has changed"), "{said}");
    let said = agent.reload(
        &config
            .replace("exclude: []", "exclude: [{pattern: '^audit'}]")
            .replace("percentile: 99.5", "percentile: 95")
            .replace("limit_mib: 4096", "limit_mib: 8192")
            .replace("timeout: 10s", "timeout: 11s")
            .replace("hunter2", "hunter3"),
    );
    for key in [
        "harbinger.text.exclude",
        "harbinger.detection.percentile",
        "memory_limiter.limit_mib",
    ] {
        assert!(
            said.contains(&format!("`processors.{key}` changed: in force now")),
            "{key}: {said}"
        );
    }
    for key in ["exporters.otlp_grpc.timeout", "extensions.bearertokenauth"] {
        assert!(
            said.contains(&format!("`{key}` changed: takes effect at the next start")),
            "{key}: {said}"
        );
    }
    assert_eq!(said.matches(" changed: ").count(), 5, "{said}");
    assert!(!said.contains("hunter"), "{said}");
    assert_eq!(came(&mut client, "audit: one").await, logs("audit: one"), "untouched");
    assert_ne!(came(&mut client, "two").await, logs("two"), "marked");

    // Both mistakes are told, and what was in force stays.
    let broken = config
        .replace("mode: mark", "mode: shaddow")
        .replace("timeout: 10s", "timeout: 10");
    let said = agent.reload(&broken);
    assert!(
        said.contains("harbinger.yaml:8:23: processors.harbinger.detection: unknown value `shaddow`")
            || said.contains("unknown value `shaddow`"),
        "{said}"
    );
    assert!(
        said.contains("10 has no unit") && said.contains("nothing changes"),
        "{said}"
    );
    assert_eq!(
        came(&mut client, "audit: two").await,
        logs("audit: two"),
        "still untouched"
    );

    // The log says no more than it is told to, from that moment on.
    let shadow = config.replace("mode: mark", "mode: shadow");
    let quiet = shadow
        .replace("level: info", "level: warn")
        .replace("timeout: 10s", "timeout: 12s");
    fs::write(agent.directory.path().join("harbinger.yaml"), &quiet).unwrap();
    agent.signal("-HUP");
    let said = agent.said_until("`exporters.otlp_grpc.timeout` changed: takes effect at the next start");
    assert!(!said.contains("in force now"), "{said}");
    assert_eq!(
        came(&mut client, "three").await,
        logs("three"),
        "shadow leaves records untouched"
    );
    let said = agent.reload(&shadow);
    assert!(
        said.contains("`service.telemetry.logs.level` changed: in force now"),
        "{said}"
    );
    assert!(!said.contains("at the next start"), "as it was started: {said}");
    agent.stop();
}

/// Other settings are one more sequenced input: they hold from the next request on, and what was given stays given.
#[tokio::test(flavor = "multi_thread")]
async fn other_settings_hold_from_the_next_request_on() {
    let (pipeline, sink, metrics) = pipeline(Some(Model { fails: false }), Mode::Mark);
    warm_up(&pipeline).await;
    let before = sink.records().len();
    let failure = |n: u64| request(10_000 + n, &[format!("Segmentation fault, core dumped. volume {n}")]);
    send(&pipeline, failure(0)).await.unwrap();
    send(&pipeline, failure(1)).await.unwrap();
    assert_eq!(
        (metrics.opened_incidents.get(), metrics.announced_incidents.get()),
        (1, 0),
        "three are needed"
    );

    let mut settings = engine::Settings::default();
    settings.correlate.min_records = 1;
    // What cannot change does not.
    settings.correlate.max_open_incidents = 1;
    settings.text.masking = false;
    pipeline.adjust(&settings);
    send(&pipeline, failure(2)).await.unwrap();
    assert_eq!(
        (metrics.opened_incidents.get(), metrics.announced_incidents.get()),
        (1, 1),
        "one is enough"
    );
    // An identical retry is known as long as it is judged by the same rules.
    send(&pipeline, failure(2)).await.unwrap();
    assert_eq!(metrics.repeated_requests.get(), 1);

    settings.text.ignore = serde_yaml::from_str("[{pattern: 'core dumped'}]").unwrap();
    pipeline.adjust(&settings);
    send(&pipeline, failure(2)).await.unwrap();
    assert_eq!(
        metrics.repeated_requests.get(),
        1,
        "by other rules it is another request"
    );
    let records = sink.records().split_off(before);
    let ids: Vec<Option<&Value>> = records.iter().map(|record| attribute(record, "incident_id")).collect();
    assert!(ids[..4].iter().all(|id| id.is_some() && *id == ids[0]), "{ids:?}");
    assert_eq!(ids[4], None);
    assert_eq!(attribute(&records[4], "is_anomaly"), Some(&Value::BoolValue(false)));
    assert_eq!(Arc::strong_count(&pipeline), 1);
}
