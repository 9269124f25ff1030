//! Who may call, and as whom we call: the contracts between receivers, exporters and what knows tokens and passwords.
//!
//! What enters: the headers of a call. What leaves: leave to go on, or a refusal; or a header that says who we are. Promises:
//! nothing of a caller's body is read before it is known; a refusal tells nothing of what would have been right.
//! Absent on purpose: rights. Who is known may send logs.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::BoxFuture;

/// The section `auth` of a receiver or exporter, as in the Collector.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// The id of an extension, which must run: `bearertokenauth` or `basicauth`.
    pub authenticator: String,
}

/// Why a caller was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// Show a token or password that is known (UNAUTHENTICATED, 401).
    #[error("no valid credentials: send the token or password that this receiver was told of")]
    Unknown,
    /// Come back: too many others are being looked at (UNAVAILABLE).
    #[error("too many callers are being authenticated at the same time")]
    Busy,
}

/// Knows callers.
pub trait Authenticator: std::fmt::Debug + Send + Sync + 'static {
    /// The header that callers show who they are in. It is for this agent, and goes no further.
    fn header(&self) -> &HeaderName;
    /// What HTTP's `WWW-Authenticate` says to strangers.
    fn challenge(&self) -> HeaderValue;
    /// Whether the caller is known.
    fn check<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Stranger>>;
}

/// Knows who we are to a destination.
pub trait Credentials: std::fmt::Debug + Send + Sync + 'static {
    /// The header that says so, with the value that is right now.
    fn header(&self) -> BoxFuture<'_, (HeaderName, HeaderValue)>;
}

/// Why an authenticator cannot work.
pub use super::transport::reloading::FileError as AuthError;

/// Knows nobody: for a receiver that is to authenticate and was given nobody who can.
#[derive(Debug)]
pub(super) struct Nobody;

impl Authenticator for Nobody {
    fn header(&self) -> &HeaderName {
        &http::header::AUTHORIZATION
    }

    fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Bearer")
    }

    fn check<'a>(&'a self, _: &'a HeaderMap) -> BoxFuture<'a, Result<(), Stranger>> {
        Box::pin(std::future::ready(Err(Stranger::Unknown)))
    }
}
