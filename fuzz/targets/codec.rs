//! `pillarbox_fuzz::codec` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pillarbox_fuzz::codec::run(data));
