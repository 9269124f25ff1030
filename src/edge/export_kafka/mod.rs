//! The Kafka exporter: requests as messages of a topic, each acknowledged when the brokers have it.
//!
//! What enters: [`Request`](super::Request)s. What leaves: messages as the Collector's kafkaexporter writes them, and an acknowledgement once
//! every replica that is in step has all of a request's messages. Promises: a request's messages are written in order and by
//! themselves not twice (idempotent producer), within an attempt and between attempts; what no broker has acknowledged in time is
//! the caller's to send again; a message that is larger than brokers take goes on in halves (`halving`). Settings are there in
//! every build, the exporter only in one with the feature `kafka`. Absent on purpose: `required_acks` of less than all, which loses what was
//! acknowledged; transactions.

#[cfg(feature = "kafka")]
mod messages;
#[cfg(feature = "kafka")]
mod producer;

use std::{collections::BTreeMap, time::Duration};

use super::{
    Signal,
    transport::{
        kafka::{COLLECTOR, CONN_IDLE_TIMEOUT, Client, LOCAL_BROKER, check_topic, default_topic},
        retry,
    },
};

pub use super::transport::kafka::{Auth, Metadata as MetadataSettings, TlsSettings};
#[cfg(feature = "kafka")]
pub use producer::KafkaExporter;

/// An exporter of type `kafka`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` of brokers; one that answers is enough.
    pub brokers: Vec<String>,
    /// What brokers know this client by.
    pub client_id: String,
    /// Where logs go.
    pub logs: Destination,
    /// Where traces go.
    pub traces: Destination,
    /// Where metrics go.
    pub metrics: Destination,
    /// The attribute of a resource that names the topic of what it says; where it is missing, `topic` holds.
    pub topic_from_attribute: String,
    /// Logs of one resource go to one partition: its attributes make the key.
    pub partition_logs_by_resource_attributes: bool,
    /// Metrics of one resource go to one partition.
    pub partition_metrics_by_resource_attributes: bool,
    /// The callers' headers that become headers of messages.
    pub include_metadata_keys: Vec<String>,
    /// Headers of every message.
    pub record_headers: BTreeMap<String, String>,
    /// Longest wait for one attempt.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
    /// Retries.
    pub retry_on_failure: retry::Settings,
    /// How messages are written.
    pub producer: Producer,
    /// How long a connection that is not used stays open.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub conn_idle_timeout: Duration,
    /// TLS; left out, plain text.
    pub tls: Option<TlsSettings>,
    /// Who we are; left out, nobody.
    pub auth: Option<Auth>,
    /// How topics are looked up.
    pub metadata: MetadataSettings,
}

/// Where one signal goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Destination {
    /// The topic; empty: the signal's own.
    pub topic: String,
    /// The caller's header that names the topic; where it is missing, the rest holds.
    pub topic_from_metadata_key: String,
    /// The caller's header that is the messages' key.
    pub message_key_from_metadata_key: String,
    /// How requests are written.
    pub encoding: Encoding,
}

/// How requests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// OTLP protobuf, byte for byte.
    #[default]
    OtlpProto,
    /// OTLP JSON.
    OtlpJson,
}

/// The section `producer`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Producer {
    /// Bytes of one message, uncompressed; not more than the brokers' `message.max.bytes`.
    pub max_message_bytes: usize,
    /// `all`: an acknowledgement is one of every replica in step.
    pub required_acks: RequiredAcks,
    /// Compression of messages.
    pub compression: Compression,
    /// Its level.
    pub compression_params: CompressionParams,
    /// How long a message waits for others to go with it.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub linger: Duration,
    /// Messages that go together at most.
    pub flush_max_messages: usize,
    /// Whether brokers may make topics that are not there.
    pub allow_auto_topic_creation: bool,
    /// MiB of messages that wait for brokers; more is not taken.
    pub max_buffered_mib: usize,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_000_000,
            required_acks: RequiredAcks::All,
            compression: Compression::None,
            compression_params: CompressionParams::default(),
            linger: Duration::from_millis(10),
            flush_max_messages: 10_000,
            allow_auto_topic_creation: true,
            max_buffered_mib: 64,
        }
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequiredAcks {
    /// Every replica in step has it.
    #[default]
    #[serde(alias = "-1")]
    All,
}

/// Compression of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

impl Compression {
    /// Its name in Kafka's protocol, and the levels it has.
    pub fn name_and_levels(self) -> (&'static str, std::ops::RangeInclusive<i32>) {
        match self {
            Self::None => ("none", -1..=-1),
            Self::Gzip => ("gzip", -1..=9),
            Self::Snappy => ("snappy", -1..=0),
            Self::Lz4 => ("lz4", -1..=12),
            Self::Zstd => ("zstd", -1..=22),
        }
    }
}

/// The section `producer.compression_params`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionParams {
    /// -1: the compression's own.
    pub level: i32,
}

