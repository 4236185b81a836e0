//! An etcd of several members, of which one hangs.

use rustix::process::Signal;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::etcd::{Etcd, Scheme};
use crate::node::{Node, stands, until};

const MEMBERS: usize = 3;

#[tokio::test]
async fn a_frozen_member_is_bypassed() {
    let etcd = Etcd::of(MEMBERS, Scheme::Http);
    let node = Node::start(
        "n1",
        &etcd,
        &[
            "--cluster-ttl=10s",
            "--cluster-heartbeat=200ms",
            "--isolated-after=8s",
        ],
    );
    node.joined().await;
    node.offered("own", "own").await;
    for member in 0..MEMBERS {
        etcd.signal(member, Signal::STOP);
        // New channels too can be had while it hangs, whether it leads or not.
        node.offered(&format!("channel-{member}"), &format!("{member}"))
            .await;
        let status = node.status().await;
        let hung = until(async || {
            let upstreams = node.status().await.upstreams;
            upstreams
                .into_iter()
                .find(|it| it.url == etcd.endpoint(member) && it.problem.is_some())
        })
        .await;
        assert_eq!(
            (hung.name.as_str(), status.upstreams.len()),
            ("etcd", MEMBERS)
        );
        etcd.signal(member, Signal::CONT);
        etcd.client(member).await;
    }
    stands(&node, Membership::Joined, Mode::Normal).await;
    let mut events = node.all_events().await;
    node.disconnect("own").await;
    events.until("session.destroyed").await;
    assert_eq!(
        events
            .seen
            .iter()
            .filter(|name| name.starts_with("node."))
            .count(),
        1,
        "{:?}",
        events.seen
    );
}
