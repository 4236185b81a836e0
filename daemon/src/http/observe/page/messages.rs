//! Texts that soramoded words itself, in the language of the page: they are made in English, and translated by their templates.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use soramode_protocol::text::shorten;

use super::language::Language;

/// The templates, as a TOML table.
const CATALOGUE: &str = include_str!("messages.ja.toml");

/// Stands for any text in an English template.
const HOLE: &str = "{}";

/// Number of texts within each other that are translated, at most.
const DEPTH_MAX: usize = 4;

/// Number of templates of one text of which the best is taken, at most.
const TEMPLATES_TRIED: usize = 4;

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

/// Part of a text.
enum Part<'text> {
    /// Worded by soramoded.
    Known(&'text str),
    /// Name, value, or a text that another program has worded.
    Unknown(&'text str),
}

/// Returns a text of soramoded in this language, with at most this many bytes of names and other programs' texts in it.
/// soramoded's own words are never cut: a remedy of which a part is missing cannot be run.
pub(super) fn translate(text: &str, unknown_bytes_max: usize, language: Language) -> String {
    if text.len() > TEXT_BYTES_MAX {
        return shorten(text, unknown_bytes_max);
    }
    let mut left = unknown_bytes_max;
    let mut translated = String::new();
    for part in parts(text, language, DEPTH_MAX) {
        match part {
            Part::Known(words) => translated.push_str(words),
            Part::Unknown(value) => {
                translated.push_str(&shorten(value, left));
                left = left.saturating_sub(value.len());
            }
        }
    }
    translated
}

/// Returns the parts of a text by the template that leaves the least of it unknown, or of several by the longest one.
fn parts(text: &str, language: Language, depth: usize) -> Vec<Part<'_>> {
    let Some(depth) = depth.checked_sub(1) else {
        return vec![Part::Unknown(text)];
    };
    TEMPLATES
        .iter()
        .filter_map(|template| Some((template, template.holes(text)?)))
        .take(TEMPLATES_TRIED)
        .map(|(template, holes)| template.fill(&holes, language, depth))
        .min_by_key(|parts| unknown_bytes(parts))
        .unwrap_or_else(|| vec![Part::Unknown(text)])
}

fn unknown_bytes(parts: &[Part<'_>]) -> usize {
    let bytes = parts.iter().map(|part| match part {
        Part::Known(_) => 0,
        Part::Unknown(value) => value.len(),
    });
    bytes.sum()
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

    fn fill<'text>(
        &'text self,
        holes: &[&'text str],
        language: Language,
        depth: usize,
    ) -> Vec<Part<'text>> {
        let mut filled = Vec::new();
        if language == Language::English {
            for (index, literal) in self.english.iter().enumerate() {
                filled.push(Part::Known(literal));
                if let Some(hole) = holes.get(index) {
                    filled.extend(parts(hole, language, depth));
                }
            }
            return filled;
        }
        let mut rest = self.japanese.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            filled.push(Part::Known(before));
            let number = after.split_once('}').and_then(|(number, after)| {
                let hole = holes.get(number.parse::<usize>().ok()?)?;
                Some((hole, after))
            });
            if let Some((hole, after)) = number {
                filled.extend(parts(hole, language, depth));
                rest = after;
            } else {
                filled.push(Part::Known("{"));
                rest = after;
            }
        }
        filled.push(Part::Known(rest));
        filled
    }
}

/// Returns each text of the catalogue that has words, with a number in each hole.
#[cfg(test)]
pub(super) fn samples() -> Vec<String> {
    let has_words = |it: &&Template| !it.japanese.is_ascii();
    let worded = TEMPLATES.iter().filter(has_words);
    worded.map(|it| it.english.join("5")).collect()
}

