//! Planted mistakes: tests plant each of them, and no shipped program has any.

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Returns the text of each source file in a folder and those below.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let of_entry = |path: PathBuf| {
        if path.is_dir() {
            sources(&path)
        } else {
            vec![read(&path)]
        }
    };
    entries.flat_map(of_entry).collect()
}

#[test]
fn each_fault_is_planted_by_a_test() {
    let text = read(&folder().join("src/fault.rs"));
    let (_, faults) = text.split_once("pub enum Fault {").unwrap();
    let (faults, _) = faults.split_once('}').unwrap();
    let names = faults
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| name.chars().all(char::is_alphanumeric));
    let names: Vec<String> = names.map(|name| format!("Fault::{name}")).collect();
    assert!(!names.is_empty());
    let tests = sources(&folder().join("tests"));
    for name in names {
        let planted = tests.iter().any(|text| text.contains(&name));
        assert!(planted, "no test plants {name}");
    }
}

#[test]
fn no_shipped_program_has_faults() {
    for path in ["Cargo.toml", "../Cargo.toml"] {
        assert!(
            !read(&folder().join(path)).contains("\ndefault = "),
            "{path}"
        );
    }
    let package = read(&folder().join("../../.ci/deb"));
    assert!(!package.contains("fault-injection") && !package.contains("--all-features"));
}
