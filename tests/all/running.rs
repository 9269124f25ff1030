//! Every configuration that is shipped runs: as it is written, but for ports that are free, files in a directory of the test
//! and destinations that are there; without the model, which is tested elsewhere.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use harbinger::{
    app::{self, Order, Surroundings},
    config::{self, Loaded},
    edge::{Signal, receive_http},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::examples,
    otlp::{Client, EXPORT, Hop, Recorder, Serving, logs},
    securing::certificates::{Authority, Greeting, serve_hop},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The destinations that there are.
struct Destinations {
    grpc: SocketAddr,
    tls: SocketAddr,
    http: SocketAddr,
}

/// `document` with what a test cannot have as it is written replaced.
fn replace(document: &mut Value, directory: &Path, there: &Destinations) {
    let inside = |path: &Value| {
        let name = Path::new(path.as_str().unwrap()).file_name().unwrap();
        json!(directory.join(name))
    };
    let section = |document: &mut Value, key: &str| document[key].as_object_mut().cloned().unwrap_or_default();
    for (receiver, _) in section(document, "receivers") {
        let protocols = document["receivers"][receiver].get_mut("protocols");
        let protocols = protocols.and_then(Value::as_object_mut);
        for protocol in protocols.into_iter().flat_map(|each| each.values_mut()) {
            protocol["endpoint"] = json!("127.0.0.1:0");
        }
    }
    for (extension, _) in section(document, "extensions") {
        if ["health_check", "harbinger_api", "harbinger_page"].contains(&extension.as_str()) {
            document["extensions"][extension]["endpoint"] = json!("127.0.0.1:0");
        }
    }
    for (exporter, settings) in section(document, "exporters") {
        let endpoint = match (exporter.split('/').next().unwrap(), settings["endpoint"].as_str()) {
            ("otlp_http" | "otlphttp", _) => format!("http://{}/otlp", there.http),
            (_, Some(endpoint)) if endpoint.contains("https:") => format!("https://localhost:{}", there.tls.port()),
            (_, Some(endpoint)) if endpoint.contains("http:") => format!("http://{}", there.grpc),
            // As it is written: without a scheme, so that `tls.insecure` decides.
            (_, Some(_)) => there.grpc.to_string(),
            (_, None) => continue,
        };
        document["exporters"][exporter]["endpoint"] = json!(endpoint);
    }
    let harbinger = &mut document["processors"]["harbinger"];
    harbinger["state"]["directory"] = json!(directory.join("state"));
    // Wherever the test runs, there is no model.
    harbinger["embedding"]["model_directory"] = json!(directory.join("none"));
    for notifier in ["alertmanager", "webhook"] {
        if harbinger["notifiers"][notifier]["endpoint"].is_string() {
            harbinger["notifiers"][notifier]["endpoint"] = json!(format!("http://{}", there.http));
        }
    }
    document["service"]["telemetry"]["metrics"]["readers"] =
        json!([{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": 0}}}}]);
    files(document, &inside);
}

/// Puts every file that is named into the directory.
fn files(part: &mut Value, inside: &impl Fn(&Value) -> Value) {
    const NAMED: [&str; 8] = [
        "path",
        "directory",
        "filename",
        "file",
        "cert_file",
        "key_file",
        "ca_file",
        "client_ca_file",
    ];
    match part {
        Value::Object(section) => {
            for (key, below) in section {
                if NAMED.contains(&key.as_str()) && below.is_string() {
                    *below = inside(below);
                } else {
                    files(below, inside);
                }
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(|part| files(part, inside)),
        _ => {}
    }
}

/// The agent of `loaded`, from its start to its end in order; `work` is done while it serves.
async fn served<F: Future<Output = ()>>(
    name: &str,
    loaded: Loaded,
    work: impl FnOnce(Vec<(&'static str, SocketAddr)>) -> F,
) {
    let (orders, ordered) = mpsc::channel(1);
    let (ready, is_ready) = oneshot::channel();
    let around = Surroundings {
        require_model: false,
        reload: &|| anyhow::bail!("nobody asks for it"),
        set_level: Box::new(|_| ()),
        orders: ordered,
        ready,
    };
    let working = async {
        // Where it does not start, that is told below.
        if let Ok(addresses) = is_ready.await {
            work(addresses).await;
            orders.send(Order::Stop).await.unwrap();
        }
    };
    let both = async { tokio::join!(app::serve(loaded, around), working) };
    let (ended, ()) = tokio::time::timeout(PATIENCE, both)
        .await
        .unwrap_or_else(|_| panic!("{name} hangs"));
    ended.unwrap_or_else(|problem| panic!("{name}: {problem:#}"));
}

fn of(addresses: &[(&'static str, SocketAddr)], kind: &str) -> Option<SocketAddr> {
    addresses
        .iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, address)| *address)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_starts_passes_a_record_on_and_stops_in_order() {
    let (own, callers) = (Authority::new(), Authority::new());
    let server = own.certify("localhost");
    let caller = callers.certify("caller");
    for example in examples() {
        let name = example.as_str();
        // What needs brokers is started beside real ones: integration/test_kafka.py.
        if ["/kafka.yaml", "/cluster.yaml"]
            .iter()
            .any(|of_kafka| name.ends_with(of_kafka))
        {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (file, text) in [
            ("server.pem", &server.certificate),
            ("server.key", &server.key),
            ("agent.pem", &server.certificate),
            ("agent.key", &server.key),
            ("ca.pem", &own.pem),
            ("callers-ca.pem", &callers.pem),
            ("tokens", &"a-token".to_owned()),
        ] {
            fs::write(path(file), text).unwrap();
        }
        let (hop, behind_http) = (Hop::default(), Arc::new(Recorder::default()));
        let http = receive_http::Settings {
            endpoint: "127.0.0.1:0".to_owned(),
            logs_url_path: "/otlp/v1/logs".to_owned(),
            ..Default::default()
        };
        let http = Serving::of(
            receive_http::Receiver::bind(http).await.unwrap(),
            Arc::clone(&behind_http) as _,
        );
        let there = Destinations {
            grpc: hop.start().await,
            tls: serve_hop(&hop, &server, Some(&own)).await,
            http: http.address,
        };
        let mut document: Value = serde_yaml::from_str(&fs::read_to_string(&example).unwrap()).unwrap();
        replace(&mut document, directory.path(), &there);
        fs::write(path("harbinger.yaml"), serde_yaml::to_string(&document).unwrap()).unwrap();
        let config = path("harbinger.yaml").display().to_string();
        let loaded = config::load(&[config], &[], &|_| None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let pipelines = &loaded.settings.pipelines;
        let of_logs = pipelines.iter().find(|(signal, _)| *signal == Signal::Logs).unwrap();
        let exporters = of_logs.1.exporters.len();
        let is_secured = name.ends_with("/secured.yaml");
        served(name, loaded, async |addresses| {
            let address = of(&addresses, "grpc").unwrap();
            let mut client = if is_secured {
                let greeting = Greeting::trusting(&own).showing(&caller);
                greeting.over_tls(address).await.unwrap()
            } else {
                Client::to(address).await
            };
            let mut request = tonic::Request::new(logs("a record on its way"));
            let token = "Bearer a-token".parse().unwrap();
            request.metadata_mut().insert("authorization", token);
            client
                .call(EXPORT, request)
                .await
                .unwrap_or_else(|status| panic!("{name}: {status}"));
        })
        .await;
        let mut arrived: Vec<Vec<u8>> = hop
            .seen
            .lock()
            .unwrap()
            .iter()
            .map(|seen| seen.message.to_vec())
            .collect();
        arrived.extend(behind_http.bodies().iter().map(|body| body.to_vec()));
        arrived.extend(
            fs::read(path("harbinger-out.jsonl"))
                .into_iter()
                .filter(|text| !text.is_empty()),
        );
        let has_record = |bytes: &Vec<u8>| bytes.windows(19).any(|part| part == b"a record on its way");
        let arrived = arrived.iter().filter(|bytes| has_record(bytes)).count();
        assert_eq!(arrived, exporters, "{name}: each destination has the record once");
    }
}
