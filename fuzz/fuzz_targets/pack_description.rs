//! See `dimsum_fuzz::pack_description` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::pack_description(data));
