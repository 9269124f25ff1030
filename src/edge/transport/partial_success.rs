//! The one thing the response of any signal can say: that some items were rejected. The fields are the same for all.
//!
//! What enters: response bytes of a next hop. What leaves: its `partial_success`, if it says anything; and such a response, for
//! a caller whose request was sent in parts.
//! Promise: two levels of fields are read and nothing else; bytes that are no such message are told apart.
//! Absent on purpose: prost, whose decoding of a whole message this stands in for.

/// The response is not that of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response is not that of an OTLP export")]
pub struct Malformed;

/// `ExportLogsPartialSuccess` and its like; a rejected count of 0 with a message is a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Items the destination did not take. They are lost: the specification forbids sending them again.
    pub rejected_items: i64,
    /// Why.
    pub error_message: String,
}

impl PartialSuccess {
    /// What another part of the same request was answered: counts add up, of the messages the first stays.
    pub fn add(&mut self, other: Self) {
        self.rejected_items = self.rejected_items.saturating_add(other.rejected_items);
        if self.error_message.is_empty() {
            self.error_message = other.error_message;
        }
    }
}

/// Longest message kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Reads field 1 (`partial_success`); `None` when it is absent or empty, which is full success.
pub fn read(response: &[u8]) -> Result<Option<PartialSuccess>, Malformed> {
    let mut found = PartialSuccess::default();
    each_field(response, |number, value| match (number, value) {
        (1, Value::Bytes(inner)) => each_field(inner, |number, value| {
            match (number, value) {
                (1, Value::Varint(rejected)) => found.rejected_items = rejected.cast_signed(),
                (2, Value::Bytes(message)) => {
                    let message = message.get(..MAX_MESSAGE_BYTES).unwrap_or(message);
                    found.error_message = String::from_utf8_lossy(message).into_owned();
                }
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    Ok((found != PartialSuccess::default()).then_some(found))
}

/// The response that says `partial`.
pub fn write(partial: &PartialSuccess) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};
    let (mut inner, mut response) = (Vec::new(), Vec::new());
    if partial.rejected_items != 0 {
        encode_key(1, WireType::Varint, &mut inner);
        encode_varint(partial.rejected_items.cast_unsigned(), &mut inner);
    }
    if !partial.error_message.is_empty() {
        encode_key(2, WireType::LengthDelimited, &mut inner);
        encode_varint(partial.error_message.len() as u64, &mut inner);
        inner.extend_from_slice(partial.error_message.as_bytes());
    }
    if !inner.is_empty() {
        encode_key(1, WireType::LengthDelimited, &mut response);
        encode_varint(inner.len() as u64, &mut response);
        response.extend_from_slice(&inner);
    }
    response
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

fn each_field<'a>(
    mut bytes: &'a [u8],
    mut field: impl FnMut(u64, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => take(&mut bytes, 8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => take(&mut bytes, 4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        field(tag >> 3, value)?;
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn encoded(partial_success: Option<ExportLogsPartialSuccess>) -> Vec<u8> {
        ExportLogsServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn item_18_an_empty_partial_success_is_full_success() {
        for response in [encoded(None), encoded(Some(ExportLogsPartialSuccess::default()))] {
            assert_eq!(read(&response), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn item_18_whatever_prost_writes_is_read(rejected_log_records: i64, error_message in ".{0,20}") {
            let written = ExportLogsPartialSuccess { rejected_log_records, error_message: error_message.clone() };
            let expected = PartialSuccess { rejected_items: rejected_log_records, error_message };
            let expected = (expected != PartialSuccess::default()).then_some(expected);
            prop_assert_eq!(read(&encoded(Some(written.clone()))), Ok(expected.clone()));
            if let Some(partial) = expected {
                prop_assert_eq!(write(&partial), encoded(Some(written)));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_nonsense_is_told() {
        assert_eq!(
            read(&[0x48, 1, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0x5d, 0, 0, 0, 0, 0x62, 1, 9]),
            Ok(None)
        );
        assert_eq!(read(&[0x0a, 9, 1]), Err(Malformed));
        assert_eq!(read(&[0xff; 11]), Err(Malformed));
        assert_eq!(read(&[0x0b]), Err(Malformed));
    }
}
