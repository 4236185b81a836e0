//! Help pages. The texts of flags are in the flags' definitions; this adds groups of commands,
//! short global options, exit codes and examples.

mod format;
mod overview;
mod pages;

use clap::{Arg, Args as _, Command};

use crate::error::{Exit, exit_codes};
use crate::flags::Global;

use format::{heading, paragraph, table};
pub(crate) use overview::{groups, siblings};
pub use pages::examples;
use pages::exits::ANY_OTHER;
pub(crate) use pages::page;
pub use pages::page::Example;
use pages::page::Page;

/// Topics of `soramode help` beside the commands.
pub(crate) const TOPICS: [&str; 2] = ["options", "exit-codes"];

/// The syntax of durations.
const DURATIONS: &str = "\
A DURATION is a number with a unit: 500ms, 90s, 45m, 2h, 7d, or several of them:
1h30m. 0 needs no unit. The longest is 366 days.";

/// Flags of mode changes and waits that the HTTP API lacks.
const SOCKET_ONLY: [&str; 5] = ["message", "for", "if-mode", "if-generation", "generation"];

/// Adds the help pages to the definition of the command line.
pub(crate) fn with_pages(root: Command) -> Command {
    let overview = overview::text(&root);
    root.override_help(overview)
        .mut_args(in_short)
        .mut_subcommands(|verb| {
            let name = verb.get_name().to_owned();
            with_page(
                verb.mut_subcommands(|part| {
                    let name = format!("{name} {}", part.get_name());
                    with_page(part, &name)
                }),
                &name,
            )
        })
}

/// Returns whether a flag makes sense for a closing only. `open` takes it, as every mode does, and
/// refuses it with a reason.
fn is_of_closing(flag: &Arg) -> bool {
    let of_closing = [
        "for",
        "wait",
        "timeout",
        "assume-complete",
        "keep-open",
        "require-published",
    ];
    flag.get_long()
        .is_some_and(|name| of_closing.contains(&name))
}

/// Hides a global option: a table of its own lists it shortly.
fn in_short(option: Arg) -> Arg {
    if option.is_global_set() {
        option.hide_short_help(true).hide_long_help(true)
    } else {
        option
    }
}

fn with_page(command: Command, name: &str) -> Command {
    let of_command: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    let missing: Vec<String> = SOCKET_ONLY
        .iter()
        .filter(|flag| of_command.contains(flag) && !(name == "open" && **flag == "for"))
        .map(|flag| format!("--{flag}"))
        .collect();
    let command = if name == "open" {
        command.mut_args(|flag| {
            if is_of_closing(&flag) {
                flag.hide(true)
            } else {
                flag
            }
        })
    } else {
        command
    };
    let command = command.mut_args(|flag| {
        if flag.get_long() == Some("node") {
            with_missing(flag, &missing)
        } else {
            flag
        }
    });
    let (short, long) = after(name);
    command.after_help(short).after_long_help(long)
}

/// Adds the flags that `--node` cannot be combined with to its help.
fn with_missing(node: Arg, missing: &[String]) -> Arg {
    let Some(help) = node.get_long_help().map(ToString::to_string) else {
        return node;
    };
    if missing.is_empty() {
        node
    } else {
        node.long_help(format!("{help} Not with {}.", missing.join(", ")))
    }
}

/// Returns the text after a command's own options, for the short and the long help.
fn after(name: &str) -> (String, String) {
    let details = match name {
        "drain" | "maintain" | "roll" => {
            "Plan options (--lead, --end-after, ...), details and examples"
        }
        _ => "Details and examples",
    };
    let short = paragraph(
        "Global options",
        &format!("soramode help options. {details}: soramode help {name}"),
    );
    let page = page(name);
    (
        short,
        [global_table(), exits(page), example_lines(page)].join("\n\n"),
    )
}

/// Returns the text of a topic of [`TOPICS`].
pub(crate) fn topic(name: &str) -> Option<String> {
    match name {
        "options" => {
            let mut options = Global::augment_args(Command::new("soramode"))
                .disable_help_flag(true)
                .help_template("{options}");
            Some(format!(
                "{}\n{}\n\n{DURATIONS}",
                heading("Global options"),
                options.render_long_help().to_string().trim_end()
            ))
        }
        "exit-codes" => Some(exit_codes()),
        _ => None,
    }
}

/// Returns the options that every command takes.
pub(crate) fn global_options() -> Vec<Arg> {
    Global::augment_args(Command::new("soramode"))
        .get_arguments()
        .cloned()
        .collect()
}

