//! The agent's own metrics and traces on their way out: OTLP by gRPC or HTTP, as OpenTelemetry's configuration writes it.
//!
//! What enters: an `otlp` exporter of `service.telemetry`. What leaves: exporters for the SDK. Promises: connections are made
//! by the connector of all our clients, so that TLS is the same, files are read again when they change, and names of hosts
//! are looked up each time; the values of headers are shown nowhere; each call ends within its timeout. Absent on purpose:
//! what is sent, queues and counts (the SDK's and `telemetry`'s), and compression: it is little.

use std::{collections::HashMap, future::Future, path::PathBuf, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{
    MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig, tonic_types::metadata::MetadataMap,
};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use super::transport::{
    delivery::USER_AGENT,
    http_client::HttpClient,
    next_hop,
    secrets::Secret,
    tls::{self, ClientSettings, Connector},
};

/// Most that is read of an answer.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// How OTLP is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// OTLP by gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP by HTTP, in protobuf.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// An `otlp` exporter of `service.telemetry`: names and meaning are those of OpenTelemetry's configuration 0.3.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// URL, `http://` or, for TLS, `https://`; by HTTP with the signal's path behind it, unless it has one.
    pub endpoint: String,
    /// Authorities that are trusted, in PEM form; left out, the system's.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The agent's own certificate, for servers that ask for one.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
    /// Headers of each call.
    #[serde(default)]
    pub headers: Vec<Header>,
}

/// One header.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Secret,
}

/// The exporter of one signal: the builders of the SDK are alike and have no trait in common.
macro_rules! exporter {
    ($exporter:ident, $settings:ident, $path:literal, $timeout:ident) => {{
        let exporter = match $settings.protocol {
            Protocol::Grpc => $exporter::builder()
                .with_tonic()
                .with_channel($settings.channel($timeout)?)
                .with_metadata(MetadataMap::from_headers($settings.headers()?))
                .with_timeout($timeout)
                .build(),
            Protocol::HttpProtobuf => $exporter::builder()
                .with_http()
                .with_http_client($settings.client($timeout)?)
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint($settings.next_hop($path)?.to_string())
                .with_headers($settings.written_headers())
                .with_timeout($timeout)
                .build(),
        };
        exporter.map_err(|problem| problem.to_string())
    }};
}

impl Settings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let endpoint = &self.endpoint;
        if endpoint.contains('@') {
            return Err(
                "`endpoint` holds a user name; write it without, and `headers: [{name: authorization, value: …}]`"
                    .into(),
            );
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let example = if endpoint.is_empty() {
                "localhost:4317"
            } else {
                endpoint
            };
            return Err(format!(
                "the endpoint `{endpoint}` is not a URL; write `http://{example}`"
            ));
        }
        self.next_hop("/v1/traces")?;
        match (&self.client_certificate, &self.client_key) {
            (Some(_), None) => return Err("`client_certificate` needs its `client_key`: write both, or neither".into()),
            (None, Some(_)) => return Err("`client_key` needs its `client_certificate`: write both, or neither".into()),
            _ => {}
        }
        self.headers().map(|_| ())
    }

    /// Reads the files and lets go of them, for `validate`.
    ///
    /// # Errors
    /// A file that a start would fail on.
    pub fn check_files(&self) -> Result<(), String> {
        if !self.endpoint.starts_with("https://") {
            return Ok(());
        }
        self.tls().check_files().map_err(|problem| renamed(&problem))
    }

    /// The exporter of metrics; each call takes `timeout` at most. Inside a tokio runtime.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn metrics(&self, timeout: Duration) -> Result<MetricExporter, String> {
        exporter!(MetricExporter, self, "/v1/metrics", timeout)
    }

    /// The exporter of spans; each call takes `timeout` at most. Inside a tokio runtime.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub fn spans(&self, timeout: Duration) -> Result<SpanExporter, String> {
        exporter!(SpanExporter, self, "/v1/traces", timeout)
    }

    fn next_hop(&self, path: &str) -> Result<Uri, String> {
        match self.protocol {
            Protocol::Grpc => next_hop::host_and_port("endpoint", &self.endpoint, &self.tls()),
            Protocol::HttpProtobuf => {
                let whole = next_hop::url("endpoint", &self.endpoint, "", &self.tls())?;
                if whole.path() == "/" {
                    return next_hop::url("endpoint", &self.endpoint, path, &self.tls());
                }
                Ok(whole)
            }
        }
    }

    fn tls(&self) -> ClientSettings {
        ClientSettings {
            ca_file: self.certificate.clone(),
            cert_file: self.client_certificate.clone(),
            key_file: self.client_key.clone(),
            ..ClientSettings::default()
        }
    }

    fn channel(&self, timeout: Duration) -> Result<Channel, String> {
        let next_hop = self.next_hop("")?;
        let connector =
            Connector::to(&next_hop, &self.tls(), &[tls::HTTP_2]).map_err(|problem| renamed(&problem.to_string()))?;
        let endpoint = Endpoint::from(next_hop)
            .user_agent(USER_AGENT)
            .map_err(|problem| problem.to_string())?;
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    fn client(&self, timeout: Duration) -> Result<Client, String> {
        let client = HttpClient::new(&self.endpoint, &self.tls(), HeaderMap::new(), timeout);
        Ok(Client {
            client: client.map_err(|problem| renamed(&problem))?,
            runtime: Handle::try_current().map_err(|problem| problem.to_string())?,
        })
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for Header { name, value } in &self.headers {
            let written = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("headers: `{name}` is not a header name: use letters, digits and `-`"))?;
            let mut value = HeaderValue::try_from(value.reveal())
                .map_err(|_| format!("headers: the value of `{name}` must be one line of printable ASCII"))?;
            value.set_sensitive(true);
            headers.append(written, value);
        }
        Ok(headers)
    }

    fn written_headers(&self) -> HashMap<String, String> {
        let headers = self.headers.iter();
        headers
            .map(|header| (header.name.clone(), header.value.reveal().to_owned()))
            .collect()
    }
}

