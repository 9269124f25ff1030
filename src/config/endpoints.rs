//! Endpoints that cannot work together.
//!
//! What enters: what runs. What leaves: findings. Promise: no two parts of the agent listen on one port, and the agent
//! does not send to itself, neither by an address nor by a topic of Kafka; what agents share has topics for itself. Absent on purpose: whether a port is free, which only a start can show.

use super::{
    document::Node,
    finding::{Finding, Place},
    read::Findings,
    service::MetricsLevel,
    settings::{Destination, Exporter, Receiver, Settings},
};

struct Endpoint {
    steps: Vec<String>,
    address: String,
}

/// Puts a finding in `findings` for every endpoint that is in the way of another.
pub fn check(root: &Node, settings: &Settings, findings: &Findings) {
    let mut listening: Vec<Endpoint> = Vec::new();
    let mut listen = |steps: Vec<String>, address: &str| {
        // Port 0 is any free port.
        if let Some(taken) = listening
            .iter()
            .find(|taken| same(&taken.address, address) && !address.ends_with(":0"))
        {
            let message = format!(
                "`{address}` is where `{}` listens already; give one of them another port",
                taken.steps.join(".")
            );
            findings
                .borrow_mut()
                .push(Finding::new(place(root, &steps), steps.join("."), message));
        }
        listening.push(Endpoint {
            steps,
            address: address.to_owned(),
        });
    };
    for (id, receiver) in &settings.receivers {
        for protocol in receiver.protocols() {
            let steps = ["receivers", &id.to_string(), "protocols", protocol.name, "endpoint"]
                .map(str::to_owned)
                .to_vec();
            listen(steps, protocol.endpoint);
        }
    }
    for (id, extension) in &settings.extensions {
        if let Some(endpoint) = extension.endpoint() {
            let steps = ["extensions", &id.to_string(), "endpoint"].map(str::to_owned);
            listen(steps.to_vec(), endpoint);
        }
    }
    if settings.telemetry.metrics.level != MetricsLevel::None {
        for reader in &settings.telemetry.metrics.readers {
            if let Some(pull) = &reader.pull {
                let steps = ["service", "telemetry", "metrics", "readers"]
                    .map(str::to_owned)
                    .to_vec();
                listen(steps, &pull.exporter.prometheus.endpoint());
            }
        }
    }
    let destinations = settings.exporters.iter().flat_map(|(id, exporter)| {
        let destinations = exporter.destinations().into_iter();
        destinations.map(move |destination| (id, destination))
    });
    for (id, Destination { key, endpoint, .. }) in destinations {
        let Some(own) = listening.iter().find(|own| same(&own.address, bare(endpoint))) else {
            continue;
        };
        let steps = ["exporters", &id.to_string(), key].map(str::to_owned);
        let message = format!(
            "`{endpoint}` is this agent's own `{}`; write the endpoint of the next hop",
            own.steps.join(".")
        );
        findings
            .borrow_mut()
            .push(Finding::new(place(root, &steps), steps.join("."), message));
    }
    check_topics(root, settings, findings);
    check_shared_topics(root, settings, findings);
}

/// Puts a finding in `findings` for every topic that is read and written: what is in it would go round for ever.
fn check_topics(root: &Node, settings: &Settings, findings: &Findings) {
    for (id, exporter) in &settings.exporters {
        let Exporter::Kafka(queued) = exporter else { continue };
        for signal in settings.signals_to(id) {
            let topic = queued.exporter.topic(signal);
            let reads = |receiver: &Receiver| match receiver {
                Receiver::Kafka(kafka) => {
                    kafka.reads(signal, topic) && shares(&kafka.brokers, &queued.exporter.brokers)
                }
                Receiver::Otlp(_) => false,
            };
            let mut readers = settings.receivers.iter().filter(|(_, receiver)| reads(receiver));
            let Some((receiver, _)) = readers.find(|(id, _)| settings.signals_of(id).any(|read| read == signal)) else {
                continue;
            };
            let steps = ["exporters", &id.to_string(), signal.name(), "topic"].map(str::to_owned);
            let message = format!(
                "`{topic}` is what `receivers.{receiver}` reads, so records would go round for ever; write another, as `{topic}_judged`"
            );
            findings
                .borrow_mut()
                .push(Finding::new(place(root, &steps), steps.join("."), message));
        }
    }
}

