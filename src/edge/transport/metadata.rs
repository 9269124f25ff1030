//! Request metadata: what is kept of a caller's headers, and which headers go out.
//!
//! What enters: HTTP headers of a call, or the `headers` section of an exporter. What leaves: [`Metadata`], or headers.
//! Promise: the headers that belong to gRPC or HTTP itself neither come through nor can be set; a caller's value that is not
//! printable ASCII is dropped. The number of values is bounded by the header list the server accepts (16 KiB).
//! Absent on purpose: secrets. A value that is a token should be written `${env:TOKEN}` in the configuration.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::edge::{Credentials, Metadata};

/// The header that names a trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";
/// It has 55 bytes in its first version, and later ones may add to it.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// A header that an exporter adds to each call.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(
    untagged,
    expecting = "a header is a text, or `{from_context: NAME}` for a header of the caller"
)]
pub enum HeaderSource {
    /// The value itself.
    Value(String),
    /// The caller's own header.
    Caller(FromContext),
}

/// Names a header of the caller. The receiver keeps those only with `include_metadata: true`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FromContext {
    /// Its name, in any case.
    pub from_context: String,
}

/// A value may be a token: debug output must not show it.
impl std::fmt::Debug for HeaderSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => formatter.write_str("Value([REDACTED])"),
            Self::Caller(name) => name.fmt(formatter),
        }
    }
}

/// The headers of an exporter, checked once.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    fixed: HeaderMap,
    from_caller: Vec<(HeaderName, String)>,
    credentials: Option<Arc<dyn Credentials>>,
}

impl Headers {
    /// Checks names and values; the error names the header and what to write instead.
    pub fn new(settings: &BTreeMap<String, HeaderSource>) -> Result<Self, String> {
        let mut headers = Self::default();
        for (written, source) in settings {
            let name = HeaderName::try_from(written.as_str())
                .map_err(|_| format!("`{written}` is not a header name: use letters, digits and `-`"))?;
            if is_reserved(name.as_str()) {
                return Err(format!(
                    "the header `{written}` belongs to the protocol and is set by Harbinger: remove it"
                ));
            }
            match source {
                HeaderSource::Value(value) => {
                    let mut value = HeaderValue::try_from(value.as_str())
                        .map_err(|_| format!("the value of header `{written}` must be one line of printable ASCII"))?;
                    // Not shown by debug output, nor kept in a table of HPACK.
                    value.set_sensitive(true);
                    headers.fixed.insert(name, value);
                }
                HeaderSource::Caller(caller) => headers.from_caller.push((name, caller.from_context.clone())),
            }
        }
        Ok(headers)
    }

    /// The same, and one that says who we are.
    #[must_use]
    pub fn with_credentials(self, credentials: Arc<dyn Credentials>) -> Self {
        Self {
            credentials: Some(credentials),
            ..self
        }
    }

    /// As [`Headers::write`], and says who we are, where somebody knows.
    pub async fn write_with_credentials(&self, metadata: &Metadata, out: &mut HeaderMap) {
        self.write(metadata, out);
        if let Some(credentials) = &self.credentials {
            let (name, value) = credentials.header().await;
            out.insert(name, value);
        }
    }

    /// Adds the headers to a call; those of the caller that `metadata` lacks are left out.
    pub fn write(&self, metadata: &Metadata, out: &mut HeaderMap) {
        for (name, value) in &self.fixed {
            out.append(name, value.clone());
        }
        for (name, caller) in &self.from_caller {
            for value in metadata
                .values(caller)
                .filter_map(|value| HeaderValue::try_from(value).ok())
            {
                out.append(name, value);
            }
        }
    }
}

/// What is kept of a caller's headers without `include_metadata`: which trace its request belongs to.
pub fn kept_always(headers: &HeaderMap) -> Metadata {
    let value = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let Some(value) = value.filter(|value| value.len() <= MAX_TRACEPARENT_BYTES) else {
        return Metadata::default();
    };
    Metadata([(TRACEPARENT.to_owned(), value.to_owned())].into())
}

