//! See `dimsum_fuzz::tar` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::tar(data));
