//! Who answers people: the API, and the page in a browser.
//!
//! What enters: settings that have been checked, then the pipeline that knows. What leaves: bound ports, then tasks that serve.
//! Promise: ports are taken before anything else happens. Absent on purpose: what is answered.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use super::identities::Identities;
use crate::{
    config::{Extension, Settings},
    edge::{
        Desk,
        api::{Api, page::Page},
    },
    pipeline::Pipeline,
};

/// A server that has its sockets.
pub(super) enum Bound {
    Api(Api),
    Page(Box<Page>),
}

/// Takes the ports of all servers.
///
/// # Errors
/// A port is taken, or a certificate, token or password cannot be used.
pub(super) async fn bind(settings: &Settings, identities: &Identities) -> Result<Vec<Bound>> {
    let mut servers = Vec::new();
    for (id, extension) in &settings.extensions {
        match extension {
            Extension::HarbingerApi(api) => {
                let bound = Api::bind(api).await;
                servers.push(Bound::Api(bound.with_context(|| format!("extensions.{id}.endpoint"))?));
            }
            Extension::HarbingerPage(page) => {
                let context = || format!("extensions.{id}");
                let bound = Page::bind(page).await.with_context(context)?;
                let bound = match &page.auth {
                    Some(auth) => bound.authenticated_by(identities.authenticator(auth).with_context(context)?),
                    None => bound,
                };
                servers.push(Bound::Page(Box::new(bound)));
            }
            _ => {}
        }
    }
    Ok(servers)
}

impl Bound {
    /// Where it listens, and what it is.
    pub(super) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        match self {
            Self::Api(api) => vec![("api", api.address())],
            Self::Page(page) => page.addresses().iter().map(|address| ("page", *address)).collect(),
        }
    }

    /// Serves in a task of `tasks`. `incident_attribute` is what records carry the id in.
    pub(super) fn serve(self, pipeline: &Arc<Pipeline>, incident_attribute: &str, tasks: &mut JoinSet<Result<()>>) {
        let desk: Arc<dyn Desk> = Arc::clone(pipeline) as _;
        let incident_attribute = incident_attribute.to_owned();
        match self {
            Self::Api(api) => {
                tracing::info!(address = %api.address(), "serving the API");
                tasks.spawn(async move { api.serve(desk, incident_attribute).await.context("the API ended") });
            }
            Self::Page(page) => {
                if let Some(address) = page.addresses().first() {
                    tracing::info!("incidents are to be seen at {}", page.url(*address));
                }
                tasks.spawn(async move {
                    page.serve(desk, incident_attribute).await;
                    bail!("the incident page ended by itself")
                });
            }
        }
    }
}
