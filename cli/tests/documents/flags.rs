//! Every flag that the documents name is one of the programs'.

use std::collections::BTreeSet;

use crate::{files, text};

/// Flags of other programs: etcd, cargo, etcdutl, dpkg.
const OF_OTHERS: [&str; 7] = [
    "--bump-revision",
    "--client-cert-auth",
    "--features",
    "--force-confold",
    "--mark-compacted",
    "--pre-vote",
    "--release",
];

#[test]
fn every_flag_exists() {
    let pages = files("man", ".1").into_iter().chain(files("man", ".8"));
    let flags: BTreeSet<String> = pages
        .flat_map(|page| flags(&text(&page).replace("\\-", "-")))
        .collect();
    let others = [
        "README.md",
        "README.ja.md",
        "daemon/packaging/soramoded.toml",
    ]
    .map(str::to_owned);
    let mut unknown = Vec::new();
    for document in others.into_iter().chain(files("man", ".md")) {
        let text = text(&document);
        let code = text
            .split("```")
            .step_by(2)
            .flat_map(|part| part.split('`').skip(1).step_by(2));
        let commands = text
            .lines()
            .map(|line| line.trim_start_matches(['$', '#', ' ']))
            .filter(|line| line.starts_with("soramode"));
        let named: BTreeSet<String> = code.chain(commands).flat_map(flags_of_programs).collect();
        unknown.extend(
            named
                .difference(&flags)
                .map(|flag| format!("{document}: {flag}")),
        );
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// The flags in a command or a code span, without those of other programs and what follows `--` alone.
fn flags_of_programs(code: &str) -> Vec<String> {
    let own = code.split(" -- ").next().unwrap();
    flags(own)
        .into_iter()
        .filter(|flag| !OF_OTHERS.contains(&flag.as_str()))
        .collect()
}

fn flags(text: &str) -> Vec<String> {
    let words = text.split(|character: char| {
        !character.is_ascii_lowercase() && !character.is_ascii_digit() && character != '-'
    });
    words
        .filter(|word| word.starts_with("--") && word.len() > 3)
        .map(str::to_owned)
        .collect()
}
