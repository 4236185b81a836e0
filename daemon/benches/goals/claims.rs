//! claims: channels that are claimed in the cluster, beside bare transactions of the same shape in the same etcd.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use etcd_client::{Client as Etcd, Compare, CompareOp, Txn, TxnOp};
use soramode_protocol::client::Client;
use soramode_protocol::cluster::InitCluster;
use soramode_protocol::decision::{Connect, Decision, Disconnect};
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::wait::{Outcome, Wait, WaitFor};
use tokio::task::JoinSet;

use super::harness::load::{ANSWER_MAX, CLIENTS, Seen, count, micros};
use super::harness::row::{Bound, Rounds, Row, Unit, percentile};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;
use super::harness::{Profile, baselines, runtime};

const ETCD: &str = "127.0.0.1:34579";
const PEER: &str = "127.0.0.1:34580";

/// Size of a node's own value, in bytes.
const CLAIM_BYTES: usize = 96;

/// Keys of a node that is not there, for the bare transactions.
const MEMBER: &str = "/soramode/v1/bare/n/node-01";
const MODE: &str = "/soramode/v1/bare/m/node-01";

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let etcd = etcd(profile.folder);
    let node = baselines::volatile(
        profile.folder.join("claims"),
        &[
            "--cluster",
            &format!("http://{ETCD}"),
            "--node-name",
            "node-01",
        ],
    );
    runtime().block_on(join(&node.path));
    // Both ask etcd, and so stand where its clients stand.
    etcd.pin(Core::First);
    node.pin(Core::Second);
    pin_load(Core::Second);
    let member = runtime().block_on(bare_member());
    for clients in [1, 8, CLIENTS] {
        let mut pairs = Vec::new();
        for round in 0..profile.more_rounds {
            let ours = || claim_for(clients, profile.time, (round, Asked::Node(&node.path)));
            let bare = || claim_for(clients, profile.time, (round, Asked::Etcd(member)));
            pairs.push(if round % 2 == 0 {
                let seen = ours();
                (seen, bare())
            } else {
                let seen = bare();
                (ours(), seen)
            });
        }
        add(sheet, clients, &pairs);
    }
}

fn add(sheet: &mut Sheet, clients: usize, pairs: &[(Seen, Seen)]) {
    let what = format!(
        "channels claimed, {clients} client{}",
        if clients == 1 { "" } else { "s" }
    );
    let rounds = |of: fn(&Seen) -> f64| {
        Rounds::of(
            pairs
                .iter()
                .map(|(ours, bare)| (of(ours), of(bare)))
                .collect(),
        )
    };
    let row = |what: String, unit, rounds, bound| Row {
        goal: "claims",
        what,
        unit,
        yardstick: "bare etcd",
        rounds,
        bound,
    };
    sheet.add(row(
        what.clone(),
        Unit::PerSecond,
        rounds(|seen| seen.rate),
        Bound::AtLeast(0.9),
    ));
    sheet.add(row(
        format!("{what}, p50"),
        Unit::Micros,
        rounds(|seen| seen.p50),
        Bound::Shown,
    ));
    sheet.add(row(
        format!("{what}, p99"),
        Unit::Micros,
        rounds(|seen| seen.p99),
        Bound::AtMost(1.3),
    ));
}

fn etcd(folder: &Path) -> Server {
    let (client, peer) = (format!("http://{ETCD}"), format!("http://{PEER}"));
    let mut command = Command::new("etcd");
    command.args([
        "--name",
        "harness",
        "--log-level",
        "error",
        "--initial-cluster",
        &format!("harness={peer}"),
        "--data-dir",
    ]);
    command.arg(folder.join("etcd")).args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    Server::start_at(&mut command, ETCD.parse().unwrap())
}

async fn join(path: &Path) {
    let mut node = Client::connect(path).await.unwrap();
    let began = Instant::now();
    while let Err(error) = node.call(&InitCluster::default()).await {
        assert!(began.elapsed() < ANSWER_MAX, "{error}");
        tokio::task::yield_now().await;
    }
    let wait = Wait {
        timeout_seconds: Some(ANSWER_MAX.as_secs_f64()),
        ..Wait::new(WaitFor::Joined)
    };
    assert_eq!(node.call(&wait).await.unwrap().outcome, Outcome::Reached);
}

