//! Every goal of speed and size, each beside its yardstick in the same run and in turn.
//!
//! `cargo bench -p soramoded --bench bars` measures all; words after `--` pick bars (`P1 P4`), `--quick` takes fewer rounds and fewer
//! connections. What is compared with must be installed, and it says what is missing. The table goes to the terminal, every round to
//! `target/bars.json`.
//!
//! Servers have one core and the load the other; one client shares a core with its server, or results fall into two groups.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement ends by panicking, and prints"
)]

mod decide;
mod keep;
mod yard;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use yard::row::Row;
use yard::{Effort, echo, peers, runtime};

/// What is measured together, and the bars that come out.
struct Measurement {
    bars: &'static [&'static str],
    measure: fn(Effort<'_>) -> Vec<Row>,
}

const ALL: &[Measurement] = &[
    Measurement { bars: &["P1", "P2", "P3", "P3b", "P8"], measure: decide::measure },
    Measurement { bars: &["P4"], measure: keep::decisions },
    Measurement { bars: &["P5"], measure: keep::modes },
    Measurement { bars: &["P5", "P10"], measure: keep::disk },
    Measurement { bars: &["P12"], measure: keep::starts },
];

const HEAD: [&str; 7] = ["bar", "soramode", "yardstick", "ratio", "spread", "bound", "verdict"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [play, path, bytes] = arguments.as_slice()
        && play == "play-echo"
    {
        return runtime().block_on(echo::serve(Path::new(path), bytes.parse().unwrap()));
    }
    require_programs();
    let folder = std::env::temp_dir().join(format!("soramode-bench-{}", std::process::id()));
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let (rounds, time, many) = if is_quick { (3, 500, 100_000) } else { (5, 2_000, 1_000_000) };
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEAD);
    let mut rows = Vec::new();
    for Measurement { bars, measure } in ALL {
        if !words.is_empty() && !bars.iter().any(|bar| words.contains(bar)) {
            continue;
        }
        std::fs::create_dir_all(&folder).unwrap();
        for row in measure(Effort { folder: &folder, rounds, time: Duration::from_millis(time), many }) {
            println!("{}", row.cells().join("  "));
            table.add_row(row.cells());
            rows.push(row);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!("\n{table}");
    let json = Value::from_iter(rows.iter().map(Row::json));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bars.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
    println!("every round: {}", file.display());
}

/// Nothing is installed here; what is missing is said.
fn require_programs() {
    let is_missing = |program: &str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    };
    let missing: Vec<&str> = peers::PROGRAMS.iter().filter(|(program, _)| is_missing(program)).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        println!("what soramode is compared with is not all there: apt-get install {}", missing.join(" "));
        std::process::exit(2);
    }
}
