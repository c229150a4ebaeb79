//! See `dimsum_fuzz::recipe` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::recipe(data));
