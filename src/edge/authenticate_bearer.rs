//! Bearer tokens: the extension `bearertokenauth`, for receivers and exporters.
//!
//! What enters: tokens in the configuration or in a file, and the headers of calls. What leaves: leave to go on, or the
//! header of our own calls. Promises: the file is read again when it changes, so a token is changed without a restart;
//! tokens are compared in constant time; none is ever in a message. Absent on purpose: JWT and OIDC.

use std::{path::PathBuf, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    Authenticator, BoxFuture, Credentials, Stranger,
    transport::{
        reloading::{FileError, Named, Reloading},
        secrets::{Sealed, Sealing, Secret},
    },
};

/// How often the file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// The extension `bearertokenauth`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What stands before the token; empty for the token alone.
    pub scheme: String,
    /// The token.
    pub token: Option<Secret>,
    /// Several, any of which is good; our own calls carry the first.
    pub tokens: Vec<Secret>,
    /// A file with one token a line instead, read again when it changes.
    pub filename: Option<PathBuf>,
    /// The header it is in.
    pub header: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            scheme: "Bearer".to_owned(),
            token: None,
            tokens: Vec::new(),
            filename: None,
            header: "Authorization".to_owned(),
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let ways = [self.token.is_some(), !self.tokens.is_empty(), self.filename.is_some()];
        match ways.into_iter().filter(|way| *way).count() {
            0 => return Err("no token; write `token: ${env:TOKEN}`, `tokens: […]` or `filename: PATH`".into()),
            1 => {}
            _ => return Err("write one of `token`, `tokens` and `filename`".into()),
        }
        if !self.scheme.bytes().all(|letter| letter.is_ascii_graphic()) {
            return Err("scheme: must be one word, as `Bearer`".into());
        }
        if HeaderName::try_from(self.header.as_str()).is_err() {
            return Err("header: not a header's name; write `Authorization`".into());
        }
        for (key, token) in self.token.iter().map(|token| ("token", token)) {
            header_value(&self.scheme, token.reveal()).map_err(|problem| format!("{key}: {problem}"))?;
        }
        for token in &self.tokens {
            header_value(&self.scheme, token.reveal()).map_err(|problem| format!("tokens: {problem}"))?;
        }
        Ok(())
    }
}

/// The tokens in force.
struct Tokens {
    sealed: Vec<Sealed>,
    /// The value of the header of our own calls.
    own: HeaderValue,
}

/// See the module.
#[derive(Debug)]
pub struct BearerToken {
    scheme: String,
    header: HeaderName,
    sealing: Sealing,
    tokens: Reloading<Tokens>,
}

impl BearerToken {
    /// Reads the tokens.
    ///
    /// # Errors
    /// A file that cannot be used, or settings that cannot.
    pub fn load(settings: &Settings) -> Result<Self, FileError> {
        settings.validate().map_err(FileError::Missing)?;
        let sealing = Sealing::new().map_err(|problem| FileError::Missing(problem.to_string()))?;
        let header = HeaderName::try_from(settings.header.as_str()).unwrap_or(header::AUTHORIZATION);
        let named = settings.filename.clone().map(|path| Named { key: "filename", path });
        let written: Vec<Secret> = settings.token.iter().chain(&settings.tokens).cloned().collect();
        let (scheme, seals) = (settings.scheme.clone(), sealing.clone());
        let files = named.iter().cloned().collect();
        let tokens = Reloading::load(files, RELOAD_INTERVAL, move |contents| {
            let refuse = |problem: String| match &named {
                Some(file) => file.unusable(problem),
                None => FileError::Missing(problem),
            };
            let mut all = written.clone();
            for content in contents {
                let text =
                    std::str::from_utf8(content).map_err(|_| refuse("not UTF-8: write one token a line".into()))?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                all.extend(lines.map(Secret::from));
            }
            let Some(first) = all.first() else {
                return Err(refuse("no token in it: write one a line".into()));
            };
            for token in &all {
                header_value(&scheme, token.reveal()).map_err(|problem| refuse(problem.to_owned()))?;
            }
            Ok(Tokens {
                sealed: all.iter().map(|token| seals.seal(token.reveal().as_bytes())).collect(),
                own: header_value(&scheme, first.reveal()).map_err(|problem| refuse(problem.to_owned()))?,
            })
        })?;
        Ok(Self {
            scheme: settings.scheme.clone(),
            header,
            sealing,
            tokens,
        })
    }

    async fn is_known(&self, headers: &HeaderMap) -> bool {
        let tokens = self.tokens.current().await;
        let mut shown = headers.get_all(&self.header).iter();
        let (Some(value), None) = (shown.next(), shown.next()) else {
            return false;
        };
        let token = without_scheme(value.as_bytes(), &self.scheme);
        token.is_some_and(|token| self.sealing.seal(token).is_one_of(&tokens.sealed))
    }
}

impl Authenticator for BearerToken {
    fn header(&self) -> &HeaderName {
        &self.header
    }

    fn challenge(&self) -> HeaderValue {
        HeaderValue::try_from(self.scheme.as_str())
            .ok()
            .filter(|scheme| !scheme.is_empty())
            .unwrap_or(HeaderValue::from_static("Bearer"))
    }

    fn check<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Stranger>> {
        Box::pin(async {
            if self.is_known(headers).await {
                Ok(())
            } else {
                Err(Stranger::Unknown)
            }
        })
    }
}

impl Credentials for BearerToken {
    fn header(&self) -> BoxFuture<'_, (HeaderName, HeaderValue)> {
        Box::pin(async { (self.header.clone(), self.tokens.current().await.own.clone()) })
    }
}

/// What follows the scheme, which is compared without regard to case.
fn without_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    if scheme.is_empty() {
        return Some(value);
    }
    let (found, rest) = value.split_at_checked(scheme.len())?;
    let token = rest.strip_prefix(b" ")?;
    found.eq_ignore_ascii_case(scheme.as_bytes()).then_some(token)
}

fn header_value(scheme: &str, token: &str) -> Result<HeaderValue, &'static str> {
    if token.is_empty() {
        return Err("empty; write a token");
    }
    let text = if scheme.is_empty() {
        token.to_owned()
    } else {
        format!("{scheme} {token}")
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| "a token must be one line of printable ASCII")?;
    value.set_sensitive(true);
    Ok(value)
}
