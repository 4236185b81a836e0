//! Pages of the members: each node publishes the URL of its own, and shows the others.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::etcd::{Etcd, free_address};
use crate::node::{Node, QUICK, until};

/// Returns the status page at an address.
fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET / HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

fn start(name: &'static str, etcd: &Etcd, address: &str) -> Node {
    let more = [
        format!("--observe-listen={address}"),
        format!("--page-url=http://{address}/"),
    ];
    let words: Vec<&str> = QUICK
        .into_iter()
        .chain(more.iter().map(String::as_str))
        .collect();
    Node::start(name, etcd, &words)
}

#[tokio::test]
async fn a_page_shows_the_pages_of_the_other_members_until_they_leave() {
    let etcd = Etcd::start();
    let addresses = [free_address(), free_address()];
    let one = start("n1", &etcd, &addresses[0]);
    one.joined().await;
    let mut two = start("n2", &etcd, &addresses[1]);
    two.joined().await;
    for (here, name, other) in [(0, "n2", 1), (1, "n1", 0)] {
        // The other node is a member with a link, and its own page has answered.
        let link = format!("<a href=\"http://{}/\">{name}</a>", addresses[other]);
        let row = format!("<td>{name}</td>");
        until(async || {
            let page = page(&addresses[here]);
            (page.contains(&link) && page.contains(&row)).then_some(())
        })
        .await;
    }
    two.stop();
    until(async || (!page(&addresses[0]).contains(&addresses[1])).then_some(())).await;
}
