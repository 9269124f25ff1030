//! A request as messages: which topic, which key, which bytes.
//!
//! What enters: a request's bytes and what its caller said. What leaves: messages, in the order of its resources. Promises: every byte of a
//! resource is in exactly one message; resources that go to one topic under one key go together. Absent on purpose: sizes.

use bytes::Bytes;

use super::{Encoding, Settings};
use crate::{
    edge::{
        Metadata, Signal,
        transport::{
            kafka::check_topic,
            otlp_json::{self, to_json},
        },
    },
    engine::view::{self, Value},
};

/// A message that has not been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub payload: Bytes,
}

/// The messages of a request.
///
/// # Errors
/// Why it can never be written so.
pub(super) fn of(
    settings: &Settings,
    signal: Signal,
    body: &Bytes,
    metadata: &Metadata,
) -> Result<Vec<Message>, String> {
    let destination = settings.of(signal);
    let by_caller = said(metadata, &destination.topic_from_metadata_key);
    let topic = by_caller.unwrap_or(settings.topic(signal));
    let key = said(metadata, &destination.message_key_from_metadata_key).map(|key| key.as_bytes().to_vec());
    let by_attribute =
        Some(settings.topic_from_attribute.as_str()).filter(|name| by_caller.is_none() && !name.is_empty());
    let by_resource = settings.is_by_resource(signal);
    if by_attribute.is_none() && !by_resource {
        let payload = written(destination.encoding, signal, body.clone())?;
        let topic = topic.to_owned();
        check_topic(&topic)?;
        return Ok(vec![Message { topic, key, payload }]);
    }
    let mut groups: Vec<(String, Option<Vec<u8>>, Vec<u8>)> = Vec::new();
    for part in view::resources(body).map_err(|problem| problem.to_string())? {
        let named = by_attribute.and_then(|name| match part.resource.attribute(name) {
            Some(Value::String(text)) if !text.is_empty() => std::str::from_utf8(text).ok(),
            _ => None,
        });
        let topic = named.unwrap_or(topic);
        let key = match by_resource {
            true => Some(part.resource.fingerprint().to_be_bytes().to_vec()),
            false => key.clone(),
        };
        match groups.iter_mut().find(|(known, of, _)| known == topic && *of == key) {
            Some((_, _, bytes)) => bytes.extend_from_slice(part.request),
            None => groups.push((topic.to_owned(), key, part.request.to_vec())),
        }
    }
    let message = |(topic, key, bytes): (String, Option<Vec<u8>>, Vec<u8>)| {
        check_topic(&topic)?;
        let payload = written(destination.encoding, signal, bytes.into())?;
        Ok(Message { topic, key, payload })
    };
    groups.into_iter().map(message).collect()
}

/// What a caller said under a header, if one is named.
fn said<'m>(metadata: &'m Metadata, header: &'m str) -> Option<&'m str> {
    metadata
        .values(header)
        .find(|value| !header.is_empty() && !value.is_empty())
}

fn written(encoding: Encoding, signal: Signal, request: Bytes) -> Result<Bytes, String> {
    match encoding {
        Encoding::OtlpProto => Ok(request),
        Encoding::OtlpJson => {
            let json = to_json(otlp_json::request(signal), &request);
            json.map(Bytes::from).map_err(|problem| problem.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, KeyValue, any_value::Value as Any},
        logs::v1::ResourceLogs,
        resource::v1::Resource,
    };
    use prost::Message as _;

    use super::*;

    /// A resource of this service, told apart from others of it by its schema.
    fn of_service(service: &str, schema: &str) -> ResourceLogs {
        let attribute = KeyValue {
            key: "service.name".into(),
            value: Some(AnyValue {
                value: Some(Any::StringValue(service.into())),
            }),
            ..KeyValue::default()
        };
        ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute],
                ..Resource::default()
            }),
            schema_url: schema.into(),
            ..ResourceLogs::default()
        }
    }

    fn request(resource_logs: Vec<ResourceLogs>) -> Bytes {
        ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
    }

    fn all() -> Bytes {
        request(vec![of_service("a", "1"), of_service("b", "2"), of_service("a", "3")])
    }

    #[test]
    fn a_request_is_one_message_byte_for_byte_unless_something_takes_it_apart() {
        let settings = Settings::default();
        let messages = of(&settings, Signal::Logs, &all(), &Metadata::default()).unwrap();
        let expected = Message {
            topic: "otlp_logs".into(),
            key: None,
            payload: all(),
        };
        assert_eq!(messages, [expected]);
    }

    #[test]
    fn one_resource_has_one_key_and_its_parts_stay_in_order() {
        let settings = Settings {
            partition_logs_by_resource_attributes: true,
            ..Settings::default()
        };
        let messages = of(&settings, Signal::Logs, &all(), &Metadata::default()).unwrap();
        let payloads: Vec<Bytes> = messages.iter().map(|message| message.payload.clone()).collect();
        let expected = [
            request(vec![of_service("a", "1"), of_service("a", "3")]),
            request(vec![of_service("b", "2")]),
        ];
        assert_eq!(payloads, expected);
        let keys: Vec<_> = messages.iter().map(|message| message.key.clone()).collect();
        assert!(keys.iter().all(Option::is_some) && keys.first() != keys.get(1));
        let traces = of(&settings, Signal::Traces, &all(), &Metadata::default()).unwrap();
        assert_eq!(traces.len(), 1, "that is said of logs alone");
    }

    #[test]
    fn a_topic_is_named_by_the_caller_then_by_the_resource_then_by_the_settings() {
        let mut settings = Settings {
            topic_from_attribute: "service.name".into(),
            ..Settings::default()
        };
        settings.logs.topic = "rest".into();
        settings.logs.topic_from_metadata_key = "x-topic".into();
        let body = request(vec![of_service("a", ""), of_service("", ""), of_service("a", "")]);
        let topics = |metadata: Metadata| -> Vec<String> {
            let messages = of(&settings, Signal::Logs, &body, &metadata).unwrap();
            messages.into_iter().map(|message| message.topic).collect()
        };
        assert_eq!(topics(Metadata::default()), ["a", "rest"]);
        assert_eq!(topics(Metadata::default().with("X-Topic", "told".into())), ["told"]);
        let bad = of(
            &settings,
            Signal::Logs,
            &request(vec![of_service("a b", "")]),
            &Metadata::default(),
        );
        assert!(bad.unwrap_err().contains("is not a topic"));
    }

    #[test]
    fn json_is_written_where_it_is_asked_for() {
        let mut settings = Settings::default();
        settings.logs.encoding = Encoding::OtlpJson;
        let messages = of(&settings, Signal::Logs, &all(), &Metadata::default()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&messages.first().unwrap().payload).unwrap();
        assert_eq!(json.pointer("/resourceLogs/2/schemaUrl"), Some(&"3".into()));
    }
}
