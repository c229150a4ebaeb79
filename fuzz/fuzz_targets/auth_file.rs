//! See `dimsum_fuzz::auth_file` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::auth_file(data));
