//! Everything that the fuzzer ever found worth keeping goes through once more.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Files below which a corpus is not there.
const FILES_MIN: usize = 2;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        target(&fs::read(file.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= FILES_MIN, "{files} files of {name}");
}

#[test]
fn the_corpus_of_socket_lines_does_no_harm() {
    replay("socket_lines", targets::socket_lines);
}

#[test]
fn the_corpus_of_webhooks_does_no_harm() {
    replay("webhooks", targets::webhooks);
}

#[test]
fn the_corpus_of_api_calls_does_no_harm() {
    replay("api_calls", targets::api_calls);
}

#[test]
fn the_corpus_of_stored_states_does_no_harm() {
    replay("stored_state", targets::stored_state);
}

#[test]
fn the_corpus_of_configuration_files_does_no_harm() {
    replay("config_files", targets::config_files);
}
