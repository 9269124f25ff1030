//! User names and passwords: the extension `basicauth`, for receivers (`htpasswd`) and exporters (`client_auth`).
//!
//! What enters: users in the configuration or in a file, and the headers of calls. What leaves: leave to go on, or the
//! header of our own calls. Promises: a bcrypt hash is computed off the async threads, two at a time, once for each right
//! password and not for each call; an unknown user takes as long as a known one; the file is read again when it changes.
//! Absent on purpose: htpasswd's other hashes (MD5, SHA-1, crypt), which do not protect a password.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    Authenticator, BoxFuture, Credentials, Stranger,
    transport::{
        reloading::{FileError, Named, Reloading},
        secrets::{Sealed, Sealing, Secret},
    },
};

/// How often the file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Hashes computed at a time.
const LANES: usize = 2;
/// A caller waits no longer for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(3);
/// Right passwords that are remembered.
const MAX_REMEMBERED: usize = 4096;
/// A slower hash would take seconds.
const MAX_BCRYPT_COST: u32 = 14;
const SCHEME: &[u8] = b"Basic ";

/// The extension `basicauth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Users that receivers let in.
    pub htpasswd: Option<Htpasswd>,
    /// Who exporters say they are.
    pub client_auth: Option<ClientAuth>,
}

/// The section `htpasswd`: lines of `user:password`, the password plain or as a bcrypt hash (`htpasswd -nB USER`).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Htpasswd {
    /// A file of such lines, read again when it changes.
    pub file: Option<PathBuf>,
    /// Such lines; they come before the file's.
    pub inline: Option<Secret>,
}

/// The section `client_auth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientAuth {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl Settings {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The key, what is wrong with it, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        if self.htpasswd.is_none() && self.client_auth.is_none() {
            return Err(
                "write `htpasswd: {file: PATH}` for receivers, or `client_auth: {username: …, password: …}` for exporters"
                    .into(),
            );
        }
        if let Some(htpasswd) = &self.htpasswd {
            if htpasswd.file.is_none() && htpasswd.inline.is_none() {
                return Err("htpasswd: no users; write `file: PATH` or `inline: …`".into());
            }
            if let Some(inline) = &htpasswd.inline {
                users(inline.reveal(), &mut Vec::new())
                    .map_err(|problem| format!("`htpasswd`: `inline`: {problem}"))?;
            }
        }
        if let Some(client) = &self.client_auth {
            if client.username.is_empty() || client.username.contains(':') {
                return Err("`client_auth`: `username` must not be empty, nor contain a colon".into());
            }
            if client.password.reveal().is_empty() {
                return Err("`client_auth`: `password` is missing; write `${env:PASSWORD}`".into());
            }
        }
        Ok(())
    }
}

/// A user, and how the password is known.
struct User {
    name: String,
    password: Known,
}

enum Known {
    Plain(Secret),
    Bcrypt(String),
}

/// The users in force, and who of them has shown the right password.
struct Users {
    all: Vec<User>,
    right: Mutex<HashSet<Sealed>>,
}

/// See the module.
#[derive(Debug)]
pub struct Basic {
    sealing: Sealing,
    users: Option<Reloading<Users>>,
    own: Option<HeaderValue>,
    lanes: Arc<Semaphore>,
}

impl Basic {
    /// Reads the users.
    ///
    /// # Errors
    /// A file that cannot be used, or settings that cannot.
    pub fn load(settings: &Settings) -> Result<Self, FileError> {
        settings.validate().map_err(FileError::Missing)?;
        let sealing = Sealing::new().map_err(|problem| FileError::Missing(problem.to_string()))?;
        let users = settings.htpasswd.as_ref().map(load_users).transpose()?;
        let own = settings.client_auth.as_ref().and_then(|client| {
            let text = format!("{}:{}", client.username, client.password.reveal());
            let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self {
            sealing,
            users,
            own,
            lanes: Arc::new(Semaphore::new(LANES)),
        })
    }

    /// Whether exporters can use it.
    pub fn has_credentials(&self) -> bool {
        self.own.is_some()
    }

    async fn known(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let (name, password) = shown(headers).ok_or(Stranger::Unknown)?;
        let users = self.users.as_ref().ok_or(Stranger::Unknown)?.current().await;
        let claim = self.sealing.seal(format!("{name}:{password}").as_bytes());
        if users
            .right
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&claim)
        {
            return Ok(());
        }
        let user = users.all.iter().find(|user| user.name == name);
        // Who is unknown is held against some hash all the same, so that time does not tell who is.
        let hash = match user.map(|user| &user.password) {
            Some(Known::Plain(right)) => {
                let right = self.sealing.seal(right.reveal().as_bytes());
                let is_right = self.sealing.seal(password.as_bytes()).is_one_of([&right]);
                return if is_right { Ok(()) } else { Err(Stranger::Unknown) };
            }
            Some(Known::Bcrypt(hash)) => hash.clone(),
            None => match users.all.iter().find_map(|user| match &user.password {
                Known::Bcrypt(hash) => Some(hash.clone()),
                Known::Plain(_) => None,
            }) {
                Some(hash) => hash,
                None => return Err(Stranger::Unknown),
            },
        };
        let turn = timeout(TURN_TIMEOUT, self.lanes.clone().acquire_owned());
        let Ok(Ok(lane)) = turn.await else {
            return Err(Stranger::Busy);
        };
        let verified = tokio::task::spawn_blocking(move || {
            let verified = bcrypt::verify(password.as_bytes(), &hash).unwrap_or(false);
            drop(lane);
            verified
        });
        if !verified.await.unwrap_or(false) || user.is_none() {
            return Err(Stranger::Unknown);
        }
        let mut right = users.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= MAX_REMEMBERED {
            right.clear();
        }
        right.insert(claim);
        Ok(())
    }
}

