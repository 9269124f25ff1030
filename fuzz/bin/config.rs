//! See `harbinger_fuzz::configuration`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::configuration(bytes));
