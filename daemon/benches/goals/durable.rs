//! durable and modes: decisions that are kept, and changes of the mode.

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::dialect::Dialect;
use super::harness::load::{CLIENTS, Client, Load, Seen, names};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;

/// Decisions with the journal.
pub(crate) fn decisions(profile: Profile<'_>, sheet: &mut Sheet) {
    let dialect = Dialect::soramode();
    let at = |name: &str| profile.folder.join(name);
    let ours = baselines::durable(at("kept"), &at("kept.state"), &[]);
    let volatile = baselines::volatile(at("volatile"), &[]);
    let (always, redis) = baselines::redis(&at("always"), Aof::Always);
    let (everysec, redis_everysec) = baselines::redis(&at("everysec"), Aof::Everysec);
    for server in [&ours, &volatile, &always, &everysec] {
        server.pin(Core::First);
    }
    pin_load(Core::Second);
    let load = Load {
        clients: CLIENTS,
        depth: 1,
        time: profile.time,
    };
    let all: Vec<[Seen; 4]> = (0..profile.rounds)
        .map(|_| {
            [
                (&ours, &dialect),
                (&always, &redis),
                (&everysec, &redis_everysec),
                (&volatile, &dialect),
            ]
            .map(|(server, dialect)| load.ask(&server.path, dialect))
        })
        .collect();
    let rate = |yardstick, beside: usize, bound| Row {
        goal: "durable",
        what: "replies with the journal, 64 clients".to_owned(),
        unit: Unit::PerSecond,
        yardstick,
        rounds: Rounds::of(
            all.iter()
                .map(|round| (round[0].rate, round[beside].rate))
                .collect(),
        ),
        bound,
    };
    let rows = [
        rate("Redis always", 1, Bound::AtLeast(1.5)),
        rate("Redis everysec", 2, Bound::AtLeast(1.0)),
        rate("decisions", 3, Bound::AtLeast(0.5)),
        Row {
            goal: "durable",
            what: "the same, p99".to_owned(),
            unit: Unit::Micros,
            yardstick: "decisions",
            rounds: Rounds::of(
                all.iter()
                    .map(|[ours, _, _, volatile]| (ours.p99, volatile.p99))
                    .collect(),
            ),
            bound: Bound::AtMost(3.0),
        },
    ];
    for row in rows {
        sheet.add(row);
    }
}

/// P5 without a disk.
pub(crate) fn modes(profile: Profile<'_>, sheet: &mut Sheet) {
    let (ours_tongue, haproxy_tongue, janus_tongue) =
        (Dialect::modes(), Dialect::haproxy(), Dialect::janus());
    let ours = baselines::volatile(profile.folder.join("modes"), &[]);
    let full = baselines::volatile(profile.folder.join("full-modes"), &[]);
    let haproxy = baselines::haproxy(profile.folder);
    let janus = baselines::janus(profile.folder);
    let mut client = Client::to(&full.path, &Dialect::soramode());
    client.all(0..profile.many, |number| {
        let (channel, connection) = names(number);
        Dialect::soramode().come(&channel, &connection)
    });
    let load = |clients| Load {
        clients,
        depth: 1,
        time: profile.time,
    };
    let beside = |clients, (server, dialect): (&Server, &Dialect), bound| {
        // One client shares a core with its server.
        let core = if clients == 1 {
            Core::Second
        } else {
            Core::First
        };
        for server in [&ours, &full, &haproxy, &janus] {
            server.pin(core);
        }
        pin_load(Core::Second);
        let ask = |server: &Server, dialect| load(clients).ask(&server.path, dialect).rate;
        Rounds::beside(
            profile,
            bound,
            || ask(&ours, &ours_tongue),
            || ask(server, dialect),
        )
    };
    let mut row = |what: String, yardstick, clients, (server, bound)| {
        let rounds = beside(clients, server, bound);
        sheet.add(Row {
            goal: "modes",
            what,
            unit: Unit::PerSecond,
            yardstick,
            rounds,
            bound,
        });
    };
    let (haproxy, janus) = ((&haproxy, &haproxy_tongue), (&janus, &janus_tongue));
    for (what, clients) in [
        ("ChangeMode, 1 client", 1),
        ("ChangeMode, 64 clients", CLIENTS),
    ] {
        row(
            what.to_owned(),
            "HAProxy",
            clients,
            (haproxy, Bound::AtLeast(1.2)),
        );
        row(
            what.to_owned(),
            "Janus",
            clients,
            (janus, Bound::AtLeast(2.5)),
        );
    }
    let what = format!("ChangeMode, near empty and with {}", profile.many);
    row(what, "with", 1, ((&full, &ours_tongue), Bound::AtMost(1.1)));
}
