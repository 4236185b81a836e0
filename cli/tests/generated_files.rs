//! The man pages, completion scripts and the OpenRPC document that are committed are those that the command line, the Markdown beside them or the
//! protocol's types yield.
//! `SORAMODE_REGENERATE=1 cargo test -p soramode --test generated_files` writes them anew.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails fails the test that called it"
)]

mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use soramode::{Example, GeneratedFile, MANUAL_DATE, daemon_page, generated_files};
use soramode_protocol::openrpc;

/// Folders with generated files, except those in `WRITTEN_BY_HAND`.
const FOLDERS: [&str; 2] = ["man", "completions"];

/// Files that are not from a command line.
const WRITTEN_BY_HAND: [&str; 11] = [
    "man/runbook.md",
    "man/runbook.ja.md",
    "man/protocol.md",
    "man/sora.md",
    "man/sora.ja.md",
    "man/cluster.md",
    "man/cluster.ja.md",
    "man/janus.md",
    "man/janus.ja.md",
    "man/operation.md",
    "man/operation.ja.md",
];

/// Description of the protocol for machines.
const OPENRPC: &str = "man/openrpc.json";

/// Pages of section 7, each made of the text of its name: `man/runbook.md` is `man/soramode-runbook.7`.
const TEXTS: [&str; 2] = ["protocol", "runbook"];

/// Sections of every page that a command line yields, in their order.
const SECTIONS: [&str; 9] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "\"EXIT STATUS\"",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "\"SEE ALSO\"",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn wanted() -> BTreeMap<String, Vec<u8>> {
    let examples = soramoded::args::EXAMPLES.map(|(line, what)| Example { line, what });
    let daemon = daemon_page(
        &soramoded::args::command().after_help(soramoded::args::AFTER_HELP),
        &examples,
    )
    .unwrap();
    let files = generated_files()
        .unwrap()
        .into_iter()
        .chain([daemon])
        .chain(TEXTS.map(text_page))
        .chain([openrpc_document()]);
    files
        .map(|GeneratedFile { path, content }| (path, content))
        .collect()
}

fn text_page(name: &str) -> GeneratedFile {
    let text = fs::read_to_string(top().join(format!("man/{name}.md"))).unwrap();
    GeneratedFile {
        path: format!("man/soramode-{name}.7"),
        content: pages::page(&text).into_bytes(),
    }
}

fn openrpc_document() -> GeneratedFile {
    GeneratedFile {
        path: OPENRPC.to_owned(),
        content: openrpc::to_text(&openrpc::document()).into_bytes(),
    }
}

/// Returns whether a generated file is a man page.
fn is_page(path: &str) -> bool {
    path.starts_with("man/") && path != OPENRPC
}

fn committed() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(top().join(folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
            if !WRITTEN_BY_HAND.contains(&path.as_str()) {
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

fn regenerate(wanted: &BTreeMap<String, Vec<u8>>) {
    for orphan in committed()
        .keys()
        .filter(|path| !wanted.contains_key(*path))
    {
        fs::remove_file(top().join(orphan)).unwrap();
    }
    for (path, content) in wanted {
        let path = top().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn the_committed_files_are_the_generated_ones() {
    let wanted = wanted();
    if std::env::var_os("SORAMODE_REGENERATE").is_some() {
        regenerate(&wanted);
    }
    let committed = committed();
    let stale: Vec<_> = wanted
        .iter()
        .filter(|(path, content)| committed.get(*path) != Some(content))
        .map(|(path, _)| path)
        .collect();
    let orphans: Vec<_> = committed
        .keys()
        .filter(|path| !wanted.contains_key(*path))
        .collect();
    assert!(
        stale.is_empty() && orphans.is_empty(),
        "stale: {stale:?}, orphans: {orphans:?}; SORAMODE_REGENERATE=1 cargo test -p soramode --test generated_files writes them anew"
    );
}

#[test]
fn every_command_has_a_page_and_every_shell_a_script() {
    let wanted = wanted();
    for path in [
        "man/soramode.1",
        "man/soramode-drain.1",
        "man/soramode-get.1",
        "man/soramoded.8",
    ] {
        assert!(wanted.contains_key(path), "{path}");
    }
    let written_by_hand = TEXTS.map(|name| format!("man/soramode-{name}.7"));
    for (path, page) in wanted
        .iter()
        .filter(|(path, _)| is_page(path) && !written_by_hand.contains(path))
    {
        let page = String::from_utf8_lossy(page);
        let at: Vec<Option<usize>> = SECTIONS
            .iter()
            .map(|section| page.find(&format!("\n.SH {section}\n")))
            .collect();
        assert!(
            at.is_sorted() && at.iter().all(Option::is_some),
            "{path} has {SECTIONS:?} at {at:?}"
        );
        assert!(page.contains(MANUAL_DATE), "{path}");
    }
    assert!(
        String::from_utf8_lossy(&wanted["man/soramode.1"]).contains("superseded"),
        "the exit codes are in the manual"
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            wanted.contains_key(&format!("completions/soramode.{shell}")),
            "{shell}"
        );
    }
}

/// `mandoc` and groff find no faults except of style.
#[test]
fn the_pages_are_clean_and_name_pages_that_there_are() {
    let pages: Vec<PathBuf> = wanted()
        .into_keys()
        .filter(|path| is_page(path))
        .map(|path| top().join(path))
        .collect();
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(&pages)
        .output()
        .expect("mandoc is installed");
    let said = String::from_utf8_lossy(&lint.stdout);
    assert!(said.is_empty(), "{said}");
    for page in &pages {
        for width in ["80", "120"] {
            // Formats pages for paper, as lintian does.
            let mut man = Command::new("man");
            man.args(["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"])
                .arg(page)
                .env("MANWIDTH", width)
                .env("MANROFFSEQ", "");
            let read = man
                .env("LC_ALL", "C.UTF-8")
                .output()
                .expect("man is installed");
            let said = String::from_utf8_lossy(&read.stderr);
            assert!(
                said.is_empty(),
                "{}, {width} columns: {said}",
                page.display()
            );
        }
        let text = fs::read_to_string(page).unwrap().replace("\\-", "-");
        let named = text
            .split(|character: char| !character.is_alphanumeric() && !"-().".contains(character));
        for name in named
            .filter(|word| word.starts_with("soramode"))
            .filter_map(|word| word.split_once('('))
        {
            let section = name.1.chars().next().unwrap_or('?');
            if section.is_ascii_digit() {
                assert!(
                    pages.contains(&top().join(format!("man/{}.{section}", name.0))),
                    "{} names {name:?}",
                    page.display()
                );
            }
        }
    }
}
