//! A load balancer in front of two nodes of which one is drained: with a lead, none of its clients is refused.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;

const BALANCER_PORT: u16 = 8_080;

/// Number of new channels that are opened after the close.
const CHANNELS_AFTER: u64 = 200;

/// An `HAProxy`. It ends with this value.
struct Balancer {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Starts an `HAProxy` that checks the readiness of the nodes for new sessions; none where it is not installed.
fn start_balancer(address: SocketAddr, nodes: [Ipv4Addr; 2]) -> Option<Balancer> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    let [first, second] = nodes.map(|node| format!("{node}:{SORA_PORT} check port {OBSERVE_PORT}"));
    let config = format!(
        "defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen signalling
    bind {address}
    balance roundrobin
    option httpchk GET /ready/new-session
    default-server inter 200ms fall 2 rise 1
    server node-01 {first}
    server node-02 {second}
"
    );
    fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-q", "-db", "-f"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let Ok(child) = command.spawn() else {
        assert!(std::env::var_os("CI").is_none(), "haproxy is not installed");
        eprintln!("skipped: haproxy is not installed");
        return None;
    };
    let mut balancer = Balancer {
        child,
        _folder: folder,
    };
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            balancer.child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE,
            "haproxy does not serve"
        );
        std::thread::yield_now();
    }
    Some(balancer)
}

fn start_node(address: Ipv4Addr) -> Process {
    let [sora, observe] = [SORA_PORT, OBSERVE_PORT].map(|port| format!("{address}:{port}"));
    Process::start(&["--sora-listen", &sora, "--observe-listen", &observe])
}

/// Number of new channels that were opened and that were refused while a node was drained.
#[derive(Debug, Default)]
struct Counts {
    admitted: u64,
    refused: u64,
}

/// Drains one of two nodes behind a load balancer while new channels are opened through it; `None` without a load balancer.
fn drain_behind_a_balancer(steps: &Value) -> Option<Counts> {
    let [_, second, third, fourth] = std::process::id().to_be_bytes();
    let address = |first: u8| Ipv4Addr::new(127, first + second % 25, third, fourth.clamp(1, 254));
    let nodes = [address(200), address(225)];
    let [drained, other] = nodes.map(start_node);
    let balancer = SocketAddr::new(nodes[0].into(), BALANCER_PORT);
    let _running = start_balancer(balancer, nodes)?;
    let mut sora = FakeSora::new(&format!("http://{balancer}"), 7);
    let [mut client, mut client_of_other] = [&drained, &other].map(Process::client);
    let mut counts = Counts::default();
    let mut open_channel = || {
        let number = counts.admitted + counts.refused;
        match sora.ask(&format!("channel-{number}")) {
            Ok(_) => counts.admitted += 1,
            Err(denied) => {
                assert_eq!(denied.reason, "BLOCK-NEW-SESSION");
                counts.refused += 1;
            }
        }
    };
    while [&mut client, &mut client_of_other].map(|it| it.status()["sessions"] == 0) != [false; 2] {
        open_channel();
    }
    start_plan(&mut client, steps);
    while client.status()["mode"] == "normal" {
        open_channel();
    }
    for _ in 0..CHANNELS_AFTER {
        open_channel();
    }
    Some(counts)
}

#[test]
fn with_a_lead_a_load_balancer_sends_no_new_channel_to_a_closed_node() {
    let steps = json!([
        {"do": "unready", "at_seconds": -3},
        {"do": "mode", "at_seconds": 0, "mode": "block_new_session"},
    ]);
    if let Some(counts) = drain_behind_a_balancer(&steps) {
        eprintln!("with a lead: {counts:?}");
        assert_eq!(counts.refused, 0, "{counts:?}");
    }
}

#[test]
fn without_a_lead_it_does() {
    let steps = json!([{"do": "mode", "at_seconds": 0, "mode": "block_new_session"}]);
    if let Some(counts) = drain_behind_a_balancer(&steps) {
        eprintln!("without a lead: {counts:?}");
        assert!(counts.refused > 0, "{counts:?}");
    }
}
