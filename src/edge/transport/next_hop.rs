//! Where an exporter sends: what users write as `endpoint`, and whether by TLS.
//!
//! What enters: the text and the section `tls`. What leaves: an address without a scheme, or what to write instead.
//! Promise (item 20): `https` means TLS and `http` plain, over any `insecure`; without a scheme `insecure` decides.
//! Absent on purpose: TLS itself (a later version), which is refused here, in one place.

use http::Uri;

/// The section `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// `true`: plain text. As in the Collector, `false` is the default; a scheme in `endpoint` decides over it.
    pub insecure: bool,
}

/// What stands behind the scheme of the address that was `written` at `key`; `example` is a whole one.
///
/// # Errors
/// What to write instead.
fn plain<'w>(key: &str, written: &'w str, tls: &Tls, example: &str) -> Result<&'w str, String> {
    match written.split_once("://") {
        None if written.is_empty() => Err(format!(
            "`{key}` is missing: write the address of the next hop, like {example}"
        )),
        None if tls.insecure => Ok(written),
        None => Err(format!(
            "`{key}: {written}` without a scheme means TLS, which this version of Harbinger does not have: \
             write `{key}: http://{written}`, or add `tls: {{insecure: true}}`"
        )),
        Some(("http", address)) => Ok(address),
        Some(("https", address)) => Err(format!(
            "`{key}: {written}` asks for TLS, which comes with a later version of Harbinger: \
             write `http://{address}`, or let a local proxy or Collector speak TLS"
        )),
        Some((scheme, address)) => Err(format!(
            "`{key}: {written}` has the unknown scheme `{scheme}`: write http://{address}"
        )),
    }
}

/// The `http://host:port` of a next hop that speaks gRPC.
///
/// # Errors
/// What to write instead.
pub fn host_and_port(key: &str, written: &str, tls: &Tls) -> Result<Uri, String> {
    let address = plain(key, written, tls, "http://localhost:4319")?;
    let address = address.strip_suffix('/').unwrap_or(address);
    let uri = Uri::try_from(format!("http://{address}"))
        .ok()
        .filter(|uri| uri.path() == "/" && uri.query().is_none());
    uri.filter(|uri| uri.port_u16().is_some())
        .ok_or_else(|| format!("`{key}: {written}` is not an address: write http://host:port, nothing behind it"))
}

/// The URL of a next hop that speaks HTTP, with `path` behind it.
///
/// # Errors
/// What to write instead.
pub fn url(key: &str, written: &str, path: &str, tls: &Tls) -> Result<Uri, String> {
    let address = plain(key, written, tls, "http://localhost:4318")?;
    let address = if path.is_empty() {
        address
    } else {
        address.trim_end_matches('/')
    };
    let uri = Uri::try_from(format!("http://{address}{path}")).ok();
    let host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
    let uri = uri.filter(host).ok_or_else(|| {
        format!("`{key}: {written}` is not a URL: write http://host:port, and the path if it has one")
    })?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(format!(
            "`{key}` holds a user name: write it without, and `headers: {{Authorization: …}}` beside it"
        ));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grpc(endpoint: &str, insecure: bool) -> Result<String, String> {
        host_and_port("endpoint", endpoint, &Tls { insecure }).map(|uri| uri.to_string())
    }

    fn http(endpoint: &str, path: &str) -> Result<String, String> {
        url("endpoint", endpoint, path, &Tls::default()).map(|uri| uri.to_string())
    }

    #[test]
    fn item_20_the_scheme_decides_over_the_insecure_flag() {
        let plain = Ok("http://hop:4317/".to_owned());
        for insecure in [true, false] {
            assert_eq!(grpc("http://hop:4317", insecure), plain);
            assert_eq!(grpc("http://hop:4317/", insecure), plain);
            assert!(
                grpc("https://hop:4317", insecure)
                    .unwrap_err()
                    .contains("write `http://hop:4317`")
            );
            let tls = Tls { insecure };
            let error = url("logs_endpoint", "https://hop/x", "", &tls).unwrap_err();
            assert!(
                error.starts_with("`logs_endpoint: https://hop/x` asks for TLS"),
                "{error}"
            );
        }
        assert_eq!(grpc("hop:4317", true), plain);
        let error = grpc("hop:4317", false).unwrap_err();
        assert!(
            error.contains("http://hop:4317") && error.contains("tls: {insecure: true}"),
            "{error}"
        );
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
        assert!(
            http("http://me@hop:4318", "/v1/logs")
                .unwrap_err()
                .contains("user name")
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
    }
}
