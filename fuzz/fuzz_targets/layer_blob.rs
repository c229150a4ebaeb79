//! See `dimsum_fuzz::layer_blob` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::layer_blob(data));
