//! An address of an interface that comes up after the daemon, as after a reboot with a slow DHCP server.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::state::Home;

const ADDRESS: &str = "10.99.0.21";
const PORT: &str = "9400";

/// Returns true if this user can create network namespaces.
fn may_unshare() -> bool {
    let may = |program: &str, words: &[&str]| {
        let status = Command::new(program)
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    may("unshare", &["-n", "true"]) && may("ip", &["link"]) && may("nsenter", &["--version"])
}

/// Runs a script in the network namespace of a process.
fn inside(pid: i32, script: &str) -> Output {
    Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "bash", "-c", script])
        .output()
        .unwrap()
}

#[test]
fn an_address_that_comes_later_is_served_once_it_is_there_and_until_then_everything_else_is() {
    if !may_unshare() {
        eprintln!("skipped: this user can make no network namespace");
        return;
    }
    let home = Home::new();
    let mut command = Command::new("unshare");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_remove("SORAMODE_SOCKET");
    command
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(Path::new(env!("CARGO_BIN_EXE_soramoded")));
    let mut process = home.start_with(command, &["--observe-listen", &format!("{ADDRESS}:{PORT}")]);
    let pid = process.pid().as_raw_nonzero().get();

    let mut client = process.client();
    let warning = client.status()["warnings"][0].as_str().unwrap().to_owned();
    assert!(
        warning.starts_with(&format!(
            "no interface of this machine has the address {ADDRESS} yet"
        )),
        "{warning}"
    );
    assert!(warning.contains("observe-listen"), "{warning}");
    let ask = format!(
        "exec 3<>/dev/tcp/{ADDRESS}/{PORT} && printf 'GET /live HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
    );
    assert!(
        !inside(pid, &ask).status.success(),
        "nobody has the address"
    );

    assert!(
        inside(pid, &format!("ip addr add {ADDRESS}/32 dev lo"))
            .status
            .success()
    );
    let answer = String::from_utf8(inside(pid, &ask).stdout).unwrap();
    assert!(
        answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    process.read_log_until("an interface now has the address");
    // It was forgotten before it was logged.
    assert_eq!(client.status().get("warnings"), None);
}
