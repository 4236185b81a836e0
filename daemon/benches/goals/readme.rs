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

/// A file, its table's head, and the index of its language.
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

/// Rows: the goal, the beginning of its line, its baseline; then that and the baseline in words, in English and Japanese; the better direction.
const ROWS: &str = include_str!("readme.txt");

/// A row of the tables, in both languages.
struct Row {
    goal: &'static str,
    what: &'static str,
    baseline: &'static str,
    /// The measured value and its baseline, in words.
    words: [[&'static str; 2]; 2],
    better: [&'static str; 2],
}

impl Row {
    /// Reads a line of `readme.txt`.
    fn read(line: &'static str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split(" | ").collect();
        let &[
            goal,
            what,
            baseline,
            what_en,
            what_ja,
            beside_en,
            beside_ja,
            better,
        ] = &fields[..]
        else {
            return Err(format!("readme.txt: {line:?} has not 8 fields"));
        };
        Ok(Self {
            goal,
            what,
            baseline,
            words: [[what_en, beside_en], [what_ja, beside_ja]],
            better: match better {
                "more" => ["more", "大きい方"],
                "less" => ["less", "小さい方"],
                _ => return Err(format!("readme.txt: {better:?} is not more or less")),
            },
        })
    }
}

/// Writes both tables. If a measurement is missing it writes nothing and returns an error.
pub(crate) fn write() -> Result<(), String> {
    let file = results().join("goals.json");
    let text =
        fs::read(&file).map_err(|error| format!("{}: {error}: measure first", file.display()))?;
    let rows: Vec<Value> =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines: Vec<(Row, f64)> = ROWS
        .lines()
        .map(|line| {
            let row = Row::read(line)?;
            let ratio = ratio(&rows, &row)?;
            Ok((row, ratio))
        })
        .collect::<Result<_, String>>()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, head, language) in FILES {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        let table = lines.iter().map(|(row, ratio)| {
            let [what, beside] = row.words[language];
            format!(
                "| {what} | {beside} | {ratio:.2} | {} |\n",
                row.better[language]
            )
        });
        let picture = folder
            .join(PICTURE)
            .exists()
            .then(|| format!("\n![{}]({PICTURE})\n", CAPTIONS[language]));
        let table: String = std::iter::once(head.to_owned())
            .chain(table)
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

fn ratio(rows: &[Value], row: &Row) -> Result<f64, String> {
    let Row {
        goal,
        what,
        baseline,
        ..
    } = row;
    let is_it = |row: &&Value| {
        row["goal"] == *goal
            && row["yardstick"] == *baseline
            && row["what"]
                .as_str()
                .is_some_and(|text| text.starts_with(what))
    };
    let found = rows
        .iter()
        .find(is_it)
        .and_then(|row| row["ratio"].as_f64());
    found.ok_or_else(|| format!("{goal} ({what}, beside {baseline}) was not measured: run the whole suite, without --quick"))
}
