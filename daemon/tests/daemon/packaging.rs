//! Package contents: the configuration file names every flag, and systemd accepts the units.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::soramoded;

/// Highest exposure of the service, in tenths: 0 is none, 100 is unprotected.
const EXPOSURE_MAX: &str = "20";

/// Flags that are not settings: they cannot be in the file.
const NOT_SETTINGS: [&str; 5] = ["config", "check-config", "check-state", "help", "version"];

/// Setting that contradicts another line of the file.
const EXCLUDED: &str = "assume-incomplete";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

/// The SFU that a file has settings of: no file has both.
#[derive(Clone, Copy)]
enum Sfu {
    Sora,
    Janus,
}

impl Sfu {
    /// Returns whether a setting is of the other SFU.
    fn excludes(self, setting: &str) -> bool {
        match self {
            Self::Sora => setting.starts_with("janus-"),
            Self::Janus => OF_SORA.iter().any(|name| setting.starts_with(name)),
        }
    }
}

/// Beginnings of the settings that only a Sora has.
const OF_SORA: [&str; 6] = [
    "sora-",
    "shadow",
    "auth-upstream",
    "session-upstream",
    "event-upstream",
    "session-max-linger",
];

/// The file with every line that says a setting uncommented, but the other SFU's.
fn uncommented(text: &str, sfu: Sfu) -> String {
    let is_setting = |line: &str| {
        line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(" = ")
    };
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting)
            if is_setting(setting) && !setting.starts_with(EXCLUDED) && !sfu.excludes(setting) =>
        {
            format!("{setting}\n")
        }
        Some(_) | None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Returns the text without settings that this build lacks (the cluster).
fn buildable(text: &str) -> String {
    if cfg!(feature = "cluster") {
        return text.to_owned();
    }
    let (before, cluster) = text.split_once("# --- Cluster").unwrap();
    let (_, after) = cluster.split_once("# --- Log").unwrap();
    format!("{before}# --- Log{after}")
}

fn check(folder: &Path, text: &str) -> Output {
    let file = folder.join("soramoded.toml");
    fs::write(&file, text).unwrap();
    soramoded()
        .args(["--check-config", "--config"])
        .arg(file)
        .output()
        .unwrap()
}

#[test]
fn the_configuration_file_names_every_flag_and_is_valid() {
    let text = fs::read_to_string(packaging().join("soramoded.toml")).unwrap();
    let flags: BTreeSet<String> = soramoded::args::command()
        .get_arguments()
        .filter_map(|flag| flag.get_long().map(str::to_owned))
        .filter(|name| !NOT_SETTINGS.contains(&name.as_str()))
        .collect();
    let said: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let keys: BTreeSet<String> = said
        .iter()
        .filter(|name| !name.contains(' '))
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(keys, flags);
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret(
        "http-tokens",
        "monitoring 0123456789abcdef0123456789abcdef\n",
    );
    secret("sora-tokens", "sora 0123456789abcdef0123456789abcdef\n");
    secret("etcd-password", "correct horse battery staple\n");
    secret("janus-admin-secret", "a long secret\n");
    secret("janus-admin-key", "a long key\n");
    secret("janus-room-secrets", "* a-room-secret\n");
    secret(
        "webhook-secrets",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    let identity = include_str!("../../src/config/tests/identity.pem");
    for pem in [
        "ca.pem",
        "etcd-ca.pem",
        "etcd-client.pem",
        "etcd-client.key",
    ] {
        secret(pem, identity);
    }
    // The group and the folder are the package's to make.
    let here = |text: &str| {
        text.replace("/etc/soramode", folder.path().to_str().unwrap())
            .replace("\"soramode\"", "\"root\"")
    };
    for text in [
        here(&text),
        here(&uncommented(&buildable(&text), Sfu::Sora)),
        here(&uncommented(&buildable(&text), Sfu::Janus)),
    ] {
        let Output { status, stderr, .. } = check(folder.path(), &text);
        assert_eq!(
            status.code(),
            Some(0),
            "{}\n{text}",
            String::from_utf8_lossy(&stderr)
        );
    }
    let both =
        here(&uncommented(&buildable(&text), Sfu::Sora)).replace(&format!("#{EXCLUDED}"), EXCLUDED);
    assert_eq!(
        check(folder.path(), &both).status.code(),
        Some(2),
        "the one that was left out contradicts another"
    );
}

#[test]
fn systemd_accepts_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for entry in fs::read_dir(packaging().join("systemd")).unwrap() {
        let entry = entry.unwrap();
        // The program may not be installed here; it is looked for.
        let text = fs::read_to_string(entry.path())
            .unwrap()
            .replace("/usr/bin/soramoded", env!("CARGO_BIN_EXE_soramoded"));
        let unit = folder.path().join(entry.file_name());
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 5);
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // It looks at the machine's own units too.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("soramode"))
        .collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let service = folder.path().join("soramoded.service");
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--threshold", EXPOSURE_MAX])
        .arg(service);
    let security = security.output().unwrap();
    assert!(
        security.status.success(),
        "{}",
        String::from_utf8_lossy(&security.stdout)
    );
}
