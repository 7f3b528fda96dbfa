//! `pillarbox_fuzz::records` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pillarbox_fuzz::records::run(data));
