//! Answers in the encoding of their requests.
//!
//! What enters: a request's headers, then an acknowledgement or a refusal. What leaves: responses. Promise: a refusal is a
//! `google.rpc.Status` in the request's own encoding, or text where that is unknown; what can be sent again says when.
//! Absent on purpose: which refusal it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use tonic::Status;

use crate::edge::{
    Signal,
    transport::{
        compression::{self, Compression},
        otlp_json, reception, retry_after, status,
    },
};

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How a request, and so its answer, is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// What the media type names, whatever its parameters say.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if media_type.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    pub(super) fn media_type(self) -> HeaderValue {
        match self {
            Self::Protobuf => PROTOBUF,
            Self::Json => JSON,
        }
    }
}

/// The acknowledgement. An empty message is full success.
pub(super) async fn success(
    signal: Signal,
    message: Bytes,
    encoding: Encoding,
    accepted: Compression,
) -> Response<Full<Bytes>> {
    let message = match encoding {
        Encoding::Protobuf => message,
        Encoding::Json => {
            let json = otlp_json::to_json(otlp_json::response(signal), &message);
            json.map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
        }
    };
    let (message, compression) = reception::response(message, accepted).await;
    let mut response = answer(StatusCode::OK, encoding.media_type(), message);
    if let Some(name) = compression.name() {
        let name = HeaderValue::from_static(name);
        response.headers_mut().insert(header::CONTENT_ENCODING, name);
    }
    response
}

/// A refusal, as a `google.rpc.Status` in the request's encoding, or as text when that is unknown.
pub(super) fn failure(code: StatusCode, refusal: &Status, encoding: Option<Encoding>) -> Response<Full<Bytes>> {
    let protobuf = status::encoded(refusal);
    let (media_type, body) = match encoding {
        Some(Encoding::Protobuf) => (PROTOBUF, protobuf),
        Some(Encoding::Json) => (
            JSON,
            otlp_json::to_json(&otlp_json::STATUS, &protobuf).unwrap_or_else(|_| b"{}".to_vec()),
        ),
        None => (TEXT, format!("{}\n", refusal.message()).into_bytes()),
    };
    let mut response = answer(code, media_type, body.into());
    let headers = response.headers_mut();
    match code {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            headers.insert(header::ACCEPT_ENCODING, compression::ACCEPTED);
        }
        _ => {}
    }
    if let Some(wait) = status::retry_delay(refusal) {
        headers.insert(header::RETRY_AFTER, retry_after::written(wait));
    }
    response
}

fn answer(code: StatusCode, media_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
