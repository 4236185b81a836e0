//! The tables in `daemon/benches/README.md` and `README.ja.md`, and the picture below them: every figure a ratio out of `target/goals.json`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::harness::sheet::results;

/// The table stands between these.
const MARKS: [&str; 2] = ["<!-- goals -->\n", "<!-- /goals -->"];

/// The picture that `growth` draws, beside the tables.
const PICTURE: &str = "growth.svg";

const CAPTIONS: [&str; 2] = [
    "How the figures change with the number of connections, beside Redis",
    "接続数に応じた各値の変化、Redis との比較",
];

/// A file, its table's head, and which of a line's words it takes.
const FILES: [(&str, &str, usize); 2] = [
    (
        "README.md",
        "| what | beside | ratio | better |\n|---|---|---|---|\n",
        0,
    ),
    (
        "README.ja.md",
        "| 測るもの | 比べるもの | 比 | 望ましい方向 |\n|---|---|---|---|\n",
        1,
    ),
];

const MORE: [&str; 2] = ["more", "大きい方"];
const LESS: [&str; 2] = ["less", "小さい方"];

/// A row: its goal, how it begins, what it is beside, and all that in words.
struct Line {
    row: (&'static str, &'static str, &'static str),
    what: [&'static str; 2],
    beside: [&'static str; 2],
    better: [&'static str; 2],
}

const ECHO: [&str; 2] = ["a server that echoes", "エコーサーバー"];
const LUA: [&str; 2] = ["Redis with a script", "スクリプトを使う Redis"];

const LINES: &[Line] = &[
    Line {
        row: ("decisions", "replies, 64 clients, near empty", "echo"),
        what: [
            "decisions a second, 64 clients",
            "毎秒の判定数、64 クライアント",
        ],
        beside: ECHO,
        better: MORE,
    },
    Line {
        row: ("decisions", "replies, 64 clients, 1000000", "Redis Lua"),
        what: [
            "the same, with 1,000,000 connections",
            "同上、接続が 1,000,000 あるとき",
        ],
        beside: LUA,
        better: MORE,
    },
    Line {
        row: ("pipelined", "the same, 16 in flight, 1000000", "Redis Lua"),
        what: [
            "the same, 16 in flight each",
            "同上、各クライアントが 16 ずつまとめて送るとき",
        ],
        beside: LUA,
        better: MORE,
    },
    Line {
        row: ("round-trip", "one client's round trip, p50", "echo"),
        what: [
            "one client's round trip, median",
            "1 クライアントの往復時間、中央値",
        ],
        beside: ECHO,
        better: LESS,
    },
    Line {
        row: ("filling", "longest answer while filling", "Redis"),
        what: [
            "longest answer while 1,000,000 connections come",
            "接続が 1,000,000 に増える間の最も遅い応答",
        ],
        beside: ["Redis", "Redis"],
        better: LESS,
    },
    Line {
        row: ("durable", "replies with the journal", "Redis always"),
        what: [
            "decisions a second, everything kept",
            "すべてを保存しながらの毎秒の判定数",
        ],
        beside: ["Redis, fsync always", "Redis（fsync always）"],
        better: MORE,
    },
    Line {
        row: ("modes", "ChangeMode, 64 clients", "HAProxy"),
        what: [
            "changes of the mode a second, 64 clients",
            "毎秒のモード変更数、64 クライアント",
        ],
        beside: [
            "HAProxy, `set server state`",
            "HAProxy の `set server state`",
        ],
        better: MORE,
    },
    Line {
        row: ("modes", "ChangeMode, 64 clients", "Janus"),
        what: ["the same", "同上"],
        beside: [
            "Janus, `accept_new_sessions`",
            "Janus の `accept_new_sessions`",
        ],
        better: MORE,
    },
    Line {
        row: ("command", "soramode get, from start", "bare client"),
        what: [
            "`soramode get`, from start to end",
            "`soramode get` の起動から終了まで",
        ],
        beside: [
            "a client that does nothing else",
            "それだけを行うクライアント",
        ],
        better: LESS,
    },
    Line {
        row: ("command", "soramode get, from start", "redis-cli"),
        what: [
            "`soramode get`, from start to end",
            "`soramode get` の起動から終了まで",
        ],
        beside: ["`redis-cli get`", "`redis-cli get`"],
        better: LESS,
    },
    Line {
        row: ("http", "GetMode over HTTP, 64", "nginx"),
        what: [
            "the mode over HTTP a second, 64 connections",
            "HTTP での毎秒のモード取得数、64 接続",
        ],
        beside: ["nginx, a constant answer", "定数を返す nginx"],
        better: MORE,
    },
    Line {
        row: ("memory", "a connection's weight, 1000000", "Redis"),
        what: [
            "memory a connection, of 1,000,000",
            "1 接続あたりのメモリー、1,000,000 接続のとき",
        ],
        beside: ["Redis", "Redis"],
        better: LESS,
    },
    Line {
        row: ("lists", "rows of all", "Redis HGETALL"),
        what: [
            "rows a second, listing 100,000 sessions",
            "セッション 100,000 件の一覧の毎秒の行数",
        ],
        beside: ["Redis, `HGETALL`", "Redis の `HGETALL`"],
        better: MORE,
    },
    Line {
        row: (
            "webhooks",
            "last Disconnect to the webhook, p50",
            "commit + POST",
        ),
        what: [
            "from the last disconnect to the webhook, median",
            "最後の切断からウェブフックまで、中央値",
        ],
        beside: ["a commit and a POST", "コミット 1 回と POST 1 回"],
        better: LESS,
    },
    Line {
        row: ("start", "the same, 1000000 stored", "Redis from its AOF"),
        what: [
            "start with 1,000,000 stored connections",
            "保存された 1,000,000 接続からの起動",
        ],
        beside: ["Redis from its AOF", "AOF からの Redis"],
        better: LESS,
    },
];

/// Writes both tables anew; what is missing is said, and then nothing is written.
pub(crate) fn write() -> Result<(), String> {
    let file = results().join("goals.json");
    let text =
        fs::read(&file).map_err(|error| format!("{}: {error}: measure first", file.display()))?;
    let rows: Vec<Value> =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let ratios: Vec<f64> = LINES
        .iter()
        .map(|line| ratio(&rows, line))
        .collect::<Result<_, _>>()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, head, language) in FILES {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        let lines = LINES.iter().zip(&ratios).map(
            |(
                Line {
                    what,
                    beside,
                    better,
                    ..
                },
                ratio,
            )| {
                format!(
                    "| {} | {} | {ratio:.2} | {} |\n",
                    what[language], beside[language], better[language]
                )
            },
        );
        let picture = folder
            .join(PICTURE)
            .exists()
            .then(|| format!("\n![{}]({PICTURE})\n", CAPTIONS[language]));
        let table: String = std::iter::once(head.to_owned())
            .chain(lines)
            .chain(picture)
            .collect();
        let (before, rest) = text
            .split_once(MARKS[0])
            .ok_or_else(|| format!("{name} has no {}", MARKS[0]))?;
        let (_, after) = rest
            .split_once(MARKS[1])
            .ok_or_else(|| format!("{name} has no {}", MARKS[1]))?;
        fs::write(
            &path,
            format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]),
        )
        .map_err(|error| format!("{name}: {error}"))?;
        println!("written: {name}");
    }
    Ok(())
}

fn ratio(
    rows: &[Value],
    Line {
        row: (goal, what, yardstick),
        ..
    }: &Line,
) -> Result<f64, String> {
    let is_it = |row: &&Value| {
        row["goal"] == *goal
            && row["yardstick"] == *yardstick
            && row["what"]
                .as_str()
                .is_some_and(|text| text.starts_with(what))
    };
    let found = rows
        .iter()
        .find(is_it)
        .and_then(|row| row["ratio"].as_f64());
    found.ok_or_else(|| format!("{goal} ({what}, beside {yardstick}) was not measured: run the whole suite, without --quick"))
}
