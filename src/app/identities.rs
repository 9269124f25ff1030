//! Who callers are and who we are: the authenticators that run, made once and handed to receivers and exporters.
//!
//! What enters: settings that have been checked. What leaves: authenticators and credentials by the id of their extension.
//! Promise: a name that nobody has is an error, never an open door. Absent on purpose: how a caller is known.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::{
    config::{Extension, Settings},
    edge::{AuthSettings, Authenticator, Credentials, authenticate_basic::Basic, authenticate_bearer::BearerToken},
};

enum Identity {
    Bearer(Arc<BearerToken>),
    Basic(Arc<Basic>),
}

/// See the module.
pub(super) struct Identities(Vec<(String, Identity)>);

impl Identities {
    /// Reads tokens and passwords.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn load(settings: &Settings) -> Result<Self> {
        let mut identities = Vec::new();
        for (id, extension) in &settings.extensions {
            let context = || format!("extensions.{id}");
            let identity = match extension {
                Extension::BearerTokenAuth(bearer) => {
                    Identity::Bearer(Arc::new(BearerToken::load(bearer).with_context(context)?))
                }
                Extension::BasicAuth(basic) => Identity::Basic(Arc::new(Basic::load(basic).with_context(context)?)),
                Extension::HealthCheck(_)
                | Extension::HarbingerApi(_)
                | Extension::HarbingerPage(_)
                | Extension::FileStorage(_) => continue,
            };
            identities.push((id.to_string(), identity));
        }
        Ok(Self(identities))
    }

    /// Who knows the callers of a receiver.
    ///
    /// # Errors
    /// Nobody has that name.
    pub(super) fn authenticator(&self, auth: &AuthSettings) -> Result<Arc<dyn Authenticator>> {
        Ok(match self.named(auth)? {
            Identity::Bearer(bearer) => Arc::clone(bearer) as _,
            Identity::Basic(basic) => Arc::clone(basic) as _,
        })
    }

    /// Who says who we are to the destination of an exporter.
    ///
    /// # Errors
    /// Nobody has that name, or nobody told it.
    pub(super) fn credentials(&self, auth: &AuthSettings) -> Result<Arc<dyn Credentials>> {
        Ok(match self.named(auth)? {
            Identity::Bearer(bearer) => Arc::clone(bearer) as _,
            Identity::Basic(basic) if basic.has_credentials() => Arc::clone(basic) as _,
            Identity::Basic(_) => bail!("`{}` has no `client_auth`", auth.authenticator),
        })
    }

    fn named(&self, auth: &AuthSettings) -> Result<&Identity> {
        let found = self.0.iter().find(|(id, _)| *id == auth.authenticator);
        let (_, identity) = found.with_context(|| format!("auth: no extension `{}` runs", auth.authenticator))?;
        Ok(identity)
    }
}
