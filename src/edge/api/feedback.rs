//! What people say of templates and incidents.
//!
//! What enters: a `GiveFeedbackRequest`. What leaves: what it did. Absent so far: the effect; the call answers UNIMPLEMENTED.

use tonic::Status;

use super::proto;
use crate::edge::Desk;

/// Gives the desk what the request says.
pub fn give(_: &dyn Desk, _: proto::GiveFeedbackRequest) -> Result<proto::GiveFeedbackResponse, Status> {
    Err(Status::unimplemented(
        "this version takes no feedback; a later one will",
    ))
}