/// Puts a finding in `findings` for every topic that agents share incidents by and that records are read from or written to.
fn check_shared_topics(root: &Node, settings: &Settings, findings: &Findings) {
    let Some(cluster) = settings.harbinger.shared_by() else {
        return;
    };
    let kafka = &cluster.kafka;
    for (key, topic) in [("log_topic", &kafka.log_topic), ("memory_topic", &kafka.memory_topic)] {
        let read = settings.receivers.iter().filter_map(|(id, receiver)| {
            let Receiver::Kafka(receiver) = receiver else {
                return None;
            };
            let mut signals = settings.signals_of(id);
            let reads =
                shares(&receiver.brokers, &kafka.brokers) && signals.any(|signal| receiver.reads(signal, topic));
            reads.then(|| format!("`receivers.{id}` reads records from it"))
        });
        let written = settings.exporters.iter().filter_map(|(id, exporter)| {
            let Exporter::Kafka(queued) = exporter else { return None };
            let exporter = &queued.exporter;
            let mut signals = settings.signals_to(id);
            let writes =
                shares(&exporter.brokers, &kafka.brokers) && signals.any(|signal| exporter.topic(signal) == topic);
            writes.then(|| format!("`exporters.{id}` writes records to it"))
        });
        let Some(why) = read.chain(written).next() else {
            continue;
        };
        let steps = ["processors", &settings.processor.to_string(), "cluster", key].map(str::to_owned);
        let message = format!("`{topic}` is for what agents share, and {why}; write another topic on one of the sides");
        findings
            .borrow_mut()
            .push(Finding::new(place(root, &steps), steps.join("."), message));
    }
}

/// Whether two lists of brokers have one in common.
fn shares(one: &[String], other: &[String]) -> bool {
    one.iter().any(|broker| other.iter().any(|known| same(broker, known)))
}

/// `host:port` without scheme and path.
fn bare(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Whether an endpoint's text says that only this machine has it.
pub fn is_loopback(endpoint: &str) -> bool {
    let address = bare(endpoint);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether two endpoints are one on this machine, as far as their text tells.
fn same(one: &str, other: &str) -> bool {
    match (one.rsplit_once(':'), other.rsplit_once(':')) {
        (Some((one, port)), Some((other, other_port))) => {
            let local = |host: &str| matches!(host, "" | "localhost" | "127.0.0.1" | "[::1]");
            let any = |host: &str| matches!(host, "" | "0.0.0.0" | "[::]");
            let (any_one, any_other) = (any(one), any(other));
            port == other_port
                && (one.eq_ignore_ascii_case(other) || (local(one) || any_one) && (local(other) || any_other))
        }
        _ => false,
    }
}

/// Where the value at `steps` was written, or the deepest section above it that was.
pub fn place(root: &Node, steps: &[String]) -> Option<Place> {
    let mut node = root;
    for step in steps {
        match node.entry(step) {
            Some(entry) => node = &entry.value,
            None => break,
        }
    }
    Some(node.place.clone())
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, same};

    #[test]
    fn one_port_on_this_machine_is_one_endpoint() {
        assert!(same("localhost:4317", "127.0.0.1:4317"));
        assert!(same("0.0.0.0:4317", "localhost:4317"));
        assert!(same("Collector:4317", "collector:4317"));
        assert!(!same("0.0.0.0:4317", "collector:4317"));
        assert!(!same("localhost:4317", "localhost:4318"));
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for own in [
            "localhost:4317",
            "127.0.0.1:1",
            "http://[::1]:4317",
            "https://LOCALHOST:1/",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for open in [":4317", "0.0.0.0:4317", "[::]:4317", "http://hop:4317", "10.0.0.1:4317"] {
            assert!(!is_loopback(open), "{open}");
        }
    }
}
