//! See `harbinger_fuzz::view`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::view(bytes));
