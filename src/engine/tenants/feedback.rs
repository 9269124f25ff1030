//! What people say of each tenant's templates and incidents.
//!
//! What enters: the whole book, feedback to look up, an incident to dismiss. What leaves: the same for the state of the
//! tenant that is meant. Promises: nobody's opinion reaches another tenant. Absent on purpose: where the book is kept.

use super::Tenants;
use crate::engine::{
    correlate::{Incident, IncidentId},
    feedback::{Book, Entry, Feedback, Meant, Refused, Subject},
    tenant::Tenant,
};

impl Tenants {
    /// What people said, as it is judged by.
    pub fn book(&self) -> &Book {
        &self.beginning.book
    }

    /// Takes the texts out of a book that may not be kept.
    pub fn drop_unkept_texts(&self, book: &mut Book) {
        book.drop_texts(|tenant| !self.beginning.keeps_text(tenant));
    }

    /// Judges by what people say in this book from the next record on; texts that may not be kept are left out.
    pub fn hold(&mut self, mut book: Book) {
        self.drop_unkept_texts(&mut book);
        self.note_opinions(&book);
        self.beginning.book = book;
        for (tenant, state) in &mut self.states {
            state.hold(self.beginning.book.opinions(tenant));
        }
    }

    /// What feedback of a tenant is about, looked up; nothing changes. A template of which something was said before may
    /// have been forgotten since.
    ///
    /// # Errors
    /// See [`State::understand`].
    pub fn understand(&self, tenant: &Tenant, feedback: &Feedback) -> Result<Meant, Refused> {
        let service = feedback.service.as_deref();
        let state = self.states.get(tenant);
        let unknown = match feedback.subject {
            Subject::Template(key) => Refused::UnknownTemplate(key),
            Subject::Incident(id) => Refused::UnknownIncident(id),
        };
        let understood = state.map_or(Err(unknown), |state| state.understand(feedback.subject, service));
        let (Err(Refused::UnknownTemplate(key)), Some(entries)) = (&understood, self.book().tenants.get(tenant)) else {
            return understood;
        };
        let before = entries.iter().find(|((template, _), _)| template == key);
        let of = |entry: &Entry| Meant {
            templates: vec![(*key, entry.text.clone())],
            incident: None,
        };
        before.map(|(_, entry)| of(entry)).ok_or(Refused::UnknownTemplate(*key))
    }

    /// Closes a tenant's open incident, because somebody said that it is none.
    pub fn dismiss(&mut self, tenant: &Tenant, incident: IncidentId) -> Option<Incident> {
        self.states.get_mut(tenant)?.dismiss(incident)
    }
}