impl Default for CompressionParams {
    fn default() -> Self {
        Self { level: -1 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: vec![LOCAL_BROKER.to_owned()],
            client_id: COLLECTOR.to_owned(),
            logs: Destination::default(),
            traces: Destination::default(),
            metrics: Destination::default(),
            topic_from_attribute: String::new(),
            partition_logs_by_resource_attributes: false,
            partition_metrics_by_resource_attributes: false,
            include_metadata_keys: Vec::new(),
            record_headers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            retry_on_failure: retry::Settings::default(),
            producer: Producer::default(),
            conn_idle_timeout: CONN_IDLE_TIMEOUT,
            tls: None,
            auth: None,
            metadata: MetadataSettings::default(),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.client().validate()?;
        for signal in Signal::ALL {
            let of = self.of(signal);
            if !of.topic.is_empty() {
                check_topic(&of.topic).map_err(|error| format!("`{signal}.topic`: {error}"))?;
            }
            if self.is_by_resource(signal) && !of.message_key_from_metadata_key.is_empty() {
                return Err(format!(
                    "`{signal}.message_key_from_metadata_key` and `partition_{signal}_by_resource_attributes` both make the key: \
                     write one of them"
                ));
            }
        }
        if self.timeout.is_zero() {
            return Err("`timeout` must be more than 0s, for example 5s".into());
        }
        let producer = &self.producer;
        if !(1000..=1_000_000_000).contains(&producer.max_message_bytes) {
            return Err(
                "`producer.max_message_bytes` must lie between 1000 and 1000000000, for example 1000000".into(),
            );
        }
        if producer.linger > Duration::from_secs(60) || producer.linger >= self.timeout {
            return Err("`producer.linger` must be less than `timeout`, for example 10ms".into());
        }
        if !(1..=1_000_000).contains(&producer.flush_max_messages) {
            return Err("`producer.flush_max_messages` must lie between 1 and 1000000, for example 10000".into());
        }
        if !(1..=2048).contains(&producer.max_buffered_mib)
            || producer.max_buffered_mib * 1024 * 1024 < producer.max_message_bytes
        {
            return Err(
                "`producer.max_buffered_mib` must lie between 1 and 2048 and hold one largest message, for example 64"
                    .into(),
            );
        }
        let (name, levels) = producer.compression.name_and_levels();
        if !levels.contains(&producer.compression_params.level) {
            return Err(format!(
                "`producer.compression_params.level: {}` is none of {name}'s: write {} to {}",
                producer.compression_params.level,
                levels.start(),
                levels.end()
            ));
        }
        self.retry_on_failure
            .validate()
            .map_err(|error| format!("`retry_on_failure`: {error}"))
    }

    /// Where a signal goes.
    pub fn of(&self, signal: Signal) -> &Destination {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }

    /// The topic of a signal, unless something else names another.
    pub fn topic(&self, signal: Signal) -> &str {
        match self.of(signal).topic.as_str() {
            "" => default_topic(signal),
            topic => topic,
        }
    }

    /// Whether a signal's resources are kept apart, each with a key of its own.
    pub fn is_by_resource(&self, signal: Signal) -> bool {
        match signal {
            Signal::Logs => self.partition_logs_by_resource_attributes,
            Signal::Traces => false,
            Signal::Metrics => self.partition_metrics_by_resource_attributes,
        }
    }

    /// What it has in common with the receiver.
    pub fn client(&self) -> Client<'_> {
        Client {
            brokers: &self.brokers,
            client_id: &self.client_id,
            conn_idle_timeout: self.conn_idle_timeout,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            metadata: &self.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(yaml: &str) -> Result<(), String> {
        let settings: Settings = serde_yaml::from_str(yaml).map_err(|error| error.to_string())?;
        settings.validate()
    }

    #[test]
    fn settings_read_like_the_collectors() {
        let yaml = "brokers: [kafka:9092]\nlogs: {topic: judged, encoding: otlp_json, topic_from_metadata_key: X-Topic}\n\
                    partition_logs_by_resource_attributes: true\ninclude_metadata_keys: [x-tenant]\nrecord_headers: {by: harbinger}\n\
                    producer: {max_message_bytes: 500000, required_acks: -1, compression: zstd, compression_params: {level: 3}}\n\
                    timeout: 10s\nretry_on_failure: {initial_interval: 1s}";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(
            (settings.topic(Signal::Logs), settings.topic(Signal::Metrics)),
            ("judged", "otlp_metrics")
        );
        assert_eq!(read("{}"), Ok(()), "nothing has to be written");
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        for (yaml, key) in [
            ("brokers: [kafka]", "brokers"),
            ("logs: {topic: a b}", "logs.topic"),
            ("timeout: 0s", "timeout"),
            ("producer: {max_message_bytes: 10}", "producer.max_message_bytes"),
            ("producer: {linger: 5s}", "producer.linger"),
            ("producer: {flush_max_messages: 0}", "producer.flush_max_messages"),
            ("producer: {max_buffered_mib: 0}", "producer.max_buffered_mib"),
            (
                "producer: {compression: gzip, compression_params: {level: 10}}",
                "producer.compression_params.level",
            ),
            ("retry_on_failure: {multiplier: 0}", "retry_on_failure"),
            (
                "partition_logs_by_resource_attributes: true\nlogs: {message_key_from_metadata_key: k}",
                "logs.message_key_from_metadata_key",
            ),
        ] {
            let problem = read(yaml).unwrap_err();
            assert!(problem.contains(&format!("`{key}")), "{yaml}: {problem}");
        }
        assert!(
            read("producer: {required_acks: 1}").is_err(),
            "it would lose what it acknowledged"
        );
    }
}