/// What is kept of a caller's headers.
pub fn kept(headers: &HeaderMap) -> Metadata {
    let printable = headers
        .iter()
        .filter(|(name, _)| !is_reserved(name.as_str()))
        .filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
    Metadata(printable.collect())
}

fn is_reserved(name: &str) -> bool {
    name.starts_with("grpc-")
        || matches!(
            name,
            "accept"
                | "accept-encoding"
                | "connection"
                | "content-encoding"
                | "content-length"
                | "content-type"
                | "expect"
                | "host"
                | "te"
                | "transfer-encoding"
                | "upgrade"
                | "user-agent"
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn headers(yaml: &str) -> Result<Headers, String> {
        Headers::new(&serde_yaml::from_str(yaml).map_err(|error| error.to_string())?)
    }

    #[test]
    fn only_the_callers_own_printable_headers_are_kept() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("x-scope-orgid", &b"tenant"[..]),
            ("x-scope-orgid", b"second"),
            ("grpc-timeout", b"1S"),
            ("content-type", b"application/grpc"),
            ("te", b"trailers"),
            ("user-agent", b"otel"),
            ("x-odd", b"\xff"),
        ] {
            map.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let kept = kept(&map);
        assert_eq!(kept.values("X-Scope-OrgID").collect::<Vec<_>>(), ["tenant", "second"]);
        assert_eq!(kept.0.len(), 2);
    }

    /// Which trace a request belongs to is kept without `include_metadata`, and nothing else is.
    #[test]
    fn the_trace_is_always_kept() {
        let mut map = HeaderMap::new();
        map.append("x-scope-orgid", HeaderValue::from_static("tenant"));
        assert_eq!(kept_always(&map), Metadata::default());
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        map.append(TRACEPARENT, HeaderValue::from_static(traceparent));
        let kept = kept_always(&map);
        assert_eq!(
            (kept.values("Traceparent").collect::<Vec<_>>(), kept.0.len()),
            (vec![traceparent], 1)
        );
        let replaced = kept.with("traceparent", "other".to_owned());
        assert_eq!(replaced.values("traceparent").collect::<Vec<_>>(), ["other"]);
        map.insert(TRACEPARENT, HeaderValue::from_str(&"0".repeat(129)).unwrap());
        assert_eq!(kept_always(&map), Metadata::default());
    }

    #[test]
    fn plain_values_and_those_of_the_caller_stand_side_by_side() {
        let written =
            headers("{X-Plain: one, X-Tenant: {from_context: X-Scope-OrgID}, X-None: {from_context: absent}}");
        let mut out = HeaderMap::new();
        written.unwrap().write(
            &Metadata([("x-scope-orgid".to_owned(), "a".to_owned())].into()),
            &mut out,
        );
        assert_eq!(
            (&out["x-plain"], &out["x-tenant"], out.len()),
            (&"one".parse().unwrap(), &"a".parse().unwrap(), 2)
        );
    }

    #[test]
    fn wrong_headers_are_told_apart() {
        assert!(
            headers("{grpc-timeout: 1S}")
                .unwrap_err()
                .contains("belongs to the protocol")
        );
        assert!(headers("{'a b': x}").unwrap_err().contains("not a header name"));
        assert!(headers("{a: \"two\\nlines\"}").unwrap_err().contains("one line"));
        assert!(headers("{a: {from_contxt: x}}").unwrap_err().contains("from_context"));
    }

    #[test]
    fn debug_output_hides_values() {
        assert!(!format!("{:?}", HeaderSource::Value("Bearer s3cret".into())).contains("s3cret"));
        assert!(!format!("{:?}", headers("{Authorization: Bearer s3cret}").unwrap()).contains("s3cret"));
    }
}
