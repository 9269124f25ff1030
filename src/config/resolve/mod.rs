//! From the tree the user wrote to what is defined and what runs.
//!
//! What enters: one merged, expanded tree. What leaves: [`Config`] and [`Settings`], with warnings, or every finding
//! that stands in the way. Promises: each mistake is told of once, at the place it was written; what is defined but does
//! not run is warned of; no component runs that is not named in `service`. Absent on purpose: files, sockets and the
//! model: what only a start can show.

mod define;
mod queues;
mod service;

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use super::{
    component::{ComponentId, Components, HARBINGER, MEMORY_LIMITER, Role},
    document::{Content, Node},
    endpoints,
    finding::{ConfigError, Finding, Place},
    guards,
    read::{Findings, join, read, refuse_unknown},
    service::Pipeline,
    settings::{Config, Processor, Receiver, Settings},
};
use crate::edge::Signal;

/// Resolves `root`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn resolve(root: &Node, warnings: &mut Vec<Finding>) -> Result<(Config, Settings), ConfigError> {
    let resolver = Resolver {
        findings: RefCell::default(),
    };
    let mut config = Config::default();
    refuse_unknown(
        root,
        "",
        &["receivers", "processors", "exporters", "extensions", "service"],
        &resolver.findings,
    );
    let mut defined = Vec::new();
    config.receivers = resolver.components(root, Role::Receiver, &mut defined, Resolver::receiver);
    config.processors = resolver.components(root, Role::Processor, &mut defined, Resolver::processor);
    config.exporters = resolver.components(root, Role::Exporter, &mut defined, Resolver::exporter);
    config.extensions = resolver.components(root, Role::Extension, &mut defined, Resolver::extension);
    config.service = resolver.service(root, &defined);
    resolver.check_events_exporter(root, &config, &defined);
    resolver.check_queues(root, &config, &defined);
    resolver.check_signals(root, &config);
    resolver.warn_of_unused(&config, &defined, warnings);
    let settings = resolver.running(&config);
    if let Some(settings) = &settings {
        endpoints::check(root, settings, &resolver.findings);
        guards::check(root, settings, &resolver.findings, warnings);
        resolver.check_tenant_header(root, settings);
    }
    let mut findings = resolver.findings.into_inner();
    // In the order of the text, as they are corrected.
    findings.sort_by_key(|finding| {
        finding
            .place
            .as_ref()
            .map(|place| (place.source.clone(), place.position))
    });
    match settings {
        Some(settings) if findings.is_empty() => Ok((config, settings)),
        _ => Err(ConfigError(findings)),
    }
}

/// A component that was defined, whether it could be read or not.
struct Defined {
    role: Role,
    /// The id as it was written.
    text: String,
    /// The id, unless it was refused.
    id: Option<ComponentId>,
    place: Place,
}

struct Resolver {
    findings: Findings,
}

impl Resolver {
    fn tell(&self, place: &Place, key: impl Into<String>, message: impl Into<String>) {
        self.findings
            .borrow_mut()
            .push(Finding::new(Some(place.clone()), key, message));
    }

    /// Reads `node`; what is wrong is put with the findings.
    fn read<T: DeserializeOwned>(&self, node: &Node, key: &str) -> Option<T> {
        read(node, key, &self.findings)
            .map_err(|finding| self.findings.borrow_mut().push(finding))
            .ok()
    }

