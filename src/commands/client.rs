//! The way to the agent's API, and what to say when there is none.
//!
//! What enters: an address, requests. What leaves: answers; or an error that says what to do. Promise: lists are read page by
//! page, however long. Absent on purpose: retries, except in `watch`.

use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::edge::api::proto::{self, incidents_client::IncidentsClient};

/// How long an agent on this machine may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// A page of 1000 incidents with all their texts.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Entries asked for at once; the API gives no more.
const PAGE: usize = 1000;

/// Where an agent's API listens unless it was told otherwise.
pub const DEFAULT_API: &str = "http://127.0.0.1:4319";

/// Where the agent is.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiArgs {
    /// Where the agent's API listens
    #[arg(long, default_value = DEFAULT_API, value_name = "URL")]
    pub api: String,
}

/// A connection to an agent.
#[derive(Debug)]
pub struct Client {
    api: String,
    incidents: IncidentsClient<Channel>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody answers at the address, or it is none.
    pub async fn connect(args: &ApiArgs) -> Result<Self> {
        let url = if args.api.contains("://") {
            args.api.clone()
        } else {
            format!("http://{}", args.api)
        };
        let endpoint = Endpoint::from_shared(url.clone())
            .with_context(|| format!("--api: `{}` is no address; write http://127.0.0.1:4319", args.api))?
            .connect_timeout(CONNECT_PATIENCE);
        let channel = endpoint
            .connect()
            .await
            .map_err(|problem| nobody(&url, problem.into()))?;
        Ok(Self {
            api: url,
            incidents: IncidentsClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
        })
    }

    /// The incidents that match, newest first, at most so many.
    ///
    /// # Errors
    /// The agent refuses, or is gone.
    pub async fn incidents(
        &mut self,
        mut request: proto::ListIncidentsRequest,
        limit: usize,
    ) -> Result<Vec<proto::Incident>> {
        let mut all = Vec::new();
        while all.len() < limit {
            request.page_size = PAGE.min(limit - all.len()) as i32;
            let mut asked = tonic::Request::new(request.clone());
            asked.set_timeout(ANSWER_PATIENCE);
            let page = self.incidents.list_incidents(asked).await;
            let page = page.map_err(|status| complaint(&self.api, &status))?.into_inner();
            all.extend(page.incidents);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Ok(all)
    }

    /// One incident.
    ///
    /// # Errors
    /// There is none of this id, or the agent is gone.
    pub async fn get(&mut self, id: &str) -> Result<proto::GetIncidentResponse> {
        let mut request = tonic::Request::new(proto::GetIncidentRequest { id: id.to_owned() });
        request.set_timeout(ANSWER_PATIENCE);
        let answer = self.incidents.get_incident(request).await;
        Ok(answer.map_err(|status| complaint(&self.api, &status))?.into_inner())
    }

    /// The agent itself.
    ///
    /// # Errors
    /// The agent is gone.
    pub async fn status(&mut self) -> Result<proto::GetStatusResponse> {
        let mut request = tonic::Request::new(proto::GetStatusRequest {});
        request.set_timeout(ANSWER_PATIENCE);
        let answer = self.incidents.get_status(request).await;
        Ok(answer.map_err(|status| complaint(&self.api, &status))?.into_inner())
    }

    /// The templates that match.
    ///
    /// # Errors
    /// The agent refuses, or is gone.
    pub async fn templates(&mut self, mut request: proto::ListTemplatesRequest) -> Result<Vec<proto::Template>> {
        let mut all = Vec::new();
        loop {
            request.page_size = PAGE as i32;
            let page = self.incidents.list_templates(patiently(request.clone())).await;
            let page = page.map_err(|status| complaint(&self.api, &status))?.into_inner();
            all.extend(page.templates);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What people said of templates.
    ///
    /// # Errors
    /// The agent refuses, or is gone.
    pub async fn opinions(&mut self, tenant: Option<String>) -> Result<Vec<proto::Opinion>> {
        let mut request = proto::ListFeedbackRequest {
            tenant,
            page_size: PAGE as i32,
            page_token: String::new(),
        };
        let mut all = Vec::new();
        loop {
            let page = self.incidents.list_feedback(patiently(request.clone())).await;
            let page = page.map_err(|status| complaint(&self.api, &status))?.into_inner();
            all.extend(page.opinions);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Says what a template or an incident is.
    ///
    /// # Errors
    /// The agent refuses, or is gone.
    pub async fn give(&mut self, request: proto::GiveFeedbackRequest) -> Result<proto::GiveFeedbackResponse> {
        let answer = self.incidents.give_feedback(patiently(request)).await;
        Ok(answer.map_err(|status| complaint(&self.api, &status))?.into_inner())
    }

    /// Takes back what was said of a template.
    ///
    /// # Errors
    /// Nothing was said, the agent refuses, or it is gone.
    pub async fn withdraw(
        &mut self,
        request: proto::WithdrawFeedbackRequest,
    ) -> Result<proto::WithdrawFeedbackResponse> {
        let answer = self.incidents.withdraw_feedback(patiently(request)).await;
        Ok(answer.map_err(|status| complaint(&self.api, &status))?.into_inner())
    }

    /// What happens from now on, or has since a sequence number.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn watch(
        &mut self,
        request: proto::WatchIncidentsRequest,
    ) -> Result<Streaming<proto::WatchIncidentsResponse>, Status> {
        self.incidents
            .watch_incidents(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Where the agent is.
    pub fn address(&self) -> &str {
        &self.api
    }
}

/// A request whose answer is not waited for for ever.
fn patiently<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_PATIENCE);
    request
}

fn nobody(api: &str, problem: Error) -> Error {
    problem.context(format!(
        "no agent answers at {api}\n\
         Is it running, with its API on? That takes `extensions: {{harbinger_api: {{}}}}` and `service: {{extensions: \
         [harbinger_api]}}` in its configuration; if it listens elsewhere, write --api http://HOST:PORT"
    ))
}

/// What an answer that is none means for whoever asked.
pub fn complaint(api: &str, status: &Status) -> Error {
    match status.code() {
        Code::Unimplemented => anyhow!(
            "what answers at {api} is no Harbinger API, or an older one ({}); write --api with the endpoint of \
             `extensions.harbinger_api`",
            status.message()
        ),
        Code::Unavailable | Code::Unknown | Code::Internal => {
            anyhow!("the agent at {api} is gone: {}", status.message())
        }
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => anyhow!("{}", status.message()),
        code => anyhow!("the agent at {api} answers {code:?}: {}", status.message()),
    }
}
