//! Who gets in, to whom we speak, and what hostile callers can do.

/// The same by HTTP.
mod by_http;
/// Tokens and passwords.
mod callers;
/// Certificates made for a test, servers and clients that use them.
pub(crate) mod certificates;
/// No dependency has a hole that is known.
mod dependencies;
/// Callers that mean harm, over raw sockets.
mod floods;
/// TLS and mTLS, on both sides.
mod tls;
