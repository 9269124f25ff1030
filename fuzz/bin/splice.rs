//! See `harbinger_fuzz::splice`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::splice(bytes));
