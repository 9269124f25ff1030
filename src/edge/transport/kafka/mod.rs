//! Kafka, as far as its receiver and its exporter share it: which brokers, who we are to them, and how it is encrypted.
//!
//! What enters: the keys that both sections have; their names and defaults are those of the Collector's `kafka` components. What leaves:
//! the settings of a client of librdkafka, and one place where it speaks to our log. Promises: what librdkafka cannot do is refused with
//! what to write instead, never left out in silence; a password is in no log. Settings are there in every build, the client only in
//! one with the feature `kafka`. Absent on purpose: Kerberos, OAUTHBEARER and AWS's tokens.

#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod producer;

use std::time::Duration;

use super::{secrets::Secret, tls};
use crate::edge::Signal;

#[cfg(feature = "kafka")]
pub use client::{Voice, speaking};
#[cfg(feature = "kafka")]
pub use producer::{Producer, Writer, written};
pub use tls::ClientSettings as TlsSettings;

/// What the Collector's components call themselves, so that one can stand where the other stood.
pub const COLLECTOR: &str = "otel-collector";
/// Where a broker listens, unless it is said.
pub const LOCAL_BROKER: &str = "localhost:9092";
/// How long a connection that is not used stays open.
pub const CONN_IDLE_TIMEOUT: Duration = Duration::from_secs(9 * 60);

/// The section `auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// User name and password; left out, nobody.
    pub sasl: Option<Sasl>,
}

/// The section `auth.sasl`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sasl {
    /// Who we are.
    pub username: String,
    /// The proof.
    pub password: Secret,
    /// How it is shown.
    pub mechanism: Mechanism,
}

/// How a password is shown to a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mechanism {
    /// As it is: only within TLS.
    #[default]
    #[serde(rename = "PLAIN")]
    Plain,
    /// By a challenge (RFC 7677).
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// By a challenge, with the longer hash.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// The section `metadata`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    /// How often topics and their partitions are looked up again.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub refresh_interval: Duration,
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_secs(600),
        }
    }
}

/// The topic that the Collector's components use for a signal.
pub fn default_topic(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "otlp_logs",
        Signal::Traces => "otlp_spans",
        Signal::Metrics => "otlp_metrics",
    }
}

/// Checks the name of a topic.
///
/// # Errors
/// What Kafka allows.
pub fn check_topic(topic: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if topic.is_empty() || topic.len() > 249 || !topic.chars().all(allowed) || matches!(topic, "." | "..") {
        return Err(format!(
            "`{topic}` is not a topic: write letters, digits, `.`, `_` and `-`, at most 249, as {}",
            default_topic(Signal::Logs)
        ));
    }
    Ok(())
}

/// What both sections have.
#[derive(Clone, Copy, Debug)]
pub struct Client<'s> {
    /// `host:port` each; those that are asked for all others.
    pub brokers: &'s [String],
    /// What we call ourselves.
    pub client_id: &'s str,
    /// How long an unused connection stays open.
    pub conn_idle_timeout: Duration,
    /// TLS; none means plain text.
    pub tls: Option<&'s TlsSettings>,
    /// Who we are.
    pub auth: Option<&'s Auth>,
    /// How often topics are looked up.
    pub metadata: &'s Metadata,
}

impl Client<'_> {
    /// Whether what is sent is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some_and(|tls| !tls.insecure)
    }

    /// Checks what both have.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.brokers.is_empty() {
            return Err(format!("`brokers` is empty: write at least one, as [{LOCAL_BROKER}]"));
        }
        for broker in self.brokers {
            let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let is_port = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
            if !is_port || broker.contains(['/', ',', ' ']) {
                return Err(format!(
                    "`brokers`: `{broker}` is not a host and a port; write `{LOCAL_BROKER}`"
                ));
            }
        }
        if self.conn_idle_timeout.is_zero() {
            return Err("`conn_idle_timeout` must be more than 0s, for example 9m".into());
        }
        if self.metadata.refresh_interval < Duration::from_millis(10) {
            return Err("`metadata.refresh_interval` must be at least 10ms, for example 10m".into());
        }
        if let Some(tls) = self.tls {
            tls.validate().map_err(|error| format!("`tls`: {error}"))?;
            let unsupported = [
                ("server_name_override", tls.server_name_override.is_some()),
                ("include_system_ca_certs_pool", tls.include_system_ca_certs_pool),
                ("max_version", tls.max_version.is_some()),
                ("min_version: \"1.3\"", tls.min_version != tls::Version::Tls12),
            ];
            if let Some((key, _)) = unsupported.into_iter().find(|(_, written)| *written) {
                return Err(format!("`tls.{key}`: Kafka's client cannot do that; leave it out"));
            }
        }
        let Some(sasl) = self.auth.and_then(|auth| auth.sasl.as_ref()) else {
            return Ok(());
        };
        if sasl.username.is_empty() || sasl.password.reveal().is_empty() {
            return Err(
                "`auth.sasl` needs `username` and `password`, the latter as `${env:KAFKA_PASSWORD}`; or leave it out"
                    .into(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(broker: &str) -> Result<(), String> {
        let metadata = Metadata::default();
        let client = Client {
            brokers: &[broker.to_owned()],
            client_id: COLLECTOR,
            conn_idle_timeout: CONN_IDLE_TIMEOUT,
            tls: None,
            auth: None,
            metadata: &metadata,
        };
        client.validate()
    }

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for broker in ["localhost:9092", "10.0.0.1:9092", "[::1]:9092"] {
            assert_eq!(with(broker), Ok(()));
        }
        for broker in ["localhost", ":9092", "http://localhost:9092", "a:1,b:2", "a:0"] {
            assert!(with(broker).is_err(), "{broker}");
        }
    }

    #[test]
    fn topics_are_what_kafka_takes() {
        assert!(
            Signal::ALL
                .iter()
                .all(|signal| check_topic(default_topic(*signal)).is_ok())
        );
        for topic in ["", ".", "a b", "a/b", "ä", &"a".repeat(250)] {
            assert!(check_topic(topic).is_err(), "{topic}");
        }
    }
}
