//! The OpenTelemetry SDK of Rust as a program that logs.
//!
//! What enters: `--endpoint`, `--protocol` and `--given`, as for `../python_client.py` and `../node/client.mjs`: what
//! to log, as one request in OTLP JSON.
//! What leaves: those records, each resource's in one batch, and on standard output a line of JSON with the ids of the
//! records that the exporter said were exported, and of those it said were not.
//! Promise: nothing but the SDK speaks to the agent.
//! Absent on purpose: records made up by number, certificates and tokens, which the other two clients have. `make
//! integration-rust` builds it into `target/integration/rust`.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Array, InstrumentationScope, Key, KeyValue, SpanId, TraceFlags, TraceId, Value,
    logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity},
};
use opentelemetry_otlp::{LogExporter, Protocol, WithExportConfig};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{self as common, any_value::Value as Sent},
    logs::v1::{LogRecord, ResourceLogs},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as Exporter, SdkLogRecord, SdkLoggerProvider},
};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};

type Failed = Box<dyn Error + Send + Sync>;

/// Passes batches on and notes what became of them.
#[derive(Debug)]
struct Noting {
    inner: LogExporter,
    runtime: Handle,
    noted: Arc<Noted>,
}

/// Ids of records.
#[derive(Debug, Default)]
struct Noted {
    exported: Mutex<Vec<String>>,
    failed: Mutex<Vec<String>>,
}

