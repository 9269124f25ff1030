//! The shapes of a configuration: what the user defined, complete with defaults, and what of it runs.
//!
//! What enters: the settings that the rooms and edges own. What leaves: [`Config`], which prints as the YAML it can be
//! read from, and [`Settings`], which `app` wires. Promise: nothing that is defined is left out. Absent on purpose: the
//! engine's section ([`super::engine`]), defaults of the rooms (theirs) and checks (theirs and [`super::resolve`]'s).

use std::time::Duration;

use serde::Serialize;

use super::{
    component::{ComponentId, Components, Role},
    engine::Harbinger,
    service::{Pipeline, Service, Telemetry},
};

use crate::edge::{
    AuthSettings, Signal,
    api::{Settings as ApiSettings, page::Settings as PageSettings},
    authenticate_basic::Settings as BasicAuthSettings,
    authenticate_bearer::Settings as BearerTokenSettings,
    export_debug::Settings as DebugSettings,
    export_file::Settings as FileSettings,
    export_http::Settings as OtlpHttpSettings,
    export_kafka::Settings as KafkaExporterSettings,
    export_otlp::{Settings as OtlpSettings, TlsSettings as ClientTlsSettings},
    health::Settings as HealthSettings,
    memory_limiter::Settings as MemoryLimiterSettings,
    queue::{Settings as QueueSettings, StorageSettings},
    receive_grpc::{Settings as GrpcSettings, TlsSettings as ServerTlsSettings},
    receive_http::Settings as HttpSettings,
    receive_kafka::Settings as KafkaReceiverSettings,
};

/// Everything that is defined, whether it runs or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// Ways in.
    pub receivers: Components<Receiver>,
    /// What works on records.
    pub processors: Components<Processor>,
    /// Ways out.
    pub exporters: Components<Exporter>,
    /// What serves the agent itself.
    pub extensions: Components<Extension>,
    /// What runs.
    pub service: Service,
}

impl Config {
    /// The engine, if this is its id.
    pub(super) fn harbinger(&self, processor: &ComponentId) -> Option<&Harbinger> {
        match self.processors.get(processor)? {
            Processor::Harbinger(harbinger) => Some(harbinger),
            Processor::MemoryLimiter(_) => None,
        }
    }

    /// The exporter that a processor names for its events.
    pub(super) fn events_exporter(&self, processor: &ComponentId) -> Option<ComponentId> {
        let harbinger = self.harbinger(processor)?;
        let events = Some(&harbinger.events).filter(|events| events.enabled)?;
        ComponentId::of(Role::Exporter, events.exporter.as_deref()?)
            .ok()
            .map(|(id, _)| id)
    }
}

/// What runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which of what is below each signal takes; logs always, and first.
    pub pipelines: Vec<(Signal, Pipeline)>,
    /// Every way in, once; at least one.
    pub receivers: Vec<(ComponentId, Receiver)>,
    /// What refuses requests while memory is short, in the pipelines that name it.
    pub memory_limiter: Option<(ComponentId, MemoryLimiterSettings)>,
    /// The engine's name in the configuration.
    pub processor: ComponentId,
    /// The engine.
    pub harbinger: Harbinger,
    /// Every way out, once, whoever leaves by it; of one pipeline at most one could refuse and has no queue.
    pub exporters: Vec<(ComponentId, Exporter)>,
    /// The way out for events of incidents, where that is not the records'.
    pub events_exporter: Option<ComponentId>,
    /// What serves the agent itself.
    pub extensions: Vec<(ComponentId, Extension)>,
    /// What the agent says of itself.
    pub telemetry: Telemetry,
    /// From the signal to stop until the process is gone.
    pub shutdown_timeout: Duration,
}

impl Settings {
    /// The signals that a receiver is to take.
    pub fn signals_of(&self, receiver: &ComponentId) -> impl Iterator<Item = Signal> {
        let named = |(_, pipeline): &&(Signal, Pipeline)| pipeline.receivers.contains(receiver);
        self.pipelines.iter().filter(named).map(|(signal, _)| *signal)
    }

    /// The signals that are refused while memory is short.
    pub fn limited_signals(&self) -> impl Iterator<Item = Signal> {
        let limited = self.pipelines.iter().filter(|(_, pipeline)| pipeline.limits_memory());
        limited.map(|(signal, _)| *signal)
    }

    /// The signals that leave by an exporter; events of incidents are logs.
    pub fn signals_to(&self, exporter: &ComponentId) -> impl Iterator<Item = Signal> {
        let named = |(signal, pipeline): &&(Signal, Pipeline)| {
            let has_events = *signal == Signal::Logs && self.events_exporter.as_ref() == Some(exporter);
            has_events || pipeline.exporters.contains(exporter)
        };
        self.pipelines.iter().filter(named).map(|(signal, _)| *signal)
    }
}

/// A receiver of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Receiver {
    /// `otlp`
    Otlp(Box<OtlpReceiver>),
    /// `kafka`
    Kafka(Box<KafkaReceiverSettings>),
}

impl Receiver {
    /// The protocols that it listens for; none where it fetches what it takes.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol<'_>> {
        let protocols = match self {
            Self::Otlp(otlp) => Some(&otlp.protocols),
            Self::Kafka(_) => None,
        };
        protocols.into_iter().flat_map(Protocols::each)
    }
}

/// `otlp`: one section for each protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtlpReceiver {
    /// The protocols it listens for.
    pub protocols: Protocols,
}

/// The protocols of the OTLP receiver; at least one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Protocols {
    /// OTLP by gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcSettings>,
    /// OTLP by HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
}

