//! TLS 1.2 and 1.3 for servers and clients, by rustls with ring.
//!
//! What enters: the sections `tls`, and TCP streams. What leaves: [`Stream`]s that read and write like TCP. Promises: files
//! are checked before anything starts, and read again while running (see `reloading`); a handshake has bounded time and
//! is a matter of its own connection; who cannot show what is asked for gets no further than the handshake.
//! Absent on purpose: OpenSSL and AWS-LC (no C library), versions before 1.2, lists of cipher suites (rustls has no weak
//! ones), revocation lists.

mod client;
mod pem;
mod server;
mod stream;

use std::sync::Arc;

use tokio_rustls::rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

pub use client::{ClientSettings, Connector};
pub use server::{ServerSettings, ServerTls};
pub use stream::Stream;

/// What gRPC speaks within TLS.
pub const HTTP_2: &[u8] = b"h2";
/// What the notifiers speak within TLS.
pub const HTTP_1: &[u8] = b"http/1.1";

/// A version of TLS. Older ones are broken, and not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// TLS 1.2
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}

/// The versions from `min` to `max`.
fn versions(min: Version, max: Option<Version>) -> Vec<&'static SupportedProtocolVersion> {
    [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| *version >= min && max.is_none_or(|max| *version <= max))
        .map(|(_, version)| version)
        .collect()
}

fn validate_versions(min: Version, max: Option<Version>) -> Result<(), String> {
    if max.is_some_and(|max| max < min) {
        return Err("`max_version` is lower than `min_version`: leave it out".into());
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
