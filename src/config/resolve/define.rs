//! Components as they are defined: their sections to the settings of the rooms and edges.
//!
//! What enters: `receivers`, `processors`, `exporters` and `extensions`. What leaves: settings, checked by who owns them.
//! Promise: all sections of a component are read, so that all that is wrong is told of. Absent on purpose: what runs.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{
    super::{
        component::{ComponentId, ComponentType, Components, MEMORY_LIMITER, Role},
        document::{Content, Entry, Node},
        engine::{
            Cluster, Detection, DetectionMode, Embedding, Harbinger, Notifiers, State, cluster_keys, detection_keys,
            embedding_keys,
        },
        read::{join, known_keys, refuse_unknown},
        settings::{Exporter, Extension, OtlpReceiver, Processor, Protocols, Queued, Receiver},
    },
    Defined, Resolver,
};
use crate::{
    edge::{
        api::{Settings as ApiSettings, page::Settings as PageSettings},
        authenticate_basic::Settings as BasicAuthSettings,
        authenticate_bearer::Settings as BearerTokenSettings,
        export_http::Settings as OtlpHttpSettings,
        export_kafka::Settings as KafkaExporterSettings,
        export_otlp::{RetrySettings, Settings as OtlpSettings},
        memory_limiter::Settings as MemoryLimiterSettings,
        notify_alertmanager::Settings as AlertmanagerSettings,
        notify_webhook::Settings as WebhookSettings,
        queue::{Settings as QueueSettings, StorageSettings},
        receive_grpc::Settings as GrpcSettings,
        receive_http::Settings as HttpSettings,
        receive_kafka::Settings as KafkaReceiverSettings,
    },
    engine::{
        annotate::Settings as AnnotateSettings,
        correlate::{Mode as CorrelateMode, Settings as CorrelateSettings},
        tenant::Settings as TenantSettings,
        text::Settings as TextSettings,
    },
    pipeline::{embedding::Settings as WaitingSettings, events::Settings as EventsSettings},
};

impl Resolver {
    pub(super) fn components<T>(
        &self,
        root: &Node,
        role: Role,
        defined: &mut Vec<Defined>,
        read: impl Fn(&Self, &ComponentType, &Node, &str) -> Option<T>,
    ) -> Components<T> {
        let section = self.section(root, role.section());
        let mut components = Components::default();
        let example = match role {
            Role::Receiver => "otlp: {protocols: {grpc: {}}}",
            Role::Processor => "harbinger: {}",
            Role::Exporter => "otlp_grpc: {endpoint: host:4317}",
            Role::Extension => "health_check: {}",
        };
        if !self.is_section(&section, role.section(), example) {
            return components;
        }
        for Entry { key, place, value } in section.entries() {
            let path = join(role.section(), key);
            let known = ComponentId::of(role, key);
            let id = known.as_ref().ok().map(|(id, _)| id.clone());
            defined.push(Defined {
                role,
                text: key.clone(),
                id,
                place: place.clone(),
            });
            match known {
                Err(message) => self.tell(place, path, message),
                Ok((id, kind)) => {
                    if let Some(component) = read(self, kind, value, &path) {
                        components.0.push((id, component));
                    }
                }
            }
        }
        components
    }

    pub(super) fn receiver(&self, kind: &ComponentType, node: &Node, key: &str) -> Option<Receiver> {
        if kind.name == "kafka" {
            let kafka: KafkaReceiverSettings = self.read(node, key)?;
            self.check(node, key, kafka.validate())?;
            return Some(Receiver::Kafka(Box::new(kafka)));
        }
        const EXAMPLE: &str = "protocols: {grpc: {endpoint: localhost:4317}}";
        if !self.is_section(node, key, EXAMPLE) {
            return None;
        }
        refuse_unknown(node, key, &["protocols"], &self.findings);
        let protocols = self.section(node, "protocols");
        let key = join(key, "protocols");
        if !self.is_section(&protocols, &key, "grpc: {endpoint: localhost:4317}") {
            return None;
        }
        refuse_unknown(&protocols, &key, &["grpc", "http"], &self.findings);
        if protocols.entries().is_empty() {
            self.tell(
                &protocols.place,
                key,
                format!("no protocol is named; write `{EXAMPLE}`"),
            );
            return None;
        }
        // Both are read before either is missed, so that all that is wrong is told of.
        let grpc = self.protocol(&protocols, &key, "grpc", GrpcSettings::validate);
        let http = self.protocol(&protocols, &key, "http", HttpSettings::validate);
        let protocols = Protocols {
            grpc: grpc?,
            http: http?,
        };
        protocols.each().next()?;
        Some(Receiver::Otlp(Box::new(OtlpReceiver { protocols })))
    }

