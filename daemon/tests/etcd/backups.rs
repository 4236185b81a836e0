//! etcd is made anew from a backup: what happened since is lost, and nobody may go on as if it were not.

use soramode_protocol::decision::Decision;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::etcd::{Etcd, ctl};
use crate::node::{Node, QUICK, connect, stands, until};

#[tokio::test]
async fn after_a_restore_no_node_joins_until_an_operator_accepts_the_loss() {
    let mut etcd = Etcd::start();
    let nodes = [
        Node::start("n1", &etcd, &QUICK),
        Node::start("n2", &etcd, &QUICK),
    ];
    for node in &nodes {
        node.joined().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let (backup, endpoint, peer) = (
        folder.path().join("backup.db"),
        etcd.endpoint(0),
        etcd.peer(0),
    );
    ctl(
        &["--endpoints", &endpoint],
        &["snapshot", "save", backup.to_str().unwrap()],
    );
    let token = nodes[0].offered("since", "1").await;
    etcd.kill(0);
    std::fs::remove_dir_all(etcd.data(0)).unwrap();
    let (data, cluster) = (etcd.data(0), format!("e1={peer}"));
    let restore = [
        "snapshot",
        "restore",
        backup.to_str().unwrap(),
        "--name",
        "e1",
        "--data-dir",
        data.to_str().unwrap(),
    ];
    // Another token makes it another cluster, as it is.
    let new = [
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        &peer,
        "--initial-cluster-token",
        "restored",
    ];
    ctl(&[], &[&restore[..], &new].concat());
    etcd.start_member(0, "existing");
    etcd.client(0).await;
    for node in &nodes {
        node.says("restored from a backup").await;
        until(async || (node.status().await.membership != Membership::Joined).then_some(())).await;
    }
    assert!(
        !matches!(nodes[1].connect("since", "2").await, Decision::Offer { .. }),
        "its claim is not in the backup"
    );

    nodes[0].init().await.unwrap_err();
    assert_eq!(nodes[1].init_accepting_the_loss().await.unwrap().epoch, 2);
    for node in &nodes {
        node.has_joined().await;
        stands(node, Membership::Joined, Mode::Normal).await;
        assert_eq!(node.status().await.cluster.unwrap().epoch, Some(2));
    }
    // The owner of the session keeps the channel, under a claim of the new epoch.
    assert_eq!(nodes[0].status().await.sessions, 1);
    // Until the owner has claimed it again, n2 does not know the owner.
    let told = until(async || nodes[1].try_ask(&connect("since", "2")).await.ok()).await;
    let is_its =
        matches!(&told, Decision::Redirect { node_name, .. } if node_name.as_str() == "n1");
    assert!(is_its, "{told:?}, and n1 had it with token {token}");
}
