//! The program: hands the arguments to the command line and its verdict to the shell.
//!
//! What enters: arguments. What leaves: an exit code, and what went wrong on standard error: one line, its causes below.
//! Promise: a reader that goes away (`| head`) is no error. Absent on purpose: everything else.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use harbinger::{
    cli::{self, NoConfiguration},
    config::ConfigError,
};

/// Gives memory back to the system soon after it is free, so that what the memory limiter sees is what is used. Without huge
/// pages (feature `no_thp`): of each two MiB that one live value kept, none could be given back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    silence_the_runtime();
    bound_the_c_heap();
    match cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone too.
            let _ = io::stderr().lock().write_all(report(&error).as_bytes());
            exit_code(&error)
        }
    }
}

/// ONNX Runtime's builds for Linux, from 1.29 on, leave a device id in the home directory and look for their maker's address as
/// soon as they are loaded, whatever `with_telemetry(false)` says later. `make assets` has an older one; users may bring another.
#[allow(unsafe_code)]
fn silence_the_runtime() {
    // SAFETY: the first call of `main`: there is no other thread yet that could read or change the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
}

/// From this size on a block of the C library's is a mapping of its own, which goes back to the system as soon as it is free:
/// what the model computes with for a batch of long texts. Lower it costs a tenth of the embedding's time for page faults.
const OWN_MAPPING_BYTES: libc::c_int = 4 << 20;

/// Less than this stays at the end of that heap until the agent trims it (every ten seconds, `app.rs`). Given back at once it had to
/// be had anew for each message: to decompress 365 KB of zstd then took three times as long.
const TRIM_FROM_BYTES: libc::c_int = 32 << 20;

/// ONNX Runtime computes in the C library's heap. Left to itself that heap has a part for each thread, cut into pieces of 64 MiB, and
/// learns to keep large blocks: a burst of long new texts left 250 MiB behind for ever.
#[allow(unsafe_code)]
fn bound_the_c_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the options are set before any other thread allocates; a refusal leaves the defaults.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_FROM_BYTES);
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<ConfigError>() || error.is::<NoConfiguration>() {
        ExitCode::from(cli::USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// The error on one line, each cause on one below it; a configuration's mistakes each on a line of its own.
fn report(error: &anyhow::Error) -> String {
    let mut text = String::new();
    if let Some(ConfigError(findings)) = error.downcast_ref() {
        for finding in findings {
            let _ = writeln!(text, "error: {finding}");
        }
        return text;
    }
    let _ = writeln!(text, "error: {error}");
    let mut above = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many libraries repeat the cause in the message.
        if !above.contains(&cause) {
            let _ = writeln!(text, "  because: {}", cause.replace('\n', "\n    "));
        }
        above = cause;
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|error| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_stand_below_the_error_and_are_not_repeated() {
        let error = Err::<(), _>(io::Error::other("disk full"))
            .context("writing out.csv: disk full")
            .context("analyze failed")
            .unwrap_err();
        assert_eq!(
            report(&error),
            "error: analyze failed\n  because: writing out.csv: disk full\n"
        );
    }

    #[test]
    fn a_broken_pipe_is_known_however_deep() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("printing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
