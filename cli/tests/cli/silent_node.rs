//! `drain --node` while the other node gives no answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::cluster::{Etcd, Node, free_url};
use crate::support::{PROGRAM, until};
use crate::terminal::Terminal;

/// Forwards connections to an API, and can hold their requests back.
struct Proxy {
    url: String,
    holds: Arc<(Mutex<bool>, Condvar)>,
}

impl Proxy {
    fn start(api: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            holds: Arc::default(),
        };
        let (holds, api) = (
            Arc::clone(&proxy.holds),
            api.trim_start_matches("http://").to_owned(),
        );
        thread::spawn(move || {
            for client in listener.incoming() {
                let (holds, api) = (Arc::clone(&holds), api.clone());
                thread::spawn(move || forward(&client.unwrap(), &api, &holds));
            }
        });
        proxy
    }

    fn hold(&self, holds: bool) {
        *self.holds.0.lock().unwrap() = holds;
        self.holds.1.notify_all();
    }
}

/// Forwards a connection; its requests wait while they are held back. Either end may have closed it.
fn forward(mut client: &TcpStream, api: &str, (holds, change): &(Mutex<bool>, Condvar)) {
    let Ok(api) = TcpStream::connect(api) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| io::copy(&mut &api, &mut &*client));
        let mut request = [0; 4_096];
        while let Ok(length @ 1..) = client.read(&mut request) {
            let held = change.wait_while(holds.lock().unwrap(), |holds| *holds);
            drop(held.unwrap());
            if (&api).write_all(&request[..length]).is_err() {
                break;
            }
        }
        // The server may have closed it.
        api.shutdown(Shutdown::Both).unwrap_or_default();
    });
}

#[test]
fn a_drain_says_for_how_long_the_other_node_has_not_answered_and_goes_on() {
    let etcd = Etcd::start();
    let n1 = Node::start("n1", &etcd);
    let api = free_url();
    let proxy = Proxy::start(&api);
    let n2 = Node::start_with_api("n2", &etcd, &api, &proxy.url);
    n2.ok(&["wait", "joined", "--timeout", "60s"]);
    until(|| (n1.nodes() == ["n1 normal joined", "n2 normal joined"]).then_some(()));
    until(|| {
        let connected = n2.run(&["connect", "spam", "--connection-id", "c1"]);
        (connected.code == 0).then_some(())
    });
    let script = format!(
        "{PROGRAM} --socket {} drain --node n2 --timeout 5m; echo ended with $?; exec sleep 600",
        n1.socket().display()
    );
    let terminal = Terminal::open(&script, (100, 24));
    terminal.until_shown("1 of 1 session left");
    proxy.hold(true);
    let screen = terminal.until_shown("no answer from n2 for ");
    assert!(screen.contains("before: 1 of 1 session left"), "{screen}");
    assert_eq!(n2.ok(&["get"]), "block_new_session\n");
    proxy.hold(false);
    terminal.until("an answer", |screen| !screen.contains("no answer from n2"));
    n2.ok(&["disconnect", "c1"]);
    let screen = terminal.until_shown("ended with 0");
    assert!(screen.contains("n2 is empty after"), "{screen}");
}
