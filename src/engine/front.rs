//! The parallel half of the engine: reads one request into a [`Batch`], and splices verdicts into its bytes.
//!
//! What enters: the bytes of one request, and later its verdicts. What leaves: what the serial state needs to know of
//! it, and the bytes for the next hop. Promises: functions of one request and of settings, so any number may run at
//! once; a record that is merely odd is read as far as it can be, and counted; of a record that the user excludes not a
//! byte changes, nor of what a Harbinger says of incidents, by whatever way it comes back. Absent on purpose: anything
//! remembered but what masking comes to, which is the same whether it is remembered or not.

mod readings;

use std::{collections::BTreeMap, sync::Arc};

use readings::Readings;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    annotate::{self, Annotated, Annotation, WrongCount},
    correlate::IncidentId,
    score::Anomaly,
    tell,
    tenant::{self, Tenant},
    text::{self, Matching, Reader, Shapes, TemplateKey, shared_ids},
    verdict::Verdicts,
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
    /// How many records of the request have it, of those that are judged.
    pub records: u64,
}

/// A service of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchService {
    /// Index into [`Batch::tenants`].
    pub tenant: u32,
    /// Its name.
    pub name: Arc<str>,
}

/// What is to be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Learned from and judged, like all of its template.
    Judge {
        /// Index into [`Batch::templates`].
        template: u32,
    },
    /// Marked normal; nothing is learned from it and it is in no incident.
    Ignore,
    /// Not touched at all.
    Exclude,
}

/// One record as the serial state sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Event time, nanoseconds since the Unix epoch: the record's time, else its observed time, else its arrival; never after arrival.
    pub time_unix_nano: u64,
    /// Index into [`Batch::services`].
    pub service: u32,
    /// What is to be done with it.
    pub treatment: Treatment,
    /// OTLP severity number, 0 when absent.
    pub severity_number: i32,
    /// Where its ids begin in [`Batch::ids`], and how many it has.
    pub ids: (u32, u8),
    /// How long after it happened it was observed, as far as the record says both, nanoseconds.
    pub delay_nano: u64,
}

impl Observation {
    /// Index into [`Batch::templates`] of a record that is judged.
    pub fn template(&self) -> Option<usize> {
        match self.treatment {
            Treatment::Judge { template } => Some(template as usize),
            Treatment::Ignore | Treatment::Exclude => None,
        }
    }
}

/// One request, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Hash of the request's bytes and of the tenant its caller named: an identical retry has the same.
    pub request_hash: u128,
    /// When the request arrived, nanoseconds since the Unix epoch.
    pub arrival_unix_nano: u64,
    /// Distinct tenants, in order of first sight.
    pub tenants: Vec<Tenant>,
    /// Distinct services, in order of first sight; two tenants' services of one name are two.
    pub services: Vec<BatchService>,
    /// Distinct templates of the records that are judged, in order of first sight; two tenants' equal templates are two.
    pub templates: Vec<BatchTemplate>,
    /// The records, in wire order.
    pub records: Vec<Observation>,
    /// Ids that records share with others, as hashes.
    pub ids: Vec<u64>,
    /// Records that could not be read in full (no UTF-8, cut, too deep); they are judged on what could.
    pub odd_records: u64,
}

impl Batch {
    /// The ids of a record.
    pub fn ids_of(&self, record: &Observation) -> &[u64] {
        let (first, count) = (record.ids.0 as usize, usize::from(record.ids.1));
        self.ids.get(first..first + count).unwrap_or_default()
    }
}

/// Reads requests and writes verdicts on them.
#[derive(Clone, Debug)]
pub struct Front {
    text: text::Settings,
    /// For services that have their own.
    text_of_service: BTreeMap<String, text::Settings>,
    names: annotate::Settings,
    /// The resource attribute that names the tenant.
    tenant_attribute: Option<String>,
    /// How often the rules have changed.
    generation: u64,
    /// What masking comes to, for bodies of a shape: a memory of a pure function.
    shapes: Arc<Shapes>,
}

impl Front {
    /// A front that reads text and names attributes as these settings say.
    pub fn new(text: text::Settings, names: annotate::Settings) -> Self {
        let services = text.services.keys();
        let text_of_service = services
            .filter_map(|name| Some((name.clone(), text.of_service(name)?)))
            .collect();
        Self {
            text,
            text_of_service,
            names,
            tenant_attribute: None,
            generation: 0,
            shapes: Arc::default(),
        }
    }

    /// The same by other settings, as far as they can change in a running engine. A request that is repeated across such a
    /// change is another one: what it was told before need not fit the records that are judged of it now.
    #[must_use]
    pub fn adjusted(&self, text: &text::Settings) -> Self {
        let mut adjusted = self.clone();
        adjusted.generation += u64::from(adjusted.text.adjust(text));
        adjusted
    }

