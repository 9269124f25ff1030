//! Messages as OTLP requests.
//!
//! What enters: messages of one topic, in order. What leaves: one request of all of them, as protobuf. Promises: OTLP protobuf goes on as it
//! came, byte for byte, but for the attributes that headers become; a message that cannot be read is not put together with others,
//! whose bytes it could swallow; lines get one resource together. The time of a line is not known: it was observed when
//! it was written to Kafka. Absent on purpose: a look into records.

use std::borrow::Cow;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;

use super::{Encoding, HeaderExtraction};
use crate::{
    edge::{
        Metadata, Signal,
        transport::{json_value, otlp_json},
    },
    engine::{annotate::with_resource_attributes, view},
};

/// One message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub offset: i64,
    /// When it was written, ns since 1970; 0 when unknown.
    pub time_unix_nano: u64,
    /// What it says; a deleted one says nothing.
    pub payload: Bytes,
    /// Names and texts that headers become on the resource.
    pub attributes: Vec<(String, String)>,
    /// What goes on with the request.
    pub metadata: Metadata,
}

/// How the messages of a topic are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding {
    pub signal: Signal,
    pub encoding: Encoding,
}

impl Decoding {
    /// One request of all the messages.
    ///
    /// # Errors
    /// What is wrong with one of them; alone, with that one.
    pub fn request(self, messages: &[Message]) -> Result<Bytes, String> {
        if self.encoding == Encoding::OtlpProto
            && let [
                Message {
                    payload, attributes, ..
                },
            ] = messages
            && attributes.is_empty()
        {
            return Ok(payload.clone());
        }
        let mut request = Vec::new();
        match self.encoding {
            Encoding::OtlpProto | Encoding::OtlpJson => {
                for message in messages {
                    request.extend_from_slice(&self.otlp(message)?);
                }
            }
            Encoding::Raw | Encoding::Text | Encoding::Json => {
                for alike in messages.chunk_by(|one, other| one.attributes == other.attributes) {
                    self.lines(alike)?.encode_raw(&mut request);
                }
            }
        }
        Ok(request.into())
    }

    /// The request in one message.
    fn otlp(self, message: &Message) -> Result<Cow<'_, [u8]>, String> {
        let mut request = Cow::Borrowed(&*message.payload);
        if self.encoding == Encoding::OtlpJson {
            let read = otlp_json::to_protobuf(otlp_json::request(self.signal), &request);
            request = Cow::Owned(read.map_err(|error| error.to_string())?);
        }
        if !message.attributes.is_empty() {
            let with = with_resource_attributes(&request, &message.attributes);
            return Ok(Cow::Owned(with.map_err(|error| error.to_string())?));
        }
        // What is cut short would take the beginning of the next message for its end.
        view::item_count(self.signal, &request).map_err(|error| error.to_string())?;
        Ok(request)
    }

    /// Lines whose resource is the same.
    fn lines(self, messages: &[Message]) -> Result<ExportLogsServiceRequest, String> {
        let attributes = messages.first().map(|message| message.attributes.as_slice());
        let attribute = |(key, text): &(String, String)| KeyValue {
            key: key.clone(),
            value: Some(AnyValue {
                value: Some(Any::StringValue(text.clone())),
            }),
            ..KeyValue::default()
        };
        let resource = Resource {
            attributes: attributes.unwrap_or_default().iter().map(attribute).collect(),
            ..Resource::default()
        };
        let record = |message: &Message| {
            Ok(LogRecord {
                observed_time_unix_nano: message.time_unix_nano,
                body: Some(AnyValue {
                    value: self.body(&message.payload)?,
                }),
                ..LogRecord::default()
            })
        };
        let scope = ScopeLogs {
            log_records: messages.iter().map(record).collect::<Result<_, String>>()?,
            ..ScopeLogs::default()
        };
        Ok(ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(resource),
                scope_logs: vec![scope],
                ..ResourceLogs::default()
            }],
        })
    }

    fn body(self, payload: &[u8]) -> Result<Option<Any>, String> {
        match (self.encoding, std::str::from_utf8(payload)) {
            (Encoding::Json, _) => {
                let json = serde_json::from_slice(payload).map_err(|error| format!("not JSON: {error}"))?;
                Ok(json_value::any(json))
            }
            (Encoding::Text, Ok(text)) => Ok(Some(Any::StringValue(text.to_owned()))),
            _ => Ok(Some(Any::BytesValue(payload.to_vec()))),
        }
    }
}

