//! Who may ask the page's calls: this machine's people, or who shows a token; and never another site in their browser.
//!
//! In: the head of a request. Out: leave to go on, or a status. Promises: without an authenticator a request must name this
//! machine, so that no name of a stranger's that leads here (DNS rebinding) is answered; a page of another origin can
//! neither read nor change anything (cross-site request forgery). Absent on purpose: what is asked for.

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};
use tonic::Status;

use crate::edge::{Authenticator, Stranger, transport::listening::is_loopback};

/// Whether a request may go on; with a refusal of a stranger goes the value of `WWW-Authenticate`.
pub async fn check(
    authenticator: Option<&dyn Authenticator>,
    parts: &Parts,
) -> Result<(), (Status, Option<HeaderValue>)> {
    let refuse = |message: &str| Err((Status::permission_denied(message), None));
    let Some(host) = host_of(parts) else {
        return refuse("the request names no host");
    };
    if !is_same_origin(&parts.headers, host) {
        return refuse("a page of another site has no business here; open this agent's own page");
    }
    match authenticator {
        None if is_loopback(without_port(host)) => Ok(()),
        None => refuse("without a token this page answers to localhost only: open http://localhost:PORT"),
        Some(authenticator) => match authenticator.check(&parts.headers).await {
            Ok(()) => Ok(()),
            Err(stranger @ Stranger::Unknown) => Err((
                Status::unauthenticated(stranger.to_string()),
                Some(authenticator.challenge()),
            )),
            Err(stranger @ Stranger::Busy) => Err((Status::unavailable(stranger.to_string()), None)),
        },
    }
}

/// The host that the caller asked for: HTTP/2 has it in the URI.
fn host_of(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    authority.or_else(|| parts.headers.get(header::HOST)?.to_str().ok())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Browsers say where a request comes from, programs do not.
fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let says = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let by_site = says("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let by_origin = says("origin").is_none_or(|origin| {
        let origin = origin.parse::<Uri>().ok();
        origin.is_some_and(|origin| {
            origin
                .authority()
                .is_some_and(|it| it.as_str().eq_ignore_ascii_case(host))
        })
    });
    by_site && by_origin
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Request;

    use super::*;
    use crate::edge::Nobody;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/settings");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    async fn refusal(headers: &[(&str, &str)]) -> Option<String> {
        let checked = check(None, &parts(headers)).await;
        checked.err().map(|(status, _)| status.message().to_owned())
    }

    #[tokio::test]
    async fn only_this_machine_is_answered_by_its_own_name() {
        for own in ["localhost:4320", "LOCALHOST", "127.0.0.1:1", "[::1]:4320", "[::1]"] {
            assert_eq!(refusal(&[("host", own)]).await, None, "{own}");
        }
        for strange in [
            "evil.example:4320",
            "10.0.0.7",
            "localhost.evil.example",
            "",
            "[::2]:80",
        ] {
            assert!(refusal(&[("host", strange)]).await.is_some(), "{strange}");
        }
        assert!(refusal(&[]).await.is_some());
    }

    #[tokio::test]
    async fn another_site_is_refused_whatever_it_shows() {
        let host = ("host", "localhost:4320");
        assert_eq!(
            refusal(&[
                host,
                ("origin", "http://localhost:4320"),
                ("sec-fetch-site", "same-origin")
            ])
            .await,
            None
        );
        assert_eq!(refusal(&[host, ("sec-fetch-site", "none")]).await, None);
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:3000"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(refusal(&[host, foreign]).await.is_some(), "{foreign:?}");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_told_what_to_show() {
        let refused = check(Some(&Nobody), &parts(&[("host", "agent.example")])).await;
        let (status, challenge) = refused.unwrap_err();
        assert_eq!(
            (status.code(), challenge),
            (tonic::Code::Unauthenticated, Some(HeaderValue::from_static("Bearer")))
        );
    }
}
