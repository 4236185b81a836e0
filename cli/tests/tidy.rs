//! The whole tree: files that a reader can take in, and nothing in it that speaks of where it was made.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "tidy/circles.rs"]
mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest source file, in lines.
const LINES_MAX: usize = 500;

/// Files that are longer, and how long they are: a number here only ever goes down.
const LONGER: &[(&str, usize)] = &[
    ("cli/tests/cli/api.rs", 699),
    ("cli/tests/cli/cluster.rs", 649),
    ("cli/tests/cli/drill.rs", 519),
    ("cli/tests/cli/exits.rs", 604),
    ("cli/tests/cli/waits.rs", 559),
    ("daemon/core/tests/core/lossy_sora/mod.rs", 520),
    ("daemon/core/tests/core/show.rs", 697),
    ("daemon/src/config/tests.rs", 640),
    ("daemon/src/store/tests.rs", 587),
    ("daemon/tests/daemon/state.rs", 640),
    ("daemon/tests/http/api.rs", 645),
];

/// The longest line of a document, in characters: tables apart, what a reader takes in at a glance.
const COLUMNS_MAX: usize = 180;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Files of the project with this ending, with their paths from its root.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if name.ends_with(ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((
                    path.strip_prefix(root())
                        .unwrap()
                        .to_string_lossy()
                        .into_owned(),
                    text,
                ));
            }
        }
    }
    found.sort();
    assert!(
        !found.is_empty(),
        "no file ends with {ending}: this test looks at nothing"
    );
    found
}

#[test]
fn source_files_are_short() {
    let excess: Vec<String> = files(".rs")
        .into_iter()
        .filter_map(|(path, text)| {
            let lines = text.lines().count();
            let max = LONGER
                .iter()
                .find(|(longer, _)| *longer == path)
                .map_or(LINES_MAX, |(_, max)| *max);
            (lines > max).then(|| format!("{path}: {lines} lines, takes {max}"))
        })
        .collect();
    assert!(excess.is_empty(), "divide:\n{}", excess.join("\n"));
}

/// Timeouts, certificates, proxies, redirects and which connections are kept are settled in one place.
#[test]
fn every_request_goes_through_the_one_client() {
    let places = [
        "shared/src/http_client.rs",
        "shared/src/http_client/kept.rs",
        "shared/src/certificates.rs",
        "cli/tests/tidy.rs",
    ];
    let others = files(".rs")
        .into_iter()
        .filter(|(path, _)| !places.contains(&path.as_str()));
    let makes_one = |text: &str| {
        [
            "Client::builder()",
            "ClientBuilder::new",
            "reqwest::Client::new",
            "reqwest::get(",
            "HttpConnector::new",
        ]
        .iter()
        .any(|it| text.contains(it))
    };
    let strays: Vec<String> = others
        .filter(|(_, text)| makes_one(text))
        .map(|(path, _)| path)
        .collect();
    assert!(
        strays.is_empty(),
        "take soramode_protocol::http_client in:\n{}",
        strays.join("\n")
    );
}

/// The rows of the table under ARCHITECTURE's "Dependencies": a module of the daemon or the core, and the modules that import it.
fn stated_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Dependencies\n").nth(1).unwrap();
    let rows = section
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut names = row.split('`').skip(1).step_by(2).map(str::to_owned);
        (names.next().unwrap(), names.collect())
    })
    .collect()
}

/// Returns whether this code names a path that begins with `path`.
fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let is_part =
            |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = code.get(at + path.len()..).unwrap_or_default();
        !is_part(code.get(..at).unwrap_or_default().chars().next_back())
            && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn modules_import_each_other_as_architecture_states() {
    let stated = stated_dependencies();
    let mut found: BTreeMap<String, BTreeSet<String>> = stated
        .keys()
        .map(|module| (module.clone(), BTreeSet::new()))
        .collect();
    for (path, text) in files(".rs") {
        let Some(file) = path.strip_prefix("daemon/src/") else {
            continue;
        };
        let importer = file.split(['/', '.']).next().unwrap();
        if matches!(importer, "lib" | "main") || file.ends_with("tests.rs") {
            continue;
        }
        assert!(
            !text.contains("use crate::{") && !text.contains("use soramode_core::{"),
            "{path}: import modules one by one"
        );
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for (module, importers) in &mut found {
            let path = if module.contains("::") {
                module.clone()
            } else {
                format!("crate::{module}")
            };
            if module != importer && names_path(code, &path) {
                importers.insert(importer.to_owned());
            }
        }
    }
    assert_eq!(
        found, stated,
        "ARCHITECTURE.md, under \"Dependencies\", states other importers than the code has"
    );
}

/// First words that no comment may have: it starts with a verb or a noun.
const OPENINGS: &[&str] = &[
    "What", "Who", "Whom", "Whose", "Whoever", "Where", "Whether", "How", "Which", "As", "Of",
    "By", "Such", "And", "Or", "But", "Nothing", "So",
];

/// Pronouns in the place of a noun: client, operator, receiver, caller.
const PERSONS: &[&str] = &["who", "whoever", "whom", "whose", "whatever", "whichever"];