impl Exporter for Noting {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let ids: Vec<_> = batch.iter().filter_map(|(record, _)| id(record)).collect();
        let mut export = pin!(self.inner.export(batch));
        // The SDK polls this on a thread of its own; clients of HTTP want Tokio's timer there.
        let result = poll_fn(|context| {
            let _inside = self.runtime.enter();
            export.as_mut().poll(context)
        })
        .await;
        let list = if result.is_ok() {
            &self.noted.exported
        } else {
            &self.noted.failed
        };
        list.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
        if let Err(refused) = &result {
            eprintln!("not exported: {refused}");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn id(record: &SdkLogRecord) -> Option<String> {
    record.attributes_iter().find_map(|(key, value)| match value {
        AnyValue::String(text) if key.as_str() == "id" => Some(text.to_string()),
        _ => None,
    })
}

fn exporter(endpoint: &str, protocol: &str) -> Result<LogExporter, Failed> {
    let http = |protocol| {
        let url = format!("http://{endpoint}/v1/logs");
        LogExporter::builder()
            .with_http()
            .with_protocol(protocol)
            .with_endpoint(url)
            .build()
    };
    Ok(match protocol {
        "grpc" => LogExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{endpoint}"))
            .build()?,
        "http/protobuf" => http(Protocol::HttpBinary)?,
        "http/json" => http(Protocol::HttpJson)?,
        other => return Err(format!("--protocol {other}: write grpc, http/protobuf or http/json").into()),
    })
}

/// A value as the API of logs takes it.
fn any_value(value: Option<common::AnyValue>) -> Result<AnyValue, Failed> {
    Ok(match value.and_then(|value| value.value) {
        Some(Sent::StringValue(text)) => AnyValue::from(text),
        Some(Sent::BoolValue(value)) => AnyValue::from(value),
        Some(Sent::IntValue(value)) => AnyValue::from(value),
        Some(Sent::DoubleValue(value)) => AnyValue::from(value),
        Some(Sent::BytesValue(bytes)) => AnyValue::Bytes(Box::new(bytes)),
        Some(Sent::ArrayValue(array)) => {
            let values = array.values.into_iter().map(|value| any_value(Some(value)));
            AnyValue::ListAny(Box::new(values.collect::<Result<_, _>>()?))
        }
        Some(Sent::KvlistValue(map)) => {
            let values = map
                .values
                .into_iter()
                .map(|pair| Ok((Key::from(pair.key), any_value(pair.value)?)));
            AnyValue::Map(Box::new(values.collect::<Result<_, Failed>>()?))
        }
        other => return Err(format!("the SDK has no such value: {other:?}").into()),
    })
}

/// A value as resources and scopes take it: of arrays, those of texts and of integers.
fn value(value: common::AnyValue) -> Result<Value, Failed> {
    Ok(match value.value {
        Some(Sent::StringValue(text)) => Value::from(text),
        Some(Sent::BoolValue(value)) => Value::from(value),
        Some(Sent::IntValue(value)) => Value::from(value),
        Some(Sent::DoubleValue(value)) => Value::from(value),
        Some(Sent::ArrayValue(array)) => {
            let (mut texts, mut integers) = (Vec::new(), Vec::new());
            for value in array.values {
                match value.value {
                    Some(Sent::StringValue(text)) => texts.push(text.into()),
                    Some(Sent::IntValue(value)) => integers.push(value),
                    other => return Err(format!("this client has no array of {other:?}").into()),
                }
            }
            Value::Array(if integers.is_empty() {
                Array::String(texts)
            } else {
                Array::I64(integers)
            })
        }
        other => return Err(format!("the SDK has no such value: {other:?}").into()),
    })
}

fn key_values(attributes: Vec<common::KeyValue>) -> Result<Vec<KeyValue>, Failed> {
    let pair = |pair: common::KeyValue| Ok(KeyValue::new(pair.key, value(pair.value.unwrap_or_default())?));
    attributes.into_iter().map(pair).collect()
}

const SEVERITIES: [Severity; 24] = [
    Severity::Trace,
    Severity::Trace2,
    Severity::Trace3,
    Severity::Trace4,
    Severity::Debug,
    Severity::Debug2,
    Severity::Debug3,
    Severity::Debug4,
    Severity::Info,
    Severity::Info2,
    Severity::Info3,
    Severity::Info4,
    Severity::Warn,
    Severity::Warn2,
    Severity::Warn3,
    Severity::Warn4,
    Severity::Error,
    Severity::Error2,
    Severity::Error3,
    Severity::Error4,
    Severity::Fatal,
    Severity::Fatal2,
    Severity::Fatal3,
    Severity::Fatal4,
];

/// The SDK wants some texts to live as long as the program.
fn forever(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn fill(record: &mut SdkLogRecord, given: LogRecord) -> Result<(), Failed> {
    let time = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    if given.time_unix_nano != 0 {
        record.set_timestamp(time(given.time_unix_nano));
    }
    record.set_observed_timestamp(time(given.observed_time_unix_nano));
    if let Some(number) = usize::try_from(given.severity_number)?.checked_sub(1) {
        record.set_severity_number(*SEVERITIES.get(number).ok_or("no such severity")?);
    }
    if !given.severity_text.is_empty() {
        record.set_severity_text(forever(given.severity_text));
    }
    if given.body.is_some() {
        record.set_body(any_value(given.body)?);
    }
    for pair in given.attributes {
        record.add_attribute(pair.key, any_value(pair.value)?);
    }
    if !given.trace_id.is_empty() {
        let (trace, span) = (
            given.trace_id.as_slice().try_into()?,
            given.span_id.as_slice().try_into()?,
        );
        let flags = TraceFlags::new(u8::try_from(given.flags)?);
        record.set_trace_context(TraceId::from_bytes(trace), SpanId::from_bytes(span), Some(flags));
    }
    if !given.event_name.is_empty() {
        record.set_event_name(forever(given.event_name));
    }
    Ok(())
}

fn send(given: ResourceLogs, exporter: Noting) -> Result<(), Failed> {
    let attributes = key_values(given.resource.unwrap_or_default().attributes)?;
    let resource = Resource::builder_empty()
        .with_schema_url(attributes, given.schema_url)
        .build();
    let provider = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    for group in given.scope_logs {
        let scope = group.scope.unwrap_or_default();
        let logger = provider.logger_with_scope(
            InstrumentationScope::builder(scope.name)
                .with_version(scope.version)
                .with_schema_url(group.schema_url)
                .with_attributes(key_values(scope.attributes)?)
                .build(),
        );
        for given in group.log_records {
            let mut record = logger.create_log_record();
            fill(&mut record, given)?;
            logger.emit(record);
        }
    }
    // What became of each batch is noted already.
    let _ = provider.force_flush();
    let _ = provider.shutdown();
    Ok(())
}

fn main() -> Result<(), Failed> {
    let (mut endpoint, mut protocol, mut given) = (String::new(), "grpc".to_owned(), String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--endpoint" => endpoint = value,
            "--protocol" => protocol = value,
            "--given" => given = value,
            _ => return Err(format!("{name} is not known").into()),
        }
    }
    let request: ExportLogsServiceRequest = serde_json::from_slice(&std::fs::read(given)?)?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    let noted = Arc::new(Noted::default());
    for given in request.resource_logs {
        let inner = exporter(&endpoint, &protocol)?;
        send(
            given,
            Noting {
                inner,
                runtime: runtime.handle().clone(),
                noted: Arc::clone(&noted),
            },
        )?;
    }
    println!("{}", json!({"exported": &noted.exported, "failed": &noted.failed}));
    Ok(())
}
