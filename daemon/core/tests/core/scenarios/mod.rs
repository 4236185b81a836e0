//! Stories as text, in `tests/scenarios/*.txt`. Under each input stands what came of it; `SORAMODE_REWRITE=1` writes that
//! anew, and the diff is for people to read. The format is told in [`story`].

mod read;
mod story;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Which lines part, with the title of their story.
fn differences(told: &str, happened: &str) -> Vec<String> {
    let mut title = "";
    let mut differences = Vec::new();
    let (mut told, mut happened) = (told.lines().peekable(), happened.lines());
    for now in happened.by_ref() {
        if now.starts_with("== ") {
            title = now;
        }
        if told.next_if_eq(&now).is_some() {
            continue;
        }
        differences.push(format!("{title}\n  happened: {now}\n  told:     {}", told.peek().unwrap_or(&"(nothing)")));
        // Go on where both tell the same again.
        if let Some(next) = told.peek()
            && next.starts_with("  ")
            && now.starts_with("  ")
        {
            told.next();
        }
    }
    differences.extend(told.map(|line| format!("{title}\n  did not happen: {line}")));
    differences
}

#[test]
fn every_story_happens_as_it_is_told() {
    let mut differences_of_all = Vec::new();
    let mut stories = 0;
    for path in files() {
        let told = fs::read_to_string(&path).unwrap();
        let happened = story::tell(&told).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        stories += happened.lines().filter(|line| line.starts_with("== ")).count();
        if std::env::var_os("SORAMODE_REWRITE").is_some() {
            fs::write(&path, &happened).unwrap();
        } else if told != happened {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            differences_of_all.extend(differences(&told, &happened).into_iter().take(5).map(|difference| format!("{name}: {difference}")));
        }
    }
    assert!(stories > 0, "no stories in {}", folder().display());
    assert!(differences_of_all.is_empty(), "of {stories} stories some go otherwise:\n{}", differences_of_all.join("\n"));
}
