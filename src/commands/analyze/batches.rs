//! A batch of records as it is put aside between the two halves of the engine, with the places of its rows in the input.
//!
//! What enters: a [`Batch`] that the front has read, or parts of several. What leaves: the same batch. Promises: what the
//! serial half is told of a batch that was put aside, or put together again, is what it would have been told of one that
//! was read at once. Absent on purpose: what a file's records do not have, tenants and the hash of a request.

use std::{collections::HashMap, sync::Arc};

use prost::Message;

use crate::engine::{
    front::{Batch, BatchService, BatchTemplate, Observation, Treatment},
    tenant::Tenant,
    text::TemplateKey,
};

/// Numbers of `templates` below this are treatments without one.
const IGNORE: u32 = 0;
const EXCLUDE: u32 = 1;
const FIRST_TEMPLATE: u32 = 2;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct Template {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(string, tag = "2")]
    text: String,
}

/// One batch in one message of protobuf, column by column.
#[derive(Clone, PartialEq, Message)]
pub struct PutAside {
    /// Places of the rows in the input.
    #[prost(uint64, repeated, tag = "1")]
    pub places: Vec<u64>,
    /// Times by which the rows stand in order, nanoseconds since the Unix epoch: their own, or that of the row before.
    #[prost(fixed64, repeated, tag = "2")]
    pub order: Vec<u64>,
    /// Rows without a time of their own, by where they stand here.
    #[prost(uint32, repeated, tag = "3")]
    pub timeless: Vec<u32>,
    #[prost(fixed64, repeated, tag = "4")]
    times: Vec<u64>,
    #[prost(string, repeated, tag = "5")]
    service_names: Vec<String>,
    #[prost(uint32, repeated, tag = "6")]
    services: Vec<u32>,
    #[prost(message, repeated, tag = "7")]
    template_texts: Vec<Template>,
    #[prost(uint32, repeated, tag = "8")]
    templates: Vec<u32>,
    #[prost(sint32, repeated, tag = "9")]
    severity_numbers: Vec<i32>,
    #[prost(uint32, repeated, tag = "10")]
    id_counts: Vec<u32>,
    #[prost(fixed64, repeated, tag = "11")]
    ids: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    delays: Vec<u64>,
}

impl PutAside {
    /// Puts a batch aside whose rows stand at these places, in order of these times.
    pub fn of(batch: &Batch, places: Vec<u64>, order: Vec<u64>, timeless: Vec<u32>) -> Self {
        let records = &batch.records;
        let template = |record: &Observation| match record.treatment {
            Treatment::Judge { template } => template + FIRST_TEMPLATE,
            Treatment::Ignore => IGNORE,
            Treatment::Exclude => EXCLUDE,
        };
        let text = |template: &BatchTemplate| Template {
            key: template.key.0,
            text: template.text.to_string(),
        };
        Self {
            places,
            order,
            timeless,
            times: records.iter().map(|record| record.time_unix_nano).collect(),
            service_names: batch.services.iter().map(|service| service.name.to_string()).collect(),
            services: records.iter().map(|record| record.service).collect(),
            template_texts: batch.templates.iter().map(text).collect(),
            templates: records.iter().map(template).collect(),
            severity_numbers: records.iter().map(|record| record.severity_number).collect(),
            id_counts: records.iter().map(|record| u32::from(record.ids.1)).collect(),
            ids: batch.ids.clone(),
            delays: records.iter().map(|record| record.delay_nano).collect(),
        }
    }

    /// The batch, which arrived after all that is in it.
    pub fn batch(&self) -> Batch {
        let mut templates: Vec<BatchTemplate> = self
            .template_texts
            .iter()
            .map(|template| BatchTemplate {
                key: TemplateKey(template.key),
                text: Arc::from(template.text.as_str()),
                records: 0,
            })
            .collect();
        let mut first_id = 0;
        let said = self.times.iter().zip(&self.services).zip(&self.templates);
        let more = self.severity_numbers.iter().zip(&self.id_counts).zip(&self.delays);
        let records = said
            .zip(more)
            .map(|(((time, service), template), ((severity_number, ids), delay))| {
                let treatment = match *template {
                    IGNORE => Treatment::Ignore,
                    EXCLUDE => Treatment::Exclude,
                    template => Treatment::Judge {
                        template: template - FIRST_TEMPLATE,
                    },
                };
                let record = Observation {
                    time_unix_nano: *time,
                    service: *service,
                    treatment,
                    severity_number: *severity_number,
                    ids: (first_id, *ids as u8),
                    delay_nano: *delay,
                };
                first_id += *ids;
                if let Some(template) = record.template().and_then(|template| templates.get_mut(template)) {
                    template.records += 1;
                }
                record
            })
            .collect();
        let service = |name: &String| BatchService {
            tenant: 0,
            name: Arc::from(name.as_str()),
        };
        Batch {
            arrival_unix_nano: u64::MAX,
            tenants: vec![Tenant::default()],
            services: self.service_names.iter().map(service).collect(),
            records,
            templates,
            ids: self.ids.clone(),
            ..Batch::default()
        }
    }