impl HeaderExtraction {
    /// The attributes that a message's headers become, in the order of the settings.
    pub(super) fn attributes(&self, headers: &[(&str, &[u8])]) -> Vec<(String, String)> {
        let wanted = self.headers.iter().filter(|_| self.extract_headers);
        let found = wanted.filter_map(|name| {
            let (_, value) = headers.iter().find(|(header, _)| header == name)?;
            Some((
                format!("kafka.header.{name}"),
                String::from_utf8_lossy(value).into_owned(),
            ))
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn message(payload: impl Into<Bytes>) -> Message {
        Message {
            time_unix_nano: 7,
            payload: payload.into(),
            ..Message::default()
        }
    }

    fn read(encoding: Encoding, messages: &[Message]) -> Result<ExportLogsServiceRequest, String> {
        let decoding = Decoding {
            signal: Signal::Logs,
            encoding,
        };
        let request = decoding.request(messages)?;
        Ok(ExportLogsServiceRequest::decode(request).unwrap())
    }

    fn bodies(request: &ExportLogsServiceRequest) -> Vec<Option<Any>> {
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let records = scopes.flat_map(|scope| &scope.log_records);
        let body = |record: &LogRecord| {
            assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (0, 7));
            record.body.clone().and_then(|body| body.value)
        };
        records.map(body).collect()
    }

    #[test]
    fn lines_are_texts_bytes_or_json_and_share_a_resource() {
        let lines = [message("one"), message(&b"t\xffo"[..])];
        let text = read(Encoding::Text, &lines).unwrap();
        assert_eq!(text.resource_logs.len(), 1);
        let bytes = Any::BytesValue(b"t\xffo".to_vec());
        assert_eq!(
            bodies(&text),
            [Some(Any::StringValue("one".into())), Some(bytes.clone())]
        );
        let raw = read(Encoding::Raw, &lines).unwrap();
        assert_eq!(bodies(&raw), [Some(Any::BytesValue(b"one".to_vec())), Some(bytes)]);
        let json = read(Encoding::Json, &[message("{\"a\": 1}")]).unwrap();
        assert!(matches!(&bodies(&json)[..], [Some(Any::KvlistValue(_))]));
        assert!(read(Encoding::Json, &lines).unwrap_err().contains("not JSON"));
    }

    #[test]
    fn requests_behind_each_other_are_one_and_one_alone_is_not_touched() {
        let of = |text: &str| {
            let lines = read(Encoding::Text, &[message(text.to_owned())]).unwrap();
            message(lines.encode_to_vec())
        };
        let decoding = Decoding {
            signal: Signal::Logs,
            encoding: Encoding::OtlpProto,
        };
        let (one, other) = (of("one"), of("other"));
        assert_eq!(decoding.request(std::slice::from_ref(&one)).unwrap(), one.payload);
        let both = read(Encoding::OtlpProto, &[one.clone(), other.clone()]).unwrap();
        assert_eq!(bodies(&both).len(), 2);
        let cut = message(one.payload.slice(..one.payload.len() - 1));
        assert!(
            read(Encoding::OtlpProto, &[cut, other]).is_err(),
            "it would swallow the next"
        );
    }

    #[test]
    fn headers_become_attributes_of_the_resource_whatever_the_encoding() {
        let extraction = HeaderExtraction {
            extract_headers: true,
            headers: vec!["tenant".into(), "absent".into()],
        };
        let attributes = extraction.attributes(&[("other", b"x"), ("tenant", b"blue")]);
        assert_eq!(attributes, [("kafka.header.tenant".to_owned(), "blue".to_owned())]);
        for encoding in [Encoding::OtlpProto, Encoding::OtlpJson, Encoding::Text] {
            let payload = match encoding {
                Encoding::OtlpJson => Bytes::from_static(b"{\"resourceLogs\": [{}]}"),
                Encoding::OtlpProto => Bytes::from_static(b"\x0a\x00"),
                _ => Bytes::from_static(b"line"),
            };
            let given = Message {
                attributes: attributes.clone(),
                ..message(payload)
            };
            let request = read(encoding, &[given]).unwrap();
            let resource = request.resource_logs.into_iter().next().unwrap().resource.unwrap();
            assert_eq!(resource.attributes.len(), 1, "{encoding:?}");
        }
    }
}
