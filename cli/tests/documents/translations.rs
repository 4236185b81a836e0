//! The Japanese documents beside the English ones: the same commands, flags and code.

use std::collections::BTreeSet;

use crate::{files, text};

/// Documents and their translations.
fn pairs() -> Vec<(String, String)> {
    let translations = ["README.ja.md", "daemon/benches/README.ja.md"]
        .map(str::to_owned)
        .into_iter()
        .chain(files("man", ".ja.md"));
    translations
        .map(|japanese| (japanese.replace(".ja.md", ".md"), japanese))
        .collect()
}

/// The blocks of code, in order, without comments, which are translated.
fn blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut block) = (Vec::new(), None::<String>);
    for line in text.lines() {
        let (is_fence, code) = (
            line.trim_start().starts_with("```"),
            line.split(" # ").next().unwrap().trim_end(),
        );
        match &mut block {
            Some(_) if is_fence => blocks.extend(block.take()),
            Some(_) if code.starts_with("# ") => {}
            Some(block) => block.extend([code.split("    # ").next().unwrap().trim_end(), "\n"]),
            None if is_fence => block = Some(format!("{}\n", line.trim_start())),
            None => {}
        }
    }
    blocks
}

/// Leaves out the texts of announcements, which are in the language of the document.
fn without_texts(block: &str) -> String {
    let mut left = String::new();
    let mut rest = block;
    while let Some((before, text, after)) = next_text(rest) {
        assert!(!text.is_empty(), "{block}");
        left.push_str(before);
        rest = after;
    }
    left + rest
}

/// Returns the first text of an announcement, with the code before and after it.
fn next_text(code: &str) -> Option<(&str, &str, &str)> {
    let begin = ["announce \"", "--announce-text \"", "\"text\": \""]
        .iter()
        .filter_map(|words| Some(code.find(words)? + words.len()))
        .min()?;
    let (before, rest) = code.split_at(begin);
    let (text, _) = rest.split_once('"')?;
    Some((before, text, rest.strip_prefix(text)?))
}

/// Returns the code in backquotes outside of code blocks.
fn code(text: &str) -> BTreeSet<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    prose
        .iter()
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .map(|code| code.replace('\n', " "))
        .collect()
}

#[test]
fn the_commands_are_the_same() {
    for (english, japanese) in pairs() {
        let commands = |document: &str| {
            let blocks = blocks(&text(document));
            blocks.iter().map(|block| without_texts(block)).collect()
        };
        let (ours, theirs): (Vec<String>, Vec<String>) = (commands(&japanese), commands(&english));
        assert_eq!(ours, theirs, "{japanese}");
    }
}

#[test]
fn the_announcements_are_in_the_language_of_the_document() {
    for (english, japanese) in pairs() {
        for (document, is_japanese) in [(english, false), (japanese, true)] {
            for block in blocks(&text(&document)) {
                let mut rest = block.as_str();
                while let Some((_, text, after)) = next_text(rest) {
                    assert_eq!(!text.is_ascii(), is_japanese, "{document}: {text}");
                    rest = after;
                }
            }
        }
    }
}

#[test]
fn the_code_in_the_text_is_the_same() {
    let mut differences = Vec::new();
    for (english, japanese) in pairs() {
        let (ours, theirs) = (code(&text(&japanese)), code(&text(&english)));
        differences.extend(
            theirs
                .difference(&ours)
                .map(|code| format!("{japanese} lacks `{code}`")),
        );
        differences.extend(
            ours.difference(&theirs)
                .map(|code| format!("{english} lacks `{code}`")),
        );
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_pairs_are_complete() {
    let pairs = pairs();
    for guide in [
        "README",
        "man/operation",
        "man/sora",
        "man/cluster",
        "man/runbook",
    ] {
        assert!(
            pairs.contains(&(format!("{guide}.md"), format!("{guide}.ja.md"))),
            "{guide}"
        );
    }
}
