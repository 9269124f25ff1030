//! What the records of one request say, equal bodies read once: they are half of most logs.
//!
//! Enters: records, and the service whose they are. Leaves: their templates, entered in the [`Batch`], and the ids in their texts.
//! Promise: the same as if each had been read by itself. Absent on purpose: anything that outlives the request.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;

use super::{Batch, BatchTemplate};
use crate::engine::{
    text::{Reader, TemplateKey, Text, body_alone, ids_of_text},
    view::Record,
};

/// What was read so far of one request.
pub(super) struct Readings<'a> {
    /// Index into [`Batch::templates`], by tenant and key.
    templates: HashMap<(u32, TemplateKey), u32, RandomState>,
    /// By service and body.
    bodies: HashMap<(u32, &'a [u8]), Reading, RandomState>,
    /// Ids in the texts.
    ids: Vec<u64>,
}

/// What a text comes to.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// Index into [`Batch::templates`].
    pub(super) template: u32,
    /// It could not be read in full.
    pub(super) is_odd: bool,
    /// Where its ids begin in [`Readings::ids`], and how many it has.
    ids: (usize, usize),
}

impl<'a> Readings<'a> {
    /// With room for this many records.
    pub(super) fn of(records: usize) -> Self {
        Self {
            templates: HashMap::default(),
            bodies: HashMap::with_capacity_and_hasher(records, RandomState::default()),
            ids: Vec::new(),
        }
    }

    /// What a record of this tenant and service says.
    pub(super) fn read(
        &mut self,
        (tenant, service): (u32, u32),
        record: &Record<'a>,
        reader: &mut Reader<'_>,
        batch: &mut Batch,
    ) -> Reading {
        let body = body_alone(record).map(|body| (service, body));
        if let Some(known) = body.and_then(|body| self.bodies.get(&body)) {
            return *known;
        }
        let reading = self.enter(tenant, &reader.read(record), batch);
        if let Some(body) = body {
            self.bodies.insert(body, reading);
        }
        reading
    }

    /// What a text of this tenant comes to.
    pub(super) fn enter(&mut self, tenant: u32, text: &Text<'_>, batch: &mut Batch) -> Reading {
        let template = self.templates.entry((tenant, text.key)).or_insert_with(|| {
            let index = batch.templates.len() as u32;
            batch.templates.push(BatchTemplate {
                key: text.key,
                text: Arc::from(text.template),
                records: 0,
            });
            index
        });
        Reading {
            template: *template,
            is_odd: text.odd.invalid_utf8 || text.odd.truncated || text.odd.too_deep,
            ids: (self.ids.len(), ids_of_text(text.canonical, &mut self.ids)),
        }
    }

    /// The ids in a text.
    pub(super) fn ids_of(
        &self,
        Reading {
            ids: (first, count), ..
        }: Reading,
    ) -> &[u64] {
        self.ids.get(first..first + count).unwrap_or_default()
    }
}
