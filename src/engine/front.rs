//! The parallel half of the engine: reads one request into a [`Batch`], and splices verdicts into its bytes.
//!
//! What enters: the bytes of one request, and later its verdicts. What leaves: what the serial state needs to know of
//! it, and the bytes for the next hop. Promises: functions of one request and of settings, so any number may run at
//! once; a record that is merely odd is read as far as it can be, and counted. Absent on purpose: anything remembered.

use std::{collections::HashMap, sync::Arc};

use xxhash_rust::xxh3::xxh3_128;

use super::{
    annotate::{self, Annotated, Annotation, WrongCount},
    correlate::IncidentId,
    text::{self, Reader, TemplateKey},
    verdict::{Basis, TemplateVerdict, Verdicts},
    view::{Record, Resource, View},
};

/// Service name of records whose resource names none, as the OpenTelemetry specification has it.
pub const UNKNOWN_SERVICE: &str = "unknown_service";

/// A distinct template of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchTemplate {
    /// Key of the template's text.
    pub key: TemplateKey,
    /// The template's text.
    pub text: Arc<str>,
    /// How many records of the request have it.
    pub records: u64,
}

/// One record as the serial state sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Event time, nanoseconds since the Unix epoch: the record's time, else its observed time, else its arrival; never after arrival.
    pub time_unix_nano: u64,
    /// Index into [`Batch::services`].
    pub service: u32,
    /// Index into [`Batch::templates`].
    pub template: u32,
    /// OTLP severity number, 0 when absent.
    pub severity_number: i32,
}

/// One request, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Hash of the request's bytes: an identical retry has the same.
    pub request_hash: u128,
    /// When the request arrived, nanoseconds since the Unix epoch.
    pub arrival_unix_nano: u64,
    /// Distinct services, in order of first sight.
    pub services: Vec<Arc<str>>,
    /// Distinct templates, in order of first sight.
    pub templates: Vec<BatchTemplate>,
    /// The records, in wire order.
    pub records: Vec<Observation>,
    /// Records that could not be read in full (no UTF-8, cut, too deep); they are judged on what could.
    pub odd_records: u64,
}

/// Reads requests and writes verdicts on them.
#[derive(Clone, Debug)]
pub struct Front {
    text: text::Settings,
    names: annotate::Settings,
}

impl Front {
    /// A front that reads text and names attributes as these settings say.
    pub fn new(text: text::Settings, names: annotate::Settings) -> Self {
        Self { text, names }
    }

    /// Reads every record of a request that arrived at `arrival_unix_nano`.
    pub fn prepare(&self, view: &View<'_>, arrival_unix_nano: u64) -> Batch {
        let mut reader = Reader::new(&self.text);
        let mut batch = Batch {
            request_hash: xxh3_128(view.bytes()),
            arrival_unix_nano,
            records: Vec::with_capacity(view.len()),
            ..Batch::default()
        };
        let mut template_index: HashMap<TemplateKey, u32> = HashMap::new();
        let mut service = CurrentService::default();
        for record in view.records() {
            let text = reader.read(&record);
            batch.odd_records += u64::from(text.odd.invalid_utf8 || text.odd.truncated || text.odd.too_deep);
            let template = *template_index.entry(text.key).or_insert_with(|| {
                let index = batch.templates.len() as u32;
                batch.templates.push(BatchTemplate {
                    key: text.key,
                    text: Arc::from(text.template),
                    records: 0,
                });
                index
            });
            if let Some(template) = batch.templates.get_mut(template as usize) {
                template.records += 1;
            }
            batch.records.push(Observation {
                time_unix_nano: event_time(&record, arrival_unix_nano),
                service: service.index_of(view, &record, &mut batch.services),
                template,
                severity_number: record.severity_number,
            });
        }
        batch
    }

    /// The request's bytes with the verdicts of its batch on every record.
    ///
    /// # Errors
    /// When `batch` was not prepared from `view`.
    pub fn annotate(
        &self,
        view: &View<'_>,
        batch: &Batch,
        verdicts: &Verdicts,
        model_version: &Arc<str>,
    ) -> Result<Annotated, WrongCount> {
        let of_template: Vec<Annotation> = batch
            .templates
            .iter()
            .zip(verdicts.by_template(batch.templates.len()))
            .map(|(template, verdict)| annotation(verdicts.basis, template, verdict, model_version))
            .collect();
        let mut written = Written::default();
        let annotations: Vec<Annotation> = batch
            .records
            .iter()
            .zip(verdicts.by_record(batch.records.len()))
            .map(|(record, incident)| {
                let annotation = of_template.get(record.template as usize).cloned().unwrap_or_default();
                Annotation {
                    incident_id: incident.map(|incident| written.out(incident)),
                    ..annotation
                }
            })
            .collect();
        annotate::annotate(view, &annotations, &self.names)
    }
}

/// What the records of a template are told: `is_anomaly` always, the rest only where it says something.
fn annotation(
    basis: Basis,
    template: &BatchTemplate,
    verdict: Option<&TemplateVerdict>,
    model_version: &Arc<str>,
) -> Annotation {
    let normal = Annotation {
        is_anomaly: Some(false),
        ..Annotation::default()
    };
    match verdict {
        Some(TemplateVerdict::Anomalous(score)) => Annotation {
            is_anomaly: Some(true),
            score: Some(score.value),
            reason: score.reason.clone(),
            template: Some(Arc::clone(&template.text)),
            model_version: Some(Arc::clone(model_version)),
            ..normal
        },
        Some(TemplateVerdict::Degraded) => Annotation {
            verdict: Some("degraded"),
            ..normal
        },
        None if basis == Basis::WarmingUp => Annotation {
            verdict: Some("warming_up"),
            ..normal
        },
        None => normal,
    }
}

/// Ids as text; the records of an incident come in a row.
#[derive(Default)]
struct Written {
    last: Option<(IncidentId, Arc<str>)>,
}

impl Written {
    fn out(&mut self, incident: IncidentId) -> Arc<str> {
        match &self.last {
            Some((last, text)) if *last == incident => Arc::clone(text),
            _ => {
                let text: Arc<str> = Arc::from(incident.to_string());
                self.last = Some((incident, Arc::clone(&text)));
                text
            }
        }
    }
}

/// Times are read, never changed: 0 is absent, and the future counts as now.
fn event_time(record: &Record<'_>, arrival_unix_nano: u64) -> u64 {
    let stated = if record.time_unix_nano != 0 {
        record.time_unix_nano
    } else {
        record.observed_time_unix_nano
    };
    if stated == 0 {
        arrival_unix_nano
    } else {
        stated.min(arrival_unix_nano)
    }
}

/// The service of the resource last looked at: records come grouped by resource.
#[derive(Default)]
struct CurrentService {
    resource_and_service: Option<(usize, u32)>,
}

impl CurrentService {
    fn index_of(&mut self, view: &View<'_>, record: &Record<'_>, services: &mut Vec<Arc<str>>) -> u32 {
        if let Some((resource, service)) = self.resource_and_service
            && resource == record.resource_index
        {
            return service;
        }
        let resource = view.resource(record.resource_index);
        let name = resource
            .as_ref()
            .and_then(Resource::service_name)
            .unwrap_or(UNKNOWN_SERVICE);
        let known = services.iter().position(|service| **service == *name);
        let index = known.unwrap_or_else(|| {
            services.push(Arc::from(name));
            services.len() - 1
        }) as u32;
        self.resource_and_service = Some((record.resource_index, index));
        index
    }
}
