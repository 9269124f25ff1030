//! Attributes for every resource of a request, of any signal: what a receiver knows that the sender did not say.
//!
//! Enters: the wire bytes of an export request and text attributes. Leaves: the same request, in which each resource has them.
//!
//! Promises: they stand behind a resource's own attributes, in its last `resource` field, or in a new one where it has none; the lengths
//! around them are written anew; every other byte is copied, in order. Deliberately absent: a look whether one of that name is there.

use crate::engine::view::{Cursor, Malformed, Payload, put_varint};

/// `resource` in ResourceLogs, ResourceSpans and ResourceMetrics, and what holds those in a request; `attributes` in a resource.
const FIRST: u32 = 1;
/// The key of field 1 with wire type 2.
const FIRST_KEY: u8 = 0x0a;
/// The key of field 2 with wire type 2.
const SECOND_KEY: u8 = 0x12;

/// The request with `attributes`, pairs of name and text, in each of its resources.
///
/// # Errors
/// [`Malformed`]: the bytes cannot be framed.
pub fn with_resource_attributes(request: &[u8], attributes: &[(String, String)]) -> Result<Vec<u8>, Malformed> {
    let mut added = Vec::new();
    for (name, text) in attributes {
        let mut value = Vec::new();
        put_delimited(FIRST_KEY, text.as_bytes(), &mut value);
        let mut attribute = Vec::new();
        put_delimited(FIRST_KEY, name.as_bytes(), &mut attribute);
        put_delimited(SECOND_KEY, &value, &mut attribute);
        put_delimited(FIRST_KEY, &attribute, &mut added);
    }
    let mut out = Vec::with_capacity(request.len() + added.len());
    let mut cursor = Cursor::new(request);
    while let Some(field) = cursor.next()? {
        match field.payload {
            Payload::Delimited(content) if field.number == FIRST => {
                let content = with(content, &added)?;
                out.extend_from_slice(request.get(field.start..field.len_at).unwrap_or_default());
                put_varint(content.len(), &mut out);
                out.extend_from_slice(&content);
            }
            _ => out.extend_from_slice(request.get(field.start..cursor.at()).unwrap_or_default()),
        }
    }
    Ok(out)
}

/// One resource's message with `added` behind the attributes of its `resource`.
fn with(message: Cursor<'_>, added: &[u8]) -> Result<Vec<u8>, Malformed> {
    let bytes = message.rest();
    let mut cursor = Cursor::new(bytes);
    let mut last = None;
    while let Some(field) = cursor.next()? {
        if let (FIRST, Payload::Delimited(content)) = (field.number, field.payload) {
            last = Some((field.start, content.rest(), cursor.at()));
        }
    }
    let (start, resource, end) = last.unwrap_or_default();
    let mut out = Vec::with_capacity(bytes.len() + added.len() + 10);
    out.extend_from_slice(bytes.get(..start).unwrap_or_default());
    put_delimited(FIRST_KEY, &[resource, added].concat(), &mut out);
    out.extend_from_slice(bytes.get(end..).unwrap_or_default());
    Ok(out)
}

fn put_delimited(key: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(key);
    put_varint(content.len(), out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
        resource::v1::Resource,
    };
    use prost::Message;

    use super::*;

    fn attribute(key: &str, text: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(Value::StringValue(text.to_owned())),
            }),
            ..KeyValue::default()
        }
    }

    fn of(resource: Option<Resource>) -> ResourceLogs {
        let scope_logs = vec![ScopeLogs {
            log_records: vec![LogRecord::default()],
            ..ScopeLogs::default()
        }];
        ResourceLogs {
            resource,
            scope_logs,
            schema_url: "schema".to_owned(),
        }
    }

    #[test]
    fn each_resource_has_them_behind_its_own_and_one_that_was_not_there_is_made() {
        let own = Resource {
            attributes: vec![attribute("own", "1")],
            dropped_attributes_count: 7,
            ..Resource::default()
        };
        let mut expected = ExportLogsServiceRequest {
            resource_logs: vec![of(Some(own)), of(None)],
        };
        let given = [
            ("kafka.header.a".to_owned(), "x".to_owned()),
            ("b".to_owned(), String::new()),
        ];
        let found = with_resource_attributes(&expected.encode_to_vec(), &given).unwrap();
        for resource in &mut expected.resource_logs {
            let attributes = &mut resource.resource.get_or_insert_default().attributes;
            attributes.extend([attribute("kafka.header.a", "x"), attribute("b", "")]);
        }
        assert_eq!(ExportLogsServiceRequest::decode(found.as_slice()).unwrap(), expected);
        assert!(with_resource_attributes(b"\x0a\xff", &given).is_err());
    }
}
