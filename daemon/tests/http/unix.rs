//! The API on a Unix socket, with kernel credentials.

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramode_testkit::daemon::Daemon;
use soramoded::config::Tokens;
use tempfile::TempDir;

use crate::wire::{Ending, Said, read_body, read_head};

/// The users `nobody`, and `daemon`, with the primary group `daemon`, on every Debian.
const NOBODY: &str = "65534";
const MEMBER: &str = "1";
const GROUP: &str = "daemon";

const GET_MODE: &str = "Sora_20211215.GetMode";
const CHANGE_MODE: &str = "Sora_20211215.ChangeMode";

struct Api {
    daemon: Daemon,
    path: PathBuf,
    _folder: TempDir,
}

impl Api {
    /// Creates a node with a socket open to all users, as a socket unit with systemd's default
    /// permissions passes it.
    fn open_to_all(tokens: Option<Tokens>) -> Self {
        let api = Self::start(tokens);
        fs::set_permissions(&api.path, fs::Permissions::from_mode(0o666)).unwrap();
        api
    }

    fn start(tokens: Option<Tokens>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("api.sock");
        let is_root = rustix::process::geteuid().is_root();
        let daemon = Daemon::with(|config| {
            config.http.api.listen = vec![format!("unix:{}", path.display()).parse().unwrap()];
            config.http.api.tokens = tokens;
            config.operator_group = is_root.then(|| GROUP.to_owned());
        });
        Self {
            daemon,
            path,
            _folder: folder,
        }
    }

    fn actor(&self) -> Value {
        self.daemon.client().get("GetMode", &json!({}))["actor"].clone()
    }
}

/// A call. No page leads here, so it has no Host.
fn call(target: &str, token: Option<&str>, body: &str) -> String {
    let token = token.map_or_else(String::new, |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nx-sora-target: {target}\r\n{token}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn ask(path: &Path, call: &str) -> Said {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(call.as_bytes()).unwrap();
    read(stream)
}

fn read(stream: impl std::io::Read) -> Said {
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader).unwrap();
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let body = read_body(&mut reader, &headers, Ending::Close);
    Said {
        status,
        headers,
        body,
    }
}

/// Asks as another user.
fn ask_as(uid: &str, path: &Path, call: &str) -> Said {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        uid,
        "--regid",
        NOBODY,
        "--clear-groups",
        "socat",
        "-t60",
        "-",
    ]);
    command.arg(format!("UNIX-CONNECT:{}", path.display()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Kept open: a client that ends its side of the connection has gone.
    let mut input = child.stdin.take().unwrap();
    input.write_all(call.as_bytes()).unwrap();
    let said = read(child.stdout.take().unwrap());
    let _ = child.kill();
    child.wait().unwrap();
    said
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

#[test]
fn the_socket_is_the_operators_and_the_actor_is_the_user() {
    let api = Api::start(None);
    let metadata = fs::metadata(&api.path).unwrap();
    assert!(metadata.file_type().is_socket());
    let bits = if rustix::process::geteuid().is_root() {
        0o660
    } else {
        0o600
    };
    assert_eq!(metadata.permissions().mode() & 0o777, bits);
    assert_eq!(
        ask(&api.path, &call(GET_MODE, None, "")).text(),
        r#"{"mode":"normal"}"#
    );
    assert_eq!(
        ask(
            &api.path,
            &call(CHANGE_MODE, None, r#"{"mode":"block_new_session"}"#)
        )
        .status,
        200
    );
    let uid = rustix::process::geteuid().as_raw();
    assert!(
        api.actor()
            .as_str()
            .unwrap()
            .starts_with(&format!("uid:{uid}")),
        "{}",
        api.actor()
    );
    let path = api.path.clone();
    drop(api.daemon);
    assert!(!path.exists(), "it is gone with the daemon");
}

#[test]
fn a_user_who_may_open_the_socket_may_look_and_a_member_of_the_group_may_operate() {
    if !is_root() {
        return;
    }
    let api = Api::open_to_all(None);
    let close = r#"{"mode":"block_new_session"}"#;
    assert_eq!(
        ask_as(NOBODY, &api.path, &call(GET_MODE, None, "")).status,
        200
    );
    for (target, body) in [
        (CHANGE_MODE, close),
        (
            "Soramode_20261125.Connect",
            r#"{"channel_id":"spam","connection_id":"1"}"#,
        ),
        (
            "Sora_20151104.DisconnectChannel",
            r#"{"channel_id":"spam"}"#,
        ),
        ("Sora_20201231.Unheard", "{}"),
    ] {
        let refused = ask_as(NOBODY, &api.path, &call(target, None, body));
        assert_eq!(
            (refused.status, &refused.json()["error_reason"]),
            (403, &json!("this user may only view")),
            "{target}"
        );
    }
    let body = r#"{"channel_id":"spam","connection_id":"1"}"#;
    let length = body.len();
    let connect = format!("POST /v1/connect HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}");
    assert_eq!(ask_as(NOBODY, &api.path, &connect).status, 403);
    assert_eq!(ask_as(MEMBER, &api.path, &connect).json()["type"], "offer");
    assert_eq!(api.daemon.client().status()["generation"], 1);
    assert_eq!(
        ask_as(MEMBER, &api.path, &call(CHANGE_MODE, None, close)).status,
        200
    );
    assert_eq!(api.actor(), "uid:1(daemon)");
}

#[test]
fn with_tokens_users_without_operate_access_need_one() {
    if !is_root() {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let token = "a".repeat(32);
    writeln!(file, "ops {token}").unwrap();
    let api = Api::open_to_all(Some(Tokens::read("http-token-file", file.path()).unwrap()));
    let close = r#"{"mode":"block_new_session"}"#;
    assert_eq!(
        ask_as(NOBODY, &api.path, &call(GET_MODE, None, "")).status,
        401
    );
    assert_eq!(
        ask_as(NOBODY, &api.path, &call(CHANGE_MODE, Some("b"), close)).status,
        401
    );
    assert_eq!(
        ask_as(NOBODY, &api.path, &call(CHANGE_MODE, Some(&token), close)).status,
        200
    );
    assert_eq!(api.actor(), "http(ops)");
    assert_eq!(
        ask_as(
            MEMBER,
            &api.path,
            &call(CHANGE_MODE, None, r#"{"mode":"normal"}"#)
        )
        .status,
        200
    );
    assert_eq!(api.actor(), "uid:1(daemon)");
}
