//! The core is pure: it names nothing that reads a clock, opens a file or socket, takes a lock, waits, or shows a hash order.

use std::fs;
use std::path::Path;

/// Words that have no place in the core, and what it has instead.
const FOREIGN: [(&str, &str); 23] = [
    ("std::time::Instant", "the core is given the time"),
    ("SystemTime", "the core is given the time"),
    ("jiff", "the protocol's Time is a number"),
    ("std::fs", "the edges read and write"),
    ("std::io", "the edges read and write"),
    ("std::net", "the edges read and write"),
    ("std::os", "the edges know the system"),
    ("std::env", "the core is given its settings"),
    ("std::process", "the edges know the system"),
    ("std::thread", "the core owns its state alone"),
    ("Mutex", "the core owns its state alone"),
    ("RwLock", "the core owns its state alone"),
    ("Atomic", "the core owns its state alone"),
    ("RefCell", "the core owns its state alone"),
    ("OnceLock", "the core owns its state alone"),
    ("mpsc", "what happened comes in, effects go out"),
    ("async ", "nothing in the core waits"),
    ("tokio", "nothing in the core waits"),
    ("HashMap", "hash order must not be seen"),
    ("HashSet", "hash order must not be seen"),
    ("RandomState", "the seed is an argument"),
    ("getrandom", "the seed is an argument"),
    ("static ", "state is the gate's alone"),
];

/// Crates that the core may be built on. Each is pure itself.
const DEPENDENCIES: [&str; 5] = [
    "foldhash",
    "hashbrown",
    "rand_chacha",
    "soramode-protocol",
    "uuid",
];

pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns path and text of each file in a folder of the crate and those below.
pub(crate) fn files(below: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![folder().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push((
                    path.display().to_string(),
                    fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    assert!(sources.len() > 10, "{below} has files");
    sources
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn the_sources_name_nothing_of_the_world() {
    let mut found = Vec::new();
    for (file, text) in files("src") {
        for (number, line) in text.lines().enumerate() {
            let foreign = FOREIGN
                .iter()
                .filter(|(word, _)| code(line).contains(word) && !line.contains("&'static "));
            found.extend(
                foreign.map(|(word, instead)| format!("{file}:{}: {word}: {instead}", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "the core is pure:\n{}", found.join("\n"));
}

#[test]
fn the_core_depends_only_on_the_listed_crates() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let section = manifest
        .split("[dependencies]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(
        names, DEPENDENCIES,
        "a new dependency of the core has to be pure, and to be listed here"
    );
}