/// What every protocol of a receiver has.
#[derive(Clone, Copy, Debug)]
pub struct Protocol<'s> {
    /// Its key.
    pub name: &'static str,
    /// `host:port` that it listens on.
    pub endpoint: &'s str,
    /// Whether it keeps the callers' headers.
    pub include_metadata: bool,
    /// TLS, if there is.
    pub tls: Option<&'s ServerTlsSettings>,
    /// Who knows the callers, if anybody does.
    pub auth: Option<&'s AuthSettings>,
}

impl Protocols {
    /// The protocols that it listens for.
    pub fn each(&self) -> impl Iterator<Item = Protocol<'_>> {
        let grpc = self.grpc.as_ref().map(|grpc| Protocol {
            name: "grpc",
            endpoint: &grpc.endpoint,
            include_metadata: grpc.include_metadata,
            tls: grpc.tls.as_ref(),
            auth: grpc.auth.as_ref(),
        });
        let http = self.http.as_ref().map(|http| Protocol {
            name: "http",
            endpoint: &http.endpoint,
            include_metadata: http.include_metadata,
            tls: http.tls.as_ref(),
            auth: http.auth.as_ref(),
        });
        grpc.into_iter().chain(http)
    }
}

/// Where an exporter sends, if it sends over the network.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'s> {
    /// The key of its address.
    pub key: &'static str,
    /// Its address, as written.
    pub endpoint: &'s str,
    /// Whether address and `tls` together mean TLS.
    pub is_encrypted: bool,
    /// TLS towards it; none where it must be asked for.
    pub tls: Option<&'s ClientTlsSettings>,
    /// Who says who we are, if anybody does.
    pub auth: Option<&'s AuthSettings>,
}

impl Exporter {
    /// Where it sends: the endpoints that are written.
    pub fn destinations(&self) -> Vec<Destination<'_>> {
        match self {
            Self::OtlpGrpc(queued) => {
                let otlp = &queued.exporter;
                vec![Destination {
                    key: "endpoint",
                    endpoint: &otlp.endpoint,
                    is_encrypted: otlp.is_encrypted(),
                    tls: Some(&otlp.tls),
                    auth: otlp.auth.as_ref(),
                }]
            }
            Self::OtlpHttp(queued) => {
                let otlp = &queued.exporter;
                let destination = |(key, endpoint, is_encrypted)| Destination {
                    key,
                    endpoint,
                    is_encrypted,
                    tls: Some(&otlp.tls),
                    auth: otlp.auth.as_ref(),
                };
                otlp.endpoints().map(destination).collect()
            }
            Self::Kafka(queued) => {
                let client = queued.exporter.client();
                let destination = |broker| Destination {
                    key: "brokers",
                    endpoint: String::as_str(broker),
                    is_encrypted: client.is_encrypted(),
                    tls: client.tls,
                    auth: None,
                };
                client.brokers.iter().map(destination).collect()
            }
            Self::File(_) | Self::Debug(_) => Vec::new(),
        }
    }

    /// Says what to write so that it can send these signals.
    pub(super) fn sends(&self, signals: &[Signal]) -> Result<(), String> {
        match self {
            Self::OtlpHttp(queued) => signals.iter().try_for_each(|signal| queued.exporter.sends(*signal)),
            Self::File(file) if signals.len() > 1 => file.tells_apart(),
            Self::OtlpGrpc(_) | Self::Kafka(_) | Self::File(_) | Self::Debug(_) => Ok(()),
        }
    }
}

/// A processor of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Processor {
    /// `harbinger`
    Harbinger(Box<Harbinger>),
    /// `memory_limiter`
    MemoryLimiter(MemoryLimiterSettings),
}

/// An exporter of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Exporter {
    /// `otlp_grpc`
    OtlpGrpc(Box<Queued<OtlpSettings>>),
    /// `otlp_http`
    OtlpHttp(Box<Queued<OtlpHttpSettings>>),
    /// `kafka`
    Kafka(Box<Queued<KafkaExporterSettings>>),
    /// `file`
    File(FileSettings),
    /// `debug`
    Debug(DebugSettings),
}

impl Exporter {
    /// Its queue, if it has one.
    pub fn sending_queue(&self) -> Option<&QueueSettings> {
        let queue = match self {
            Self::OtlpGrpc(exporter) => &exporter.sending_queue,
            Self::OtlpHttp(exporter) => &exporter.sending_queue,
            Self::Kafka(exporter) => &exporter.sending_queue,
            Self::File(_) | Self::Debug(_) => return None,
        };
        Some(queue).filter(|queue| queue.enabled)
    }

    /// Whether it never refuses, so that nobody has to wait for it.
    pub fn takes_everything(&self) -> bool {
        matches!(self, Self::Debug(_))
    }
}

/// An exporter that may have a queue in front.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queued<T> {
    /// The exporter's own keys.
    #[serde(flatten)]
    pub exporter: T,
    /// What waits for it on disk.
    pub sending_queue: QueueSettings,
}

/// An extension of any type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Extension {
    /// `health_check`
    HealthCheck(HealthSettings),
    /// `harbinger_api`
    HarbingerApi(ApiSettings),
    /// `harbinger_page`
    HarbingerPage(PageSettings),
    /// `bearertokenauth`
    BearerTokenAuth(BearerTokenSettings),
    /// `basicauth`
    BasicAuth(BasicAuthSettings),
    /// `file_storage`
    FileStorage(StorageSettings),
}

impl Extension {
    /// `host:port` that it listens on, if it does.
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::HealthCheck(settings) => Some(&settings.endpoint),
            Self::HarbingerApi(settings) => Some(&settings.endpoint),
            Self::HarbingerPage(settings) => Some(&settings.endpoint),
            Self::BearerTokenAuth(_) | Self::BasicAuth(_) | Self::FileStorage(_) => None,
        }
    }
}