impl Authenticator for Basic {
    fn header(&self) -> &HeaderName {
        &header::AUTHORIZATION
    }

    fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"harbinger\", charset=\"UTF-8\"")
    }

    fn check<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<(), Stranger>> {
        Box::pin(self.known(headers))
    }
}

impl Credentials for Basic {
    fn header(&self) -> BoxFuture<'_, (HeaderName, HeaderValue)> {
        let own = self.own.clone().unwrap_or(HeaderValue::from_static(""));
        Box::pin(std::future::ready((header::AUTHORIZATION, own)))
    }
}

fn load_users(settings: &Htpasswd) -> Result<Reloading<Users>, FileError> {
    let named = settings.file.clone().map(|path| Named {
        key: "htpasswd.file",
        path,
    });
    let inline = settings.inline.clone();
    Reloading::load(named.iter().cloned().collect(), RELOAD_INTERVAL, move |contents| {
        let mut all = Vec::new();
        if let Some(inline) = &inline {
            users(inline.reveal(), &mut all)
                .map_err(|problem| FileError::Missing(format!("htpasswd.inline: {problem}")))?;
        }
        if let (Some(file), Some(content)) = (&named, contents.first()) {
            let text = std::str::from_utf8(content).map_err(|_| file.unusable("not UTF-8"))?;
            users(text, &mut all).map_err(|problem| file.unusable(problem))?;
        }
        Ok(Users {
            all,
            right: Mutex::default(),
        })
    })
}

/// Reads lines of `user:password`. What is wrong is told by the number of the line, as the line is a secret.
fn users(text: &str, all: &mut Vec<User>) -> Result<(), String> {
    let lines = text.lines().map(str::trim).enumerate();
    let before = all.len();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let number = index + 1;
        let Some((name, password)) = line
            .split_once(':')
            .filter(|(name, password)| !name.is_empty() && !password.is_empty())
        else {
            return Err(format!("line {number} is not `user:password`"));
        };
        let password = match password.split('$').collect::<Vec<_>>().as_slice() {
            ["", "2a" | "2b" | "2y", cost, rest] if rest.len() == 53 => {
                if !cost
                    .parse()
                    .is_ok_and(|cost: u32| (4..=MAX_BCRYPT_COST).contains(&cost))
                {
                    return Err(format!(
                        "line {number} has a cost over {MAX_BCRYPT_COST}; make it by `htpasswd -nB -C 10 USER`"
                    ));
                }
                Known::Bcrypt(password.to_owned())
            }
            ["", ..] => return Err(other_hash(number)),
            _ if password.starts_with("{SHA}") => return Err(other_hash(number)),
            _ => Known::Plain(Secret::from(password)),
        };
        all.push(User {
            name: name.to_owned(),
            password,
        });
    }
    if all.len() == before {
        return Err("no users; write a line of `user:password` for each".to_owned());
    }
    Ok(())
}

fn other_hash(number: usize) -> String {
    format!("line {number} has a hash other than bcrypt, or a broken one; make it by `htpasswd -nB USER`")
}

/// The user and password of a call.
fn shown(headers: &HeaderMap) -> Option<(String, String)> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (shown.next()?, shown.next()) else {
        return None;
    };
    let (scheme, encoded) = value.as_bytes().split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn basic(inline: &str) -> Result<Basic, FileError> {
        Basic::load(&Settings {
            htpasswd: Some(Htpasswd {
                file: None,
                inline: Some(inline.into()),
            }),
            client_auth: None,
        })
    }

    async fn check(basic: &Basic, value: &str) -> Result<(), Stranger> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        basic.check(&headers).await
    }

    fn claim(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[tokio::test]
    async fn passwords_are_plain_or_bcrypt_and_right_ones_are_remembered() {
        let hash = bcrypt::hash("s3cret", 4).unwrap();
        let basic = basic(&format!("ann:plain:with colon\n# a comment\nbob:{hash}\n")).unwrap();
        for _ in 0..2 {
            assert_eq!(check(&basic, &claim("ann:plain:with colon")).await, Ok(()));
            assert_eq!(check(&basic, &claim("bob:s3cret")).await, Ok(()));
        }
        let users = basic.users.as_ref().unwrap().current().await;
        assert_eq!(users.right.lock().unwrap().len(), 1, "only bcrypt is worth remembering");
        for wrong in [
            claim("ann:s3cret"),
            claim("bob:plain"),
            claim(&format!("bob:{hash}")),
            claim("eve:s3cret"),
            claim("bob"),
            claim(":"),
            "Basic".to_owned(),
            "Basic !".to_owned(),
            "Bearer s3cret".to_owned(),
        ] {
            assert_eq!(check(&basic, &wrong).await, Err(Stranger::Unknown), "{wrong}");
        }
        assert_eq!(basic.check(&HeaderMap::new()).await, Err(Stranger::Unknown));
    }

    #[test]
    fn lines_that_are_none_are_told_by_number_and_not_quoted() {
        for (lines, said) in [
            ("", "no users"),
            ("ann:x\nhunter2", "line 2 is not"),
            ("ann:$apr1$salt$hunter2", "line 1 has a hash other than bcrypt"),
            ("ann:{SHA}hunter2", "line 1 has a hash other than bcrypt"),
            (&format!("ann:$2y$31${}", "h".repeat(53)), "cost over 14"),
        ] {
            let refused = basic(lines).err().unwrap().to_string();
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
        }
    }
}
