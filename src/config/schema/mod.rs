//! The configuration as JSON Schema (draft 07), by which editors complete, explain and check it.
//!
//! What enters: the types of the rooms (`shape`), and the reference's comments and defaults (`words`). What leaves: a
//! schema. Promises: it refuses no configuration that the reader takes, overlays included, and what the reader refuses of
//! keys, words and types it refuses too; the same text every time. Absent on purpose: what is needed (a file may be laid
//! over another), and what only holds together, which `validate` tells.

mod shape;
mod words;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    component::{ComponentType, HARBINGER, MEMORY_LIMITER, Role, TYPES},
    engine::{DetectionMode, State},
    finding::{ConfigError, Finding},
    read_error::DURATION,
    service::{Ending, Telemetry},
};
use crate::{
    edge::{
        Signal,
        api::{Settings as ApiSettings, page::Settings as PageSettings},
        authenticate_basic::Settings as BasicAuthSettings,
        authenticate_bearer::Settings as BearerTokenSettings,
        cluster_kafka::Settings as ClusterKafkaSettings,
        export_debug::Settings as DebugSettings,
        export_file::Settings as FileSettings,
        export_http::Settings as OtlpHttpSettings,
        export_kafka::Settings as KafkaExporterSettings,
        export_otlp::Settings as OtlpSettings,
        health::Settings as HealthSettings,
        memory_limiter::Settings as MemoryLimiterSettings,
        model::Settings as ModelSettings,
        notify_alertmanager::Settings as AlertmanagerSettings,
        notify_webhook::Settings as WebhookSettings,
        queue::Settings as QueueSettings,
        queue::StorageSettings,
        receive_grpc::Settings as GrpcSettings,
        receive_http::Settings as HttpSettings,
        receive_kafka::Settings as KafkaReceiverSettings,
    },
    engine::{
        annotate::Settings as AnnotateSettings, correlate::Settings as CorrelateSettings,
        score::Settings as ScoreSettings, tenant::Settings as TenantSettings, text::Settings as TextSettings,
    },
    pipeline::{
        cluster::Settings as SharingSettings, embedding::Settings as WaitingSettings,
        events::Settings as EventsSettings,
    },
};
use shape::Shape;
use words::{At, Words};

/// A `${…}` anywhere in a text: what it stands for nobody knows before the start.
const REFERENCE: &str = r"\$\{";
/// What comes behind the type in a component's id.
const NAME: &str = r"(/.*\S.*)?";
/// One number with its unit.
const TIME: &str = r"\d+([.,]\d+)?\s*(hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|milliseconds?|millis?|msecs?|ms|microseconds?|micros?|usecs?|[uµμ]s|nanoseconds?|nanos?|nsecs?|ns)";

/// The schema as indented JSON.
///
/// # Errors
/// The reference cannot be read, which a test has seen to.
pub fn schema() -> Result<String, ConfigError> {
    let words = Words::read()?;
    let mut writer = Writer::default();
    let root = root();
    // Keys that nothing is said of are explained where they stand elsewhere, which is known after a first round.
    writer.property("", &root, words.root());
    writer.definitions.clear();
    let schema = writer.property("", &root, words.root());
    let mut document = Map::new();
    document.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
    document.insert("title".into(), "Harbinger's configuration".into());
    document.extend(schema);
    document.insert("definitions".into(), Value::Object(writer.definitions));
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|problem| Finding::new(None, "", problem.to_string()).into())
}

/// The whole of a configuration: what `resolve` reads by hand is named by hand here as well.
fn root() -> Shape {
    let components = |role: Role| {
        let of_role = TYPES.iter().filter(|known| known.role == role);
        let kinds = of_role.map(|known| {
            (
                std::iter::once(known.name).chain(known.old_name).collect(),
                component(known),
            )
        });
        (role.section(), Shape::Kinds(kinds.collect()))
    };
    let ids = || Shape::List(Box::new(Shape::Text));
    let pipeline = section([("receivers", ids()), ("processors", ids()), ("exporters", ids())]);
    let mut service = vec![
        ("extensions", ids()),
        (
            "pipelines",
            Shape::Kinds(Signal::ALL.map(|signal| (vec![signal.name()], pipeline.clone())).into()),
        ),
        ("telemetry", Shape::of::<Telemetry>()),
    ];
    service.extend(Shape::of::<Ending>().fields());
    let mut sections: Vec<_> = Role::ALL.into_iter().map(components).collect();
    sections.push(("service", Shape::Section(service)));
    Shape::Section(sections)
}

