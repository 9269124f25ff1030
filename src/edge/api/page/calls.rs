//! The calls of the API in JSON: the messages of `proto/`, one path for each method.
//!
//! In: the name of a method and JSON. Out: JSON, or a status that says what the caller should do. Promise: the answer is what
//! gRPC would give. Absent on purpose: who may ask, and the stream of changes.

use bytes::Bytes;
use prost::{Message, Name};
use tonic::{Request, Response, Status};

use super::super::{
    json,
    proto::incidents_server::{Incidents, SERVICE_NAME},
    service::Service,
};

/// The method that a path asks for.
pub fn method_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.strip_prefix(SERVICE_NAME)?.strip_prefix('/')
}

/// Whether a call changes what is known.
pub fn is_feedback(method: &str) -> bool {
    matches!(method, "GiveFeedback" | "WithdrawFeedback")
}

/// Answers a call, but for `WatchIncidents`.
pub async fn answer(service: &Service, method: &str, body: &[u8]) -> Result<Bytes, Status> {
    match method {
        "ListIncidents" => say(service.list_incidents(read(body)?).await),
        "GetIncident" => say(service.get_incident(read(body)?).await),
        "ListTemplates" => say(service.list_templates(read(body)?).await),
        "GiveFeedback" => say(service.give_feedback(read(body)?).await),
        "WithdrawFeedback" => say(service.withdraw_feedback(read(body)?).await),
        "ListFeedback" => say(service.list_feedback(read(body)?).await),
        "GetStatus" => say(service.get_status(read(body)?).await),
        _ => {
            let method: String = method.chars().take(64).collect();
            Err(Status::unimplemented(format!(
                "there is no method {method}: see proto/harbinger/v1/incidents.proto"
            )))
        }
    }
}

fn read<M: Message + Name + Default>(body: &[u8]) -> Result<Request<M>, Status> {
    let message = json::read(body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Request::new(message))
}

fn say<M: Message + Name>(answer: Result<Response<M>, Status>) -> Result<Bytes, Status> {
    let line = json::line(answer?.get_ref()).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Bytes::from(line))
}
