//! The Kafka receiver: messages of topics as requests of their signal, and an offset committed only for what the next hop has.
//!
//! What enters: messages of the topics of the signals that pipelines take, OTLP or text, as the Collector's kafkareceiver reads them.
//! What leaves: [`Request`](super::Request)s to the intake of their signal. Promises: at least once: an offset is stored when the intake
//! has accepted everything up to it, never before, and committed every `autocommit.interval`, when a partition is taken away and at the end;
//! a partition's records are handed on in order; a partition that is stuck holds up no other one; what nobody can read or
//! take is skipped alone, counted and named by its offset, and stays in Kafka. Settings are there in every build, the receiver only
//! in one with the feature `kafka`. Absent on purpose: exactly once (OTLP has no way to say so), a choice among
//! a topic's messages, and encodings of other tracing systems.

#[cfg(feature = "kafka")]
mod decoding;
#[cfg(feature = "kafka")]
mod group;
#[cfg(feature = "kafka")]
mod lane;

use std::time::Duration;

use super::{
    Signal,
    transport::kafka::{COLLECTOR, CONN_IDLE_TIMEOUT, Client, LOCAL_BROKER, check_topic, default_topic},
};

pub use super::transport::kafka::{Auth, Mechanism, Metadata as MetadataSettings, Sasl, TlsSettings};
#[cfg(feature = "kafka")]
pub use group::{Counters, Receiver};

/// A receiver of type `kafka`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` of brokers; one that answers is enough.
    pub brokers: Vec<String>,
    /// Where logs are read from.
    pub logs: Topics,
    /// Where traces are read from, where a pipeline takes them.
    pub traces: Topics,
    /// Where metrics are read from, where a pipeline takes them.
    pub metrics: Topics,
    /// The consumer group: its members share the partitions.
    pub group_id: String,
    /// What brokers know this client by.
    pub client_id: String,
    /// A member that comes back under its name within `session_timeout` has its partitions again; empty: a new member each time.
    pub group_instance_id: String,
    /// Where this client is, for brokers that let it read from a replica nearby.
    pub rack_id: String,
    /// Where to begin when the group has committed nothing.
    pub initial_offset: InitialOffset,
    /// A member that is silent for so long is thought dead.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub session_timeout: Duration,
    /// How often a member says that it lives.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub heartbeat_interval: Duration,
    /// How partitions are shared; all members must know one of them.
    pub group_rebalance_strategies: Vec<Strategy>,
    /// Bytes a broker waits for before it answers.
    pub min_fetch_size: usize,
    /// Bytes of one answer of a broker.
    pub max_fetch_size: usize,
    /// How long a broker waits for them.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_fetch_wait: Duration,
    /// Bytes of one partition in an answer; twice this many are held of each partition.
    pub max_partition_fetch_size: usize,
    /// How long a connection that is not used stays open.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub conn_idle_timeout: Duration,
    /// TLS; left out, plain text.
    pub tls: Option<TlsSettings>,
    /// Who we are; left out, nobody.
    pub auth: Option<Auth>,
    /// How topics are looked up.
    pub metadata: MetadataSettings,
    /// When offsets are committed.
    pub autocommit: Autocommit,
    /// What becomes of a message that can never be handed on.
    pub message_marking: MessageMarking,
    /// Headers as attributes of the resource.
    pub header_extraction: HeaderExtraction,
    /// Keep headers for exporters (`from_context`, `include_metadata_keys`); messages whose headers differ are not put together.
    pub include_metadata: bool,
    /// Waits between attempts at what cannot be handed on for now.
    pub error_backoff: ErrorBackoff,
}

/// What is read of one signal.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Topics, and regular expressions of topics that begin with `^`; empty: the signal's own.
    pub topics: Vec<String>,
    /// Topics that are left out: regular expressions of whole names, too.
    pub exclude_topics: Vec<String>,
    /// How messages are written.
    pub encoding: Encoding,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// An OTLP request as protobuf.
    #[default]
    OtlpProto,
    /// An OTLP request as JSON.
    OtlpJson,
    /// A record whose body is the message's bytes.
    Raw,
    /// A record whose body is the message, UTF-8; what is not stays bytes.
    #[serde(alias = "text_utf-8")]
    Text,
    /// A record whose body is the message's JSON.
    Json,
}

