//! http: the mode over HTTP, beside servers that have nothing to find out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::harness::Profile;
use super::harness::baselines;
use super::harness::load::CLIENTS;
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;
use super::harness::web::HttpLoad;

// Below the ports that the kernel gives out, or a client that waits for a server could come to be connected with itself.
const OURS: &str = "127.0.0.1:19572";
const HYPER: &str = "127.0.0.1:19573";
const NGINX: &str = "127.0.0.1:19574";

/// A server and how it is asked.
type Served = (Server, HttpLoad);

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let ours = baselines::volatile(profile.folder.join("gate"), &["--api-listen", OURS])
        .with_http(address(OURS));
    let ours = (ours, load(OURS, "x-sora-target: Sora_20211215.GetMode\r\n"));
    let length = ours.1.body;
    let hyper = (hyper(address(HYPER), length), load(HYPER, ""));
    let nginx = (nginx(profile.folder, length), load(NGINX, ""));
    for clients in [1, CLIENTS] {
        // One client shares a core with its server.
        let (core, of_hyper) = if clients == 1 {
            (Core::Second, 0.95)
        } else {
            (Core::First, 0.9)
        };
        for (server, _) in [&ours, &hyper, &nginx] {
            server.pin(core);
        }
        pin_load(Core::Second);
        let rate = |(_, load): &Served| load.rate(clients, profile.time);
        for (yardstick, theirs, bound) in [
            ("hyper", &hyper, Bound::AtLeast(of_hyper)),
            ("nginx", &nginx, Bound::AtLeast(1.0)),
        ] {
            let what = format!(
                "GetMode over HTTP, {clients} connection{}",
                if clients == 1 { "" } else { "s" }
            );
            let rounds = Rounds::beside(profile, bound, || rate(&ours), || rate(theirs));
            sheet.add(Row {
                goal: "http",
                what,
                unit: Unit::PerSecond,
                yardstick,
                rounds,
                bound,
            });
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn load(at: &str, headers: &str) -> HttpLoad {
    HttpLoad::to(
        address(at),
        format!("POST / HTTP/1.1\r\nhost: {at}\r\ncontent-length: 0\r\n{headers}\r\n"),
    )
}

/// A bare hyper server with a constant answer.
pub(crate) fn hyper(address: SocketAddr, length: usize) -> Server {
    let mut command = Command::new(std::env::current_exe().unwrap());
    Server::start_at(
        command
            .arg("serve-hyper")
            .arg(address.to_string())
            .arg(length.to_string()),
        address,
    )
}

/// In one process, and so with one worker.
fn nginx(folder: &Path, length: usize) -> Server {
    let config = folder.join("nginx.conf");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", folder.display()));
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.log;
         events {{ worker_connections 256; }}
         http {{
           access_log off; keepalive_requests 1000000000; tcp_nodelay on; default_type application/json; {1}
           server {{ listen {NGINX}; location / {{ return 200 '{2}'; }} }}
         }}",
        folder.display(),
        folders.join(" "),
        "x".repeat(length)
    );
    std::fs::write(&config, text).unwrap();
    Server::start_at(
        Command::new("nginx")
            .arg("-e")
            .arg(folder.join("nginx.log"))
            .arg("-c")
            .arg(&config),
        address(NGINX),
    )
}
