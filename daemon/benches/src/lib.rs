//! The programs that are measured: built in release mode before the first of them runs.

#![expect(clippy::unwrap_used, reason = "a measurement ends by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns the path of a program beside which cargo built this one.
pub fn program(name: &str) -> PathBuf {
    release().join(name)
}

/// `target/release`: this program is in its folder `deps`.
fn release() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().to_owned()
}

/// Builds soramoded as it ships, with the cluster where that is measured.
pub fn build_soramoded() {
    let features: &[&str] = if cfg!(feature = "cluster") {
        &["--features", "soramoded/cluster"]
    } else {
        &[]
    };
    cargo(&[&["-p", "soramoded"], features].concat());
}

/// Builds `soramode` as the package has it.
pub fn build_soramode() {
    let flags = ["-p", "soramode", "--bin", "soramode"];
    cargo(&[&flags[..], &["--config", "profile.release.opt-level=\"z\""]].concat());
}

/// Runs `cargo build --release` with these flags.
///
/// # Panics
///
/// If the build fails.
pub fn cargo(flags: &[&str]) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap(),
    );
    if !flags.contains(&"--target-dir") {
        command.env("CARGO_TARGET_DIR", release().parent().unwrap());
    }
    command
        .args(["build", "--release", "--locked", "--quiet"])
        .args(flags);
    assert!(
        command.stdin(Stdio::null()).status().unwrap().success(),
        "cargo build --release {} fails",
        flags.join(" ")
    );
}
