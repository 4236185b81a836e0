//! Stories as text, in `tests/scenarios/*.txt`. Under each input stands what came of it; `SORAMODE_REWRITE=1` writes that
//! anew, and the diff is for people to read. `README.md` there describes the format.

mod described;
mod etcd;
mod explain_agrees;
mod janus;
mod orders;
mod plan;
mod read;
mod reservation;
mod story;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

/// `README.md` has a line for each file.
#[test]
fn the_readme_names_each_file() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    for path in files() {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(readme.contains(&format!("| `{name}` | ")), "{name}");
    }
}

/// Returns the first line of each story that differs from its file.
fn differences(recorded: &str, happened: &str) -> Vec<String> {
    let stories = |text: &str| {
        text.split("\n== ")
            .map(str::to_owned)
            .collect::<Vec<String>>()
    };
    let (recorded, happened) = (stories(recorded), stories(happened));
    let parting = recorded
        .iter()
        .zip(&happened)
        .filter(|(recorded, happened)| recorded != happened);
    parting
        .map(|(recorded, happened)| first_difference(recorded, happened))
        .collect()
}

fn first_difference(recorded: &str, happened: &str) -> String {
    let title = recorded.lines().next().unwrap_or_default();
    let same = recorded
        .lines()
        .zip(happened.lines())
        .take_while(|(recorded, happened)| recorded == happened)
        .count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(nothing)").to_owned();
    let before = recorded.lines().take(same).last().unwrap_or_default();
    format!(
        "{title}\n  after     {before}\n  recorded  {}\n  happened  {}",
        line(recorded),
        line(happened)
    )
}

#[test]
fn every_story_happens_as_recorded() {
    let mut differences_of_all = Vec::new();
    let mut stories = 0;
    for path in files() {
        let recorded = fs::read_to_string(&path).unwrap();
        let happened = story::replay(&recorded)
            .unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        stories += happened
            .lines()
            .filter(|line| line.starts_with("== "))
            .count();
        if std::env::var_os("SORAMODE_REWRITE").is_some() {
            fs::write(&path, &happened).unwrap();
        } else if recorded != happened {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            differences_of_all.extend(
                differences(&recorded, &happened)
                    .into_iter()
                    .map(|difference| format!("{name}: {difference}")),
            );
        }
    }
    assert!(stories > 0, "no stories in {}", folder().display());
    assert!(
        differences_of_all.is_empty(),
        "of {stories} stories some go otherwise:\n{}",
        differences_of_all.join("\n")
    );
}
