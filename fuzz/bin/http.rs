//! See `harbinger_fuzz::TARGETS`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::run("http", bytes));
