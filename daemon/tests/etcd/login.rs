//! An etcd with users and passwords; and what is said of one that does not want this node.

use std::path::Path;

use etcd_client::{Client, ConnectOptions, Permission};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{ListClusterNodes, Membership};

use crate::etcd::{Etcd, run_in};
use crate::node::{Node, PREFIX, QUICK, stands, until};

async fn client(etcd: &Etcd, login: Option<(&str, &str)>) -> Client {
    let options = login.map(|(user, password)| ConnectOptions::new().with_user(user, password));
    let url = etcd.endpoint(0);
    until(async || {
        let mut client = Client::connect([&url], options.clone()).await.ok()?;
        client.status().await.ok().map(|_| client)
    })
    .await
}

/// A user `sfu` that may do what a node needs, and `root`.
async fn with_users(etcd: &Etcd) {
    let mut client = client(etcd, None).await;
    client.role_add("node").await.unwrap();
    client
        .role_grant_permission(
            "node",
            Permission::read_write("/soramode/v1/").with_prefix(),
        )
        .await
        .unwrap();
    for (user, role) in [("root", "root"), ("sfu", "node")] {
        client
            .user_add(user, format!("{user}-password"), None)
            .await
            .unwrap();
        client.user_grant_role(user, role).await.unwrap();
    }
    client.auth_enable().await.unwrap();
}

fn password_file(folder: &Path, password: &str) -> String {
    let file = folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!("--cluster-password-file={}", file.display())
}

#[tokio::test]
async fn a_node_logs_in_and_does_so_again_when_its_login_is_over() {
    let etcd = Etcd::start();
    with_users(&etcd).await;
    let folder = tempfile::tempdir().unwrap();
    let password = password_file(folder.path(), "sfu-password");
    let words = [&QUICK[..], &["--cluster-user=sfu", &password]].concat();
    let node = Node::start("n1", &etcd, &words);
    node.joined().await;
    node.offered("spam", "1").await;
    // Each change of the users ends all logins.
    let mut root = client(&etcd, Some(("root", "root-password"))).await;
    root.user_add("another", "x", None).await.unwrap();
    node.offered("egg", "2").await;
    stands(&node, Membership::Joined, Mode::Normal).await;
}

#[tokio::test]
async fn a_refused_login_is_reported_with_its_remedy() {
    let etcd = Etcd::start();
    with_users(&etcd).await;
    let folder = tempfile::tempdir().unwrap();
    let nobody = Node::start("n1", &etcd, &QUICK);
    nobody
        .says("set --cluster-user and --cluster-password-file")
        .await;
    let password = password_file(folder.path(), "wrong");
    let words = [&QUICK[..], &["--cluster-user=sfu", &password]].concat();
    let wrong = Node::start("n2", &etcd, &words);
    wrong
        .says("check --cluster-user and --cluster-password-file")
        .await;
}

#[tokio::test]
async fn tls_to_a_member_without_it_has_a_message_of_its_own() {
    let etcd = Etcd::start();
    let folder = tempfile::tempdir().unwrap();
    run_in(
        folder.path(),
        "openssl",
        &[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "ca.pem",
            "-subj", "/CN=ca",
        ],
    );
    let url = etcd.endpoint(0).replace("http:", "https:");
    let ca = format!(
        "--cluster-ca-file={}",
        folder.path().join("ca.pem").display()
    );
    let node = Node::start_at("n1", &url, &[&QUICK[..], &[&ca]].concat());
    let told = |problem: &String| problem.contains("does not speak TLS: name it with http:");
    until(async || node.status().await.cluster.unwrap().problem.filter(told)).await;
}

#[tokio::test]
async fn large_foreign_values_among_the_members_isolate_no_node() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &QUICK);
    node.joined().await;
    let mut client = client(&etcd, None).await;
    let large = vec![b'x'; 1_200_000];
    for number in 1..=4 {
        client
            .put(format!("{PREFIX}/n/large-{number}"), large.clone(), None)
            .await
            .unwrap();
    }
    let is_seen = async || {
        let nodes = node
            .ask(&ListClusterNodes {
                count_orphaned: false,
            })
            .await
            .nodes;
        nodes
            .iter()
            .any(|node| node.node_name.as_str() == "large-4")
            .then_some(())
    };
    until(is_seen).await;
    stands(&node, Membership::Joined, Mode::Normal).await;
}
