//! Fuzzes the control socket's lines.
#![no_main]

#[allow(dead_code, reason = "the other targets are in there too")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::socket_lines(bytes));
