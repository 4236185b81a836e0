//! Pairs of rolls that start at the same time, with lists that overlap in part. `SORAMODE_ROLL_PAIRS` sets the number of pairs (3),
//! `SORAMODE_SEED` the lists.

use std::collections::BTreeMap;
use std::io::Write as _;

use fastrand::Rng;

use crate::fleet::Fleet;
use crate::roll_checker::{Checker, Promise};
use crate::support::{Ended, Run};

const NODES: usize = 4;

const PAIRS_DEFAULT: u64 = 3;

/// The words of a roll, and its promise.
fn draw(rng: &mut Rng) -> (Vec<String>, Promise) {
    let mut nodes: Vec<usize> = (0..NODES).collect();
    rng.shuffle(&mut nodes);
    nodes.truncate(rng.usize(2..=NODES));
    let keep_open = rng.usize(1..nodes.len());
    let hosts: Vec<String> = nodes
        .iter()
        .map(|node| format!("sfu-0{}", node + 1))
        .collect();
    let words = [
        "--json",
        "-H",
        &hosts.join(","),
        "roll",
        "--keep-open",
        &keep_open.to_string(),
        "-m",
        "CHG-1",
        "--",
        "true",
    ];
    let words = words.map(str::to_owned).to_vec();
    (words, Promise { nodes, keep_open })
}

/// The first words of the sentence that a roll ended with, without the parts that differ from roll to roll.
fn describe(ended: &Ended) -> String {
    if ended.code == 0 {
        return "done".to_owned();
    }
    let sentence = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("soramode: "));
    let sentence = sentence
        .unwrap_or("no sentence")
        .trim_start_matches("soramode: ");
    let words = sentence
        .split_once("for roll ")
        .map_or(sentence, |(words, _)| words);
    let words = words.split_once(": ").map_or(words, |(_, words)| words);
    format!("exit {}: {words}", ended.code)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn pairs_of_rolls_never_close_too_many_nodes() {
    let pairs = number("SORAMODE_ROLL_PAIRS", PAIRS_DEFAULT);
    let mut rng = Rng::with_seed(number("SORAMODE_SEED", 1));
    let fleet = Fleet::start(NODES);
    let sockets = fleet.daemons.iter().map(crate::support::Daemon::socket);
    let mut checker = Checker::new(sockets.collect());
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    let mut both_done = 0;
    for pair in 0..pairs {
        let rolls = [draw(&mut rng), draw(&mut rng)];
        let running =
            rolls.map(|(words, promise)| (fleet.program().args(words).running(), promise));
        let mut done = 0;
        for (running, promise) in running {
            let ended = running.ended();
            let json = ended.json();
            let roll = json["roll"].as_str().unwrap().to_owned();
            checker.note_end(&roll);
            checker.promises.insert(roll, promise);
            done += u64::from(ended.code == 0);
            assert!(matches!(ended.code, 0 | 5), "pair {pair}: {ended:?}");
            *ends.entry(describe(&ended)).or_default() += 1;
        }
        both_done += u64::from(done == 2);
        checker.check_reservations();
        for daemon in &fleet.daemons {
            assert_eq!(daemon.ok(&["get"]), "normal\n", "pair {pair}");
        }
    }
    checker.read();
    let verdict = checker.judge();
    let line = format!("{pairs} pairs, in {both_done} of them both done: {ends:?}; {verdict:?}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert_eq!(verdict.together, [], "two rolls that share a node");
    assert!(verdict.closes > 0);
}
