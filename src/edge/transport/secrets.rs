//! Secrets as settings hold them, and how two of them are compared.
//!
//! What enters: passwords, tokens, and what callers claim them to be. What leaves: whether they are equal. Promises: a
//! [`Secret`] shows itself in no debug output and in no document that is written from settings; a comparison takes the
//! same time wherever the two differ, and however long they are (CVE-2024-42368). Absent on purpose: wiping of memory; the
//! configuration that a secret came from was in memory too.

use std::fmt;

use ring::{
    hmac::{HMAC_SHA256, Key, sign},
    rand::SystemRandom,
};
use subtle::{Choice, ConstantTimeEq};

/// What stands for a secret wherever one would be shown.
pub const REDACTED: &str = "[REDACTED]";

/// A password or token out of the configuration.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// The system gives no random numbers, without which nothing can be sealed: start again when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers, without which callers cannot be told apart: start again when it does")]
pub struct NoRandomness;

/// Seals secrets under a key that nobody knows and that ends with the process.
#[derive(Clone)]
pub struct Sealing(Key);

impl Sealing {
    /// A new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, NoRandomness> {
        Key::generate(HMAC_SHA256, &SystemRandom::new())
            .map(Self)
            .map_err(|_| NoRandomness)
    }

    /// `secret`, sealed: as long as any other, and telling nothing of it.
    pub fn seal(&self, secret: &[u8]) -> Sealed {
        let mut sealed = [0; SEALED_BYTES];
        for (to, from) in sealed.iter_mut().zip(sign(&self.0, secret).as_ref()) {
            *to = *from;
        }
        Sealed(sealed)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sealing")
    }
}

const SEALED_BYTES: usize = 32;

/// A secret that can only be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sealed([u8; SEALED_BYTES]);

impl Sealed {
    /// Whether it is one of `known`, each of which is looked at in full.
    pub fn is_one_of<'a>(&self, known: impl IntoIterator<Item = &'a Self>) -> bool {
        known
            .into_iter()
            .fold(Choice::from(0), |found, known| found | self.0.ct_eq(&known.0))
            .into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_shows_itself_nowhere() {
        let secret = Secret::from("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!serde_yaml::to_string(&secret).unwrap().contains("hunter2"));
        let sealing = Sealing::new().unwrap();
        assert!(!format!("{:?}{:?}", sealing.seal(b"hunter2"), sealing).contains("hunter2"));
    }

    /// What is compared has one length and is compared by `subtle` alone: neither the place of a difference nor the length
    /// of a token can show.
    #[test]
    fn known_loss_tokens_are_compared_in_constant_time() {
        let sealing = Sealing::new().unwrap();
        let known = [sealing.seal(b"right"), sealing.seal(b"also right")];
        assert!(sealing.seal(b"right").is_one_of(&known) && sealing.seal(b"also right").is_one_of(&known));
        for wrong in [&b""[..], b"r", b"righ", b"right ", b"Right", &[b'r'; 9000]] {
            assert!(!sealing.seal(wrong).is_one_of(&known));
        }
        assert!(!sealing.seal(b"right").is_one_of([]));
        assert_ne!(
            Sealing::new().unwrap().seal(b"right"),
            known[0],
            "another process, another key"
        );
        for user in [
            include_str!("../authenticate_bearer.rs"),
            include_str!("../authenticate_basic.rs"),
        ] {
            let code = user.split("#[cfg(test)]").next().unwrap();
            let reveals = code
                .lines()
                .filter(|line| line.contains("reveal()") && line.contains("=="));
            assert_eq!(reveals.count(), 0, "a secret is compared by `==`");
            assert!(code.contains("is_one_of"));
        }
    }
}
