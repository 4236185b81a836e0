//! Growth of decisions, modes, memory, lists and start with the number of connections, beside
//! Redis, drawn into one picture.

use std::path::PathBuf;

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::chart::{self, Panel, Scale};
use super::harness::dialect::Dialect;
use super::harness::load::{CLIENTS, CONNECTIONS_A_CHANNEL, Client, Load, count, names};
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::{Sheet, results};
use super::list::{Pager, hash_rate};
use super::start;

/// Numbers of connections, the axis of each picture.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Titles of the pictures, in the order of the measurements.
const TITLES: [(&str, Unit); 5] = [
    ("Connect and Disconnect a second", Unit::PerSecond),
    ("changes of the mode a second", Unit::PerSecond),
    ("bytes a connection, its events too", Unit::Bytes),
    ("rows listed a second", Unit::PerSecond),
    ("seconds to the first answer", Unit::Seconds),
];

const MIB: f64 = 1024.0 * 1024.0;

/// Measures, and draws `daemon/benches/growth.svg`; a quick look stays in `target/`.
pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let pair = Pair::start(profile);
    let mut panels = TITLES.map(|(title, _)| Panel {
        title: title.to_owned(),
        curves: vec![Vec::new(), Vec::new()],
    });
    let mut from = 0;
    for size in SIZES.into_iter().filter(|size| *size <= profile.many) {
        pair.fill(from..size);
        from = size;
        let all = [
            pair.decisions(profile),
            pair.modes(profile),
            pair.weight(size),
            pair.lists(profile, size),
            pair.starts(profile, size),
        ];
        for ((rounds, panel), (title, unit)) in all.into_iter().zip(&mut panels).zip(TITLES) {
            panel.curves[0].push((count(size), rounds.ours()));
            panel.curves[1].push((count(size), rounds.theirs()));
            sheet.add(Row {
                goal: "growth",
                what: format!("{title}, {size} connections"),
                unit,
                yardstick: "Redis",
                rounds,
                bound: Bound::Shown,
            });
        }
    }
    let is_whole = SIZES.into_iter().all(|size| size <= profile.many);
    let folder = if is_whole {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    } else {
        results()
    };
    let file = folder.join("growth.svg");
    chart::draw(&file, &panels, &["soramode", "Redis"], Scale::Tens);
    println!("drawn: {}", file.display());
}

/// soramoded and Redis, both without a disk.
struct Pair {
    ours: Server,
    dialect: Dialect,
    redis: Server,
    redis_tongue: Dialect,
    /// Memory of both at the start, in MiB.
    empty: (f64, f64),
}

impl Pair {
    fn start(profile: Profile<'_>) -> Self {
        let ours = baselines::volatile(profile.folder.join("gate"), &[]);
        let (redis, redis_tongue) = baselines::redis(&profile.folder.join("redis"), Aof::None);
        let mut pair = Self {
            ours,
            dialect: Dialect::soramode(),
            redis,
            redis_tongue,
            empty: (0.0, 0.0),
        };
        // The retained events do not grow with the connections: they exist before.
        pair.decisions(profile);
        pair.empty = (pair.ours.resident_mib(), pair.redis.resident_mib());
        pair
    }

    fn fill(&self, numbers: std::ops::Range<usize>) {
        for (server, dialect) in [
            (&self.ours, &self.dialect),
            (&self.redis, &self.redis_tongue),
        ] {
            Client::to(&server.path, dialect).all(numbers.clone(), |number| {
                let (channel, connection) = names(number);
                dialect.come(&channel, &connection)
            });
        }
    }

    fn pin(&self, core: Core) {
        self.ours.pin(core);
        self.redis.pin(core);
        pin_load(Core::Second);
    }

    fn decisions(&self, profile: Profile<'_>) -> Rounds {
        self.pin(Core::First);
        let load = Load {
            clients: CLIENTS,
            depth: 1,
            time: profile.time,
        };
        let ask = |server: &Server, dialect| load.ask(&server.path, dialect).rate;
        Rounds::beside(
            profile,
            Bound::Shown,
            || ask(&self.ours, &self.dialect),
            || ask(&self.redis, &self.redis_tongue),
        )
    }

    fn modes(&self, profile: Profile<'_>) -> Rounds {
        self.pin(Core::Second);
        let load = Load {
            clients: 1,
            depth: 1,
            time: profile.time,
        };
        let ask = |server: &Server, dialect| load.ask(&server.path, dialect).rate;
        let (ours, theirs) = (Dialect::modes(), Dialect::redis_modes());
        Rounds::beside(
            profile,
            Bound::Shown,
            || ask(&self.ours, &ours),
            || ask(&self.redis, &theirs),
        )
    }

    fn weight(&self, size: usize) -> Rounds {
        let weight = |server: &Server, empty| (server.resident_mib() - empty) * MIB / count(size);
        Rounds::of(vec![(
            weight(&self.ours, self.empty.0),
            weight(&self.redis, self.empty.1),
        )])
    }

    fn lists(&self, profile: Profile<'_>, size: usize) -> Rounds {
        self.pin(Core::First);
        let (mut pager, mut client) = (
            Pager::to(&self.ours.path),
            Client::to(&self.redis.path, &self.redis_tongue),
        );
        let sessions = size / CONNECTIONS_A_CHANNEL;
        Rounds::beside(
            profile,
            Bound::Shown,
            || pager.rate(sessions),
            || hash_rate(&mut client, ("channels", sessions)),
        )
    }

    fn starts(&self, profile: Profile<'_>, size: usize) -> Rounds {
        self.pin(Core::First);
        pin_load(Core::Any);
        let folder = profile.folder.join(format!("{size}"));
        std::fs::create_dir(&folder).unwrap();
        let rounds = start::full(Profile {
            folder: &folder,
            many: size,
            ..profile
        });
        std::fs::remove_dir_all(folder).unwrap();
        rounds
    }
}