    /// The section of a protocol, if it is there: `None` where it is wrong.
    fn protocol<T: DeserializeOwned>(
        &self,
        protocols: &Node,
        key: &str,
        name: &str,
        validate: impl Fn(&T) -> Result<(), String>,
    ) -> Option<Option<T>> {
        let Some(entry) = protocols.entry(name) else {
            return Some(None);
        };
        let key = join(key, name);
        let settings: T = self.read(&entry.value, &key)?;
        self.check(&entry.value, &key, validate(&settings))?;
        Some(Some(settings))
    }

    pub(super) fn processor(&self, kind: &ComponentType, node: &Node, key: &str) -> Option<Processor> {
        if kind.name == MEMORY_LIMITER {
            let settings: MemoryLimiterSettings = self.read(node, key)?;
            self.check(node, key, settings.validate())?;
            return Some(Processor::MemoryLimiter(settings));
        }
        if !self.is_section(node, key, "harbinger: {}") {
            return None;
        }
        let sections = [
            "tenant",
            "text",
            "embedding",
            "detection",
            "correlation",
            "attributes",
            "events",
            "notifiers",
            "cluster",
            "state",
        ];
        refuse_unknown(node, key, &sections, &self.findings);
        // All sections are read before any is missed, so that all that is wrong is told of.
        let tenant = self.engine_section(node, key, "tenant", TenantSettings::validate);
        let text = self.engine_section(node, key, "text", TextSettings::validate);
        let embedding = self.embedding(&self.section(node, "embedding"), &join(key, "embedding"));
        let detection = self.detection(&self.section(node, "detection"), &join(key, "detection"));
        let correlation = self.engine_section(node, key, "correlation", CorrelateSettings::validate);
        let attributes = self.engine_section(node, key, "attributes", AnnotateSettings::validate);
        // Whether the exporter is there, `service` knows.
        let events = self.engine_section(node, key, "events", |_: &EventsSettings| Ok(()));
        let notifiers = self.notifiers(&self.section(node, "notifiers"), &join(key, "notifiers"));
        let cluster = self.cluster(node, key, correlation.as_ref());
        let state = self.engine_section(node, key, "state", State::validate);
        Some(Processor::Harbinger(Box::new(Harbinger {
            tenant: tenant?,
            text: text?,
            embedding: embedding?,
            detection: detection?,
            correlation: correlation?,
            attributes: attributes?,
            events: events?,
            notifiers: notifiers?,
            cluster: cluster?,
            state: state?,
        })))
    }

    fn engine_section<T: DeserializeOwned>(
        &self,
        node: &Node,
        key: &str,
        name: &str,
        validate: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        let (node, key) = (self.section(node, name), join(key, name));
        let settings = self.read(&node, &key)?;
        self.check(&node, &key, validate(&settings))?;
        Some(settings)
    }

    fn notifiers(&self, node: &Node, key: &str) -> Option<Notifiers> {
        if !self.is_section(node, key, "alertmanager: {endpoint: http://localhost:9093}") {
            return None;
        }
        refuse_unknown(node, key, &["alertmanager", "webhook"], &self.findings);
        let alertmanager = self.engine_section(node, key, "alertmanager", AlertmanagerSettings::validate);
        let webhook = self.engine_section(node, key, "webhook", WebhookSettings::validate);
        Some(Notifiers {
            alertmanager: alertmanager?,
            webhook: webhook?,
        })
    }

