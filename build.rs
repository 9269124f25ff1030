//! Makes Rust of `proto/`: the messages, client and server of the API, and the descriptors that reflection serves.
//!
//! In: the `.proto` files. Out: modules and `harbinger.v1.bin` in `OUT_DIR`. Promise: no protoc is needed, protox reads
//! the files. Absent on purpose: OTLP, whose messages come with `opentelemetry-proto`.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["harbinger/v1/incidents.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("harbinger.v1.bin"), files.encode_to_vec())?;
    let mut messages = tonic_prost_build::Config::new();
    // By which the descriptor of a message is found.
    messages.enable_type_names();
    // Without a transport: the server and the client of the tests and of the commands bring their own.
    let service = tonic_prost_build::configure().build_transport(false);
    service.compile_fds_with_config(files, messages)?;
    Ok(())
}
