//! decisions, pipelined, round-trip, filling, memory: decisions without a journal, near empty and with many connections, and what those weigh.

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::dialect::Dialect;
use super::harness::load::{CLIENTS, Client, DEPTH, Load, count, names};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;

/// From so many connections on a connection's weight must not change with their number.
const LINEAR_FROM: usize = 10_000;

/// Maximum memory per connection, in bytes.
const WEIGHT_MAX: f64 = 100.0;

/// Maximum memory that remains after all have left, in addition to that at the start, in MiB.
const KEPT_MAX_MIB: f64 = 16.0;

const MIB: f64 = 1024.0 * 1024.0;

/// A server and how it is spoken to.
type Spoken<'a> = (&'a Server, &'a Dialect);

/// Ours and the yardstick.
type Pair<'a> = [Spoken<'a>; 2];

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let dialect = Dialect::soramode();
    let ours = baselines::volatile(profile.folder.join("gate"), &[]);
    let echo = baselines::echo(profile.folder.join("echo"), &ours);
    let json_echo = baselines::json_echo(profile.folder.join("json-echo"));
    let decisions = ("decisions", "replies, 64 clients, near empty", 1);
    let pipelined = ("pipelined", "the same, 16 in flight", DEPTH);
    for (what, server, yardstick, least) in [
        (decisions, &echo, "echo", 0.65),
        (decisions, &json_echo, "JSON echo", 0.8),
        (pipelined, &json_echo, "JSON echo", 0.6),
    ] {
        let pair = [(&ours, &dialect), (server, &dialect)];
        sheet.add(rate(
            profile,
            what,
            pair,
            (yardstick, Bound::AtLeast(least)),
        ));
    }
    one_client(profile, [&ours, &echo], sheet);
    with_many(profile, &ours, sheet);
}

/// With one core for the server and the other for the load.
fn rate(
    profile: Profile<'_>,
    (goal, what, depth): (&'static str, &str, usize),
    [ours, theirs]: Pair<'_>,
    (yardstick, bound): (&'static str, Bound),
) -> Row {
    ours.0.pin(Core::First);
    theirs.0.pin(Core::First);
    pin_load(Core::Second);
    let load = Load {
        clients: CLIENTS,
        depth,
        time: profile.time,
    };
    let ask = |(server, dialect): Spoken<'_>| load.ask(&server.path, dialect).rate;
    let rounds = Rounds::beside(profile, bound, || ask(ours), || ask(theirs));
    Row {
        goal,
        what: what.to_owned(),
        unit: Unit::PerSecond,
        yardstick,
        rounds,
        bound,
    }
}

/// On one core together.
fn one_client(profile: Profile<'_>, [ours, echo]: [&Server; 2], sheet: &mut Sheet) {
    ours.pin(Core::Second);
    echo.pin(Core::Second);
    pin_load(Core::Second);
    let dialect = Dialect::soramode();
    let mut p99 = Vec::new();
    let seen =
        |server: &Server| Client::to(&server.path, &dialect).round_trips(&dialect, profile.time);
    let mut p50 = Vec::new();
    for _ in 0..profile.rounds {
        let (ours, echo) = (seen(ours), seen(echo));
        p50.push((ours.p50, echo.p50));
        p99.push((ours.p99, echo.p99));
    }
    let row = |what: &str, pairs, bound| Row {
        goal: "round-trip",
        what: what.to_owned(),
        unit: Unit::Micros,
        yardstick: "echo",
        rounds: Rounds::of(pairs),
        bound,
    };
    sheet.add(row(
        "one client's round trip, p50",
        p50,
        Bound::AtMost(1.15),
    ));
    sheet.add(row("one client's round trip, p99", p99, Bound::AtMost(1.3)));
}

/// Beside Redis that decides the same with a script.
fn with_many(profile: Profile<'_>, ours: &Server, sheet: &mut Sheet) {
    let dialect = Dialect::soramode();
    let (redis, redis_tongue) = baselines::redis(&profile.folder.join("redis"), Aof::None);
    for server in [ours, &redis] {
        server.pin(Core::First);
    }
    pin_load(Core::Second);
    let (mut client, mut redis_client) = (
        Client::to(&ours.path, &dialect),
        Client::to(&redis.path, &redis_tongue),
    );
    let empty = (ours.resident_mib(), redis.resident_mib());
    let mut longest = (0.0, 0.0);
    let mut from = 0;
    for until in sizes(profile.many) {
        longest = (
            client.fill(&dialect, from..until).max(longest.0),
            redis_client.fill(&redis_tongue, from..until).max(longest.1),
        );
        let weight = |server: &Server, empty| (server.resident_mib() - empty) * MIB / count(until);
        sheet.add(weight_row(
            until,
            (weight(ours, empty.0), weight(&redis, empty.1)),
        ));
        from = until;
    }
    let many = |what: &str| format!("{what}, {} connections", profile.many);
    sheet.add(Row {
        goal: "filling",
        what: many("longest answer while filling"),
        unit: Unit::Millis,
        yardstick: "Redis",
        rounds: Rounds::of(vec![longest]),
        bound: Bound::AtMost(1.5),
    });
    for (goal, depth, least) in [("decisions", 1, 2.0), ("pipelined", DEPTH, 6.0)] {
        let what = many(if depth == 1 {
            "replies, 64 clients"
        } else {
            "the same, 16 in flight"
        });
        sheet.add(rate(
            profile,
            (goal, &what, depth),
            [(ours, &dialect), (&redis, &redis_tongue)],
            ("Redis Lua", Bound::AtLeast(least)),
        ));
    }
    client.all(0..profile.many, |number| dialect.go(&names(number).1));
    sheet.add(Row {
        goal: "memory",
        what: "kept when all have left".to_owned(),
        unit: Unit::MiB,
        yardstick: "",
        rounds: Rounds::alone([ours.resident_mib() - empty.0]),
        bound: Bound::Within(KEPT_MAX_MIB),
    });
}

/// From where the weight is linear up to the most, each ten times the one before.
fn sizes(many: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(LINEAR_FROM), |size| size.checked_mul(10))
        .take_while(move |size| *size <= many)
}

fn weight_row(connections: usize, pair: (f64, f64)) -> Row {
    Row {
        goal: "memory",
        what: format!("a connection's weight, {connections} connections"),
        unit: Unit::Bytes,
        yardstick: "Redis",
        rounds: Rounds::of(vec![pair]),
        bound: Bound::Within(WEIGHT_MAX),
    }
}
