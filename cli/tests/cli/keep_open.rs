//! Mistakes that cost a cluster its sessions: closing its last open node, with `--keep-open` while etcd does not answer, and mistyping its name.

use crate::cluster::{Etcd, Node};
use crate::support::{Run, Running, program, until};

const NONE_OPEN: &str = "no node of the cluster is open";

fn two(etcd: &Etcd) -> [Node; 2] {
    let nodes = ["n1", "n2"].map(|name| Node::start(name, etcd));
    for node in &nodes {
        until(|| (node.nodes() == ["n1 normal joined", "n2 normal joined"]).then_some(()));
    }
    nodes
}

#[test]
fn the_close_of_the_last_open_node_warns_until_a_node_is_open() {
    let etcd = Etcd::start();
    let [n1, n2] = two(&etcd);
    let first = n1.run(&["drain", "--timeout", "30s"]);
    assert_eq!(
        (first.code, first.stderr.contains(NONE_OPEN)),
        (0, false),
        "{first:?}"
    );
    until(|| (n2.nodes()[0] == "n1 block_new_session joined").then_some(()));
    let last = n2.run(&["drain", "--timeout", "30s"]);
    let warning = last.stderr.contains(NONE_OPEN) && last.stderr.contains("--keep-open 1");
    assert_eq!((last.code, warning), (0, true), "{last:?}");
    until(|| (n1.nodes()[1] == "n2 block_new_session joined").then_some(()));
    for node in [&n1, &n2] {
        let nodes = node.run(&["nodes"]);
        assert!(nodes.stderr.contains(NONE_OPEN), "{nodes:?}");
        let status = node.ok(&["status", "-o", "plain"]);
        let row = format!("warning\t{NONE_OPEN}");
        assert!(status.contains(&row), "{status}");
        let doctor = node.run(&["doctor", "-o", "plain"]);
        let row = format!("BAD\twarning\t{NONE_OPEN}");
        assert_eq!(
            (doctor.code, doctor.stdout.contains(&row)),
            (1, true),
            "{doctor:?}"
        );
    }
    n1.ok(&["open"]);
    until(|| (!n2.ok(&["status", "-o", "plain"]).contains(NONE_OPEN)).then_some(()));
    assert!(!n2.run(&["nodes"]).stderr.contains(NONE_OPEN));
}

#[test]
fn no_node_is_closed_with_keep_open_while_etcd_hangs() {
    let etcd = Etcd::start();
    let nodes = two(&etcd);
    etcd.hang();
    for close in [
        &["drain", "--keep-open", "1", "--timeout", "1s"][..],
        &["close", "--keep-open", "1"],
        &["drain", "--keep-open", "1", "--replace"],
    ] {
        for node in &nodes {
            let refused = node.run(close);
            let words = "does not know how many other nodes are open";
            let is_refused =
                refused.stderr.contains(words) && refused.stderr.contains("Nothing was changed");
            assert_eq!((refused.code, is_refused), (5, true), "{refused:?}");
            let mode = node.ok(&["get"]);
            assert!(["normal\n", "initial\n"].contains(&mode.as_str()), "{mode}");
        }
    }
}

#[test]
fn a_mistyped_cluster_name_makes_no_second_cluster() {
    let etcd = Etcd::start();
    let first = Node::start("n1", &etcd);
    let mistyped = Node::start_in("defualt", "n2", &etcd);
    let refused = until(|| {
        let refused = mistyped.run(&["nodes", "init"]);
        (refused.code == 5).then_some(refused)
    });
    let words = "etcd has no cluster defualt, and has others: default. Nothing was created";
    assert!(refused.stderr.contains(words), "{refused:?}");
    assert!(refused.stderr.contains("cluster-name"), "{refused:?}");
    let third = Node::start_in("osaka", "n3", &etcd);
    until(|| {
        let made = third.run(&["nodes", "init", "--accept-risk=second-cluster"]);
        (made.code == 0).then_some(())
    });
    third.ok(&["wait", "joined", "--timeout", "60s"]);
    let refused = mistyped.run(&["nodes", "init"]);
    assert!(
        refused.stderr.contains("others: default, osaka."),
        "{refused:?}"
    );
    assert_eq!(first.nodes(), ["n1 normal joined"]);
}

#[test]
fn two_nodes_that_close_at_the_same_moment_do_not_both_stay_closed() {
    let etcd = Etcd::start();
    let nodes = ["n1", "n2"].map(|name| Node::start(name, &etcd));
    for close in [
        &["drain", "--keep-open", "1"][..],
        &["close", "--keep-open", "1"],
        &["close", "--wait", "--keep-open", "1"],
    ] {
        for node in &nodes {
            node.ok(&["open"]);
        }
        for node in &nodes {
            until(|| (node.nodes() == ["n1 normal joined", "n2 normal joined"]).then_some(()));
        }
        let running = nodes
            .each_ref()
            .map(|node| program(&node.socket()).args(close).running());
        for ended in running.map(Running::ended) {
            let words = ["is normal again", "Nothing was changed"];
            let has_said = ended.code == 0
                || (ended.code == 5 && words.iter().any(|word| ended.stderr.contains(word)));
            assert!(has_said, "{ended:?}");
        }
        assert!(
            nodes.iter().any(|node| node.ok(&["get"]) == "normal\n"),
            "{close:?}"
        );
    }
}
