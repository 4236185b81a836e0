//! Fuzzes the bodies of Sora's webhooks.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::webhooks(bytes));
