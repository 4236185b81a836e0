//! Banned words and openings in everything that an operator or a newcomer reads. The rules are in CONTRIBUTING.md, section "Language".

use crate::{files, text};

/// Words and phrases that the rules ban, in lower case. Code (`like_this`, `{placeholders}`) is not counted.
const BANNED: &[&str] = &[
    "who",
    "whoever",
    "whom",
    "whose",
    "whatever",
    "whichever",
    "somebody",
    "so many",
    "what is owed",
    "owe",
    "owes",
    "owed",
    "the gate",
    "standing",
    "session is known",
    "sessions are known",
    "sessions are not known",
    "takes away",
    "let in",
    "lets in",
    "get in",
    "gets in",
    "turned away",
    "written off",
    "door",
    "doors",
    "cut off",
    "cuts off",
];

/// Words that must not open the help of an option, an argument or a command.
const BANNED_OPENINGS: &[&str] = &["Whether", "What", "Where", "Who", "Whom", "Whose", "Which"];

/// Spoken and translated Japanese that the translations had, where Sora and manuals have another word.
const BANNED_IN_JAPANESE: &[&str] = &[
    "入り口",
    "案内",
    "終わらせ",
    "終わらされ",
    "わかっている",
    "わかっていない",
    "突き合わせ",
    "制御ソケット",
    "スタンドイン",
    "入れる",
    "いなくなって",
    "誰",
    "だれも",
    "教える",
    // One word for one thing: ディレクトリ, 通知, デフォルト, ユーザー, オプション, 新規セッション as in Sora's own names of its modes.
    "フォルダ",
    "お知らせ",
    "既定",
    "利用者",
    "フラグ",
    "新しいセッション",
    "新しいコネクション",
    "新しいクライアント",
    "新しいチャネル",
    "既に",
    // One word for one thing: ガイド, ステップ, ブロックする and 再開する, 登録, パージ.
    "手引き",
    "ノードを閉じ",
    "ノードを開",
    "ノードが開",
    "ノードは閉じ",
    "ほかのノードは閉じ",
    "開いているノード",
    "開かれたノード",
    "順に閉じ",
    "の incarnation",
    " purge し",
    "purge を",
    "purge され",
    "purge が",
];

/// Texts that people read.
struct Area {
    name: &'static str,
    banned: fn() -> Vec<String>,
    /// Limit of the banned words: the number only ever goes down.
    max: usize,
}

const AREAS: &[Area] = &[
    Area {
        name: "documents",
        banned: documents,
        max: 0,
    },
    Area {
        name: "Japanese documents",
        banned: japanese_documents,
        max: 0,
    },
    Area {
        name: "manual and --help",
        banned: manual,
        max: 0,
    },
    Area {
        name: "openings in --help",
        banned: openings,
        max: 0,
    },
    Area {
        name: "errors, logs and output of soramode",
        banned: || strings("cli/src"),
        max: 0,
    },
    Area {
        name: "errors and logs of soramoded",
        banned: || strings("daemon/src"),
        max: 0,
    },
    Area {
        name: "errors and warnings of the core",
        banned: || strings("daemon/core/src"),
        max: 0,
    },
    Area {
        name: "errors and hints of the protocol",
        banned: || strings("shared/src"),
        max: 0,
    },
    Area {
        name: "soramoded.toml",
        banned: || {
            banned(
                "daemon/packaging/soramoded.toml",
                &text("daemon/packaging/soramoded.toml"),
            )
        },
        max: 0,
    },
];

#[test]
fn people_read_plain_words() {
    let mut excess = Vec::new();
    for Area { name, banned, max } in AREAS {
        let found = banned();
        if found.len() > *max {
            excess.push(format!(
                "{name}: {} banned words, at most {max} are allowed:\n  {}",
                found.len(),
                found.join("\n  ")
            ));
        }
    }
    assert!(
        excess.is_empty(),
        "CONTRIBUTING.md, section \"Language\", has the words to use instead:\n{}",
        excess.join("\n")
    );
}

