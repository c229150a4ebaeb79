//! See `dimsum_fuzz::keeper_packet` for the invariants.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dimsum_fuzz::keeper_packet(data));
