//! Where an exporter sends: what users write as `endpoint`, and whether by TLS.
//!
//! What enters: the text and the section `tls`. What leaves: a URL whose scheme says whether it is TLS, or what to write instead.
//! Promise (item 20): `https` means TLS and `http` plain, over any `insecure`; without a scheme `insecure` decides.
//! Absent on purpose: TLS itself, see `tls`.

use http::Uri;

use super::tls::ClientSettings;

/// The scheme, and what stands behind it, of the address that was `written` at `key`; `example` is a whole one.
///
/// # Errors
/// What to write instead.
fn scheme<'w>(
    key: &str,
    written: &'w str,
    tls: &ClientSettings,
    example: &str,
) -> Result<(&'static str, &'w str), String> {
    if written.contains('@') {
        return Err(format!(
            "`{key}` holds a user name: write it without, and `auth: {{authenticator: basicauth}}` beside it"
        ));
    }
    match written.split_once("://") {
        None if written.is_empty() => Err(format!(
            "`{key}` is missing: write the address of the next hop, like {example}"
        )),
        None if tls.insecure => Ok(("http", written)),
        None => Ok(("https", written)),
        Some(("http", address)) => Ok(("http", address)),
        Some(("https", address)) => Ok(("https", address)),
        Some((scheme, address)) => Err(format!(
            "`{key}: {written}` has the unknown scheme `{scheme}`: write http://{address}, or https://{address} for TLS"
        )),
    }
}

/// The `http://host:port` or `https://host:port` of a next hop that speaks gRPC.
///
/// # Errors
/// What to write instead.
pub fn host_and_port(key: &str, written: &str, tls: &ClientSettings) -> Result<Uri, String> {
    let (scheme, address) = scheme(key, written, tls, "http://localhost:4319")?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let uri = Uri::try_from(format!("{scheme}://{address}"))
        .ok()
        .filter(|uri| uri.path() == "/" && uri.query().is_none());
    uri.filter(|uri| uri.port_u16().is_some())
        .ok_or_else(|| format!("`{key}: {written}` is not an address: write {scheme}://host:port, nothing behind it"))
}

/// The URL of a next hop that speaks HTTP, with `path` behind it.
///
/// # Errors
/// What to write instead.
pub fn url(key: &str, written: &str, path: &str, tls: &ClientSettings) -> Result<Uri, String> {
    let (scheme, address) = scheme(key, written, tls, "http://localhost:4318")?;
    let address = if path.is_empty() {
        address
    } else {
        address.trim_end_matches('/')
    };
    let uri = Uri::try_from(format!("{scheme}://{address}{path}")).ok();
    let host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
    uri.filter(host).ok_or_else(|| {
        format!("`{key}: {written}` is not a URL: write {scheme}://host:port, and the path if it has one")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tls(insecure: bool) -> ClientSettings {
        ClientSettings {
            insecure,
            ..ClientSettings::default()
        }
    }

    fn grpc(endpoint: &str, insecure: bool) -> Result<String, String> {
        host_and_port("endpoint", endpoint, &tls(insecure)).map(|uri| uri.to_string())
    }

    fn http(endpoint: &str, path: &str) -> Result<String, String> {
        url("endpoint", endpoint, path, &tls(false)).map(|uri| uri.to_string())
    }

    #[test]
    fn item_20_the_scheme_decides_over_the_insecure_flag() {
        let (plain, encrypted) = (Ok("http://hop:4317/".to_owned()), Ok("https://hop:4317/".to_owned()));
        for insecure in [true, false] {
            assert_eq!(grpc("http://hop:4317", insecure), plain);
            assert_eq!(grpc("http://hop:4317/", insecure), plain);
            assert_eq!(grpc("https://hop:4317", insecure), encrypted);
            let whole = url("logs_endpoint", "https://hop/x", "", &tls(insecure)).unwrap();
            assert_eq!(whole, "https://hop/x");
        }
        assert_eq!(grpc("hop:4317", true), plain);
        assert_eq!(grpc("hop:4317", false), encrypted);
    }

    #[test]
    fn item_20_a_path_is_put_behind_a_base_and_a_whole_url_stands_as_it_is() {
        assert_eq!(
            http("http://loki:3100/otlp/", "/v1/logs").unwrap(),
            "http://loki:3100/otlp/v1/logs"
        );
        assert_eq!(http("http://hop", "/v1/logs").unwrap(), "http://hop/v1/logs");
        assert_eq!(
            http("http://hop:4318/a/b/?c=d", "").unwrap(),
            "http://hop:4318/a/b/?c=d"
        );
        for wrong in ["", "http://", "http://h o p", "ftp://hop"] {
            assert!(http(wrong, "/v1/logs").unwrap_err().contains("http://"), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_that_is_none_says_what_to_write() {
        for endpoint in [
            "",
            "http://",
            "http://hop",
            "http://hop:4317/v1/logs",
            "grpc://hop:4317",
            "http://h o p:1",
        ] {
            assert!(grpc(endpoint, true).unwrap_err().contains("http://"), "{endpoint}");
        }
        assert_eq!(grpc("http://[::1]:4317", true).unwrap(), "http://[::1]:4317/");
        let secret = grpc("https://ann:hunter2@hop:4317", true).unwrap_err();
        assert!(
            secret.contains("auth: {authenticator: ") && !secret.contains("hunter2"),
            "{secret}"
        );
    }
}
