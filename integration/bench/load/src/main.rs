//! What `make bench` measures with: a sender of made OTLP requests and a sink for them.
//!
//! Enters: the project's recording and arguments. Leaves: raw HTTP/2 bytes, and one line of JSON with what was counted. Promises:
//! no two requests are alike, so that nothing is answered from a memory of requests; requests are made before they are needed, so that
//! sending costs little; the CPU that the program itself took is told. Deliberately absent: TLS, retries (an error ends the run: it would
//! spoil the measure), and any judgement of the figures, which `integration/bench` makes.
#![allow(
    clippy::print_stdout,
    reason = "a line of JSON on the standard output is what it is for"
)]

mod requests;
mod send;
mod sink;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Sends made OTLP requests, or takes them, as cheaply as possible")]
enum Arguments {
    /// Send requests for some seconds and print what became of them.
    Send(send::Arguments),
    /// Take requests until the process is told to end, and print what came.
    Sink(sink::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let told = match Arguments::parse() {
        Arguments::Send(arguments) => serde_json::to_value(send::run(&arguments).await?)?,
        Arguments::Sink(arguments) => serde_json::to_value(sink::run(&arguments).await?)?,
    };
    println!("{told}");
    Ok(())
}

/// Seconds of CPU that this process has taken.
fn cpu_s() -> f64 {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    taken.tv_sec as f64 + taken.tv_nsec as f64 / 1e9
}
