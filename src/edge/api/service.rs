//! The calls of the API, one method each.
//!
//! What enters: requests. What leaves: what the desk answers, or a status that says what the caller should do. Promise: as
//! many watchers as there are places, no more. Absent on purpose: the transport.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{answers, feedback, proto, questions};
use crate::edge::{Desk, Heard};

/// Watchers at a time; each can hold back as much as is kept for one that is behind.
const MAX_WATCHERS: usize = 64;

/// See the module.
pub struct Service {
    desk: Arc<dyn Desk>,
    /// What records carry the id in.
    incident_attribute: Arc<str>,
    watchers: Arc<Semaphore>,
}

impl Service {
    /// Answers what the desk answers.
    pub fn new(desk: Arc<dyn Desk>, incident_attribute: String) -> Self {
        Self {
            desk,
            incident_attribute: Arc::from(incident_attribute),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
        }
    }
}

#[tonic::async_trait]
impl proto::incidents_server::Incidents for Service {
    async fn list_incidents(
        &self,
        request: Request<proto::ListIncidentsRequest>,
    ) -> Result<Response<proto::ListIncidentsResponse>, Status> {
        let request = request.into_inner();
        let which = questions::which_incidents(&request)?;
        let size = questions::page_size(request.page_size)?;
        let before = questions::incident_place(&request.page_token)?;
        // One more than fits tells whether there is another page.
        let mut found = self.desk.incidents(&which, before, size + 1);
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| more);
        Ok(Response::new(proto::ListIncidentsResponse {
            next_page_token: last.map(|told| told.incident.id.to_string()).unwrap_or_default(),
            incidents: found
                .iter()
                .map(|told| answers::incident(&told.tenant, &told.incident, &self.incident_attribute))
                .collect(),
        }))
    }

    async fn get_incident(
        &self,
        request: Request<proto::GetIncidentRequest>,
    ) -> Result<Response<proto::GetIncidentResponse>, Status> {
        let id = questions::incident_id(&request.into_inner().id)?;
        let found = self.desk.incident(id).ok_or_else(|| {
            Status::not_found(format!(
                "no incident {id} is known: it never grew large enough to be announced, or it ended so long ago that it is \
                 forgotten; its records still carry the id"
            ))
        })?;
        let tell = |incident| answers::incident(&found.told.tenant, incident, &self.incident_attribute);
        let goes_by = found.told.incident.id;
        Ok(Response::new(proto::GetIncidentResponse {
            incident: Some(tell(&found.told.incident)),
            merged_into: if goes_by == id {
                String::new()
            } else {
                goes_by.to_string()
            },
            merged: found.merged.as_deref().map(tell),
        }))
    }

    type WatchIncidentsStream = Pin<Box<dyn Stream<Item = Result<proto::WatchIncidentsResponse, Status>> + Send>>;

    async fn watch_incidents(
        &self,
        request: Request<proto::WatchIncidentsRequest>,
    ) -> Result<Response<Self::WatchIncidentsStream>, Status> {
        let proto::WatchIncidentsRequest { after_sequence, tenant } = request.into_inner();
        let place = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_WATCHERS} watch already, which is all there is room for: end one of them, or come back later"
            ))
        })?;
        let attribute = Arc::clone(&self.incident_attribute);
        let watch = (self.desk.watch(after_sequence), place);
        let heard = stream::unfold(watch, |(mut watch, place)| async move {
            let heard = watch.next().await?;
            Some((heard, (watch, place)))
        });
        let is_meant = move |heard: &Heard| match heard {
            Heard::From { .. } => true,
            Heard::Happened(notice) => {
                let name = notice.tenant.name().unwrap_or_default();
                tenant.as_deref().is_none_or(|tenant| tenant == name)
            }
        };
        let told = futures_util::StreamExt::filter_map(heard, move |heard| {
            let told = is_meant(&heard).then(|| Ok(answers::heard(&heard, &attribute)));
            std::future::ready(told)
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn list_templates(
        &self,
        request: Request<proto::ListTemplatesRequest>,
    ) -> Result<Response<proto::ListTemplatesResponse>, Status> {
        let request = request.into_inner();
        let which = questions::which_templates(&request);
        let size = questions::page_size(request.page_size)?;
        let before = questions::template_place(&request.page_token)?;
        let mut found = self.desk.templates(&which, before.as_ref(), size + 1);
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| more);
        let place = last.map(|(tenant, template)| (template.first_seen_unix_nano, template.key, tenant.clone()));
        Ok(Response::new(proto::ListTemplatesResponse {
            next_page_token: place.as_ref().map(questions::template_token).unwrap_or_default(),
            templates: found
                .iter()
                .map(|(tenant, template)| answers::template(tenant, template))
                .collect(),
        }))
    }

    async fn give_feedback(
        &self,
        request: Request<proto::GiveFeedbackRequest>,
    ) -> Result<Response<proto::GiveFeedbackResponse>, Status> {
        let desk = Arc::clone(&self.desk);
        feedback::off_the_loop(move || feedback::give(&*desk, request.into_inner())).await
    }

    async fn withdraw_feedback(
        &self,
        request: Request<proto::WithdrawFeedbackRequest>,
    ) -> Result<Response<proto::WithdrawFeedbackResponse>, Status> {
        let desk = Arc::clone(&self.desk);
        feedback::off_the_loop(move || feedback::withdraw(&*desk, request.into_inner())).await
    }

    async fn list_feedback(
        &self,
        request: Request<proto::ListFeedbackRequest>,
    ) -> Result<Response<proto::ListFeedbackResponse>, Status> {
        feedback::list(&*self.desk, &request.into_inner()).map(Response::new)
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        Ok(Response::new(answers::status(self.desk.status())))
    }
}