    /// Tells tenants apart by what their resources say, where the settings want that.
    pub fn with_tenants(mut self, settings: &tenant::Settings) -> Self {
        self.tenant_attribute.clone_from(&settings.resource_attribute);
        self
    }

    /// Reads every record of a request that arrived at `arrival_unix_nano`, of a caller that named no tenant.
    pub fn prepare(&self, view: &View<'_>, arrival_unix_nano: u64) -> Batch {
        self.prepare_of(&Tenant::default(), view, arrival_unix_nano)
    }

    /// Reads every record of a request of this caller.
    pub fn prepare_of(&self, caller: &Tenant, view: &View<'_>, arrival_unix_nano: u64) -> Batch {
        let mut reader = Reader::with_shapes(&self.text, &self.shapes);
        let mut batch = Batch {
            // The same bytes of another tenant are another request: its verdicts are its own.
            request_hash: xxh3_128_with_seed(view.bytes(), caller.seed().wrapping_add(self.generation)),
            arrival_unix_nano,
            records: Vec::with_capacity(view.len()),
            ..Batch::default()
        };
        let mut readings = Readings::of(view.len());
        let mut current: Option<Current<'_>> = None;
        let mut is_told = tells_of_incidents(view);
        for (index, record) in view.records().enumerate() {
            let group = match current {
                Some(group) if group.resource_index == record.resource_index => group,
                _ => {
                    let group = self.enter(caller, view, &record, &mut batch);
                    reader.follow(group.text);
                    group
                }
            };
            current = Some(group);
            let first_id = batch.ids.len() as u32;
            let treatment = if is_told(index, &record) {
                Treatment::Exclude
            } else {
                treat(&record, &group, &mut reader, &mut readings, &mut batch)
            };
            batch.records.push(Observation {
                ids: (first_id, (batch.ids.len() as u32 - first_id) as u8),
                delay_nano: match record.time_unix_nano {
                    0 => 0,
                    time => record.observed_time_unix_nano.saturating_sub(time),
                },
                time_unix_nano: event_time(&record, arrival_unix_nano),
                service: group.service,
                treatment,
                severity_number: record.severity_number,
            });
        }
        batch
    }

    /// What the records of this record's resource have in common.
    fn enter(&self, caller: &Tenant, view: &View<'_>, record: &Record<'_>, batch: &mut Batch) -> Current<'_> {
        let resource = view.resource(record.resource_index);
        let said = self
            .tenant_attribute
            .as_ref()
            .map(|attribute| Tenant::of_value(resource.as_ref().and_then(|resource| resource.attribute(attribute))));
        let tenant = said.as_ref().unwrap_or(caller);
        let known = batch.tenants.iter().position(|known| known == tenant);
        let tenant = known.unwrap_or_else(|| {
            batch.tenants.push(tenant.clone());
            batch.tenants.len() - 1
        }) as u32;
        let name = resource
            .as_ref()
            .and_then(Resource::service_name)
            .unwrap_or(UNKNOWN_SERVICE);
        let services = &mut batch.services;
        let known = services
            .iter()
            .position(|service| service.tenant == tenant && *service.name == *name);
        let service = known.unwrap_or_else(|| {
            let name = Arc::from(name);
            services.push(BatchService { tenant, name });
            services.len() - 1
        }) as u32;
        let exclude = Matching::new(&self.text.exclude, resource.as_ref());
        let ignore = Matching::new(&self.text.ignore, resource.as_ref());
        Current {
            resource_index: record.resource_index,
            tenant,
            service,
            text: self.text_of_service.get(name).unwrap_or(&self.text),
            by_text: exclude.reads_text() || ignore.reads_text(),
            exclude,
            ignore,
        }
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
        let unjudged = verdicts.unjudged_by_template(batch.templates.len());
        let mut written = Written::default();
        let annotations: Vec<Annotation> = batch
            .records
            .iter()
            .zip(verdicts.anomaly_by_record(batch.records.len()))
            .zip(verdicts.incident_by_record(batch.records.len()))
            .map(|((record, anomaly), incident)| match record.treatment {
                Treatment::Judge { template } => {
                    let template = template as usize;
                    let text = batch.templates.get(template).map(|template| &template.text);
                    Annotation {
                        verdict: unjudged.get(template).copied().flatten(),
                        incident_id: incident.map(|incident| written.out(incident)),
                        ..annotation(anomaly, text.filter(|_| self.text.store_text), model_version)
                    }
                }
                Treatment::Ignore => annotation(None, None, model_version),
                Treatment::Exclude => Annotation::default(),
            })
            .collect();
        annotate::annotate(view, &annotations, &self.names)
    }
}