/// Returns each text that ends with a remedy, or with a text about another, with each remedy and text that there are.
#[cfg(test)]
pub(super) fn samples_in_samples() -> Vec<String> {
    let whole = TEMPLATES.iter().filter(|it| it.english.len() == 1);
    let sentences: Vec<&String> = whole
        .flat_map(|it| &it.english)
        .filter(|it| it.starts_with(char::is_uppercase) && it.contains(' '))
        .collect();
    let open = TEMPLATES.iter().filter(|it| {
        let literals = it.english.split_last();
        literals.is_some_and(|(last, others)| {
            last.is_empty() && others.last().is_some_and(|it| it.ends_with(". "))
        })
    });
    open.flat_map(|it| {
        let fact = it.english.join("5");
        let fact = fact.trim_end_matches('5').to_owned();
        sentences
            .iter()
            .map(move |remedy| format!("{fact}{remedy}"))
    })
    .collect()
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
            let filled: String = template
                .fill(&holes, Language::Japanese, 0)
                .into_iter()
                .map(|part| match part {
                    Part::Known(words) | Part::Unknown(words) => words,
                })
                .collect();
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
                "soramoded on a has had no usable answer from Sora's API at http://a/ (no answer in time), and was started beside an SFU that may already have had \
                 sessions",
                "a の soramoded は、Sora の API http://a/ (時間内に応答がありません) から有効な応答を受信していません。起動した時点で、SFU にセッションがあった可能性があります",
            ),
            (
                "2 sessions have not ended although the SFU was asked to: \"a\", \"b\" (Janus's Admin API at http://a/ (kick) answered 421: \
                 Unauthorized). soramoded asks again until \
                 they have ended, and their rooms stay locked until then. To stop that, run: soramode plan cancel",
                "SFU に終了を要求した 2 件のセッションが終了していません: \"a\", \"b\" (Janus の Admin API http://a/ (kick): 応答: 421: Unauthorized)。soramoded は終了するまで要求を繰り返します \
                 (それまで、ルームはロックされたままです)。中止するには、soramode plan cancel を実行してください",
            ),
            (
                "plan 7Q2K9XA0 was missed at 2026-12-01T02:16:00.000000Z (late by more than 300 s in total). The rest of its steps do not run. To see \
                 them: soramode plan. This warning ends when another plan is started, or the mode is set anew: soramode set normal -m REASON",
                "プラン 7Q2K9XA0 は 2026-12-01T02:16:00.000000Z に期限切れになりました (遅れの合計が 300 秒を超えました)。残りのステップは実行されません \
                 (soramode plan で確認できます)。この警告は、別のプランを開始するか、モードを設定し直すと消えます: soramode set normal -m REASON",
            ),
            ("tcp connect error", "tcp connect error"),
            ("", ""),
        ] {
            assert_eq!(translate(english, 256, Language::Japanese), japanese);
            assert_eq!(translate(english, 256, Language::English), english);
        }
    }

    #[test]
    fn a_hostile_text_takes_a_bounded_time() {
        let nested = "(: ".repeat(TEXT_BYTES_MAX);
        assert!(translate(&nested, 256, Language::Japanese).len() <= 256);
        for text in [
            "{0}{1}",
            ": ",
            " ()",
            "{",
            "}",
            "Check , and that  runs",
            &": ".repeat(TEXT_BYTES_MAX / 2),
            &"Janus's Admin API at 5 (5) answered 5: ".repeat(TEXT_BYTES_MAX / 40),
            &"{} (".repeat(TEXT_BYTES_MAX / 4),
        ] {
            for language in [Language::English, Language::Japanese] {
                let bytes = translate(text, 256, language).len();
                assert!(bytes <= 512, "{bytes} bytes of {text}");
            }
        }
    }

    #[test]
    fn only_the_values_in_a_text_are_cut() {
        let value = "sfu-01.example.com";
        for template in TEMPLATES.iter() {
            let text = template.english.join(value);
            assert_eq!(translate(&text, 256, Language::English), text);
            let japanese = translate(&text, 256, Language::Japanese);
            assert!(!japanese.contains("..."), "{japanese}");
        }
        let long = "x".repeat(1_000);
        let text = format!("Run: {long}. Then restart soramoded");
        let english = translate(&text, 16, Language::English);
        assert_eq!(english, "Run: xxxxxxxxxxxxx.... Then restart soramoded");
        let japanese = translate(&text, 16, Language::Japanese);
        assert_eq!(
            japanese,
            "xxxxxxxxxxxxx... を実行してから、soramoded を再起動してください"
        );
    }

    #[test]
    fn a_remedy_and_the_fact_before_it_are_both_translated() {
        for fact in [
            "etcd has lost this node's cluster: it was emptied, or replaced by an empty one",
            "this etcd (a1) is not the one that the cluster was made in (b2): it was restored from a backup",
            "etcd was rolled back: it has epoch 1, and this node has seen epoch 2",
            "etcd was rolled back: it is at revision 29, and this node has seen revision 30",
        ] {
            for remedy in [
                "Bring back the previous etcd. If it is lost, or was restored from a backup, read \"etcd from a backup, or lost permanently\" in \
                 man/cluster.md, then run on one node: soramode nodes init --accept-risk=lost-claims",
                "Bring back the previous etcd; if it is back, restart soramoded. If it is lost, or was restored from a backup, read \
                 \"etcd from a backup, or lost permanently\" in man/cluster.md, then run on one node: soramode nodes init --accept-risk=lost-claims",
            ] {
                let text = format!("{fact}. {remedy}");
                let japanese = translate(&text, 256, Language::Japanese);
                assert!(
                    japanese.starts_with("etcd ") || japanese.starts_with("この etcd"),
                    "{japanese}"
                );
                assert!(!japanese.contains("this node"), "{japanese}");
                assert!(
                    japanese.ends_with("--accept-risk=lost-claims を実行してください"),
                    "{japanese}"
                );
            }
        }
    }
}