    fn embedding(&self, node: &Node, key: &str) -> Option<Embedding> {
        let (model, waiting) = self.shared(node, key, &embedding_keys())?;
        let embedding = Embedding { model, waiting };
        self.check(node, key, embedding.model.validate())?;
        self.check(node, key, can_wait(&embedding.waiting))?;
        Some(embedding)
    }

    fn detection(&self, node: &Node, key: &str) -> Option<Detection> {
        let (mode, score): (DetectionMode, _) = self.shared(node, key, &detection_keys())?;
        let detection = Detection { mode: mode.mode, score };
        self.check(node, key, detection.score.validate())?;
        Some(detection)
    }

    /// The section `cluster`; without it, nothing is shared.
    fn cluster(&self, harbinger: &Node, key: &str, correlation: Option<&CorrelateSettings>) -> Option<Cluster> {
        const CLUSTER: &str = "cluster";
        let Some(node) = harbinger.entry(CLUSTER).map(|entry| &entry.value) else {
            return Some(Cluster::default());
        };
        let key = join(key, CLUSTER);
        let (sharing, kafka) = self.shared(node, &key, &cluster_keys())?;
        let cluster = Cluster { sharing, kafka };
        // Both, so that all that is wrong is told of.
        let sharing = self.check(node, &key, cluster.sharing.validate());
        let kafka = self.check(node, &key, cluster.kafka.validate());
        let by_components = |it: &CorrelateSettings| it.mode == CorrelateMode::Components;
        if cluster.sharing.enabled && correlation.is_some_and(by_components) {
            let message = "agents share what `correlation: {mode: evidence}` makes an incident, and this one goes by `components`; \
                           write `mode: evidence` there, or leave `cluster` out";
            self.tell(&node.place, key, message);
            return None;
        }
        sharing.and(kafka).map(|()| cluster)
    }

    /// Reads a section that two types share, each by the keys it knows.
    fn shared<A: DeserializeOwned, B: DeserializeOwned>(
        &self,
        node: &Node,
        key: &str,
        known: &[&str],
    ) -> Option<(A, B)> {
        if !self.is_section(node, key, &format!("{}: …", known.first().unwrap_or(&"key"))) {
            return None;
        }
        refuse_unknown(node, key, known, &self.findings);
        let part = |keys: &[&str]| Node {
            content: Content::Mapping(
                node.entries()
                    .iter()
                    .filter(|entry| keys.contains(&entry.key.as_str()))
                    .cloned()
                    .collect(),
            ),
            ..node.clone()
        };
        let first = self.read(&part(known_keys::<A>()), key);
        let second = self.read(&part(known_keys::<B>()), key);
        Some((first?, second?))
    }

    pub(super) fn exporter(&self, kind: &ComponentType, node: &Node, key: &str) -> Option<Exporter> {
        let exporter = match kind.name {
            "otlp_grpc" => {
                let queued = self.queued(node, key, |otlp: &mut OtlpSettings| &mut otlp.retry_on_failure)?;
                Exporter::OtlpGrpc(Box::new(queued))
            }
            "otlp_http" => {
                let queued = self.queued(node, key, |otlp: &mut OtlpHttpSettings| &mut otlp.retry_on_failure)?;
                Exporter::OtlpHttp(Box::new(queued))
            }
            "kafka" => {
                let queued = self.queued(node, key, |kafka: &mut KafkaExporterSettings| {
                    &mut kafka.retry_on_failure
                })?;
                Exporter::Kafka(Box::new(queued))
            }
            "file" => Exporter::File(self.read(node, key)?),
            _ => Exporter::Debug(self.read(node, key)?),
        };
        self.check(
            node,
            key,
            match &exporter {
                Exporter::OtlpGrpc(settings) => settings.exporter.validate(),
                Exporter::OtlpHttp(settings) => settings.exporter.validate(),
                Exporter::Kafka(settings) => settings.exporter.validate(),
                Exporter::File(settings) => settings.validate(),
                Exporter::Debug(_) => Ok(()),
            },
        )?;
        Some(exporter)
    }

