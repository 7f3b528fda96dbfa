//! `pillarbox_fuzz::segments` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pillarbox_fuzz::segments::run(data));
