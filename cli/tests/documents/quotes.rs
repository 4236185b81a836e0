//! Messages that the guides quote are those of the programs.

use crate::{files, text};

/// Beginnings of the quoted messages.
const BEGINNINGS: [&str; 3] = ["etcd ", "this etcd ", "would have "];

#[test]
fn quoted_messages_are_in_the_sources() {
    let sources = ["cli/src", "daemon/src", "daemon/core/src", "shared/src"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"));
    let sources: String = sources.map(|path| text(&path)).collect();
    let mut quotes = 0;
    for guide in files("man", ".md") {
        let guide_text = text(&guide);
        let code = guide_text.split('`').skip(1).step_by(2);
        for quote in code.filter(|code| {
            BEGINNINGS
                .iter()
                .any(|beginning| code.starts_with(beginning))
        }) {
            quotes += 1;
            // Numbers and names in it are examples.
            for part in quote
                .split(|character: char| character.is_ascii_digit() || "…()".contains(character))
                .filter(|part| !part.is_empty())
            {
                assert!(
                    sources.contains(part),
                    "{guide} quotes {quote:?}, and no source has {part:?}"
                );
            }
        }
    }
    assert!(
        quotes > 0,
        "no guide quotes a message: this test looks at nothing"
    );
}

/// A section that a message names is a heading of its page, in each language.
#[test]
fn sections_named_in_messages_are_headings() {
    let catalogue = "daemon/src/http/observe/page/messages.ja.toml".to_owned();
    let mut named = 0;
    let folders = ["cli/src", "daemon/src", "daemon/core/src", "shared/src"];
    let sources = folders.iter().flat_map(|folder| files(folder, ".rs"));
    for path in sources.chain([catalogue]) {
        let source = text(&path).replace("\\\"", "\"");
        // A string that goes on in the next line is one.
        let lines: Vec<&str> = source.split("\\\n").map(str::trim_start).collect();
        let source = lines.concat();
        let english = source.split("read \"").skip(1).filter_map(|rest| {
            let (heading, rest) = rest.split_once("\" in man/")?;
            Some((heading, format!("man/{}.md", rest.split_once(".md")?.0)))
        });
        let japanese = source.split("man/").skip(1).filter_map(|rest| {
            let (page, rest) = rest.split_once(".ja.md の「")?;
            let page = (!page.contains(char::is_whitespace)).then_some(page)?;
            Some((rest.split_once('」')?.0, format!("man/{page}.ja.md")))
        });
        for (heading, page) in english.chain(japanese) {
            named += 1;
            let exists = text(&page).lines().any(|line| {
                line.starts_with('#') && line.trim_start_matches(['#', ' ']) == heading
            });
            assert!(exists, "{path} names {heading:?}, no heading of {page}");
        }
    }
    assert!(named > 4, "only {named} sections are named");
}
