//! Reverse proxies in front of the API, set up as the guide says.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;
use soramode_testkit::PATIENCE;

use crate::wire::{API_PORT, Node, Said, Wire, own_address};

const NAME: &str = "sfu.example.com";

/// A proxy. It ends with this value.
struct Proxy {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// Starts a program with what the guide has for it, changed to these addresses; none where it is not installed.
fn start(
    program: &str,
    node: &Node,
    command: impl FnOnce(&str, &Path) -> Command,
) -> Option<Proxy> {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../man/sora.md")).unwrap();
    let fence = format!("```{program}\n");
    let example = guide
        .split(&fence)
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let address = SocketAddr::new(IpAddr::V4(own_address()), 8_080);
    let example = example.replace("127.0.0.1:3000", &node.at(API_PORT).to_string());
    let (own, bound) = (format!("listen {address};"), format!("bind {address}"));
    let example = example
        .replace("listen 8080;", &own)
        .replace("bind :8080", &bound);
    assert!(example.contains(&address.to_string()), "{example}");
    let folder = tempfile::tempdir().unwrap();
    let Ok(child) = command(&example, folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
    else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let mut proxy = Proxy {
        child,
        address,
        _folder: folder,
    };
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            proxy.child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE,
            "{program} does not serve"
        );
        std::thread::yield_now();
    }
    Some(proxy)
}

fn ask(wire: &mut Wire, host: &str, target: &str, body: &str) -> Said {
    let length = body.len();
    wire.send(format!("POST / HTTP/1.1\r\nhost: {host}\r\nx-sora-target: {target}\r\ncontent-length: {length}\r\n\r\n{body}"));
    wire.recv().unwrap()
}

/// The proxy's clients get through by the name that the daemon knows, and by no other.
fn serves_by_its_name(proxy: &Proxy, node: &Node) {
    let mut wire = Wire::to(proxy.address);
    for mode in ["block_new_session", "normal"] {
        let changed = ask(
            &mut wire,
            NAME,
            "Sora_20211215.ChangeMode",
            &json!({"mode": mode}).to_string(),
        );
        assert_eq!(changed.json(), json!({"mode": mode}));
        assert_eq!(
            ask(
                &mut wire,
                &format!("{NAME}:8080"),
                "Sora_20211215.GetMode",
                ""
            )
            .json(),
            json!({"mode": mode})
        );
    }
    let refused = ask(&mut wire, "evil.example.com", "Sora_20211215.GetMode", "");
    assert_eq!(
        (refused.status, &refused.json()["error_reason"]),
        (403, &json!("the Host \"evil.example.com\" is not allowed"))
    );
    assert_eq!(node.daemon.client().status()["generation"], 3);
}

fn node() -> Node {
    Node::with(|config| config.http.api.hosts = vec![NAME.parse().unwrap()])
}

#[test]
fn nginx_serves_the_api() {
    let node = node();
    let proxy = start("nginx", &node, |example, folder| {
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|it| format!("{it}_temp_path {}/{it};", folder.display()));
        let file = folder.join("nginx.conf");
        let set_up = format!(
            "daemon off; master_process off; pid {}/pid; events {{}}",
            folder.display()
        );
        fs::write(
            &file,
            format!(
                "{set_up} http {{ access_log off; {} {example} }}",
                paths.join(" ")
            ),
        )
        .unwrap();
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c"]).arg(file);
        command
    });
    if let Some(proxy) = proxy {
        serves_by_its_name(&proxy, &node);
    }
}

#[test]
fn haproxy_serves_the_api() {
    let node = node();
    let proxy = start("haproxy", &node, |example, folder| {
        let file = folder.join("haproxy.cfg");
        let times =
            "defaults\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n";
        fs::write(&file, format!("{times}{example}")).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-q", "-db", "-f"]).arg(file);
        command
    });
    if let Some(proxy) = proxy {
        serves_by_its_name(&proxy, &node);
    }
}
