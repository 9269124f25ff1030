//! The client of Kafka, librdkafka, as we set it and as it speaks to our log.
//!
//! What enters: what both sections of a Kafka component have. What leaves: settings of librdkafka; lines in our log. Promises: no broker
//! that is away fills the log; certificates are the system's unless others are named. Absent on purpose: everything that only
//! consumers or only producers are told. Certificates are read once, at the start: librdkafka does not read them again.

use rdkafka::{ClientConfig, ClientContext, config::RDKafkaLogLevel, error::KafkaError};

use super::Client;
use crate::edge::transport::warnings::Throttle;

impl Client<'_> {
    /// As librdkafka wants it.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", self.client_id)
            .set("connections.max.idle.ms", millis(self.conn_idle_timeout))
            .set(
                "topic.metadata.refresh.interval.ms",
                millis(self.metadata.refresh_interval),
            )
            // A broker that is away is asked again soon: its absence is what people wait for to end.
            .set("reconnect.backoff.max.ms", "2000")
            .set_log_level(RDKafkaLogLevel::Info);
        let sasl = self.auth.and_then(|auth| auth.sasl.as_ref());
        config.set(
            "security.protocol",
            match (self.is_encrypted(), sasl.is_some()) {
                (false, false) => "plaintext",
                (false, true) => "sasl_plaintext",
                (true, false) => "ssl",
                (true, true) => "sasl_ssl",
            },
        );
        if let Some(sasl) = sasl {
            config
                .set("sasl.mechanisms", sasl.mechanism.name())
                .set("sasl.username", sasl.username.as_str())
                .set("sasl.password", sasl.password.reveal());
        }
        if let Some(tls) = self.tls.filter(|tls| !tls.insecure) {
            let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
            // The library is built with an OpenSSL of its own, which does not know where this system keeps its authorities.
            let authorities = tls.ca_file.as_deref().map_or("probe".to_owned(), path);
            config.set("ssl.ca.location", authorities);
            if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file) {
                config
                    .set("ssl.certificate.location", path(certificate))
                    .set("ssl.key.location", path(key));
            }
            if tls.insecure_skip_verify {
                config.set("enable.ssl.certificate.verification", "false");
            }
        }
        config
    }
}

/// Milliseconds, as librdkafka reads them.
fn millis(duration: std::time::Duration) -> String {
    duration.as_millis().min(i32::MAX as u128).to_string()
}

/// What librdkafka says, in our log, as the component of this id.
#[derive(Debug)]
pub struct Voice {
    component: String,
    warnings: Throttle,
}

/// The voice of a component.
pub fn speaking(component: &str) -> Voice {
    Voice {
        component: component.to_owned(),
        warnings: Throttle::default(),
    }
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What is an error is told by `error`, in better words.
        tracing::debug!(component = self.component, ?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(left_out) = self.warnings.admit() {
            tracing::warn!(
                component = self.component,
                left_out,
                "{error}: {reason}; it is tried again and again"
            );
        }
    }
}
