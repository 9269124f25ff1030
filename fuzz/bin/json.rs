//! See `harbinger_fuzz::json`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::json(bytes));
