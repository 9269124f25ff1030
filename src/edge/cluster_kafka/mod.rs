//! A cluster of agents through Kafka: a topic of one partition is the log, a compacted topic the memory.
//!
//! What enters: entries and records of this agent. What leaves: those of all agents, in the order of the log, as
//! [`super::cluster`] has it. Promises: an answer means that every replica in step has it; a topic that is not there is made as it has to
//! be; a log that cannot be one (several partitions) is never written to; brokers that are away hold up nobody but who waits for them.
//! Settings are there in every build, the client only in one with the feature `kafka`. Absent on purpose: a consumer group (everyone
//! reads everything) and transactions (an entry that came twice is known by what it says).

#[cfg(feature = "kafka")]
mod asking;
#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod reading;

use std::time::Duration;

use super::transport::kafka::{CONN_IDLE_TIMEOUT, Client, LOCAL_BROKER, check_topic};

pub use super::transport::kafka::{Auth, Metadata as MetadataSettings, TlsSettings};
#[cfg(feature = "kafka")]
pub use client::ClusterKafka;

/// The keys of the section `cluster` that say where the log and the memory are.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` of brokers; one that answers is enough.
    pub brokers: Vec<String>,
    /// The topic that is the log; the same for all agents of a cluster.
    pub log_topic: String,
    /// The topic that is the memory; the same for all agents of a cluster.
    pub memory_topic: String,
    /// Replicas of topics that are made; -1: as many as the brokers give by themselves.
    pub replication_factor: i16,
    /// What brokers know this client by.
    pub client_id: String,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: vec![LOCAL_BROKER.to_owned()],
            log_topic: "harbinger_incidents".to_owned(),
            memory_topic: "harbinger_memory".to_owned(),
            replication_factor: -1,
            client_id: "harbinger".to_owned(),
            conn_idle_timeout: CONN_IDLE_TIMEOUT,
            tls: None,
            auth: None,
            metadata: MetadataSettings::default(),
        }
    }
}

impl Settings {
    /// Says what is wrong and what to write instead.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        self.client().validate()?;
        for (key, topic) in [("log_topic", &self.log_topic), ("memory_topic", &self.memory_topic)] {
            check_topic(topic).map_err(|error| format!("{key}: {error}"))?;
        }
        if self.log_topic == self.memory_topic {
            return Err(format!(
                "memory_topic: the log has `{}` for itself; write another, as {}",
                self.log_topic,
                Self::default().memory_topic
            ));
        }
        if self.replication_factor == 0 || self.replication_factor < -1 {
            return Err(format!(
                "replication_factor: {} is no number of replicas; write 3, or -1 for what the brokers give by themselves",
                self.replication_factor
            ));
        }
        Ok(())
    }

    /// What it has in common with the receiver and the exporter.
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

    /// Both topics.
    pub fn topics(&self) -> [&str; 2] {
        [&self.log_topic, &self.memory_topic]
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
    fn settings_are_called_as_the_exporters() {
        let yaml = "brokers: [kafka:9092]\nlog_topic: a\nmemory_topic: b\nreplication_factor: 3\ntls: {}\n\
                    auth: {sasl: {username: u, password: p, mechanism: PLAIN}}\nmetadata: {refresh_interval: 1m}";
        assert_eq!(read(yaml), Ok(()));
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (yaml, key) in [
            ("brokers: []", "`brokers`"),
            ("log_topic: a b", "log_topic: "),
            ("memory_topic: ''", "memory_topic: "),
            ("log_topic: a\nmemory_topic: a", "memory_topic: "),
            ("replication_factor: 0", "replication_factor: 0"),
            ("replication_factor: -3", "replication_factor: -3"),
        ] {
            let refused = read(yaml).unwrap_err();
            assert!(refused.starts_with(key), "{refused}");
        }
    }
}
