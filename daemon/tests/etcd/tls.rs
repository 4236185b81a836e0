//! mTLS to etcd, with certificates as an operator makes them.

use std::path::Path;

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::etcd::{Etcd, Scheme, run_in};
use crate::node::{Node, QUICK, stands, until};

/// An authority, and a certificate for etcd and one for the nodes.
fn certificates(folder: &Path) {
    let openssl = |words: &str| run_in(folder, "openssl", &words.split(' ').collect::<Vec<_>>());
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {new_key} -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=authority"
    ));
    for (name, more) in [
        ("etcd", "subjectAltName=IP:127.0.0.1"),
        ("node", "subjectAltName=DNS:node"),
    ] {
        openssl(&format!(
            "req {new_key} -keyout {name}-key.pem -out {name}.csr -subj /CN={name}"
        ));
        std::fs::write(folder.join(format!("{name}.ext")), more).unwrap();
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out {name}.pem -days 2 -extfile {name}.ext"
        ));
    }
}

#[tokio::test]
async fn only_nodes_with_a_certificate_join() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let etcd = Etcd::of(1, Scheme::Https(folder.path().to_owned()));
    let file = |flag: &str, name: &str| {
        format!(
            "--cluster-{flag}-file={}",
            folder.path().join(name).display()
        )
    };
    let (ca, cert, key) = (
        file("ca", "ca.pem"),
        file("cert", "node.pem"),
        file("key", "node-key.pem"),
    );
    let with = |more: &[&'static str]| more.to_vec();
    let known: Vec<&str> = [&ca, &cert, &key]
        .map(String::as_str)
        .into_iter()
        .chain(with(&QUICK))
        .collect();
    let node = Node::start("n1", &etcd, &known);
    node.joined().await;
    node.offered("spam", "1").await;
    let (other_ca, bare) = (file("ca", "etcd-other.pem"), with(&QUICK));
    run_in(folder.path(), "cp", &["node.pem", "etcd-other.pem"]);
    let strangers = [
        (
            "n2",
            vec![ca.as_str()],
            "set --cluster-cert-file and --cluster-key-file",
        ),
        (
            "n3",
            vec![other_ca.as_str(), &cert, &key],
            "name the issuer's certificate",
        ),
    ];
    for (name, words, remedy) in strangers {
        let words: Vec<&str> = words.into_iter().chain(bare.clone()).collect();
        let stranger = Node::start(name, &etcd, &words);
        until(async || {
            stranger
                .status()
                .await
                .cluster
                .unwrap()
                .problem
                .filter(|problem| problem.contains(remedy))
        })
        .await;
        stands(&stranger, Membership::Fenced, Mode::Initial).await;
    }
    let plain = Node::start_at("n4", &etcd.endpoint(0).replace("https:", "http:"), &QUICK);
    let told = |problem: &String| problem.contains("name it with https:");
    until(async || plain.status().await.cluster.unwrap().problem.filter(told)).await;
}
