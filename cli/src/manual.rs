//! The pages of the manual: the definition of the command line, and the sections around it.

use std::io;

use clap::builder::Resettable;
use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::error::exit_status;
use crate::help::{self, Example};

/// A file that is generated and committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// The path from the top of the project.
    pub path: String,
    /// The bytes of the file.
    pub content: Vec<u8>,
}

/// The date on every page: of the last change of the programs. A constant, so that builds are
/// reproducible.
pub const MANUAL_DATE: &str = "2026-11-28";

/// The lines that `clap_mangen` puts before every section. One copy is enough.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// A word and its explanation.
type Entry = (String, String);

/// Parts of a page that are not in the definition of its command.
struct Beside<'a> {
    exit_status: Vec<Entry>,
    environment: Vec<Entry>,
    files: Vec<Entry>,
    examples: &'a [Example],
    see_also: Vec<String>,
}

/// Returns the man page of soramoded with these examples.
pub fn daemon_page(command: &Command, examples: &[Example]) -> io::Result<GeneratedFile> {
    // The manual has the examples in a section of its own.
    let command = command.clone().after_long_help(Resettable::Reset);
    page_of(&command, "8", &of_daemon(examples))
}

/// Returns the man page of a command.
pub(crate) fn command_page(command: &Command) -> io::Result<GeneratedFile> {
    page_of(command, "1", &of_command(command))
}

fn page_of(command: &Command, section: &str, beside: &Beside<'_>) -> io::Result<GeneratedFile> {
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let is_verb = section == "1" && name != "soramode";
    // Global options are on the page of soramode alone.
    let own = command.clone().mut_args(|option| {
        let is_elsewhere = is_verb && option.is_global_set();
        option
            .hide_short_help(false)
            .hide_long_help(false)
            .hide(is_elsewhere)
    });
    let man = Man::new(own)
        .title(name.to_uppercase())
        .section(section)
        .date(MANUAL_DATE)
        .source("soramode")
        .manual("soramode");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let mut roff = Roff::new();
    synopsis(&mut roff, command);
    roff.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    let mut roff = Roff::new();
    if name == "soramode" {
        groups(&mut roff, command);
        roff.to_writer(&mut page)?;
    } else if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    if section == "8" {
        man.render_extra_section(&mut page)?;
    }
    let mut roff = Roff::new();
    if is_verb {
        global_options(&mut roff);
    }
    entries(&mut roff, "EXIT STATUS", &beside.exit_status);
    if is_verb {
        roff.control("PP", [])
            .text([roman("All exit codes are in soramode(1).")]);
    }
    entries(&mut roff, "ENVIRONMENT", &beside.environment);
    entries(&mut roff, "FILES", &beside.files);
    examples(&mut roff, beside.examples);
    roff.control("SH", ["SEE ALSO"])
        .text([roman(beside.see_also.join(", "))]);
    roff.to_writer(&mut page)?;
    Ok(GeneratedFile {
        path: format!("man/{name}.{section}"),
        content: tidied(&String::from_utf8_lossy(&page)).into_bytes(),
    })
}

/// Removes blanks that `mandoc` warns of: around blank lines and at the ends of lines. Words are
/// not hyphenated, so that they can be searched for.
fn tidied(page: &str) -> String {
    let page = page
        .replace(PREAMBLE, "")
        .replacen("\n.SH ", "\n.nh\n.ad l\n.SH ", 1)
        .replace("\n.br\n\n.br\n", "\n.sp\n")
        .replace(".SH EXTRA", ".SH NOTES")
        .replace("\n\n", "\n.sp\n");
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    format!("{PREAMBLE}{}\n", lines.join("\n"))
}

/// Writes the synopsis: of a verb with each option and its value, of others that of `--help`.
fn synopsis(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["SYNOPSIS"]);
    let is_verb = command
        .get_bin_name()
        .is_some_and(|name| name.contains(' '))
        && !command.has_subcommands();
    if is_verb {
        let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
        let own = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set() && !arg.is_global_set() && arg.get_id() != "help");
        let (positionals, options): (Vec<&Arg>, Vec<&Arg>) =
            own.partition(|arg| arg.is_positional());
        let forms = |args: Vec<&Arg>| args.into_iter().map(form).collect::<Vec<_>>();
        let forms = [
            forms(options),
            vec!["[GLOBAL OPTIONS]".to_owned()],
            forms(positionals),
        ]
        .concat();
        line.extend(forms.into_iter().map(|form| roman(format!(" {form}"))));
        roff.text(line);
        return;
    }
    let usage = command.clone().render_usage().to_string();
    for (number, line) in usage
        .trim_start_matches("Usage:")
        .lines()
        .map(str::trim)
        .enumerate()
    {
        if number > 0 {
            roff.control("br", []);
        }
        roff.text([bold(line)]);
    }
}

/// `[--timeout <DURATION>]`, `<MODE>`, `-- <COMMAND>...`
fn form(arg: &Arg) -> String {
    match arg {
        arg if arg.is_last_set() => format!("-- {arg}"),
        arg if arg.is_positional() || arg.is_required_set() => arg.to_string(),
        // The command itself requires it, and explains the risk.
        arg if arg
            .get_help()
            .is_some_and(|help| help.to_string().starts_with("Required: ")) =>
        {
            arg.to_string()
        }
        arg => format!("[{arg}]"),
    }
}

