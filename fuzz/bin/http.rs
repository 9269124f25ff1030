//! See `harbinger_fuzz::http_requests`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::http_requests(bytes));