    /// Reads an exporter with its queue. What waits on disk may wait for ever, unless something else was written.
    fn queued<T: DeserializeOwned>(
        &self,
        node: &Node,
        key: &str,
        retries: impl FnOnce(&mut T) -> &mut RetrySettings,
    ) -> Option<Queued<T>> {
        const QUEUE: &str = "sending_queue";
        if !self.is_section(node, key, "endpoint: host:4317") {
            return None;
        }
        refuse_unknown(node, key, &[known_keys::<T>(), &[QUEUE]].concat(), &self.findings);
        let own = node
            .entries()
            .iter()
            .filter(|entry| known_keys::<T>().contains(&entry.key.as_str()));
        let own = Node {
            content: Content::Mapping(own.cloned().collect()),
            ..node.clone()
        };
        let exporter: Option<T> = self.read(&own, key);
        let Some(section) = node.entry(QUEUE).map(|entry| &entry.value) else {
            let sending_queue = QueueSettings {
                enabled: false,
                ..QueueSettings::default()
            };
            return exporter.map(|exporter| Queued {
                exporter,
                sending_queue,
            });
        };
        let key = join(key, QUEUE);
        let sending_queue: Option<QueueSettings> = self.read(section, &key);
        let valid = sending_queue.as_ref().map(QueueSettings::validate);
        let sending_queue =
            sending_queue.filter(|_| valid.is_some_and(|valid| self.check(section, &key, valid).is_some()));
        let mut queued = Queued {
            exporter: exporter?,
            sending_queue: sending_queue?,
        };
        let retry = node
            .entry("retry_on_failure")
            .and_then(|entry| entry.value.entry("max_elapsed_time"));
        if queued.sending_queue.enabled && retry.is_none_or(|entry| entry.value.is_null()) {
            retries(&mut queued.exporter).max_elapsed_time = Duration::ZERO;
        }
        Some(queued)
    }

    pub(super) fn extension(&self, kind: &ComponentType, node: &Node, key: &str) -> Option<Extension> {
        Some(match kind.name {
            "health_check" => Extension::HealthCheck(self.read(node, key)?),
            "bearertokenauth" => {
                let bearer: BearerTokenSettings = self.read(node, key)?;
                self.check(node, key, bearer.validate())?;
                Extension::BearerTokenAuth(bearer)
            }
            "basicauth" => {
                let basic: BasicAuthSettings = self.read(node, key)?;
                self.check(node, key, basic.validate())?;
                Extension::BasicAuth(basic)
            }
            "file_storage" => {
                let storage: StorageSettings = self.read(node, key)?;
                self.check(node, key, storage.validate())?;
                Extension::FileStorage(storage)
            }
            "harbinger_page" => {
                let page: PageSettings = self.read(node, key)?;
                self.check(node, key, page.validate())?;
                Extension::HarbingerPage(page)
            }
            _ => {
                let api: ApiSettings = self.read(node, key)?;
                self.check(node, key, api.validate())?;
                Extension::HarbingerApi(api)
            }
        })
    }
}

/// Refuses a queue to the model that nothing would ever pass.
fn can_wait(waiting: &WaitingSettings) -> Result<(), String> {
    if waiting.deadline.is_zero() {
        return Err("deadline: 0 leaves the model no time; write `250ms`, or set `detection: {mode: off}`".to_owned());
    }
    let counts = [
        ("max_queue", waiting.max_queue),
        ("memo_capacity", waiting.memo_capacity),
        ("threads", waiting.threads),
    ];
    let limit = waiting.cpu_limit_percentage;
    if !(1..=100).contains(&limit) {
        return Err(format!(
            "cpu_limit_percentage: {limit} is not between 1 and 100; write 50"
        ));
    }
    match counts.into_iter().find(|(_, count)| *count == 0) {
        Some((key, _)) => Err(format!("{key}: 0 keeps the model from working; write 1 or more")),
        None => Ok(()),
    }
}
