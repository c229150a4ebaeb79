//! See `dimsum_fuzz::meta` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::meta(data));
