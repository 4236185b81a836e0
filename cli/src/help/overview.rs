//! `soramode --help`: one screen for new readers.

use clap::Command;

use super::format::{heading, paragraph, table};
use super::pages::page;

/// Commands under one heading.
struct Group {
    heading: &'static str,
    lines: &'static [Line],
}

/// A line of a group.
enum Line {
    /// One command, with the first line of its own help.
    One(&'static str),
    /// Several commands with one text.
    Several(&'static [&'static str], &'static str),
}

use Line::{One, Several};

static GROUPS: [Group; 6] = [
    Group {
        heading: "Mode and drain",
        lines: &[
            Several(&["get", "set"], "Print the mode; set it"),
            Several(
                &["open", "close"],
                "Open the node; close it to new sessions",
            ),
            One("drain"),
            Several(
                &["maintain", "roll"],
                "Drain, run a command, open again; for several in turn",
            ),
            One("plan"),
            Several(
                &["wait", "is"],
                "Wait for a condition; test it: exit 0 if true, 1 if false",
            ),
        ],
    },
    Group {
        heading: "Look",
        lines: &[
            One("status"),
            Several(
                &["sessions", "session"],
                "List sessions; show one with its connections",
            ),
            One("connections"),
            One("explain"),
            Several(
                &["tail", "history"],
                "Print events as they happen; list mode changes",
            ),
            Several(
                &["doctor", "info"],
                "Check the setup; show versions and permissions",
            ),
        ],
    },
    Group {
        heading: "Sessions by hand",
        lines: &[
            Several(
                &["connect", "disconnect"],
                "Add or remove a connection, as a signalling server does",
            ),
            Several(
                &["end", "announce"],
                "End sessions; announce maintenance to their clients",
            ),
        ],
    },
    Group {
        heading: "Webhooks",
        lines: &[Several(
            &["deliveries", "webhook"],
            "List, show and resend deliveries; test a receiver",
        )],
    },
    Group {
        heading: "Cluster",
        lines: &[One("nodes")],
    },
    Group {
        heading: "Help",
        lines: &[
            One("drill"),
            One("completions"),
            Several(
                &["help", "version"],
                "Print help for a command; print the version",
            ),
        ],
    },
];

const INTRODUCTION: &str = "\
Maintenance mode for WebRTC SFUs: close a node to new sessions, wait until the
last one has ended, take the node down, and open it again.";

/// Lists the groups: heading and commands.
pub(crate) fn groups() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    GROUPS.iter().map(|group| {
        (
            group.heading,
            group.lines.iter().flat_map(Line::names).copied().collect(),
        )
    })
}

/// Lists the other commands of the same group.
pub(crate) fn siblings(command: &str) -> impl Iterator<Item = &'static str> {
    let group = groups().find(|(_, commands)| commands.contains(&command));
    group
        .map(|(_, commands)| commands)
        .unwrap_or_default()
        .into_iter()
        .filter(move |sibling| *sibling != command)
}

/// Returns the page.
pub(super) fn text(root: &Command) -> String {
    let width = GROUPS
        .iter()
        .flat_map(|group| group.lines)
        .map(|line| line.words().len())
        .max()
        .unwrap_or_default();
    let groups = GROUPS.iter().map(|group| {
        let lines = group
            .lines
            .iter()
            .map(|line| format!("  {:<width$}  {}", line.words(), line.text(root)));
        std::iter::once(heading(group.heading))
            .chain(lines)
            .collect::<Vec<_>>()
            .join("\n")
    });
    let examples: Vec<(String, String)> = page("soramode")
        .examples
        .iter()
        .map(|it| (it.line.to_owned(), it.what.to_owned()))
        .collect();
    let parts = [
        INTRODUCTION.to_owned(),
        format!("{} soramode [OPTIONS] <COMMAND>", heading("Usage")),
        groups.collect::<Vec<_>>().join("\n"),
        format!("{}\n{}", heading("Examples"), table(&examples)),
        [
            paragraph(
                "Help for a command",
                "soramode drain -h, soramode help drain, man soramode-drain",
            ),
            paragraph(
                "Global options",
                "-o json, -q, --socket PATH, ...: soramode help options",
            ),
            paragraph(
                "Exit codes",
                "0 done, 1 no, others: soramode help exit-codes, man soramode",
            ),
        ]
        .join("\n"),
    ];
    parts.join("\n\n")
}

impl Line {
    const fn names(&self) -> &[&'static str] {
        match self {
            One(name) => std::slice::from_ref(name),
            Several(names, _) => names,
        }
    }

    fn words(&self) -> String {
        self.names().join(", ")
    }

    fn text(&self, root: &Command) -> String {
        match self {
            One(name) => root
                .find_subcommand(name)
                .and_then(Command::get_about)
                .map(ToString::to_string)
                .unwrap_or_default(),
            Several(_, text) => (*text).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::builder::StyledStr;

    use super::*;
    use crate::args::Args;

    /// Size of the screen that the page fits, in lines (one of 40 is the prompt's) and columns.
    const SCREEN: (usize, usize) = (39, 80);

    #[test]
    fn each_command_is_in_one_group() {
        let listed: Vec<&str> = groups().flat_map(|(_, commands)| commands).collect();
        let root = Args::whole_command();
        let commands: BTreeSet<&str> = root
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(Command::get_name)
            .collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), commands);
        assert_eq!(listed.len(), commands.len(), "none is there twice");
    }

    #[test]
    fn the_page_fits_a_screen() {
        let page = StyledStr::from(text(&Args::whole_command())).to_string();
        assert!(
            page.lines().count() <= SCREEN.0,
            "{} lines",
            page.lines().count()
        );
        let wide: Vec<&str> = page
            .lines()
            .filter(|line| line.chars().count() > SCREEN.1)
            .collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
}
