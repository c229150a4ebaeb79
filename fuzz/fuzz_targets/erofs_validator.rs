//! See `dimsum_fuzz::erofs_validator` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::erofs_validator(data));
