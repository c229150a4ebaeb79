//! See `dimsum_fuzz::erofs_reader` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::erofs_reader(data));
