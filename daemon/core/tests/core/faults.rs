//! Planted mistakes: tests plant each of them, and no shipped program has any.

use std::fs;

use crate::purity::{files, folder};

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap()
}

#[test]
fn each_fault_is_planted_by_a_test() {
    let text = read("src/fault.rs");
    let (_, faults) = text.split_once("pub enum Fault {").unwrap();
    let (faults, _) = faults.split_once('}').unwrap();
    let names = faults
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.chars().all(char::is_alphanumeric));
    let names: Vec<String> = names.map(|name| format!("Fault::{name}")).collect();
    assert!(!names.is_empty());
    let tests = files("tests/core");
    // Those of reservations, beside the rolls that rest on them.
    let rolls = read("../../cli/roll/tests/roll/simulation.rs");
    for name in names {
        let is_planted = |text: &str| text.contains(&name);
        let planted = tests.iter().any(|(_, text)| is_planted(text)) || is_planted(&rolls);
        assert!(planted, "no test plants {name}");
    }
}

#[test]
fn no_shipped_program_has_faults() {
    for path in ["Cargo.toml", "../Cargo.toml", "../../shared/Cargo.toml"] {
        assert!(!read(path).contains("\ndefault = "), "{path}");
    }
    let package = read("../../.ci/deb");
    assert!(!package.contains("fault-injection") && !package.contains("--all-features"));
}
