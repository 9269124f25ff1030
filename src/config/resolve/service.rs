//! `service`: which of what is defined runs, and how.
//!
//! What enters: the `service` section and what is defined. What leaves: [`Service`]. Promises: a reference to what is not
//! defined is told of once; what is defined but does not run is warned of. Absent on purpose: several pipelines of one signal.

use super::{
    super::{
        advice,
        component::{ComponentId, HARBINGER, MEMORY_LIMITER, Role},
        document::{Content, Entry, Node},
        finding::{Finding, Place},
        read::{join, refuse_unknown},
        service::{Ending, Pipeline, Service, Telemetry},
        settings::Config,
    },
    Defined, Resolver,
};
use crate::edge::Signal;

impl Resolver {
    pub(super) fn service(&self, root: &Node, defined: &[Defined]) -> Service {
        let mut service = Service::default();
        let section = self.section(root, "service");
        let example = "pipelines: {logs: {receivers: [otlp], processors: [harbinger], exporters: [otlp_grpc]}}";
        if !self.is_section(&section, "service", example) {
            return service;
        }
        refuse_unknown(
            &section,
            "service",
            &["extensions", "pipelines", "telemetry", "shutdown_timeout"],
            &self.findings,
        );
        service.extensions = self.references(&section, "service", Role::Extension, defined);
        let telemetry = self.section(&section, "telemetry");
        if let Some(settings) = self.read::<Telemetry>(&telemetry, "service.telemetry") {
            self.check(&telemetry, "service.telemetry", settings.validate());
            service.telemetry = settings;
        }
        if let Some(entry) = section.entry("shutdown_timeout") {
            let own = Node {
                content: Content::Mapping(vec![entry.clone()]),
                ..Node::empty(section.place.clone())
            };
            if let Some(ending) = self.read::<Ending>(&own, "service") {
                self.check(&own, "service", ending.validate());
                service.ending = ending;
            }
        }
        let pipelines = self.section(&section, "pipelines");
        if !self.is_section(&pipelines, "service.pipelines", "logs: {receivers: [otlp], …}") {
            return service;
        }
        for Entry { key, place, value } in pipelines.entries() {
            let path = join("service.pipelines", key);
            let Some(signal) = signal(key) else {
                self.tell(place, path, advice::other_pipeline(key));
                continue;
            };
            let mut others = service.pipelines.keys();
            if let Some(first) = others.find(|other| self::signal(other) == Some(signal)) {
                let message = format!(
                    "a second pipeline beside `{first}`; several come with a later version: list all receivers in one, \
                     or run one agent for each"
                );
                self.tell(place, path, message);
            } else {
                let pipeline = self.pipeline(signal, value, place, &path, defined);
                service.pipelines.insert(key.clone(), pipeline);
            }
        }
        let names = || pipelines.entries().iter().map(|entry| signal(&entry.key));
        if let (Some(entry), false) = (
            section.entry("pipelines"),
            names().any(|signal| signal.is_none_or(|signal| signal == Signal::Logs)),
        ) && !pipelines.entries().is_empty()
        {
            let message = format!(
                "Harbinger judges logs, and none of these pipelines takes them; write `{example}` beside it, or leave what is not \
                 logs to a Collector"
            );
            self.tell(&entry.place, "service.pipelines", message);
        }
        let mut limiters = service
            .pipelines
            .values()
            .filter_map(|pipeline| pipeline.processor(MEMORY_LIMITER));
        let first = limiters.next();
        if let Some((first, other)) = first.zip(limiters.find(|id| Some(*id) != first)) {
            let place = section.entry("pipelines").map_or(&section.place, |entry| &entry.place);
            let message =
                format!("memory is limited once; name one processor in all pipelines, `{first}` or `{other}`");
            self.tell(place, "service.pipelines", message);
        }
        if pipelines.entries().is_empty() {
            let (place, key) = match (root.entry("service"), section.entry("pipelines")) {
                (_, Some(entry)) => (&entry.place, "service.pipelines"),
                (Some(entry), None) => (&entry.place, "service"),
                (None, None) => (
                    &Place {
                        position: None,
                        ..root.place.clone()
                    },
                    "service",
                ),
            };
            self.tell(
                place,
                key,
                format!("no pipeline is named, so nothing would run; write `service: {{{example}}}`"),
            );
        }
        service
    }

