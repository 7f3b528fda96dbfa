//! `pillarbox_fuzz::journal` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pillarbox_fuzz::journal::run(data));
