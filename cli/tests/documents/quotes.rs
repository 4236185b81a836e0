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
