//! See `dimsum_fuzz::content_range` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::content_range(data));
