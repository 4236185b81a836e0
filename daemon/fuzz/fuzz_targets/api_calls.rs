//! Fuzzes calls of Sora's API.
#![no_main]

#[allow(dead_code, reason = "the other targets are in there too")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::api_calls(bytes));