/// `-o, --output <FORMAT>`
fn spelled(option: &Arg) -> String {
    let short = option
        .get_short()
        .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let takes_value = option.get_action().takes_values();
    let value = option
        .get_value_names()
        .filter(|_| takes_value)
        .map(|names| format!(" <{}>", names.join(" ")))
        .unwrap_or_default();
    format!("{short}--{}{value}", option.get_long().unwrap_or_default())
}

fn global_table() -> String {
    let rows: Vec<(String, String)> = global_options()
        .iter()
        .map(|option| {
            (
                spelled(option),
                option
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            )
        })
        .collect();
    format!(
        "{}\n{}",
        heading("Global options (in full: soramode help options)"),
        table(&rows)
    )
}

/// Returns an exit code, or `any`.
pub(crate) fn code(exit: Exit) -> String {
    if exit == ANY_OTHER {
        "any".to_owned()
    } else {
        exit.code().to_string()
    }
}

fn exits(page: &Page) -> String {
    let lines: Vec<String> = page
        .exits
        .iter()
        .map(|(exit, text)| format!("  {:>3}  {text}", code(*exit)))
        .collect();
    format!(
        "{}\n{}",
        heading("Exit codes (all: soramode help exit-codes)"),
        lines.join("\n")
    )
}

fn example_lines(page: &Page) -> String {
    let lines: Vec<String> = page
        .examples
        .iter()
        .map(|Example { line, what }| format!("  # {what}\n  {line}"))
        .collect();
    format!("{}\n{}", heading("Examples"), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::builder::StyledStr;

    use super::*;
    use crate::args::Args;

    /// The smallest usual terminal, in columns and lines.
    const TERMINAL: (usize, usize) = (80, 24);

    /// Lists every command with its name, including those of two words.
    fn commands() -> Vec<(String, Command)> {
        let whole = Args::whole_command();
        let with_parts = |verb: &Command| {
            let parts = verb.get_subcommands().map(|part| {
                (
                    format!("{} {}", verb.get_name(), part.get_name()),
                    part.clone(),
                )
            });
            std::iter::once((verb.get_name().to_owned(), verb.clone()))
                .chain(parts.collect::<Vec<_>>())
        };
        whole
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .flat_map(with_parts)
            .collect()
    }

    #[test]
    fn each_command_has_exit_codes_and_examples_of_its_own() {
        let names: Vec<String> = commands().into_iter().map(|(name, _)| name).collect();
        let pages: Vec<&str> = examples().map(|(command, _)| command).skip(1).collect();
        assert_eq!(
            pages
                .iter()
                .filter(|page| !names.iter().any(|name| name == *page))
                .count(),
            0,
            "{pages:?}"
        );
        for name in names {
            let page = page(&name);
            assert!(
                pages.contains(&name.as_str())
                    && !page.exits.is_empty()
                    && !page.examples.is_empty(),
                "{name}"
            );
            for Example { line, what } in page.examples {
                assert!(
                    line.contains(&format!("soramode {name} "))
                        || line.ends_with(&name)
                        || line.contains(&format!("{name} ")),
                    "{name}: {line}"
                );
                assert!(!what.ends_with('.'), "{what}");
            }
        }
    }

    #[test]
    fn the_short_help_fits_a_terminal_and_the_long_one_its_width() {
        for (name, command) in commands() {
            let mut command = command.term_width(TERMINAL.0);
            let short = command.render_help().to_string();
            let lines = short.trim_end().lines().count();
            assert!(
                lines < TERMINAL.1,
                "{name} has {lines} lines, and a prompt needs one:\n{short}"
            );
            for text in [short, command.render_long_help().to_string()] {
                let wide: Vec<&str> = text
                    .lines()
                    .filter(|line| line.chars().count() > TERMINAL.0)
                    .collect();
                assert!(wide.is_empty(), "{name}: {wide:#?}");
            }
        }
    }

    /// A line that clap breaks starts without its indent.
    #[test]
    fn help_lines_are_not_wrapped() {
        for (name, command) in commands() {
            let ours = StyledStr::from(after(&name).1).to_string();
            let shown = command
                .term_width(TERMINAL.0)
                .render_long_help()
                .to_string();
            assert!(
                shown.trim_end().ends_with(ours.trim_end()),
                "{name}:\n{shown}"
            );
        }
    }

    #[test]
    fn topics_are_printed() {
        for name in TOPICS {
            assert!(
                topic(name).is_some_and(|text| text.lines().count() > 10),
                "{name}"
            );
        }
        assert_eq!(topic("drain"), None);
    }
}