fn component(known: &ComponentType) -> Shape {
    match (known.role, known.name) {
        (Role::Receiver, "kafka") => Shape::of::<KafkaReceiverSettings>(),
        (Role::Receiver, _) => {
            let protocols = section([
                ("grpc", Shape::of::<GrpcSettings>()),
                ("http", Shape::of::<HttpSettings>()),
            ]);
            section([("protocols", protocols)])
        }
        (_, HARBINGER) => harbinger(),
        (_, MEMORY_LIMITER) => Shape::of::<MemoryLimiterSettings>(),
        (_, "otlp_grpc") => queued(Shape::of::<OtlpSettings>()),
        (_, "otlp_http") => queued(Shape::of::<OtlpHttpSettings>()),
        (_, "kafka") => queued(Shape::of::<KafkaExporterSettings>()),
        (_, "file") => Shape::of::<FileSettings>(),
        (_, "debug") => Shape::of::<DebugSettings>(),
        (_, "health_check") => Shape::of::<HealthSettings>(),
        (_, "harbinger_api") => Shape::of::<ApiSettings>(),
        (_, "harbinger_page") => Shape::of::<PageSettings>(),
        (_, "bearertokenauth") => Shape::of::<BearerTokenSettings>(),
        (_, "basicauth") => Shape::of::<BasicAuthSettings>(),
        (_, "file_storage") => Shape::of::<StorageSettings>(),
        // A type that is missing here is found by the test of the reference.
        _ => Shape::Section(Vec::new()),
    }
}

fn harbinger() -> Shape {
    let both = |one: Shape, other: Shape| Shape::Section([one.fields(), other.fields()].concat());
    section([
        ("tenant", Shape::of::<TenantSettings>()),
        ("text", Shape::of::<TextSettings>()),
        (
            "embedding",
            both(Shape::of::<ModelSettings>(), Shape::of::<WaitingSettings>()),
        ),
        (
            "detection",
            both(Shape::of::<DetectionMode>(), Shape::of::<ScoreSettings>()),
        ),
        ("correlation", Shape::of::<CorrelateSettings>()),
        ("attributes", Shape::of::<AnnotateSettings>()),
        ("events", Shape::of::<EventsSettings>()),
        (
            "notifiers",
            section([
                ("alertmanager", Shape::of::<AlertmanagerSettings>()),
                ("webhook", Shape::of::<WebhookSettings>()),
            ]),
        ),
        (
            "cluster",
            both(Shape::of::<SharingSettings>(), Shape::of::<ClusterKafkaSettings>()),
        ),
        ("state", Shape::of::<State>()),
    ])
}

fn queued(exporter: Shape) -> Shape {
    let queue = ("sending_queue", Shape::of::<QueueSettings>());
    Shape::Section(exporter.fields().into_iter().chain([queue]).collect())
}