    fn pipeline(&self, signal: Signal, node: &Node, place: &Place, key: &str, defined: &[Defined]) -> Pipeline {
        if !self.is_section(node, key, "receivers: [otlp]") {
            return Pipeline::default();
        }
        refuse_unknown(node, key, &["receivers", "processors", "exporters"], &self.findings);
        let pipeline = Pipeline {
            receivers: self.references(node, key, Role::Receiver, defined),
            processors: self.references(node, key, Role::Processor, defined),
            exporters: self.references(node, key, Role::Exporter, defined),
        };
        // Counted as written: one that was refused is told of already.
        let written = |role: Role| match node.entry(role.section()).map(|entry| &entry.value.content) {
            Some(Content::Sequence(nodes)) => nodes.len(),
            Some(Content::Mapping(_)) => 1,
            Some(Content::Scalar { text, .. }) => usize::from(!text.is_empty()),
            None => 0,
        };
        let at = |name: &str| node.entry(name).map_or(place, |entry| &entry.place);
        if written(Role::Receiver) == 0 {
            self.tell(
                at("receivers"),
                join(key, "receivers"),
                format!(
                    "no receiver, so no {} would come in; write `receivers: [otlp]`",
                    one_of(signal)
                ),
            );
        }
        let of_kind = |kind: &str| pipeline.processors.iter().filter(|id| id.kind == kind).count();
        let processors = |message: &str| self.tell(at("processors"), join(key, "processors"), message);
        if signal != Signal::Logs {
            if of_kind(HARBINGER) > 0 {
                processors(&format!(
                    "`harbinger` judges logs only; leave it out, {signal} pass unjudged"
                ));
            }
        } else if written(Role::Processor) == of_kind(MEMORY_LIMITER) {
            processors(
                "without `harbinger` nothing is judged; write `processors: [harbinger]` (to pass records on untouched set \
                 its `detection: {mode: off}`)",
            );
        }
        if signal == Signal::Logs && of_kind(HARBINGER) > 1 {
            processors("a record is judged once; write one processor `harbinger`");
        }
        if of_kind(MEMORY_LIMITER) > 1 {
            processors("memory is limited once; write one processor `memory_limiter`");
        } else if pipeline.processors.iter().skip(1).any(|id| id.kind == MEMORY_LIMITER) {
            processors(
                "`memory_limiter` refuses before anything is done; write it first: `[memory_limiter, harbinger]`",
            );
        }
        if written(Role::Exporter) == 0 {
            self.tell(
                at("exporters"),
                join(key, "exporters"),
                format!(
                    "no exporter, so no {} would go out; write `exporters: [otlp_grpc]`",
                    one_of(signal)
                ),
            );
        }
        pipeline
    }

    /// The list of component ids under the role's own key, each of which must be defined.
    fn references(&self, node: &Node, key: &str, role: Role, defined: &[Defined]) -> Vec<ComponentId> {
        let Some(entry) = node.entry(role.section()) else {
            return Vec::new();
        };
        let key = join(key, role.section());
        let nodes = match &entry.value.content {
            Content::Sequence(nodes) => nodes,
            _ if entry.value.is_null() => return Vec::new(),
            _ => {
                self.tell(
                    &entry.value.place,
                    key,
                    format!("expected a list of {role} ids, as `[a, b]`"),
                );
                return Vec::new();
            }
        };
        let mut ids: Vec<ComponentId> = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let Some(text) = self.read::<String>(node, &format!("{key}[{index}]")) else {
                continue;
            };
            match defined.iter().find(|known| known.role == role && known.text == text) {
                Some(Defined { id: Some(id), .. }) if ids.contains(id) => {
                    self.tell(
                        &node.place,
                        key.clone(),
                        format!("`{id}` is listed twice; write it once"),
                    );
                }
                Some(Defined { id: Some(id), .. }) => ids.push(id.clone()),
                // Where it was defined, it was refused already.
                Some(Defined { id: None, .. }) => {}
                None => self.tell(&node.place, key.clone(), undefined(role, &text, defined)),
            }
        }
        ids
    }

    pub(super) fn warn_of_unused(&self, config: &Config, defined: &[Defined], warnings: &mut Vec<Finding>) {
        let service = &config.service;
        let mut processors = service.pipelines.values().flat_map(|pipeline| &pipeline.processors);
        let for_events = processors.find_map(|processor| config.events_exporter(processor));
        for Defined { role, id, place, .. } in defined {
            let Some(id) = id else { continue };
            let pipeline = |list: fn(&Pipeline) -> &Vec<ComponentId>| {
                service.pipelines.values().any(|pipeline| list(pipeline).contains(id))
            };
            let (used, list) = match role {
                Role::Receiver => (
                    pipeline(|pipeline| &pipeline.receivers),
                    "service.pipelines.logs.receivers",
                ),
                Role::Processor => (
                    pipeline(|pipeline| &pipeline.processors),
                    "service.pipelines.logs.processors",
                ),
                Role::Exporter => (
                    pipeline(|pipeline| &pipeline.exporters) || for_events.as_ref() == Some(id),
                    "service.pipelines.logs.exporters",
                ),
                Role::Extension => (service.extensions.contains(id), "service.extensions"),
            };
            if !used {
                let message = format!("defined but not used; add it to `{list}` or remove it");
                warnings.push(Finding::new(
                    Some(place.clone()),
                    format!("{}.{id}", role.section()),
                    message,
                ));
            }
        }
    }
}

/// The signal of a pipeline, by its id: `traces` or `traces/name`.
pub(super) fn signal(id: &str) -> Option<Signal> {
    let name = id.split('/').next().unwrap_or(id);
    Signal::ALL.into_iter().find(|signal| signal.name() == name)
}

/// One thing of a signal, for sentences.
fn one_of(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "log",
        Signal::Traces => "trace",
        Signal::Metrics => "metric",
    }
}

pub(super) fn undefined(role: Role, text: &str, defined: &[Defined]) -> String {
    let section = role.section();
    if let Err(message) = ComponentId::of(role, text) {
        return message;
    }
    let known: Vec<&str> = defined
        .iter()
        .filter(|known| known.role == role)
        .map(|known| known.text.as_str())
        .collect();
    match advice::nearest(text, &known) {
        Some(near) => format!("`{text}` is not defined in `{section}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("`{text}` is not defined; define it: `{section}: {{{text}: …}}`"),
        None => format!(
            "`{text}` is not defined in `{section}`; there are: {}",
            known.join(", ")
        ),
    }
}
