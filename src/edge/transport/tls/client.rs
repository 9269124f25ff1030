//! A client's side of TLS: whom it trusts, who it is, and connections made so.
//!
//! What enters: the section `tls` of an exporter or notifier, and addresses. What leaves: connections, plain for `http` and
//! encrypted for `https`, for tonic's channel and hyper-util's client alike. Promises: a server is who its certificate
//! says, by an authority that is trusted and for the name that was asked for; each connection is made with the files as
//! they are then. Absent on purpose: proxies.

use std::{
    error::Error,
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};
use tower_service::Service;

use super::{Stream, Version, pem, provider, validate_versions, versions};
use crate::edge::transport::reloading::{FileError, Named, Reloading};

/// The section `tls` of an exporter or notifier; names and meaning are the Collector's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// `true`: plain text where `endpoint` has no scheme; a scheme decides over it.
    pub insecure: bool,
    /// `true`: TLS with whoever answers, unverified.
    pub insecure_skip_verify: bool,
    /// Authorities that are trusted, in PEM form; left out, the system's.
    pub ca_file: Option<PathBuf>,
    /// The system's authorities beside those of `ca_file`.
    pub include_system_ca_certs_pool: bool,
    /// The client's own certificate, for servers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, if it is not the endpoint's host.
    pub server_name_override: Option<String>,
    /// Lowest version.
    pub min_version: Version,
    /// Highest version; left out, the highest there is.
    pub max_version: Option<Version>,
    /// How often the files are looked at again; 0 s never.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            insecure: false,
            insecure_skip_verify: false,
            ca_file: None,
            include_system_ca_certs_pool: false,
            cert_file: None,
            key_file: None,
            server_name_override: None,
            min_version: Version::Tls12,
            max_version: None,
            reload_interval: Duration::from_secs(10),
        }
    }
}

impl ClientSettings {
    /// Says what is wrong and what to write instead.
    ///
    /// # Errors
    /// Keys that do not go together.
    pub fn validate(&self) -> Result<(), String> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => return Err("`cert_file` needs its `key_file`: write both, or neither".into()),
            (None, Some(_)) => return Err("`key_file` needs its `cert_file`: write both, or neither".into()),
            _ => {}
        }
        if let Some(name) = &self.server_name_override
            && ServerName::try_from(name.as_str()).is_err()
        {
            return Err(format!(
                "`server_name_override: {name}` is not a host's name: write it without scheme and port"
            ));
        }
        validate_versions(self.min_version, self.max_version)
    }

    /// Reads the files and lets go of them, for `validate`.
    ///
    /// # Errors
    /// A file that a start would fail on, unless only who starts may read it.
    pub fn check_files(&self) -> Result<(), String> {
        match self.load(&[]) {
            Ok(_) => Ok(()),
            Err(FileError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            Err(problem) => Err(problem.to_string()),
        }
    }

    fn load(&self, protocols: &[&[u8]]) -> Result<Reloading<ClientConfig>, FileError> {
        self.validate()
            .map_err(|problem| FileError::Missing(format!("tls: {problem}")))?;
        let named = |key, path: &Option<PathBuf>| path.clone().map(|path| Named { key, path });
        let authority = named("tls.ca_file", &self.ca_file);
        let certificate = named("tls.cert_file", &self.cert_file);
        let key = named("tls.key_file", &self.key_file);
        let files = [&authority, &certificate, &key]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let settings = self.clone();
        Reloading::load(files, self.reload_interval, move |contents| {
            let mut contents = contents.iter().map(Vec::as_slice);
            let mut roots = RootCertStore::empty();
            if let Some(file) = &authority {
                pem::authorities(file, contents.next().unwrap_or_default(), &mut roots)?;
            }
            if authority.is_none() || settings.include_system_ca_certs_pool {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            if roots.is_empty() && !settings.insecure_skip_verify {
                let missing = "tls: this system has no certificate authorities: write `ca_file: PATH`";
                return Err(FileError::Missing(missing.into()));
            }
            let builder = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&versions(settings.min_version, settings.max_version))
                .map_err(|problem| FileError::Missing(format!("tls: {problem}")))?
                .with_root_certificates(roots);
            let mut config = match (&certificate, &key) {
                (Some(certificate), Some(key)) => {
                    let chain = pem::certificates(certificate, contents.next().unwrap_or_default())?;
                    let private = pem::key(key, contents.next().unwrap_or_default())?;
                    builder.with_client_auth_cert(chain, private).map_err(|problem| {
                        let certificate = certificate.path.display();
                        key.unusable(format!(
                            "not the key of {certificate} ({problem}): name the two files of one pair"
                        ))
                    })?
                }
                _ => builder.with_no_client_auth(),
            };
            config.alpn_protocols = protocols.clone();
            if settings.insecure_skip_verify {
                config
                    .dangerous()
                    .set_certificate_verifier(Arc::new(Unverified(provider())));
            }
            Ok(config)
        })
    }
}

