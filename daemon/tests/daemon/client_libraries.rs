//! The client libraries for signalling servers, by their own tests against this soramoded.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the tests of a library in its folder.
fn run(library: &str, program: &str, arguments: &[&str]) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/clients");
    let ended = Command::new(program)
        .args(arguments)
        .current_dir(clients.join(library))
        .env("SORAMODED", env!("CARGO_BIN_EXE_soramoded"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[test]
fn the_python_library_reads_every_golden_line_and_outlasts_restarts() {
    let tests = [
        "-W", "error", "-m", "unittest", "discover", "-t", ".", "-s", "tests",
    ];
    run("python", "python3", &tests);
}

#[test]
fn the_node_library_reads_every_golden_line_and_outlasts_restarts() {
    run("node", "node", &["--test"]);
}