/// Its keys are there as a node's would be; gives the revision that created the first.
async fn bare_member() -> i64 {
    let mut etcd = connect().await;
    etcd.put(MODE, "normal", None).await.unwrap();
    etcd.put(MEMBER, "x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision()
}

async fn connect() -> Etcd {
    Etcd::connect([format!("http://{ETCD}")], None)
        .await
        .unwrap()
}

/// Target of the claims.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    Node(&'a Path),
    /// With a member key of this revision.
    Etcd(i64),
}

/// Runs this number of clients, each of which claims one channel after another and releases each;
/// returns the times of the claims.
fn claim_for(clients: usize, time: Duration, (round, asked): (usize, Asked<'_>)) -> Seen {
    let began = Instant::now();
    let end = began + time;
    let mut times = runtime().block_on(async {
        let mut all = JoinSet::new();
        let shared = connect().await;
        for client in 0..clients {
            let name = format!("{round:03}-{client:02}");
            match asked {
                Asked::Node(path) => all.spawn(claim_of_node(
                    Client::connect(path).await.unwrap(),
                    name,
                    end,
                )),
                // One connection for all, like the daemon.
                Asked::Etcd(member) => {
                    all.spawn(claim_of_etcd((shared.clone(), member), name, end))
                }
            };
        }
        tokio::time::timeout(time + ANSWER_MAX, all.join_all())
            .await
            .unwrap()
            .concat()
    });
    let elapsed = began.elapsed();
    times.sort_by(f64::total_cmp);
    Seen {
        rate: count(times.len()) / elapsed.as_secs_f64(),
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
    }
}

async fn claim_of_node(mut client: Client, name: String, end: Instant) -> Vec<f64> {
    let mut times = Vec::new();
    while Instant::now() < end {
        let channel = ChannelId::new(&format!("{name}-{:012}", times.len())).unwrap();
        let connection_id = ConnectionId::new(channel.as_str()).unwrap();
        let began = Instant::now();
        let decision = client
            .call(&Connect::new(channel, connection_id.clone()))
            .await
            .unwrap();
        times.push(micros(began.elapsed()));
        assert!(
            matches!(decision, Decision::Offer { created: true, .. }),
            "{decision:?}"
        );
        // The claim goes while the next is asked for.
        client.call(&Disconnect { connection_id }).await.unwrap();
    }
    times
}

async fn claim_of_etcd((mut etcd, member): (Etcd, i64), name: String, end: Instant) -> Vec<f64> {
    let (mut times, mut releases) = (Vec::new(), JoinSet::new());
    while Instant::now() < end {
        let key = format!("/soramode/v1/bare/c/{name}-{:012}", times.len());
        let began = Instant::now();
        let answer = etcd.txn(claim(&key, member)).await.unwrap();
        times.push(micros(began.elapsed()));
        assert!(answer.succeeded());
        let (mut etcd, token) = (etcd.clone(), answer.header().unwrap().revision());
        releases.spawn(async move {
            let is_still = Compare::mod_revision(key.as_str(), CompareOp::Equal, token);
            assert!(
                etcd.txn(
                    Txn::new()
                        .when([is_still])
                        .and_then([TxnOp::delete(key, None)])
                )
                .await
                .unwrap()
                .succeeded()
            );
        });
    }
    releases.join_all().await;
    times
}

fn claim(key: &str, member: i64) -> Txn {
    let compares = [
        Compare::create_revision(key, CompareOp::Equal, 0),
        Compare::create_revision(MEMBER, CompareOp::Equal, member),
        Compare::value(MODE, CompareOp::Equal, "normal"),
    ];
    let reads = [key, MEMBER, MODE].map(|key| TxnOp::get(key, None));
    Txn::new()
        .when(compares)
        .and_then([TxnOp::put(key, "x".repeat(CLAIM_BYTES), None)])
        .or_else(reads)
}
