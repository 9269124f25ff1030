//! Statuses of gRPC, and of OTLP/HTTP by them: which are retried, what a refusal becomes, and how a peer's status is read
//! without trusting it.
//!
//! What enters: refusals, and the headers or trailers of a next hop. What leaves: a [`Status`] for the caller, or an
//! [`Answer`] for the exporter.
//! Promise: the table of the OTLP specification ("OTLP/gRPC Response", failures) in one place; messages and details
//! are bounded; a header that is not what it should be is ignored, never a panic.
//! Absent on purpose: details other than `RetryInfo`. They pass through unread.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::edge::Refusal;

/// Longest message passed on, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Longest `grpc-status-details-bin` read and passed on, in bytes, decoded.
pub const MAX_DETAILS_BYTES: usize = 8 * 1024;

const STATUS_HEADER: &str = "grpc-status";
const MESSAGE_HEADER: &str = "grpc-message";
const DETAILS_HEADER: &str = "grpc-status-details-bin";

/// Whether OTLP clients send the same bytes again after `code`.
pub fn retried(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        _ => false,
    }
}

/// Whether OTLP clients that receive `status` send the same bytes again.
pub fn is_retried(status: &Status) -> bool {
    retried(status.code(), retry_delay(status).is_some())
}

/// `code` as the gRPC documentation spells it.
pub fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What the caller is told. Its client acts on the code alone, so a refusal for good never becomes a code that OTLP
/// clients retry, nor a success, whatever number stands in it.
pub fn of_refusal(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Malformed(message) => Status::invalid_argument(cut(message)),
        Refusal::Unavailable { message, retry_after } => unavailable(message, retry_after),
        Refusal::Permanent { code, message, details } => {
            let code = Code::from_i32(code);
            let details = if details.len() > MAX_DETAILS_BYTES {
                Bytes::new()
            } else {
                details
            };
            if code == Code::Ok || retried(code, retry_info(&details).is_some()) {
                return Status::internal(cut(format!("refused for good with {}: {message}", name(code))));
            }
            Status::with_details(code, cut(message), details)
        }
    }
}

/// UNAVAILABLE, with `RetryInfo` when the caller should wait for a known time.
pub fn unavailable(message: impl Into<String>, retry_after: Option<Duration>) -> Status {
    let message = cut(message.into());
    match retry_after {
        None => Status::unavailable(message),
        wait => Status::with_error_details(Code::Unavailable, message, ErrorDetails::with_retry_info(wait)),
    }
}

/// What a next hop said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its code; UNKNOWN for numbers gRPC does not have.
    pub code: Code,
    /// Its message, cut to a bearable length.
    pub message: String,
    /// Its encoded `google.rpc.Status`; empty when there was none, or one too large or unreadable.
    pub details: Bytes,
    /// The delay of its `RetryInfo`.
    pub retry_after: Option<Duration>,
}

/// Reads the status in `headers` (or trailers), if there is one.
pub fn answer(headers: &HeaderMap) -> Option<Answer> {
    let code = Code::from_bytes(headers.get(STATUS_HEADER)?.as_bytes());
    if code == Code::Ok {
        return Some(Answer {
            code,
            message: String::new(),
            details: Bytes::new(),
            retry_after: None,
        });
    }
    let message = headers
        .get(MESSAGE_HEADER)
        .map_or_else(String::new, |value| percent_decoded(value.as_bytes()));
    let details = details(headers);
    Some(Answer {
        code,
        message: cut(message),
        retry_after: retry_info(&details),
        details,
    })
}

impl Answer {
    /// Whether it says that the request is larger than the next hop reads. tonic says so with OUT_OF_RANGE, which the table
    /// has retried: for ever, as the request does not shrink.
    pub fn is_too_large(&self) -> bool {
        let by_code = self.code == Code::ResourceExhausted && self.retry_after.is_none();
        by_code || (self.code == Code::OutOfRange && self.message.contains("message length too large"))
    }
}

/// What an HTTP status without a gRPC status means (gRPC's `http-grpc-status-mapping`), as far as OTLP agrees:
/// 429, 502, 503 and 504 are retried.
pub fn of_http(status: http::StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Whether OTLP clients send the same bytes again after an HTTP `status` (item 16).
pub fn http_retried(status: http::StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

/// The code of a refusal for good by OTLP/HTTP, which gives 400 and 404 other meanings than gRPC behind a proxy.
pub fn of_otlp_http(status: http::StatusCode) -> Code {
    match status.as_u16() {
        400 | 415 | 422 => Code::InvalidArgument,
        401 | 407 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        405 | 501 => Code::Unimplemented,
        409 => Code::AlreadyExists,
        413 => Code::ResourceExhausted,
        500..=599 => Code::Internal,
        _ => Code::Unknown,
    }
}

/// The HTTP status for a caller that should get `status`: one of those that are retried where it can be sent again, and
/// never one of them where it cannot.
pub fn to_http(status: &Status) -> http::StatusCode {
    use http::StatusCode as Http;
    if is_retried(status) {
        return match status.code() {
            Code::ResourceExhausted => Http::TOO_MANY_REQUESTS,
            _ => Http::SERVICE_UNAVAILABLE,
        };
    }
    match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition => Http::BAD_REQUEST,
        Code::Unauthenticated => Http::UNAUTHORIZED,
        Code::PermissionDenied => Http::FORBIDDEN,
        Code::NotFound => Http::NOT_FOUND,
        Code::AlreadyExists => Http::CONFLICT,
        Code::ResourceExhausted => Http::PAYLOAD_TOO_LARGE,
        Code::Unimplemented => Http::NOT_IMPLEMENTED,
        _ => Http::INTERNAL_SERVER_ERROR,
    }
}

/// The wait that `status` asks for.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// `status` as the bytes of a `google.rpc.Status`, with the details it has.
pub fn encoded(status: &Status) -> Vec<u8> {
    let known = tonic_types::Status::decode(status.details()).unwrap_or_default();
    tonic_types::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: known.details,
    }
    .encode_to_vec()
}

