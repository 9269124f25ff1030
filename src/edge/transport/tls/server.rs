//! A server's side of TLS: its certificate, and whose certificates it asks for.
//!
//! What enters: the section `tls` of a receiver, and connections. What leaves: connections after their handshake. Promises:
//! with `client_ca_file` nobody gets in without a certificate of that authority; a handshake that takes too long or fails
//! ends its own connection and is said, throttled, with peer and reason. Absent on purpose: whom a certificate names.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier},
};

use super::{Stream, Version, pem, provider, validate_versions, versions};
use crate::edge::transport::{
    reloading::{FileError, Named, Reloading},
    warnings::Throttle,
};

/// Who takes longer for the handshake is no client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The section `tls` of a receiver; names and meaning are the Collector's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The server's certificate and those between it and its authority, in PEM form.
    pub cert_file: Option<PathBuf>,
    /// Its private key, in PEM form.
    pub key_file: Option<PathBuf>,
    /// Authorities that clients must have a certificate of; without it none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Lowest version.
    pub min_version: Version,
    /// Highest version; left out, the highest there is.
    pub max_version: Option<Version>,
    /// How often the files are looked at again; 0 s never.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reload_interval: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            min_version: Version::Tls12,
            max_version: None,
            reload_interval: Duration::from_secs(10),
        }
    }
}

impl ServerSettings {
    /// Says what is wrong and what to write instead.
    ///
    /// # Errors
    /// A key that is missing, or two that do not go together.
    pub fn validate(&self) -> Result<(), String> {
        for (key, path) in [("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            if path.is_none() {
                return Err(format!(
                    "`{key}` is missing: write the path of a PEM file, or leave out the whole section for plain text"
                ));
            }
        }
        validate_versions(self.min_version, self.max_version)
    }

    /// Reads the files and lets go of them, for `validate`.
    ///
    /// # Errors
    /// A file that a start would fail on, unless only who starts may read it.
    pub fn check_files(&self) -> Result<(), String> {
        match ServerTls::load(self, &[]) {
            Ok(_) => Ok(()),
            Err(FileError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            Err(problem) => Err(problem.to_string()),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct ServerTls {
    config: Reloading<ServerConfig>,
    failed: Throttle,
}

impl ServerTls {
    /// Reads the files; `protocols` are spoken within TLS.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn load(settings: &ServerSettings, protocols: &[&[u8]]) -> Result<Self, FileError> {
        settings
            .validate()
            .map_err(|problem| FileError::Missing(format!("tls: {problem}")))?;
        let named = |key, path: &Option<PathBuf>| path.clone().map(|path| Named { key, path });
        let (Some(certificate), Some(key)) = (
            named("tls.cert_file", &settings.cert_file),
            named("tls.key_file", &settings.key_file),
        ) else {
            return Err(FileError::Missing(
                "tls: `cert_file` and `key_file` belong together".into(),
            ));
        };
        let client_authority = named("tls.client_ca_file", &settings.client_ca_file);
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let versions = versions(settings.min_version, settings.max_version);
        let files = [certificate.clone(), key.clone()]
            .into_iter()
            .chain(client_authority.clone())
            .collect();
        let config = Reloading::load(files, settings.reload_interval, move |contents| {
            let content = |index: usize| contents.get(index).map(Vec::as_slice).unwrap_or_default();
            let chain = pem::certificates(&certificate, content(0))?;
            let private = pem::key(&key, content(1))?;
            let builder = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&versions)
                .map_err(|problem| FileError::Missing(format!("tls: {problem}")))?;
            let builder = match &client_authority {
                None => builder.with_no_client_auth(),
                Some(file) => {
                    let mut roots = RootCertStore::empty();
                    pem::authorities(file, content(2), &mut roots)?;
                    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|problem| file.unusable(problem.to_string()))?;
                    builder.with_client_cert_verifier(verifier)
                }
            };
            let mut config = builder.with_single_cert(chain, private).map_err(|problem| {
                let certificate = certificate.path.display();
                key.unusable(format!(
                    "not the key of {certificate} ({problem}): name the two files of one pair"
                ))
            })?;
            config.alpn_protocols = protocols.clone();
            Ok(config)
        })?;
        Ok(Self {
            config,
            failed: Throttle::default(),
        })
    }

    /// The connection after its handshake; `None` when there was none.
    pub async fn accept(&self, stream: TcpStream) -> Option<Stream> {
        let peer = stream.peer_addr().ok();
        let acceptor = TlsAcceptor::from(self.config.current().await);
        let reason = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return Some(Stream::encrypted(stream)),
            // Probes of a port come and go without a word.
            Ok(Err(problem)) if problem.kind() == std::io::ErrorKind::UnexpectedEof => {
                tracing::debug!(?peer, "a connection ended before its TLS handshake");
                return None;
            }
            Ok(Err(problem)) => problem.to_string(),
            Err(_) => format!("it was not finished within {HANDSHAKE_TIMEOUT:?}"),
        };
        if let Some(left_out) = self.failed.admit() {
            let peer = peer.map_or_else(String::new, |peer| peer.to_string());
            tracing::warn!(peer, left_out, "a TLS handshake failed: {reason}");
        }
        None
    }
}