fn section<const N: usize>(fields: [(&'static str, Shape); N]) -> Shape {
    Shape::Section(fields.into())
}

/// Whether a value may be missing behind its key: `key:` is the default.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    Allowed,
    Refused,
}

#[derive(Default)]
struct Writer {
    definitions: Map<String, Value>,
    /// What is said of keys of one name and shape.
    said: BTreeMap<(String, String), String>,
}

impl Writer {
    /// The key `name`: what may stand there, what it means and what it is when it is left out.
    fn property(&mut self, name: &str, shape: &Shape, at: At<'_>) -> Map<String, Value> {
        let mut property = Map::new();
        let alike = (name.to_owned(), format!("{shape:?}"));
        let description = at.description().inspect(|words| {
            self.said.entry(alike.clone()).or_insert_with(|| words.clone());
        });
        if let Some(words) = description.or_else(|| self.said.get(&alike).cloned()) {
            property.insert("description".into(), words.into());
        }
        property.extend(self.types(shape, at, Empty::Allowed));
        let is_leaf = !matches!(shape, Shape::Section(_) | Shape::Kinds(_));
        if let Some(default) = at.default().filter(|_| is_leaf) {
            property.insert("default".into(), default);
        }
        property
    }

    fn types(&mut self, shape: &Shape, at: At<'_>, empty: Empty) -> Map<String, Value> {
        let or_nothing = |types: &[&str]| {
            let nothing = Some("null").filter(|_| empty == Empty::Allowed);
            let types: Vec<&str> = types.iter().copied().chain(nothing).collect();
            match types.as_slice() {
                [one] => json!(one),
                several => json!(several),
            }
        };
        let expanded = |kind: &str| {
            let types = or_nothing(&[kind, "string"]);
            object(json!({"type": types, "pattern": REFERENCE}))
        };
        match shape {
            Shape::Bool => expanded("boolean"),
            Shape::Number => expanded("number"),
            Shape::Integer { minimum, maximum } => {
                let mut types = expanded("integer");
                let bounds = [("minimum", minimum), ("maximum", maximum)];
                types.extend(
                    bounds
                        .into_iter()
                        .filter_map(|(key, bound)| Some((key.to_owned(), (*bound)?.into()))),
                );
                types
            }
            Shape::Text => object(json!({"type": or_nothing(&["string"])})),
            Shape::Duration => {
                let pattern = format!(r"^(0|{TIME}(,?\s*{TIME})*)$|{REFERENCE}");
                let text =
                    json!({"type": or_nothing(&["string"]), "pattern": pattern, "patternErrorMessage": DURATION});
                // A bare 0 is the one number without a unit.
                object(json!({"anyOf": [text, {"enum": [0]}]}))
            }
            Shape::Word(words) => word(words, empty),
            Shape::Choice(choices) => {
                let properties: Map<String, Value> = choices
                    .iter()
                    .map(|(name, of)| ((*name).to_owned(), self.types(of, at.key(name), Empty::Allowed).into()))
                    .collect();
                let chosen = json!({
                    "type": "object", "properties": properties, "additionalProperties": false, "maxProperties": 1
                });
                let mut types = word(&[], empty);
                if let Some(Value::Array(any)) = types.get_mut("anyOf") {
                    any.push(chosen);
                }
                types
            }
            Shape::Anything => Map::new(),
            Shape::Header => {
                let name = json!({"description": "The caller's header of this name.", "type": "string"});
                let of_caller =
                    json!({"type": "object", "properties": {"from_context": name}, "additionalProperties": false});
                object(json!({"anyOf": [{"type": "string"}, of_caller]}))
            }
            Shape::List(of) => {
                let mut types = expanded("array");
                types.insert("items".into(), self.types(of, at.within(), Empty::Refused).into());
                types
            }
            Shape::Map(of) => {
                let mut types = expanded("object");
                let empty = match **of {
                    Shape::Section(_) => Empty::Allowed,
                    _ => Empty::Refused,
                };
                types.insert("additionalProperties".into(), self.types(of, at.within(), empty).into());
                types
            }
            Shape::Kinds(kinds) => {
                let mut types = expanded("object");
                let (mut named, mut patterns) = (Map::new(), Map::new());
                for (names, of) in kinds {
                    let Some(name) = names.first() else { continue };
                    let definition = self.define(name, of, at.key(name));
                    let reference = json!({"$ref": format!("#/definitions/{definition}")});
                    named.insert((*name).to_owned(), reference.clone());
                    patterns.insert(format!("^({}){NAME}$", names.join("|")), reference);
                }
                types.insert("properties".into(), named.into());
                types.insert("patternProperties".into(), patterns.into());
                types.insert("additionalProperties".into(), false.into());
                types
            }
            Shape::Section(fields) => {
                let mut types = expanded("object");
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|(name, of)| ((*name).to_owned(), self.property(name, of, at.key(name)).into()))
                    .collect();
                types.insert("properties".into(), properties.into());
                types.insert("additionalProperties".into(), false.into());
                types
            }
        }
    }

    /// Puts a kind with the definitions; its name there.
    fn define(&mut self, name: &str, of: &Shape, at: At<'_>) -> String {
        let definition = Value::Object(self.property(name, of, at));
        // A receiver and an exporter may have one name.
        let is_free = |name: &String| self.definitions.get(name).is_none_or(|known| *known == definition);
        let names = (2..).map(|number| format!("{name}_{number}"));
        let name = std::iter::once(name.to_owned())
            .chain(names)
            .find(is_free)
            .unwrap_or_default();
        self.definitions.insert(name.clone(), definition);
        name
    }
}

/// One of `words`; those in capitals are taken, and not offered.
fn word(words: &[&str], empty: Empty) -> Map<String, Value> {
    let (spoken, taken): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| !word.contains(char::is_uppercase));
    let mut offered: Vec<Value> = spoken.iter().map(|word| json!(word)).collect();
    // 1.2 without quotes is a number to an editor, and a word where a word is expected.
    let numbers = spoken.iter().filter_map(|word| word.parse::<f64>().ok());
    offered.extend(numbers.map(|number| json!(number)));
    if empty == Empty::Allowed {
        offered.push(Value::Null);
    }
    let pattern = match taken.as_slice() {
        [] => REFERENCE.to_owned(),
        taken => format!("^({})$|{REFERENCE}", taken.join("|")),
    };
    object(json!({"anyOf": [{"enum": offered}, {"type": "string", "pattern": pattern}]}))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