#[test]
fn a_banned_word_is_found_in_a_string_and_not_in_code() {
    let source = r##"
        //! The reader.
        #![expect(reason = "who knows")]
        fn say() { log!("nobody knows who {name}", name = f("so \
            many of them")); "who"; r#"raw and "whose" too"#; }
        #[cfg(test)]
        mod tests { fn x() { "who is tested"; } }
    "##;
    let found: Vec<String> = literals(source)
        .iter()
        .flat_map(|text| banned("x.rs", text))
        .collect();
    let words = ["who", "so many", "whose"].map(|word| format!("x.rs: {word}: "));
    assert!(
        found.len() == 3
            && found
                .iter()
                .zip(words)
                .all(|(found, word)| found.starts_with(&word)),
        "{found:#?}"
    );
    assert!(
        banned(
            "x.md",
            "`standing` is the field, {owed} the placeholder, outstanding the bill"
        )
        .is_empty()
    );
}

/// The English documents.
fn documents() -> Vec<String> {
    let guides = files("man", ".md")
        .into_iter()
        .filter(|path| !path.ends_with(".ja.md"));
    let others = ["README.md", "daemon/benches/README.md"].map(str::to_owned);
    others
        .into_iter()
        .chain(guides)
        .flat_map(|path| banned(&path, &text(&path)))
        .collect()
}

fn japanese_documents() -> Vec<String> {
    let others = [
        "README.ja.md",
        "daemon/benches/README.ja.md",
        "daemon/src/http/observe/page/messages.ja.toml",
    ]
    .map(str::to_owned);
    let paths = others.into_iter().chain(files("man", ".ja.md"));
    let found = paths.flat_map(|path| {
        let text = text(&path);
        BANNED_IN_JAPANESE
            .iter()
            .filter(|word| text.contains(**word))
            .map(|word| format!("{path}: {word}"))
            .collect::<Vec<_>>()
    });
    found.collect()
}

/// The pages of sections 1 and 8, which have each --help in full; a line that several pages have is counted once.
fn manual() -> Vec<String> {
    let mut lines: Vec<(String, String)> = pages()
        .into_iter()
        .flat_map(|(path, page)| {
            page.lines()
                .filter(|line| !line.starts_with('.'))
                .map(|line| (plain(line), path.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    lines.dedup_by(|(line, _), (other, _)| line == other);
    lines
        .iter()
        .flat_map(|(line, path)| banned(path, line))
        .collect()
}

/// Helps that open with a banned word: of options and arguments (the line after their names), and of commands (the line of their page).
fn openings() -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (path, page) in pages() {
        let lines: Vec<&str> = page.lines().collect();
        let of_options = lines
            .windows(3)
            .filter(|lines| lines[0] == ".TP" && lines[1].starts_with('\\'))
            .map(|lines| lines[2]);
        let of_command = lines
            .iter()
            .filter_map(|line| line.split_once(" \\- "))
            .map(|(_, help)| help);
        let helps = of_options.chain(of_command).map(plain);
        let bad = helps.filter(|help| {
            BANNED_OPENINGS
                .iter()
                .any(|word| help.split(' ').next() == Some(word))
        });
        found.extend(bad.map(|help| format!("{path}: {help}")));
    }
    found.sort_by(|one, other| {
        one.split_once(": ")
            .map(|(_, help)| help)
            .cmp(&other.split_once(": ").map(|(_, help)| help))
    });
    found.dedup_by(|one, other| {
        one.split_once(": ").map(|(_, help)| help) == other.split_once(": ").map(|(_, help)| help)
    });
    found
}

fn pages() -> Vec<(String, String)> {
    let paths = files("man", ".1").into_iter().chain(files("man", ".8"));
    paths.map(|path| (path.clone(), text(&path))).collect()
}

/// A line of a manual page without roff's commands, its bold words as code.
fn plain(line: &str) -> String {
    line.replace("\\-", "-")
        .replace("\\*(Aq", "'")
        .replace("\\fB", "`")
        .replace("\\fR", "`")
        .replace("\\fI", "`")
}

/// Banned words in the strings of a program's sources.
fn strings(folder: &str) -> Vec<String> {
    let sources = files(folder, ".rs")
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.contains("/tests/"));
    sources
        .flat_map(|path| {
            literals(&text(&path))
                .iter()
                .flat_map(|string| banned(&path, string))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The strings of a source file that have more than one word, without those of its tests and attributes.
fn literals(source: &str) -> Vec<String> {
    let is_code = |line: &&str| {
        !["//", "#[", "#![", "reason = "]
            .iter()
            .any(|start| line.trim_start().starts_with(start))
    };
    let code: Vec<&str> = without_tests(source).into_iter().filter(is_code).collect();
    let code = code.join("\n").replace("'\"'", "' '");
    let (mut rest, mut found) = (code.as_str(), Vec::new());
    while let Some(start) = rest.find(['"', '/']) {
        let (before, from) = rest.split_at(start);
        let (first, inside) = from.split_at(1);
        let end = if first == "\"" {
            end_of_string(before, inside)
        } else {
            end_of_slash(inside)
        };
        let (text, after) = inside.split_at(end);
        rest = after.strip_prefix('"').unwrap_or(after);
        if first == "\"" && text.contains(' ') {
            found.push(text.replace("\\n", "\n").replace("\\\n", ""));
        }
    }
    found
}

/// The lines of a source file before its tests, which are at its end or in a file of their own.
fn without_tests(source: &str) -> Vec<&str> {
    let lines: Vec<&str> = source.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0].trim() == "#[cfg(test)]" && !pair[1].ends_with(';'));
    lines
        .into_iter()
        .take(tests.unwrap_or(usize::MAX))
        .collect()
}

/// Returns the length of a string that begins after `before`: a raw one ends with its quote and
/// hashes.
fn end_of_string(before: &str, text: &str) -> usize {
    let unhashed = before.trim_end_matches('#');
    if unhashed.ends_with('r') {
        let end = format!("\"{}", "#".repeat(before.len() - unhashed.len()));
        return text.find(&end).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    let end = text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.unwrap_or(text.len())
}

/// Returns the bytes to skip after a slash: the rest of a comment, or none.
fn end_of_slash(inside: &str) -> usize {
    if inside.starts_with('/') {
        inside.find('\n').unwrap_or(inside.len())
    } else {
        0
    }
}

/// Each banned word of a text outside code, with the words around it.
fn banned(path: &str, text: &str) -> Vec<String> {
    let prose = text
        .split("```")
        .step_by(2)
        .flat_map(|part| part.split('`').step_by(2));
    let prose: Vec<&str> = prose
        .flat_map(|part| part.split('{'))
        .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest))
        .collect();
    let prose = prose.join(" CODE ").to_lowercase();
    let words: Vec<&str> = prose
        .split(|character: char| !character.is_alphanumeric() && !"_-'".contains(character))
        .filter(|word| !word.is_empty())
        .collect();
    let mut found = Vec::new();
    for start in 0..words.len() {
        for phrase in BANNED {
            let length = phrase.split(' ').count();
            if words
                .get(start..start + length)
                .is_some_and(|words| words.join(" ") == *phrase)
            {
                let around = start.saturating_sub(5)..(start + length + 5).min(words.len());
                found.push(format!("{path}: {phrase}: {}", words[around].join(" ")));
            }
        }
    }
    found
}