/// The connector's words, with the names that the keys have here.
fn renamed(problem: &str) -> String {
    let problem = problem
        .replace("tls.ca_file", "certificate")
        .replace("`ca_file", "`certificate");
    problem
        .replace("tls.cert_file", "client_certificate")
        .replace("tls.key_file", "client_key")
}

/// Our client, as the SDK's thread, which knows no runtime, can call it.
#[derive(Debug)]
struct Client {
    client: HttpClient,
    runtime: Handle,
}

impl opentelemetry_http::HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        let client = self.client.clone();
        let call = self
            .runtime
            .spawn(async move { client.exchange(request, MAX_RESPONSE_BYTES).await });
        Box::pin(async move { Ok(call.await??) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(yaml: &str) -> Settings {
        serde_yaml::from_str(yaml).unwrap()
    }

    fn url(yaml: &str, path: &str) -> String {
        settings(yaml).next_hop(path).unwrap().to_string()
    }

    #[test]
    fn by_http_a_signal_has_its_path_unless_one_is_written() {
        let base = "{protocol: http/protobuf, endpoint: \"http://hop:4318\"}";
        assert_eq!(url(base, "/v1/traces"), "http://hop:4318/v1/traces");
        assert_eq!(url(base, "/v1/metrics"), "http://hop:4318/v1/metrics");
        let whole = "{protocol: http/protobuf, endpoint: \"https://hop/otlp/v1/traces\"}";
        assert_eq!(url(whole, "/v1/metrics"), "https://hop/otlp/v1/traces");
        assert_eq!(url("{endpoint: \"http://hop:4317\"}", "/v1/traces"), "http://hop:4317/");
    }

    #[test]
    fn what_cannot_work_says_what_to_write_and_shows_no_secret() {
        for (yaml, said) in [
            ("{endpoint: hop:4317}", "write `http://hop:4317`"),
            ("{endpoint: \"\"}", "write `http://localhost:4317`"),
            ("{endpoint: \"http://ann:hunter2@hop:4317\"}", "authorization"),
            ("{endpoint: \"http://hop\"}", "http://host:port"),
            ("{endpoint: \"http://hop:1\", client_key: a}", "client_certificate"),
            (
                "{endpoint: \"http://hop:1\", headers: [{name: \"a b\", value: hunter2}]}",
                "header name",
            ),
            (
                "{endpoint: \"http://hop:1\", headers: [{name: a, value: \"hunter2\\n\"}]}",
                "one line",
            ),
        ] {
            let refused = settings(yaml).validate().unwrap_err();
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
        }
        let missing = settings("{endpoint: \"https://hop:1\", certificate: /not/there.pem}");
        let refused = missing.channel(Duration::from_secs(1)).unwrap_err();
        assert!(
            refused.contains("certificate") && !refused.contains("ca_file"),
            "{refused}"
        );
        let secret = settings("{endpoint: \"http://hop:1\", headers: [{name: a, value: hunter2}]}");
        assert!(!format!("{secret:?}{}", serde_yaml::to_string(&secret).unwrap()).contains("hunter2"));
    }
}