    /// Puts what a room says of its settings with the findings, at the key it names: `key: message`, a first word that is
    /// a key, or keys in backticks, outermost first.
    fn check(&self, node: &Node, key: &str, outcome: Result<(), String>) -> Option<()> {
        let Err(message) = outcome else {
            return Some(());
        };
        let (mut node, mut key) = (node, key.to_owned());
        if let Some((name, rest)) = message.split_once(": ").filter(|(name, _)| is_key(name)) {
            let place = node.entry(name).map_or(&node.place, |entry| &entry.value.place);
            self.tell(place, join(&key, name), rest);
            return None;
        }
        let first = message.split([' ', ':', ',']).take(1);
        let quoted = message
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|word| word.split(':').next());
        for name in first.chain(quoted) {
            if let Some(entry) = node.entry(name) {
                (node, key) = (&entry.value, join(&key, name));
            }
        }
        self.tell(&node.place, key, message);
        None
    }

    /// The section `name` of `node`, empty when it is absent.
    fn section(&self, node: &Node, name: &str) -> Node {
        node.entry(name)
            .map_or_else(|| Node::empty(node.place.clone()), |entry| entry.value.clone())
    }

    /// Whether `node` is a section; says so if not.
    fn is_section(&self, node: &Node, key: &str, example: &str) -> bool {
        let is = matches!(node.content, Content::Mapping(_)) || node.is_null();
        if !is {
            self.tell(
                &node.place,
                key,
                format!("expected a section (lines of `key: value`); write `{example}`"),
            );
        }
        is
    }

    /// A tenant that a header names needs receivers that keep headers.
    fn check_tenant_header(&self, root: &Node, settings: &Settings) {
        if settings.harbinger.tenant.from_context.is_none() {
            return;
        }
        let id = settings.processor.to_string();
        let mut place = &root.place;
        let mut node = Some(root);
        for key in ["processors", id.as_str(), "tenant", "from_context"] {
            node = node.and_then(|node| node.entry(key)).map(|entry| &entry.value);
            place = node.map_or(place, |node| &node.place);
        }
        let judged = settings.receivers.iter().filter(|(id, _)| {
            let mut signals = settings.signals_of(id);
            signals.any(|signal| signal == Signal::Logs)
        });
        for (id_of, receiver) in judged {
            if let Receiver::Kafka(kafka) = receiver
                && !kafka.include_metadata
            {
                let message = format!(
                    "the receiver `{id_of}` keeps no headers, so no tenant would be known; write `include_metadata: true` under \
                     `receivers.{id_of}`"
                );
                self.tell(place, format!("processors.{id}.tenant.from_context"), message);
            }
            for protocol in receiver.protocols() {
                if protocol.include_metadata {
                    continue;
                }
                let message = format!(
                    "the receiver `{id_of}` keeps no headers, so no tenant would be known; write `include_metadata: true` \
                     under `receivers.{id_of}.protocols.{}`",
                    protocol.name
                );
                self.tell(place, format!("processors.{id}.tenant.from_context"), message);
            }
        }
    }

    /// Events leave by an exporter that is defined; it need not be the pipeline's.
    fn check_events_exporter(&self, root: &Node, config: &Config, defined: &[Defined]) {
        for (id, processor) in &config.processors.0 {
            let Processor::Harbinger(harbinger) = processor else {
                continue;
            };
            let Some(written) = &harbinger.events.exporter else {
                continue;
            };
            if !defined
                .iter()
                .any(|known| known.role == Role::Exporter && known.text == *written)
            {
                let steps = ["processors", &id.to_string(), "events", "exporter"].map(str::to_owned);
                let place = endpoints::place(root, &steps).unwrap_or_else(|| root.place.clone());
                let message = service::undefined(Role::Exporter, written, defined);
                self.tell(&place, steps.join("."), message);
            }
        }
    }

    /// Exporters know where to send each signal that comes to them, and tell them apart.
    fn check_signals(&self, root: &Node, config: &Config) {
        for (id, exporter) in &config.exporters.0 {
            let pipelines = config.service.pipelines.iter();
            let named: Vec<(&str, Signal)> = pipelines
                .filter(|(_, pipeline)| pipeline.exporters.contains(id))
                .filter_map(|(name, _)| Some((name.as_str(), service::signal(name)?)))
                .collect();
            let signals: Vec<Signal> = named.iter().map(|(_, signal)| *signal).collect();
            let (Err(message), Some((pipeline, _))) = (exporter.sends(&signals), named.last()) else {
                continue;
            };
            let steps = ["service", "pipelines", pipeline, "exporters"].map(str::to_owned);
            let place = endpoints::place(root, &steps).unwrap_or_else(|| root.place.clone());
            self.tell(&place, steps.join("."), format!("`exporters.{id}`: {message}"));
        }
    }

    /// What runs, if the pipelines are whole.
    fn running(&self, config: &Config) -> Option<Settings> {
        let mut pipelines: Vec<(Signal, Pipeline)> = Vec::new();
        for signal in Signal::ALL {
            let mut named = config.service.pipelines.iter();
            let found = named.find(|(name, _)| service::signal(name) == Some(signal));
            pipelines.extend(found.map(|(_, pipeline)| (signal, pipeline.clone())));
        }
        let (_, logs) = pipelines.first().filter(|(signal, _)| *signal == Signal::Logs)?;
        let processor = logs.processor(HARBINGER)?;
        let harbinger = config.harbinger(processor)?;
        let limiter = pipelines
            .iter()
            .find_map(|(_, pipeline)| pipeline.processor(MEMORY_LIMITER));
        let memory_limiter = match limiter {
            None => None,
            Some(id) => match config.processors.get(id)? {
                Processor::MemoryLimiter(settings) => Some((id.clone(), settings.clone())),
                Processor::Harbinger(_) => None,
            },
        };
        let by_the_records_way = |id: &ComponentId| *logs.exporters == [id.clone()];
        let events_exporter = config.events_exporter(processor).filter(|id| !by_the_records_way(id));
        let each = |list: fn(&Pipeline) -> &Vec<ComponentId>| {
            let ids = pipelines.iter().flat_map(move |(_, pipeline)| list(pipeline));
            once(ids.cloned())
        };
        let mut exporters = each(|pipeline| &pipeline.exporters);
        exporters.extend(events_exporter.clone());
        let exporters = once(exporters);
        if pipelines.iter().any(|(_, pipeline)| pipeline.exporters.is_empty()) {
            return None; // which was told of
        }
        Some(Settings {
            receivers: chosen(&config.receivers, &each(|pipeline| &pipeline.receivers))?,
            memory_limiter,
            processor: processor.clone(),
            harbinger: harbinger.clone(),
            exporters: chosen(&config.exporters, &exporters)?,
            events_exporter,
            extensions: chosen(&config.extensions, &config.service.extensions)?,
            telemetry: config.service.telemetry.clone(),
            shutdown_timeout: config.service.ending.shutdown_timeout,
            pipelines,
        })
    }
}

/// Each once, in the order they come.
fn once(ids: impl IntoIterator<Item = ComponentId>) -> Vec<ComponentId> {
    let mut each: Vec<ComponentId> = Vec::new();
    for id in ids {
        if !each.contains(&id) {
            each.push(id);
        }
    }
    each
}

fn is_key(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|part| part.is_ascii_alphanumeric() || part == '_')
}

fn chosen<T: Clone>(components: &Components<T>, ids: &[ComponentId]) -> Option<Vec<(ComponentId, T)>> {
    ids.iter()
        .map(|id| components.get(id).map(|component| (id.clone(), component.clone())))
        .collect()
}
