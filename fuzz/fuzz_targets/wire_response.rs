//! See `dimsum_fuzz::wire_response` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::wire_response(data));