impl Encoding {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::OtlpProto => "otlp_proto",
            Self::OtlpJson => "otlp_json",
            Self::Raw => "raw",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialOffset {
    /// Behind what is there.
    #[default]
    Latest,
    /// With the oldest message.
    Earliest,
}

/// How partitions are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Neighbouring partitions of each topic.
    Range,
    /// All partitions in turn.
    RoundRobin,
    /// As they were, as far as that goes, and only those that move stand still.
    #[serde(rename = "cooperative-sticky")]
    CooperativeSticky,
}

impl Strategy {
    /// Its name in Kafka's protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }
}

/// The section `autocommit`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Autocommit {
    /// How often what was handed on is committed.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub interval: Duration,
}

impl Default for Autocommit {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
        }
    }
}

/// The section `message_marking`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageMarking {
    /// `true`: what can never be handed on is passed over, counted and named in the log. `false`: its partition stands still.
    pub on_permanent_error: bool,
}

impl Default for MessageMarking {
    fn default() -> Self {
        Self {
            on_permanent_error: true,
        }
    }
}

/// The section `header_extraction`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderExtraction {
    /// Whether resources get `kafka.header.NAME`.
    pub extract_headers: bool,
    /// The names, exactly.
    pub headers: Vec<String>,
}

/// The section `error_backoff`. There is no end to the attempts: the message is safe where it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ErrorBackoff {
    /// Wait after the first failure; it doubles with each.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub initial_interval: Duration,
    /// Longest wait.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_interval: Duration,
}

impl Default for ErrorBackoff {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_millis(200),
            max_interval: Duration::from_secs(10),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: vec![LOCAL_BROKER.to_owned()],
            logs: Topics::default(),
            traces: Topics::default(),
            metrics: Topics::default(),
            group_id: COLLECTOR.to_owned(),
            client_id: COLLECTOR.to_owned(),
            group_instance_id: String::new(),
            rack_id: String::new(),
            initial_offset: InitialOffset::default(),
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            group_rebalance_strategies: vec![Strategy::CooperativeSticky],
            min_fetch_size: 1,
            max_fetch_size: 1_048_576,
            max_fetch_wait: Duration::from_millis(250),
            max_partition_fetch_size: 1_048_576,
            conn_idle_timeout: CONN_IDLE_TIMEOUT,
            tls: None,
            auth: None,
            metadata: MetadataSettings::default(),
            autocommit: Autocommit::default(),
            message_marking: MessageMarking::default(),
            header_extraction: HeaderExtraction::default(),
            include_metadata: false,
            error_backoff: ErrorBackoff::default(),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.client().validate()?;
        for signal in Signal::ALL {
            let of = self.of(signal);
            for topic in &of.topics {
                match topic.strip_prefix('^') {
                    Some(_) => check_pattern(&format!("{signal}.topics"), topic)?,
                    None => check_topic(topic).map_err(|error| format!("`{signal}.topics`: {error}"))?,
                }
            }
            for pattern in &of.exclude_topics {
                check_pattern(&format!("{signal}.exclude_topics"), pattern)?;
            }
            if !of.exclude_topics.is_empty() && !of.topics.iter().any(|topic| topic.starts_with('^')) {
                return Err(format!(
                    "`{signal}.exclude_topics` leaves something out of what a regular expression names, and `{signal}.topics` \
                     has none: leave it out, or write `topics: [\"^otlp_.*\"]`"
                ));
            }
            if signal != Signal::Logs && !matches!(of.encoding, Encoding::OtlpProto | Encoding::OtlpJson) {
                return Err(format!(
                    "`{signal}.encoding: {}` is for logs: write `otlp_proto` or `otlp_json`",
                    of.encoding.name()
                ));
            }
        }
        if self.group_id.is_empty() {
            return Err(format!("`group_id` is empty: write a name, as {COLLECTOR}"));
        }
        if self.heartbeat_interval.is_zero() || self.session_timeout < self.heartbeat_interval * 2 {
            return Err("`session_timeout` must be at least twice `heartbeat_interval`, for example 10s and 3s".into());
        }
        let cooperative = |strategy: &Strategy| *strategy == Strategy::CooperativeSticky;
        let strategies = &self.group_rebalance_strategies;
        if strategies.is_empty() || (strategies.iter().any(cooperative) && !strategies.iter().all(cooperative)) {
            return Err(
                "`group_rebalance_strategies`: write `[cooperative-sticky]`, or `range`, `roundrobin` or both without it"
                    .into(),
            );
        }
        if !(1..=self.max_fetch_size).contains(&self.min_fetch_size) {
            return Err("`min_fetch_size` must lie between 1 and `max_fetch_size`, for example 1".into());
        }
        for (key, bytes) in [
            ("max_fetch_size", self.max_fetch_size),
            ("max_partition_fetch_size", self.max_partition_fetch_size),
        ] {
            if !(1024..=1_000_000_000).contains(&bytes) {
                return Err(format!(
                    "`{key}` must lie between 1024 and 1000000000 bytes, for example 1048576"
                ));
            }
        }
        if self.autocommit.interval < Duration::from_millis(10) {
            return Err("`autocommit.interval` must be at least 10ms, for example 1s".into());
        }
        let extraction = &self.header_extraction;
        if extraction.extract_headers == extraction.headers.is_empty() {
            return Err(
                "`header_extraction` needs both: `extract_headers: true` and `headers: [NAME]`; or leave it out".into(),
            );
        }
        let backoff = &self.error_backoff;
        if backoff.initial_interval.is_zero() || backoff.max_interval < backoff.initial_interval {
            return Err(
                "`error_backoff`: `initial_interval` must be more than 0s and at most `max_interval`, for example 200ms and 10s"
                    .into(),
            );
        }
        Ok(())
    }

    /// What is read of a signal.
    pub fn of(&self, signal: Signal) -> &Topics {
        match signal {
            Signal::Logs => &self.logs,
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
        }
    }

    /// The topics of a signal, as they are subscribed to.
    pub fn topics(&self, signal: Signal) -> Vec<String> {
        match self.of(signal).topics.as_slice() {
            [] => vec![default_topic(signal).to_owned()],
            topics => topics.to_vec(),
        }
    }

    /// Whether a topic is read as this signal.
    pub fn reads(&self, signal: Signal, topic: &str) -> bool {
        let matches = |pattern: &String| regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(topic));
        let names = |named: &String| match named.starts_with('^') {
            true => matches(named),
            false => named == topic,
        };
        self.topics(signal).iter().any(names) && !self.of(signal).exclude_topics.iter().any(matches)
    }

    /// What it has in common with the exporter.
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

