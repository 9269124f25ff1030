//! See `harbinger_fuzz::halves`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::halves(bytes));