/// `insecure_skip_verify`: whoever answers is taken for the server.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, tokio_rustls::rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, tokio_rustls::rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Look at the address and at the network.
    #[error(transparent)]
    Tcp(Box<dyn Error + Send + Sync>),
    /// Look at the section `tls`, or at the other side's certificate.
    #[error("TLS with {host} failed: {problem}")]
    Tls {
        /// Whom it was tried with.
        host: String,
        /// What went wrong, and which setting it is about.
        problem: String,
    },
}

/// Makes connections: plain to `http`, by TLS to `https`.
#[derive(Clone)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Option<Reloading<ClientConfig>>,
    server_name: Option<String>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connector")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// For connections to `endpoint`; files are read only where it is `https`. `protocols` are spoken within TLS.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn to(endpoint: &Uri, settings: &ClientSettings, protocols: &[&[u8]]) -> Result<Self, FileError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = if is_https(endpoint) {
            Some(settings.load(protocols)?)
        } else {
            None
        };
        Ok(Self {
            tcp,
            tls,
            server_name: settings.server_name_override.clone(),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.tcp
            .poll_ready(context)
            .map_err(|problem| ConnectError::Tcp(problem.into()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri.clone());
        let (tls, server_name) = (self.tls.clone(), self.server_name.clone());
        Box::pin(async move {
            let stream = connecting
                .await
                .map_err(|problem| ConnectError::Tcp(problem.into()))?
                .into_inner();
            if !is_https(&uri) {
                return Ok(TokioIo::new(Stream::plain(stream)));
            }
            let host = uri.host().unwrap_or_default().to_owned();
            let failed = |problem: String| ConnectError::Tls { host, problem };
            let Some(tls) = tls else {
                return Err(failed("this client was made for plain text".into()));
            };
            let name = server_name.unwrap_or_else(|| host_name(&uri).to_owned());
            let Ok(name) = ServerName::try_from(name) else {
                return Err(failed(
                    "its host is no name that a certificate can have: set `tls.server_name_override`".into(),
                ));
            };
            let connector = TlsConnector::from(tls.current().await);
            match connector.connect(name, stream).await {
                Ok(stream) => Ok(TokioIo::new(Stream::encrypted(stream))),
                Err(problem) => Err(failed(with_advice(&problem))),
            }
        })
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

/// The host without the brackets of an IPv6 address.
fn host_name(uri: &Uri) -> &str {
    uri.host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

fn with_advice(problem: &std::io::Error) -> String {
    let said = problem.to_string();
    let advice = if said.contains("UnknownIssuer") || said.contains("BadSignature") {
        "; name its authority in `tls.ca_file`"
    } else if said.contains("not valid for name") {
        "; correct `endpoint`, or set `tls.server_name_override`"
    } else if said.contains("CertificateRequired")
        || said.contains("CertificateUnknown")
        || said.contains("HandshakeFailure")
    {
        "; it may ask for a certificate: `tls.cert_file` and `tls.key_file`"
    } else if said.contains("corrupt message") || said.contains("InvalidContentType") {
        "; does it speak TLS at all? `http://` is plain text"
    } else {
        ""
    };
    format!("{said}{advice}")
}