/// Whether the record at an index is one by which a Harbinger, this or another, tells of an incident: judged like a log it
/// would lead to more of its kind. To be asked in wire order.
fn tells_of_incidents<'v>(view: &'v View<'_>) -> impl FnMut(usize, &Record<'_>) -> bool + 'v {
    let mut scopes = view.scopes().peekable();
    move |index, record| {
        while scopes.next_if(|(_, records)| records.end <= index).is_some() {}
        let in_scope = scopes.peek().is_some_and(|(name, _)| *name == tell::SCOPE.as_bytes());
        in_scope || record.attribute(tell::EVENT).is_some()
    }
}

/// What is to be done with the record, and, if it is judged, which template it counts for.
fn treat<'a>(
    record: &Record<'a>,
    group: &Current<'_>,
    reader: &mut Reader<'_>,
    readings: &mut Readings<'a>,
    batch: &mut Batch,
) -> Treatment {
    if group.exclude.meets(record) {
        return Treatment::Exclude;
    }
    let reading = if group.by_text {
        let text = reader.read(record);
        if group.exclude.meets_text(record, &text) {
            return Treatment::Exclude;
        }
        if group.ignore.meets(record) || group.ignore.meets_text(record, &text) {
            return Treatment::Ignore;
        }
        readings.enter(group.tenant, &text, batch)
    } else {
        if group.ignore.meets(record) {
            return Treatment::Ignore;
        }
        readings.read((group.tenant, group.service), record, reader, batch)
    };
    batch.odd_records += u64::from(reading.is_odd);
    if let Some(template) = batch.templates.get_mut(reading.template as usize) {
        template.records += 1;
    }
    shared_ids(record, readings.ids_of(reading), &mut batch.ids);
    Treatment::Judge {
        template: reading.template,
    }
}

/// What a record is told: `is_anomaly` always, the rest only where it says something; its template's `text` only where
/// that may be written.
fn annotation(anomaly: Option<&Arc<Anomaly>>, text: Option<&Arc<str>>, model_version: &Arc<str>) -> Annotation {
    match anomaly {
        None => Annotation {
            is_anomaly: Some(false),
            ..Annotation::default()
        },
        Some(anomaly) => Annotation {
            is_anomaly: Some(true),
            score: Some(anomaly.score),
            p_value: Some(anomaly.p_value),
            reason: Some(Arc::clone(&anomaly.reason)),
            template: text.map(Arc::clone),
            model_version: Some(Arc::clone(model_version)),
            ..Annotation::default()
        },
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

/// What is known of the resource last looked at: records come grouped by resource.
#[derive(Clone, Copy)]
struct Current<'f> {
    resource_index: usize,
    /// Index into [`Batch::tenants`].
    tenant: u32,
    /// Index into [`Batch::services`].
    service: u32,
    text: &'f text::Settings,
    exclude: Matching<'f>,
    ignore: Matching<'f>,
    /// What is excluded or ignored depends on what a record says.
    by_text: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message;

    use super::*;
    use crate::engine;

    #[test]
    fn item_14_times_are_read_and_never_changed() {
        const ARRIVAL: u64 = 1_000;
        // Stated, observed, and what the correlator goes by.
        let cases = [
            (0, 0, ARRIVAL),
            (7, 9, 7),
            (0, 9, 9),
            (5_000, 9, ARRIVAL),
            (0, 5_000, ARRIVAL),
        ];
        let records = cases.map(|(time_unix_nano, observed_time_unix_nano, _)| LogRecord {
            time_unix_nano,
            observed_time_unix_nano,
            ..LogRecord::default()
        });
        let scope = ScopeLogs {
            log_records: records.to_vec(),
            ..ScopeLogs::default()
        };
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs: vec![scope],
                ..ResourceLogs::default()
            }],
        };
        let bytes = request.encode_to_vec();
        let view = View::parse(&bytes).unwrap();
        let front = engine::Settings::default().front();
        let batch = front.prepare(&view, ARRIVAL);
        let by_event_time: Vec<u64> = batch.records.iter().map(|record| record.time_unix_nano).collect();
        assert_eq!(by_event_time, cases.map(|(_, _, event_time)| event_time));
        let annotated = front
            .annotate(&view, &batch, &Verdicts::default(), &Arc::from(""))
            .unwrap();
        let sent = ExportLogsServiceRequest::decode(&*annotated.bytes).unwrap();
        let sent = &sent.resource_logs[0].scope_logs[0].log_records;
        for (sent, (time, observed, _)) in sent.iter().zip(cases) {
            assert_eq!((sent.time_unix_nano, sent.observed_time_unix_nano), (time, observed));
        }
    }
}
