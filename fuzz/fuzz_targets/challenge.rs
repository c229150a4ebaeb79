//! See `dimsum_fuzz::challenge` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::challenge(data));