/// Former private names, which the field has other terms for.
const PRIVATE: &[&str] = &[
    "Letter",
    "Mail",
    "Mailbox",
    "Inbox",
    "Asker",
    "Ender",
    "House",
    "Supplies",
    "Outside",
    "Errand",
    "Manner",
    "Desk",
    "Tongue",
    "Playbill",
    "Turn",
    "Heard",
    "Looked",
    "Wish",
    "Roll",
    "Owes",
    "Gone",
    "Readoption",
    "Newcomer",
    "Guest",
    "Guests",
    "Seldom",
    "Lasting",
    "Passed",
    "Conversation",
    "Alone",
    "Owed",
    "Numbered",
    "Woken",
    "Dice",
    "Effort",
    "Crowd",
    "Ledger",
    "Happening",
    "Told",
    "Untold",
    "Tried",
    "Me",
    "Mine",
    "Certainty",
    "Rest",
    "Surroundings",
    "Going",
    "Mirroring",
];

/// Folders, and how many comments open so, how many pronouns and how many private names they have: the numbers only ever go down.
const WORDS_MAX: &[(&str, [usize; 3])] = &[
    ("shared/", [0, 0, 0]),
    ("daemon/src/", [0, 0, 0]),
    ("daemon/core/", [0, 0, 0]),
    ("daemon/tests/", [0, 0, 0]),
    ("daemon/testkit/", [0, 0, 0]),
    ("daemon/examples/", [0, 0, 0]),
    ("daemon/fuzz/", [0, 0, 0]),
    ("daemon/benches/", [0, 0, 0]),
    ("cli/", [0, 0, 1]),
];

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Counts the openings, pronouns and private names of one file. Strings are not code.
fn count_words(text: &str) -> [usize; 3] {
    let mut counts = [0; 3];
    let mut before = "";
    for line in text.lines() {
        let trimmed = line.trim_start();
        let marker = ["//!", "///", "//"]
            .into_iter()
            .find(|marker| trimmed.starts_with(marker))
            .unwrap_or_default();
        if marker.is_empty() {
            let code = line.split('"').step_by(2).flat_map(words);
            counts[2] += code.filter(|word| PRIVATE.contains(word)).count();
        } else {
            let comment = trimmed.strip_prefix(marker).unwrap();
            let first = words(comment.trim_start()).next().unwrap_or_default();
            counts[0] += usize::from(marker != before && OPENINGS.contains(&first));
            let lower = comment.to_lowercase();
            counts[1] += words(&lower).filter(|word| PERSONS.contains(word)).count();
        }
        before = marker;
    }
    counts
}

#[test]
fn code_and_comments_use_plain_words() {
    let files = files(".rs");
    let counts: Vec<(&str, [usize; 3])> = WORDS_MAX
        .iter()
        .map(|(folder, _)| {
            let mut sum = [0; 3];
            for (_, text) in files.iter().filter(|(path, _)| path.starts_with(folder)) {
                for (sum, count) in sum.iter_mut().zip(count_words(text)) {
                    *sum += count;
                }
            }
            (*folder, sum)
        })
        .collect();
    assert!(
        counts
            .iter()
            .zip(WORDS_MAX)
            .all(|((_, counts), (_, max))| counts.iter().zip(max).all(|(count, max)| count <= max)),
        "more openings, pronouns or private names than before (CONTRIBUTING.md, \"Language\"): {counts:#?}"
    );
}

#[test]
fn plain_words_are_counted_as_they_stand() {
    let text = "//! Whether it is.\n//! Who knows.\n\n/// Returns one whose name is known.\nstruct House; // fine\nlet a = \"House\";\n";
    assert_eq!(count_words(text), [1, 2, 1]);
}

#[test]
fn modules_open_with_their_contract() {
    let bare: Vec<String> = files(".rs")
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(
        bare.is_empty(),
        "say in a line what they are:\n{}",
        bare.join("\n")
    );
}

#[test]
fn documents_have_lines_that_can_be_read() {
    let excess: Vec<String> = files(".md")
        .iter()
        .flat_map(|(path, text)| {
            text.lines()
                .enumerate()
                .map(move |(number, line)| (path, number + 1, line))
        })
        .filter(|(_, _, line)| !line.starts_with('|') && line.chars().count() > COLUMNS_MAX)
        .map(|(path, number, _)| format!("{path}:{number}"))
        .collect();
    assert!(excess.is_empty(), "break:\n{}", excess.join("\n"));
}

#[test]
fn no_verb_lacks_its_line_in_the_docs() {
    let readme = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let verbs = fs::read_dir(root().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = verbs
        .filter_map(|page| {
            page.strip_prefix("soramode-")?
                .strip_suffix(".1")
                .map(str::to_owned)
        })
        // A part of a verb, as nodes-purge, is described with it.
        .filter(|verb| !verb.contains('-'))
        .filter(|verb| !readme.contains(&format!("`{verb}`")))
        .collect();
    assert!(missing.is_empty(), "CHANGELOG.md does not name {missing:?}");
}