/// Writes the commands in groups.
fn groups(roff: &mut Roff, root: &Command) {
    roff.control("SH", ["COMMANDS"]);
    for (heading, commands) in help::groups() {
        roff.control("SS", [heading]);
        for command in commands
            .iter()
            .filter_map(|name| root.find_subcommand(name))
        {
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            roff.control("TP", [])
                .text([bold(page_name(command))])
                .text([roman(about)]);
        }
    }
}

/// `soramode-drain(1)`
fn page_name(command: &Command) -> String {
    format!(
        "{}(1)",
        command.get_display_name().unwrap_or(command.get_name())
    )
}

fn global_options(roff: &mut Roff) {
    let names: Vec<String> = help::global_options()
        .iter()
        .filter_map(Arg::get_long)
        .map(|name| format!("--{name}"))
        .collect();
    roff.control("SH", ["GLOBAL OPTIONS"]);
    roff.text([roman(format!(
        "The options of soramode(1), which every command takes: {}.",
        names.join(", ")
    ))]);
}

fn entries(roff: &mut Roff, heading: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for (word, what) in entries {
        roff.control("TP", [])
            .text([bold(word)])
            .text([roman(what)]);
    }
}

fn examples(roff: &mut Roff, examples: &[Example]) {
    if examples.is_empty() {
        return;
    }
    roff.control("SH", ["EXAMPLES"]);
    for Example { line, what } in examples {
        roff.control("TP", [])
            .text([bold(*line)])
            .text([roman(format!("{what}."))]);
    }
}

fn of_command(command: &Command) -> Beside<'static> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let verb = name
        .strip_prefix("soramode-")
        .map(|words| words.replacen('-', " ", 1))
        .unwrap_or_default();
    let parent = name
        .rsplit_once('-')
        .map(|(parent, _)| format!("{parent}(1)"));
    let siblings = help::siblings(&verb).map(|sibling| format!("soramode-{sibling}(1)"));
    let children = command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
        .map(page_name);
    let others = ["soramode-runbook(7)", "soramoded(8)"].map(str::to_owned);
    let page = help::page(&verb);
    let own_exits = page
        .exits
        .iter()
        .map(|(exit, what)| (help::code(*exit), (*what).to_owned()));
    let all_exits = exit_status().map(|(code, what)| (code.to_string(), what.to_owned()));
    Beside {
        exit_status: if verb.is_empty() {
            all_exits.collect()
        } else {
            own_exits.collect()
        },
        environment: owned(&ENVIRONMENT),
        files: owned(&FILES),
        examples: page.examples,
        see_also: parent
            .into_iter()
            .chain(children)
            .chain(siblings)
            .chain(others)
            .collect(),
    }
}

fn of_daemon(examples: &[Example]) -> Beside<'_> {
    Beside {
        exit_status: owned(&[
            ("0", "clean stop"),
            ("1", "cannot start or run"),
            ("2", "wrong flag, environment variable or file"),
        ]),
        environment: owned(&[(
            "SORAMODED_<FLAG>",
            "the value of the flag of that name: SORAMODED_NODE_NAME is that of --node-name",
        )]),
        files: owned(&[
            (
                "/etc/soramode/soramoded.toml",
                "the configuration of the packaged unit",
            ),
            ("/run/soramode/soramode.sock", "the control socket"),
            ("/var/lib/soramode", "the state of the packaged unit"),
        ]),
        examples,
        see_also: ["soramode(1)", "soramode-protocol(7)", "soramode-runbook(7)"]
            .map(str::to_owned)
            .into(),
    }
}

fn owned(entries: &[(&str, &str)]) -> Vec<Entry> {
    entries
        .iter()
        .map(|(word, what)| ((*word).to_owned(), (*what).to_owned()))
        .collect()
}

const ENVIRONMENT: [(&str, &str); 8] = [
    (
        "SORAMODE_SOCKET",
        "the control socket; --socket overrides it",
    ),
    (
        "SORAMODE_HOST",
        "the host to act on, over ssh; -H and --socket override it",
    ),
    (
        "SORAMODE_SSH",
        "the ssh for -H, with options, split at spaces (default: ssh)",
    ),
    (
        "SORAMODE_REMOTE",
        "the command on the host of -H, for its shell (default: soramode)",
    ),
    (
        "SORAMODE_API_URL",
        "the URL of the HTTP API to use; --api-url overrides it",
    ),
    (
        "NO_COLOR",
        "if set, no colours are used; --color overrides it",
    ),
    (
        "TERM",
        "if unset or dumb, no colours are used and nothing is redrawn",
    ),
    ("TZ", "the time zone of the times on a terminal"),
];

const FILES: [(&str, &str); 4] = [
    (
        "/run/soramode/soramode.sock",
        "the control socket of the system's soramoded",
    ),
    (
        "$XDG_RUNTIME_DIR/soramode/soramode.sock",
        "the control socket of a soramoded that a user runs",
    ),
    (
        "~/.config/soramode/fleet.toml",
        "the user's fleets, for -H @NAME",
    ),
    ("/etc/soramode/fleet.toml", "the fleets of all users"),
];
