//! Takes texts out of what is kept of incidents: all of them, or those that somebody wants forgotten.
//!
//! What enters: a state or an event as it lies on the disk. What leaves: the same without. Promise: the incidents keep
//! their ids, counts and times; only what was said is gone. Absent on purpose: which text is meant.

use super::super::super::event::Origin;
use super::ComponentsState;

impl ComponentsState {
    /// Keeps no text of a log; keys and embeddings stay.
    pub fn drop_texts(&mut self) {
        self.texts_mut().for_each(|text| *text = String::new());
    }

    /// Empties every text that `matches`, and forgets what it meant; returns how many there were.
    pub fn forget(&mut self, matches: impl Fn(&str) -> bool) -> usize {
        let is_meant = |text: &str| !text.is_empty() && matches(text);
        for template in self.templates.iter_mut().filter(|template| is_meant(&template.text)) {
            template.embedding.clear();
        }
        for origin in self
            .incidents
            .iter_mut()
            .flat_map(|incident| incident.leading.as_mut().into_iter().chain(incident.worst.as_mut()))
        {
            if is_meant(&origin.text) {
                origin.embedding.clear();
            }
        }
        let meant = self.texts_mut().filter(|text| is_meant(text));
        meant.map(std::mem::take).count()
    }

    fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let of_incidents = self.incidents.iter_mut().flat_map(|incident| {
            let key = incident
                .leading
                .iter_mut()
                .chain(&mut incident.worst)
                .flat_map(Origin::texts_mut);
            key.chain(incident.past_templates.iter_mut().map(|count| &mut count.text))
        });
        of_incidents.chain(self.templates.iter_mut().map(|template| &mut template.text))
    }
}