    /// Rows before the first that has a time stand where that one does.
    pub fn begin_at(&mut self, time_unix_nano: u64, places: u64) {
        let times = self.order.iter_mut().zip(&mut self.times).zip(&self.places);
        for ((order, time), _) in times.take_while(|(_, place)| **place < places) {
            (*order, *time) = (time_unix_nano, time_unix_nano);
        }
    }

    /// The rows one by one.
    pub fn rows(&self) -> impl Iterator<Item = PutAside> {
        let mut first_id = 0;
        (0..self.places.len()).map(move |row| {
            let of = |column: &[u64]| column.get(row).copied().into_iter().collect::<Vec<u64>>();
            let count = self.id_counts.get(row).copied().unwrap_or(0) as usize;
            let ids = self.ids.get(first_id..first_id + count).unwrap_or_default().to_vec();
            first_id += count;
            let service = self
                .services
                .get(row)
                .and_then(|name| self.service_names.get(*name as usize));
            let template = self.templates.get(row).copied().unwrap_or(EXCLUDE);
            let text = template.checked_sub(FIRST_TEMPLATE);
            let text = text.and_then(|text| self.template_texts.get(text as usize));
            PutAside {
                places: of(&self.places),
                order: of(&self.order),
                timeless: self
                    .timeless
                    .binary_search(&(row as u32))
                    .map_or(Vec::new(), |_| vec![0]),
                times: of(&self.times),
                service_names: service.cloned().into_iter().collect(),
                services: vec![0],
                template_texts: text.cloned().into_iter().collect(),
                templates: vec![template.min(FIRST_TEMPLATE)],
                severity_numbers: self.severity_numbers.get(row).copied().into_iter().collect(),
                id_counts: vec![count as u32],
                ids,
                delays: of(&self.delays),
            }
        })
    }

    /// Puts rows together that came one by one: services and templates in order of first sight, as the front has them.
    pub fn gathered(rows: impl Iterator<Item = PutAside>) -> Self {
        let mut all = Self::default();
        let mut services: HashMap<String, u32> = HashMap::new();
        let mut templates: HashMap<Template, u32> = HashMap::new();
        for row in rows {
            let place = all.places.len() as u32;
            all.timeless.extend(row.timeless.first().map(|_| place));
            all.places.extend(row.places);
            all.order.extend(row.order);
            all.times.extend(row.times);
            all.severity_numbers.extend(row.severity_numbers);
            all.id_counts.extend(row.id_counts);
            all.ids.extend(row.ids);
            all.delays.extend(row.delays);
            for name in row.service_names {
                let next = services.len() as u32;
                let service = *services.entry(name).or_insert_with_key(|name| {
                    all.service_names.push(name.clone());
                    next
                });
                all.services.push(service);
            }
            match row.template_texts.into_iter().next() {
                None => all.templates.extend(row.templates),
                Some(text) => {
                    let next = templates.len() as u32 + FIRST_TEMPLATE;
                    let template = *templates.entry(text).or_insert_with_key(|text| {
                        all.template_texts.push(text.clone());
                        next
                    });
                    all.templates.push(template);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn batch() -> Batch {
        let template = |text: &str, records| BatchTemplate {
            key: TemplateKey::of(text),
            text: Arc::from(text),
            records,
        };
        let record = |time_unix_nano, service, treatment, ids| Observation {
            time_unix_nano,
            service,
            treatment,
            severity_number: 9,
            ids,
            delay_nano: time_unix_nano / 2,
        };
        let judge = |template| Treatment::Judge { template };
        Batch {
            arrival_unix_nano: u64::MAX,
            tenants: vec![Tenant::default()],
            services: ["a", "b"]
                .map(|name| BatchService {
                    tenant: 0,
                    name: Arc::from(name),
                })
                .to_vec(),
            templates: vec![template("one", 2), template("two", 1)],
            records: vec![
                record(4, 0, judge(0), (0, 2)),
                record(5, 1, Treatment::Ignore, (2, 0)),
                record(5, 0, judge(1), (2, 1)),
                record(6, 1, Treatment::Exclude, (3, 0)),
                record(9, 1, judge(0), (3, 0)),
            ],
            ids: vec![7, 8, 9],
            ..Batch::default()
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_was_whole_and_row_by_row() {
        let aside = PutAside::of(&batch(), vec![10, 11, 12, 13, 14], vec![4, 5, 5, 6, 9], vec![2]);
        let back = PutAside::decode(&*aside.encode_to_vec()).unwrap();
        assert_eq!((back.batch(), &back), (batch(), &aside));
        assert_eq!(PutAside::gathered(aside.rows()), aside);
    }

    #[test]
    fn rows_before_the_first_time_stand_there() {
        let mut aside = PutAside::of(&batch(), vec![0, 1, 2, 3, 4], vec![1, 1, 5, 6, 9], vec![0, 1]);
        aside.begin_at(77, 2);
        assert_eq!(aside.order, [77, 77, 5, 6, 9]);
        assert_eq!(
            aside
                .batch()
                .records
                .iter()
                .map(|record| record.time_unix_nano)
                .sum::<u64>(),
            77 + 77 + 5 + 6 + 9
        );
    }
}
