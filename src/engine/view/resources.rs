//! A request of any signal, resource by resource.
//!
//! Enters: the wire bytes of an export request. Leaves: each ResourceLogs, ResourceSpans or ResourceMetrics, which have the same shape as
//! far as this goes, as bytes that are a request by themselves.
//!
//! Promises: parts one after the other are the request again, but for fields of the request that are no resource. Deliberately absent:
//! a look at items, and any change to the bytes (see `annotate::resource`).

use super::{
    Malformed, Resource,
    wire::{Cursor, Payload},
};

/// The field of a request that holds its resources, in every signal.
const RESOURCES: u32 = 1;

/// One resource with its items.
#[derive(Copy, Clone, Debug)]
pub struct OfResource<'a> {
    /// A request that has this resource alone.
    pub request: &'a [u8],
    /// What emitted the items.
    pub resource: Resource<'a>,
}

/// The resources of a request, in wire order.
///
/// # Errors
/// [`Malformed`]: the bytes cannot be framed.
pub fn resources(request: &[u8]) -> Result<Vec<OfResource<'_>>, Malformed> {
    let mut found = Vec::new();
    let mut cursor = Cursor::new(request);
    while let Some(field) = cursor.next()? {
        if let (RESOURCES, Payload::Delimited(content)) = (field.number, field.payload) {
            found.push(OfResource {
                request: request.get(field.start..cursor.at()).unwrap_or_default(),
                resource: Resource::new(content.rest()),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{
        super::build::{delimited, text},
        *,
    };

    fn attribute(key: &str, value: &str) -> Vec<u8> {
        delimited(1, [delimited(1, key), delimited(2, text(value))].concat())
    }

    fn of(attributes: &[Vec<u8>]) -> Vec<u8> {
        delimited(1, [delimited(1, attributes.concat()), delimited(2, "scope")].concat())
    }

    #[test]
    fn each_part_is_a_request_and_together_they_are_the_whole() {
        let request = [of(&[attribute("a", "1")]), of(&[]), of(&[attribute("a", "2")])].concat();
        let parts = resources(&request).unwrap();
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.request.to_vec()).collect();
        assert_eq!((parts.len(), whole), (3, request));
        assert!(resources(b"\x0a\xff").is_err());
    }

    /// What makes a resource one is its attributes, not the order somebody's hash map gave them.
    #[test]
    fn a_fingerprint_tells_resources_apart_and_knows_them_in_any_order() {
        let [one, two, other] = [
            of(&[attribute("a", "1"), attribute("b", "2")]),
            of(&[attribute("b", "2"), attribute("a", "1")]),
            of(&[attribute("a", "2"), attribute("b", "1")]),
        ]
        .map(|request| {
            resources(&request)
                .unwrap()
                .first()
                .map(|part| part.resource.fingerprint())
        });
        assert_eq!(one, two);
        assert_ne!(one, other);
    }
}
