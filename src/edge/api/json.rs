//! Messages of the API as JSON and back, by the mapping that protobuf defines: what any other client would print.
//!
//! What enters: a message, or JSON. What leaves: one line, or a message. Promise: what is written has the fields' `.proto` spelling,
//! also where they are 0 or empty, but for messages that are not set; no character of a log is there that a terminal would
//! obey, it is escaped and read back as it was; what is read may have either spelling, leave out what
//! it likes, and is refused by name for what is not known. Absent on purpose: shapes of our own.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorError, DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

use super::proto::DESCRIPTORS;
use crate::engine::view::is_obeyed;

/// Why there is no JSON of a message, or no message of JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A mistake in the program: build it anew.
    #[error("the descriptor of {0} does not fit; build the program anew")]
    Unfit(String),
    /// Write what the message has.
    #[error("not a {name} in JSON: {problem}")]
    Unreadable {
        /// The message.
        name: String,
        /// What is wrong, and where.
        problem: serde_json::Error,
    },
}

static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS));

/// The message on one line.
///
/// # Errors
/// The descriptors that were built in do not fit.
pub fn line<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    let unfit = || JsonError::Unfit(M::full_name());
    let dynamic =
        DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice()).map_err(|_| unfit())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let mut serializer = serde_json::Serializer::new(Vec::new());
    dynamic
        .serialize_with_options(&mut serializer, &options)
        .map_err(|_| unfit())?;
    let line = String::from_utf8(serializer.into_inner()).map_err(|_| unfit())?;
    Ok(harmless(&line))
}

/// JSON without characters that a terminal would obey, line ends between its tokens apart: in its strings they are escaped.
pub fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if is_obeyed(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out
}

/// The message that JSON stands for.
///
/// # Errors
/// It is no JSON, or has what the message has not.
pub fn read<M: Message + Name + Default>(json: &[u8]) -> Result<M, JsonError> {
    let descriptor = descriptor::<M>()?;
    let unreadable = |problem| JsonError::Unreadable {
        name: M::full_name(),
        problem,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new();
    let dynamic =
        DynamicMessage::deserialize_with_options(descriptor, &mut deserializer, &options).map_err(unreadable)?;
    deserializer.end().map_err(unreadable)?;
    dynamic.transcode_to().map_err(|_| JsonError::Unfit(M::full_name()))
}

fn descriptor<M: Name>() -> Result<MessageDescriptor, JsonError> {
    let pool = POOL.as_ref().ok();
    pool.and_then(|pool| pool.get_message_by_name(&M::full_name()))
        .ok_or_else(|| JsonError::Unfit(M::full_name()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::proto;
    use super::*;

    #[test]
    fn json_is_what_protobuf_makes_of_it() {
        let told = proto::WatchIncidentsResponse {
            sequence: 1_731_924_000_000_001,
            happened: proto::Happened::Closed.into(),
            time: Some(prost_types::Timestamp {
                seconds: 1_731_924_000,
                nanos: 500_000_000,
            }),
            ..Default::default()
        };
        assert_eq!(
            line(&told).unwrap(),
            "{\"sequence\":1731924000000001,\"missed\":false,\"happened\":\"HAPPENED_CLOSED\",\"time\":\"2024-11-18T10:00:00.500Z\"}"
        );
    }

    #[test]
    fn what_is_read_may_leave_out_what_it_likes_and_nothing_else() {
        let asked: proto::ListIncidentsRequest =
            read(br#"{"state": "INCIDENT_STATE_OPEN", "pageSize": 5, "text_contains": "disk"}"#).unwrap();
        assert_eq!((asked.state(), asked.page_size), (proto::IncidentState::Open, 5));
        let given: proto::GiveFeedbackRequest =
            read(br#"{"incident_id": "x", "mute_until": "2024-11-18T10:00:00Z", "tenant": ""}"#).unwrap();
        assert_eq!(given.tenant.as_deref(), Some(""));
        for wrong in [
            &b"{\"stat\": 1}"[..],
            b"{",
            b"[]",
            b"{} {}",
            br#"{"page_size": "many"}"#,
        ] {
            let error = read::<proto::ListIncidentsRequest>(wrong).unwrap_err().to_string();
            assert!(
                error.starts_with("not a harbinger.v1.ListIncidentsRequest in JSON: "),
                "{error}"
            );
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_read_back() {
        let evil = "\u{1b}[2J\u{9b}31m \u{202e}exe.txt \u{e0041} \"支付\"";
        let leading_edge = proto::KeyRecord {
            text: evil.to_owned(),
            ..Default::default()
        };
        let incident = proto::Incident {
            leading_edge: Some(leading_edge),
            ..Default::default()
        };
        let line = line(&incident).unwrap();
        assert!(!line.chars().any(is_obeyed), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["leading_edge"]["text"], evil);
    }
}
