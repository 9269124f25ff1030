//! Messages of the API as JSON, by the mapping that protobuf defines: what any other client would print.
//!
//! What enters: a message. What leaves: one line. Promise: fields have their `.proto` spelling, and are there also where
//! they are 0 or empty, but for messages that are not set. Absent on purpose: shapes of our own.

use anyhow::{Context, Result};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::edge::api::proto::DESCRIPTORS;

/// The message on one line.
///
/// # Errors
/// The descriptors that were built in do not fit; the program must be built anew.
pub fn line<M: Message + Name>(message: &M) -> Result<String> {
    let unfit = || {
        format!(
            "the descriptor of {} does not fit; build the program anew",
            M::full_name()
        )
    };
    let pool = DescriptorPool::decode(DESCRIPTORS).with_context(unfit)?;
    let descriptor = pool.get_message_by_name(&M::full_name()).with_context(unfit)?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).with_context(unfit)?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let mut serializer = serde_json::Serializer::new(Vec::new());
    dynamic
        .serialize_with_options(&mut serializer, &options)
        .with_context(unfit)?;
    String::from_utf8(serializer.into_inner()).with_context(unfit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::edge::api::proto;

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
}