/// librdkafka has regular expressions of its own (POSIX, extended); those that both know are these, near enough.
fn check_pattern(key: &str, pattern: &str) -> Result<(), String> {
    match regex::Regex::new(pattern) {
        Ok(_) if pattern.contains(',') => Err(format!(
            "`{key}`: `{pattern}` has a comma, which no topic has: leave it out"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{key}`: `{pattern}` is not a regular expression: {error}")),
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
        let yaml = "brokers: [kafka:9092]\ngroup_id: judges\ninitial_offset: earliest\nsession_timeout: 45s\n\
                    logs: {topics: [\"^app-.*\", otlp_logs], exclude_topics: [\"^app-test\"], encoding: text_utf-8}\n\
                    auth: {sasl: {username: me, password: secret, mechanism: SCRAM-SHA-512}}\ntls: {}\n\
                    header_extraction: {extract_headers: true, headers: [tenant]}\n\
                    group_rebalance_strategies: [range, roundrobin]";
        let settings: Settings = serde_yaml::from_str(yaml).unwrap();
        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(
            (settings.logs.encoding, settings.client().is_encrypted()),
            (Encoding::Text, true)
        );
        assert_eq!(settings.topics(Signal::Traces), ["otlp_spans"]);
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(read("{}"), Ok(()), "nothing has to be written");
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        for (yaml, key) in [
            ("brokers: []", "brokers"),
            ("brokers: [kafka]", "brokers"),
            ("group_id: ''", "group_id"),
            ("logs: {topics: [a b]}", "logs.topics"),
            ("logs: {topics: ['^(']}", "logs.topics"),
            ("logs: {exclude_topics: [a]}", "logs.exclude_topics"),
            ("traces: {encoding: text}", "traces.encoding"),
            ("session_timeout: 3s", "session_timeout"),
            (
                "group_rebalance_strategies: [range, cooperative-sticky]",
                "group_rebalance_strategies",
            ),
            ("min_fetch_size: 0", "min_fetch_size"),
            ("max_fetch_size: 10", "max_fetch_size"),
            ("autocommit: {interval: 0s}", "autocommit.interval"),
            ("header_extraction: {headers: [a]}", "header_extraction"),
            ("error_backoff: {initial_interval: 1m}", "error_backoff"),
            ("tls: {server_name_override: a}", "tls.server_name_override"),
            ("auth: {sasl: {username: me}}", "auth.sasl"),
        ] {
            let problem = read(yaml).unwrap_err();
            assert!(problem.contains(&format!("`{key}")), "{yaml}: {problem}");
        }
    }
}
