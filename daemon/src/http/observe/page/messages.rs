//! Texts that soramoded words itself, in the language of the page: they are made in English, and translated by their templates.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::language::Language;

/// The templates, as a TOML table.
const CATALOGUE: &str = include_str!("messages.ja.toml");

/// Stands for any text in an English template.
const HOLE: &str = "{}";

/// Number of texts within each other that are translated, at most.
const DEPTH_MAX: usize = 4;

/// Length of a text that is translated, at most, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
struct Catalogue {
    messages: BTreeMap<String, String>,
}

/// Text with holes, and its translation.
#[derive(Debug)]
struct Template {
    /// Literal parts of the English text, around its holes.
    english: Vec<String>,
    /// Translation, in which `{0}` is the first hole.
    japanese: String,
}

/// The templates, those with the most letters first. The tests read the same catalogue, so it can be read.
static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let read: Result<Catalogue, _> = toml::from_str(CATALOGUE);
    let messages = read.map(|it| it.messages).unwrap_or_default();
    let template = |(english, japanese): (String, String)| Template {
        english: english.split(HOLE).map(str::to_owned).collect(),
        japanese,
    };
    let mut templates: Vec<Template> = messages.into_iter().map(template).collect();
    templates.sort_by_key(|it| std::cmp::Reverse(it.letters()));
    templates
});

/// Returns a text of soramoded in this language. A text without a template stays as it is: another program has worded it.
pub(super) fn translate(text: &str, language: Language) -> Cow<'_, str> {
    match language {
        Language::English => Cow::Borrowed(text),
        Language::Japanese if text.len() > TEXT_BYTES_MAX => Cow::Borrowed(text),
        Language::Japanese => in_japanese(text, DEPTH_MAX),
    }
}

fn in_japanese(text: &str, depth: usize) -> Cow<'_, str> {
    let Some(depth) = depth.checked_sub(1) else {
        return Cow::Borrowed(text);
    };
    let found = TEMPLATES
        .iter()
        .find_map(|template| Some((template, template.holes(text)?)));
    found.map_or(Cow::Borrowed(text), |(template, holes)| {
        Cow::Owned(template.fill(&holes, depth))
    })
}

impl Template {
    fn letters(&self) -> usize {
        self.english.iter().map(String::len).sum()
    }

    /// Returns the texts in the holes, if this is the template of the text.
    fn holes<'text>(&self, text: &'text str) -> Option<Vec<&'text str>> {
        let (first, others) = self.english.split_first()?;
        let mut rest = text.strip_prefix(first.as_str())?;
        let Some((last, inner)) = others.split_last() else {
            return rest.is_empty().then(Vec::new);
        };
        let mut holes = Vec::with_capacity(others.len());
        for literal in inner {
            let (hole, after) = rest.split_once(literal.as_str())?;
            holes.push(hole);
            rest = after;
        }
        holes.push(rest.strip_suffix(last.as_str())?);
        Some(holes)
    }

    fn fill(&self, holes: &[&str], depth: usize) -> String {
        let mut filled = String::new();
        let mut rest = self.japanese.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let number = after.split_once('}').and_then(|(number, after)| {
                let hole = holes.get(number.parse::<usize>().ok()?)?;
                Some((hole, after))
            });
            if let Some((hole, after)) = number {
                filled.push_str(&in_japanese(hole, depth));
                rest = after;
            } else {
                filled.push('{');
                rest = after;
            }
        }
        filled + rest
    }
}

/// Returns each text of the catalogue that has words, with a number in each hole.
#[cfg(test)]
pub(super) fn samples() -> Vec<String> {
    let has_words = |it: &&Template| !it.japanese.is_ascii();
    let worded = TEMPLATES.iter().filter(has_words);
    worded.map(|it| it.english.join("5")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Returns the files of code in a folder.
    fn files_of(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        let mut files = Vec::new();
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                files.extend(files_of(&path));
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with(file!()) {
                files.push(path);
            }
        }
        files
    }

    /// Returns the code of soramoded: a string that goes on in the next line is one.
    fn code() -> String {
        let daemon = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = ["src", "core/src", "../shared/src"];
        let files = folders
            .iter()
            .flat_map(|folder| files_of(&daemon.join(folder)));
        let mut code = String::new();
        for line in files.flat_map(|file| lines(&file)) {
            match line.strip_suffix('\\') {
                Some(continued) => code.push_str(continued),
                None => code.extend([&line, "\n"]),
            }
        }
        code.replace("\\\"", "\"")
            .replace("{{", "{")
            .replace("}}", "}")
    }

    fn lines(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// A text of several parts is made of several strings.
    #[test]
    fn each_english_text_is_one_of_the_code() {
        let code = code();
        assert!(!TEMPLATES.is_empty());
        let outdated: Vec<&String> = TEMPLATES
            .iter()
            .flat_map(|it| &it.english)
            .filter(|literal| {
                let words = literal.trim_matches([' ', '.', ':', ';', '(', ')']);
                !code.contains(words)
            })
            .collect();
        assert!(outdated.is_empty(), "not in the code: {outdated:#?}");
    }

    #[test]
    fn each_translation_names_holes_that_there_are() {
        for template in TEMPLATES.iter() {
            let holes = vec!["H"; template.english.len() - 1];
            let filled = template.fill(&holes, 1);
            assert!(
                !filled.contains(['{', '}']) || filled.contains("{ broadcast"),
                "{filled}"
            );
        }
    }

    #[test]
    fn texts_are_translated_with_the_texts_in_them() {
        for (english, japanese) in [
            (
                "late by more than 600 s in total",
                "遅れの合計が 600 秒を超えました",
            ),
            (
                "soramoded on a has had no usable answer from Sora's API (no answer in time), and was started beside an SFU that may already have had \
                 sessions",
                "a の soramoded は、Sora の API (時間内に応答がありません)から有効な応答を受信していません。起動した時点で、SFU にセッションがあった可能性があります",
            ),
            (
                "2 sessions have not ended although the SFU was asked to: \"a\", \"b\" (Janus answered 421: Unauthorized). soramoded asks again until \
                 they have ended, and their rooms stay locked until then. To stop that, run: soramode plan cancel",
                "SFU に終了を要求した 2 件のセッションが終了していません: \"a\", \"b\" (Janus: 応答: 421: Unauthorized)。soramoded は終了するまで要求を繰り返します \
                 (それまで、ルームはロックされたままです)。中止するには、soramode plan cancel を実行してください",
            ),
            ("tcp connect error", "tcp connect error"),
            ("", ""),
        ] {
            assert_eq!(translate(english, Language::Japanese), japanese);
            assert_eq!(translate(english, Language::English), english);
        }
    }

    #[test]
    fn a_hostile_text_takes_a_bounded_time() {
        let nested = "(: ".repeat(TEXT_BYTES_MAX);
        assert_eq!(translate(&nested, Language::Japanese), nested);
        for text in ["{0}{1}", ": ", " ()", "{", "}", "Check , and that  runs"] {
            let _ = translate(text, Language::Japanese).len();
        }
        let short = ": ".repeat(TEXT_BYTES_MAX / 2);
        assert_eq!(translate(&short, Language::Japanese), short);
    }
}
