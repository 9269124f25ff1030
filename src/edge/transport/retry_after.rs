//! `Retry-After`, in both directions.
//!
//! What enters: a header, and what time it is; or a wait. What leaves: the wait; or the header.
//! Promise: a number of seconds and a date of HTTP (RFC 9110, 10.2.3) are understood, anything else counts as none; a date
//! that has passed means now; what is written is never shorter than what was meant.
//! Absent on purpose: the obsolete forms of dates, which no sender may write.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use jiff::{Timestamp, fmt::rfc2822};

/// The wait that `headers` ask for at the time `now`.
pub fn read(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let date = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The header that asks for `wait`, in whole seconds.
pub fn written(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    HeaderValue::from(seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wait(text: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
        read(&headers, "2026-11-22T19:35:10Z".parse().unwrap())
    }

    #[test]
    fn item_17_seconds_and_dates_are_understood() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait("0"), seconds(0));
        assert_eq!(wait(" 120 "), seconds(120));
        assert_eq!(wait("Sun, 22 Nov 2026 19:35:40 GMT"), seconds(30));
        assert_eq!(wait("Sun, 22 Nov 2026 19:35:00 GMT"), seconds(0), "it has passed");
        for none in ["", "-1", "1.5", "soon", "99999999999999999999999", "Sun, 22 Nov"] {
            assert_eq!(wait(none), None, "{none}");
        }
        assert_eq!(read(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn item_08_a_wait_is_rounded_up() {
        for (milliseconds, header) in [(0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (59_500, "60")] {
            assert_eq!(written(Duration::from_millis(milliseconds)), header);
        }
    }
}