fn details(headers: &HeaderMap) -> Bytes {
    let Some(value) = headers.get(DETAILS_HEADER) else {
        return Bytes::new();
    };
    if value.len() > MAX_DETAILS_BYTES / 3 * 4 + 4 {
        return Bytes::new();
    }
    // Through the metadata map, because it reads base64 without panicking.
    let mut only = HeaderMap::with_capacity(1);
    only.insert(DETAILS_HEADER, value.clone());
    MetadataMap::from_headers(only)
        .get_bin(DETAILS_HEADER)
        .and_then(|value| value.to_bytes().ok())
        .unwrap_or_default()
}

fn retry_info(details: &Bytes) -> Option<Duration> {
    if details.is_empty() {
        return None;
    }
    Status::with_details(Code::Unknown, "", details.clone())
        .get_details_retry_info()?
        .retry_delay
}

fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = tail.first_chunk::<2>().filter(|_| *first == b'%');
        match escaped.and_then(|[high, low]| Some(hex(*high)? << 4 | hex(*low)?)) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => out.push(*first),
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// `message`, cut to a bearable length.
pub fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(code: &str, message: &str, details: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (STATUS_HEADER, code.as_bytes()),
            (MESSAGE_HEADER, message.as_bytes()),
            (DETAILS_HEADER, details),
        ] {
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn item_16_the_retried_codes_are_those_of_the_specification() {
        let with_info: Vec<i32> = (0..17).filter(|&code| retried(Code::from_i32(code), true)).collect();
        let without: Vec<i32> = (0..17).filter(|&code| retried(Code::from_i32(code), false)).collect();
        assert_eq!(with_info, [1, 4, 8, 10, 11, 14, 15]);
        assert_eq!(without, [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn a_refusal_for_good_is_never_retried_and_never_a_success() {
        for code in -3..20 {
            for details in [
                Bytes::new(),
                unavailable("", Some(Duration::from_secs(1))).details().to_vec().into(),
            ] {
                let status = of_refusal(Refusal::Permanent {
                    code,
                    message: "no".into(),
                    details,
                });
                assert_ne!(status.code(), Code::Ok);
                assert!(
                    !retried(status.code(), status.get_details_retry_info().is_some()),
                    "{code}: {status}"
                );
                assert!(status.message().contains("no"));
            }
        }
    }

    #[test]
    fn item_16_a_refusal_for_good_is_no_http_status_that_is_retried_and_a_passing_one_is() {
        for code in 0..20 {
            for details in [
                Bytes::new(),
                unavailable("", Some(Duration::from_secs(1))).details().to_vec().into(),
            ] {
                let message = "no".into();
                let status = of_refusal(Refusal::Permanent { code, message, details });
                let http = to_http(&status);
                assert!(http.as_u16() >= 400 && !http_retried(http), "{code}: {http}");
            }
        }
        assert_eq!(to_http(&unavailable("", None)), 503);
        // A hop that speaks HTTP before one that does: the meaning survives.
        for status in [400, 401, 403, 404, 409, 413, 500, 501] {
            let status = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(to_http(&Status::new(of_otlp_http(status), "")), status);
        }
    }

    #[test]
    fn item_19_details_are_bounded_and_broken_ones_ignored() {
        use tonic::metadata::BinaryMetadataValue;
        let encoded = |length| {
            BinaryMetadataValue::from_bytes(&vec![b'x'; length])
                .as_encoded_bytes()
                .to_vec()
        };
        let read = |details: &[u8]| answer(&headers("3", "m", details)).unwrap().details.len();
        assert_eq!(read(&encoded(MAX_DETAILS_BYTES)), MAX_DETAILS_BYTES);
        assert_eq!(read(&encoded(MAX_DETAILS_BYTES + 100)), 0);
        assert_eq!(read(b"!not base64!"), 0);
        let long = answer(&headers("3", &"m".repeat(100_000), b"")).unwrap();
        assert!(long.message.len() < 3000);
    }

    #[test]
    fn retry_info_survives_the_way_through_headers() {
        let wait = Some(Duration::from_millis(1500));
        let mut written = HeaderMap::new();
        unavailable("später, 100%", wait).add_header(&mut written).unwrap();
        let answer = answer(&written).unwrap();
        assert_eq!(
            (answer.code, answer.message.as_str(), answer.retry_after),
            (Code::Unavailable, "später, 100%", wait)
        );
    }

    #[test]
    fn a_message_that_is_not_utf_8_keeps_its_code() {
        let answer = answer(&headers("3", "bad %ff%zz%2", b"")).unwrap();
        assert_eq!(
            (answer.code, answer.message.as_str()),
            (Code::InvalidArgument, "bad \u{fffd}%zz%2")
        );
    }

    proptest! {
        #[test]
        fn any_status_headers_are_read_without_panic(
            code in "[ -~]{0,4}", message in "[ -~]{0,40}", details in "[ -~]{0,60}",
        ) {
            answer(&headers(&code, &message, details.as_bytes()));
        }
    }
}
