//! No dependency has a hole that is known. The advisory database cannot be fetched everywhere; what matters here is written
//! down, and SECURITY.md says how to ask for all of it.

use std::fs;

/// Crates with the first version that is free of the advisory.
const FLOORS: [(&str, &str, &str); 15] = [
    (
        "h2",
        "0.4.16",
        "RUSTSEC-2026-0258 (empty DATA), RUSTSEC-2024-0332 (CONTINUATION), RUSTSEC-2023-0034 (resets)",
    ),
    ("hyper", "1.0.0", "CVE-2023-44487 and older ones"),
    (
        "rustls",
        "0.23.18",
        "RUSTSEC-2024-0399 (panic on a ClientHello), RUSTSEC-2024-0336 (endless loop)",
    ),
    (
        "rustls-webpki",
        "0.103.10",
        "RUSTSEC-2023-0053 (time of a chain), revocation lists",
    ),
    ("ring", "0.17.12", "RUSTSEC-2025-0009 (panic in AES)"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023 (broadcast channel)"),
    ("tonic", "0.12.3", "RUSTSEC-2024-0376 (accept loop ends)"),
    ("zstd", "0.13.0", "a reused reader that corrupts"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007 (overflow in reserve)"),
    ("time", "0.3.47", "RUSTSEC-2026-0009 (stack of a parser)"),
    ("crossbeam-channel", "0.5.15", "RUSTSEC-2025-0024 (double free)"),
    (
        "tracing-subscriber",
        "0.3.20",
        "RUSTSEC-2025-0055 (escape sequences in logs)",
    ),
    ("slab", "0.4.11", "RUSTSEC-2025-0047 (out of bounds)"),
    ("prost", "0.14.0", "older ones"),
    ("idna", "1.0.0", "RUSTSEC-2024-0421"),
];

/// Crates that may not be there at all. (OpenSSL may be, for librdkafka alone, which knows nothing else: deny.toml.)
const NEVER: [(&str, &str); 6] = [
    ("serde_yml", "RUSTSEC-2025-0068 (unsound)"),
    ("serde_yaml", "unmaintained; we use yaml_serde"),
    ("rustls-pemfile", "RUSTSEC-2025-0134 (unmaintained)"),
    ("aws-lc-sys", "no C library for TLS"),
    ("atty", "RUSTSEC-2021-0145 (unsound)"),
    ("ansi_term", "RUSTSEC-2021-0139 (unmaintained)"),
];

fn version(text: &str) -> Vec<u64> {
    let release = text.split(['-', '+']).next().unwrap();
    release.split('.').map(|part| part.parse().unwrap()).collect()
}

/// Name and version of every package in `Cargo.lock`.
fn locked() -> Vec<(String, String)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let value = |line: Option<&str>, key: &str| {
        let line = line.unwrap_or_default().strip_prefix(key).unwrap();
        line.trim_matches([' ', '=', '"']).to_owned()
    };
    text.split("[[package]]\n")
        .skip(1)
        .map(|package| {
            let mut lines = package.lines();
            (value(lines.next(), "name"), value(lines.next(), "version"))
        })
        .collect()
}

#[test]
fn known_loss_no_dependency_has_an_advisory_that_is_named() {
    let locked = locked();
    assert!(locked.len() > 100);
    let mut wrong = Vec::new();
    for (name, found) in &locked {
        for (_, lowest, advisory) in FLOORS.iter().filter(|(floor, ..)| floor == name) {
            if version(found) < version(lowest) {
                wrong.push(format!("{name} {found} is older than {lowest}: {advisory}"));
            }
        }
        for (_, reason) in NEVER.iter().filter(|(never, _)| never == name) {
            wrong.push(format!("{name} {found}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let h2 = locked.iter().filter(|(name, _)| name == "h2").count();
    assert_eq!(h2, 1, "the floors above would hold for one of them only");
}
