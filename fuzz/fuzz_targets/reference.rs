//! See `dimsum_fuzz::reference` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::reference(data));
