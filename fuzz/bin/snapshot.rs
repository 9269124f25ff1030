//! See `harbinger_fuzz::snapshots`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harbinger_fuzz::snapshots(bytes));
