//! The messages, client and server that `build.rs` makes of `proto/harbinger/v1`, and their descriptors.
//!
//! What enters: `proto/`. What leaves: Rust. Promise: nothing here is written by hand but this. Absent on purpose: docs of
//! generated items, which are the comments of the `.proto` file.

#![allow(missing_docs, clippy::all, clippy::indexing_slicing, clippy::unwrap_used)]

tonic::include_proto!("harbinger.v1");

/// The files of the API and what they import, as an encoded `FileDescriptorSet`: for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("harbinger.v1");
