//! Access by kernel credentials. These tests need root, to become another user.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use soramode_protocol::access::Access;
use soramode_protocol::request::Method;
use soramode_testkit::daemon::Daemon;

/// The users `nobody`, and `daemon`, with the primary group `daemon`, on every Debian.
const NOBODY: &str = "65534";
const MEMBER: &str = "1";
const GROUP: &str = "daemon";

/// A client that runs as another user.
struct Other {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn new(daemon: &Daemon, uid: &str) -> Self {
        Self::with(
            daemon,
            &["--reuid", uid, "--regid", NOBODY, "--clear-groups"],
        )
    }

    /// One with the user and the groups that these flags of setpriv say.
    fn with(daemon: &Daemon, flags: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(flags).args(["socat", "-t60", "-"]);
        command.arg(format!("UNIX-CONNECT:{}", daemon.socket.display()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    /// The answer, if there is one.
    fn ask(&mut self, method: &str, params: &Value) -> Option<Value> {
        let request = json!({"id": 1, "method": method, "params": params});
        // A rejected client reads nothing.
        writeln!(self.child.stdin.as_ref().unwrap(), "{request}").unwrap_or_default();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Starts a daemon with these permission bits of its socket, in a folder open to all; `None` if
/// this user cannot become another.
fn daemon(bits: u32, group: Option<&str>) -> Option<Daemon> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let daemon = Daemon::with(|config| {
        config.socket_mode = bits;
        config.operator_group = group.map(str::to_owned);
        std::fs::set_permissions(
            config.socket.parent().unwrap(),
            PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    });
    Some(daemon)
}

/// Every method, with params that pass.
pub(crate) fn params(method: Method) -> Value {
    match method {
        Method::ChangeMode => json!({"mode": "block_new_session", "on_behalf_of": "somebody"}),
        Method::Connect => json!({"channel_id": "a", "connection_id": "1"}),
        Method::Report => json!({"connections": []}),
        Method::Disconnect => json!({"connection_id": "1"}),
        Method::End | Method::Announce => json!({"channel_id": "gone"}),
        Method::Explain => json!({"channel_id": "a"}),
        Method::PurgeClusterNode => json!({"node_name": "n", "accept_risk": "still-running"}),
        Method::ResendDelivery | Method::Acknowledge => json!({"id": 1}),
        Method::GetSession => json!({"channel_id": "kept"}),
        Method::StartPlan => json!({
            "at": (soramoded::clock::now().wall + Duration::from_hours(24)).to_string(),
            "steps": [{"do": "mode", "at_seconds": 0, "mode": "block_new_session"}],
        }),
        Method::Reserve => json!({"roll": "R1", "by": "ops", "seconds": 30, "round": 1}),
        Method::Release => json!({"roll": "R1"}),
        Method::CancelPlan => json!({"id": "none"}),
        Method::Wait => json!({"for": "mode", "mode": "normal", "timeout_seconds": 0}),
        Method::GetMode
        | Method::GetStatus
        | Method::ListClusterNodes
        | Method::ListModeChanges
        | Method::ListDeliveries
        | Method::ListSessions
        | Method::ListConnections
        | Method::Subscribe
        | Method::Unsubscribe
        | Method::Grant
        | Method::InitCluster
        | Method::GetPlan
        | Method::GetInfo
        | Method::Discover => json!({}),
    }
}

#[test]
fn viewers_can_change_nothing() {
    for group in [Some(GROUP), None] {
        let Some(daemon) = daemon(0o666, group) else {
            return;
        };
        daemon.client().connect("kept", "kept");
        let mut stranger = Other::new(&daemon, NOBODY);
        for &method in Method::ALL {
            let answer = stranger.ask(method.name(), &params(method)).unwrap();
            match method.access() {
                Access::View => assert!(answer["result"].is_object(), "{answer}"),
                Access::Operate => {
                    assert_eq!(
                        (&answer["error"]["code"], &answer["error"]["data"]["group"]),
                        (&(-32015).into(), &json!(group)),
                        "{answer}"
                    );
                }
            }
        }
        assert_eq!(
            stranger.ask("GetInfo", &json!({})).unwrap()["result"]["access"],
            "view"
        );
        let status = daemon.client().status();
        assert_eq!(
            (
                &status["mode"],
                &status["connections"],
                &status["generation"]
            ),
            (&"normal".into(), &1.into(), &1.into())
        );
    }
}

#[test]
fn a_member_of_the_operator_group_may_operate_and_is_recorded() {
    let Some(daemon) = daemon(0o666, Some(GROUP)) else {
        return;
    };
    let mut member = Other::new(&daemon, MEMBER);
    for &method in Method::ALL {
        let answer = member.ask(method.name(), &params(method)).unwrap();
        // Not found, or without a cluster impossible: but permitted.
        let refusal = answer["error"]["code"].as_i64();
        let is_there = answer["method"].is_string()
            || answer["result"].is_object()
            || [Some(-32_014), Some(-32_013)].contains(&refusal);
        assert!(is_there, "{answer}");
        if method == Method::ChangeMode {
            // Nobody is subscribed yet, so the next line is the next answer.
            assert_eq!(
                daemon.client().get("GetMode", &json!({}))["actor"],
                "uid:1(daemon)"
            );
            assert_eq!(
                daemon.client().get("ListModeChanges", &json!({}))["changes"][0]["on_behalf_of"],
                "somebody"
            );
        }
    }
}

/// The user database knows nothing of them: a service's `SupplementaryGroups=`, a container's `--group-add`.
#[test]
fn groups_that_the_kernel_alone_knows_of_count() {
    for group in ["daemon", "1", "4000000"] {
        let Some(daemon) = daemon(0o660, Some(group)) else {
            return;
        };
        let gid = if group == "daemon" { "1" } else { group };
        for flags in [
            ["--reuid", "12345", "--regid", "12345", "--groups", gid],
            ["--reuid", NOBODY, "--regid", gid, "--groups", NOBODY],
        ] {
            let mut member = Other::with(&daemon, &flags);
            let answer = member
                .ask("ChangeMode", &json!({"mode": "block_new_session"}))
                .unwrap();
            assert_eq!(
                answer["result"]["mode"], "block_new_session",
                "{flags:?}: {answer}"
            );
        }
    }
    let Some(daemon) = daemon(0o666, Some("4000000")) else {
        return;
    };
    let flags = [
        "--reuid", "12345", "--regid", "12345", "--groups", "4000001",
    ];
    assert_eq!(
        Other::with(&daemon, &flags)
            .ask("GetInfo", &json!({}))
            .unwrap()["result"]["access"],
        "view"
    );
}

#[test]
fn other_users_cannot_open_a_socket_of_mode_0660() {
    let Some(daemon) = daemon(0o660, None) else {
        return;
    };
    assert_eq!(Other::new(&daemon, NOBODY).ask("GetMode", &json!({})), None);
    assert_eq!(
        daemon.client().get("GetMode", &json!({}))["actor"],
        "system:start"
    );
}
