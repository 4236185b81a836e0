//! The README is short, names every exit code, and its links and those of the guides lead somewhere.

use std::collections::BTreeSet;

use crate::{files, root, text};

/// The longest README, in lines.
const LINES_MAX: usize = 150;

const READMES: [&str; 2] = ["README.md", "README.ja.md"];

#[test]
fn a_readme_is_short() {
    for readme in READMES {
        let lines = text(readme).lines().count();
        assert!(
            lines <= LINES_MAX,
            "{readme}: {lines} lines; move details to man/operation.md and its translation"
        );
    }
}

#[test]
fn every_exit_code_is_in_the_readme() {
    let page = text("man/soramode.1");
    let (_, statuses) = page.split_once(".SH \"EXIT STATUS\"").unwrap();
    let (statuses, _) = statuses.split_once(".SH").unwrap();
    let codes: BTreeSet<u8> = statuses
        .split(['\\', '\n'])
        .filter_map(|word| word.strip_prefix("fB")?.parse().ok())
        .collect();
    for readme in READMES {
        let of_readme: BTreeSet<u8> = text(readme)
            .lines()
            .filter(|line| line.starts_with('|'))
            .flat_map(numbers)
            .collect();
        assert_eq!(of_readme, codes, "{readme}");
    }
}

/// The numbers that are alone in a cell of a row, or with commas between them.
fn numbers(row: &str) -> Vec<u8> {
    row.split(['|', ',', '、'])
        .filter_map(|cell| cell.trim().parse().ok())
        .collect()
}

/// The benchmarks write the table beside them, and people the README.
#[test]
fn the_readmes_ratios_are_those_of_the_benchmarks() {
    for (readme, heading) in READMES.into_iter().zip(["## Performance", "## 性能"]) {
        let (table, text) = (text(&format!("daemon/benches/{readme}")), text(readme));
        let (_, section) = text.split_once(heading).unwrap();
        let words = section
            .split("\n## ")
            .next()
            .unwrap()
            .split(|character: char| !character.is_ascii_digit() && character != '.');
        let ratios: Vec<&str> = words
            .filter(|word| word.len() == 4 && word.contains('.'))
            .collect();
        assert!(ratios.len() >= 4, "{readme}: {ratios:?}");
        for ratio in ratios {
            assert!(
                table.contains(&format!("| {ratio} |")),
                "{readme}: daemon/benches/{readme} has no {ratio}"
            );
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let guides = files("man", ".md")
        .into_iter()
        .chain(files("daemon/benches", ".md"));
    let documents = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"]
        .into_iter()
        .chain(READMES)
        .map(str::to_owned)
        .chain(guides);
    let mut broken = Vec::new();
    for document in documents {
        let folder = root().join(&document).parent().unwrap().to_owned();
        for link in text(&document)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link)
        {
            let path = link.split('#').next().unwrap();
            if !link.contains("://") && !folder.join(path).exists() {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
