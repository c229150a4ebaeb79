//! See `dimsum_fuzz::archive` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::archive(data));
