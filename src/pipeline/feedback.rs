//! Feedback on its way: from a person through the file that keeps it to the state that judges by it.
//!
//! What enters: [`Feedback`] of a tenant; the file, which people edit as well. What leaves: what it came to, once it is
//! kept; incidents that it closes are told and journalled. Promises: the next record is judged by it; what could not be
//! kept was not taken; the file is read before it is written, so that nobody's edit is lost, and one that cannot be
//! understood is never written over. Absent on purpose: who may say what, which the API decides.

use super::{Pipeline, lock, now_unix_nano};
pub use crate::edge::FeedbackError;
use crate::{
    edge::Desk,
    engine::{
        correlate::IncidentId,
        feedback::{Book, Entry, Feedback, Given, Meant, Opinion, Refused, Subject},
        tenant::Tenant,
        text::TemplateKey,
    },
};

impl Pipeline {
    /// Takes what somebody says: the next record is judged by it. Blocks on the disk.
    ///
    /// # Errors
    /// See [`FeedbackError`]; then nothing has changed.
    pub fn give_feedback(&self, tenant: &Tenant, feedback: Feedback) -> Result<Given, FeedbackError> {
        let _alone = self.memory.lock_book();
        let mut book = self.book_to_change()?;
        let meant = self.understand(tenant, &feedback)?;
        book.enter(tenant, &meant.templates, &feedback, now_unix_nano())?;
        let dismissed = meant.incident.filter(|_| feedback.opinion != Opinion::Real);
        let (kept, incidents) = self.adopt(tenant, book, dismissed)?;
        Ok(Given {
            templates: meant.templates.into_iter().map(|(template, _)| template).collect(),
            incidents,
            kept,
        })
    }

    /// Takes back what was said of a template: in one service, or for all that have no opinion of their own. Detectors
    /// decide again. Blocks on the disk.
    ///
    /// # Errors
    /// See [`FeedbackError`]; then nothing has changed.
    pub fn withdraw_feedback(
        &self,
        tenant: &Tenant,
        template: TemplateKey,
        service: Option<&str>,
    ) -> Result<Entry, FeedbackError> {
        let _alone = self.memory.lock_book();
        let mut book = self.book_to_change()?;
        let entry = book.withdraw(tenant, template, service.map(Into::into).as_ref())?;
        self.adopt(tenant, book, None)?;
        Ok(entry)
    }

    /// What people said, as it is judged by.
    pub fn feedback(&self) -> Book {
        lock(&self.state).book().clone()
    }

    /// Judges by what the file says now, which people may have edited: how many opinions that is. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read or understood; then what was in force stays so.
    pub fn reread_feedback(&self) -> Result<usize, FeedbackError> {
        let _alone = self.memory.lock_book();
        let Some(book) = self.memory.load_book() else {
            return Ok(self.feedback().len());
        };
        let book = book?;
        let held = {
            let mut state = lock(&self.state);
            state.hold(book.clone());
            state.book().clone()
        };
        if held != book {
            // What was written before texts were unwanted is replaced now.
            self.memory.save_book(&held)?;
        }
        Ok(held.len())
    }

    /// What feedback is about: what the state knows, and incidents that are over.
    fn understand(&self, tenant: &Tenant, feedback: &Feedback) -> Result<Meant, Refused> {
        let understood = lock(&self.state).understand(tenant, feedback);
        let (Err(Refused::UnknownIncident(_)), Subject::Incident(id)) = (&understood, feedback.subject) else {
            return understood;
        };
        match Desk::incident(self, id).filter(|found| found.told.tenant == *tenant) {
            Some(past) => Meant::of_past(&past.told.incident),
            None => understood,
        }
    }

    /// The book to enter something into: the file's where there is one, for people edit it.
    fn book_to_change(&self) -> Result<Book, FeedbackError> {
        self.memory.load_book().unwrap_or_else(|| Ok(self.feedback()))
    }

    /// Keeps a book, then judges by it and closes the incident that is none. Whether it is on the disk, and what was closed.
    fn adopt(
        &self,
        tenant: &Tenant,
        mut book: Book,
        dismissed: Option<IncidentId>,
    ) -> Result<(bool, Vec<IncidentId>), FeedbackError> {
        lock(&self.state).drop_unkept_texts(&mut book);
        let kept = self.memory.save_book(&book)?;
        let mut state = lock(&self.state);
        state.hold(book);
        // It may have ended by itself, or become part of another, since it was looked up.
        let closed = dismissed.and_then(|incident| state.dismiss(tenant, incident));
        self.memory.journal(&state.drain_events());
        self.incidents.tell(state.drain_changes());
        self.metrics.open_incidents.set(state.tally().1 as u64);
        drop(state);
        if let Some((sharing, _)) = &self.cluster {
            sharing.report_soon();
        }
        if closed.is_some() {
            self.memory.sync_journal_now();
        }
        Ok((kept, closed.map(|incident| incident.id).into_iter().collect()))
    }
}
