//! The pages of the manual: what the command line's definition says, and around it what a page of the manual has.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::error::exit_status;
use crate::generated::GeneratedFile;

/// The date that every page has: of the last change of what the programs do.
pub const MANUAL_DATE: &str = "2026-11-28";

/// A word and what it is.
type Entry = (String, String);

/// Parts of a page beyond the definition of its command.
struct Beside {
    exit_status: Vec<Entry>,
    environment: Vec<Entry>,
    files: Vec<Entry>,
    see_also: Vec<String>,
}

/// The man page of a command in this section of the manual.
pub fn man_page(command: &Command, section: &str) -> io::Result<GeneratedFile> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let man = Man::new(command.clone()).title(name.to_uppercase()).section(section).date(MANUAL_DATE).source("soramode").manual("soramode");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let beside = if section == "8" { of_daemon() } else { of_command(command, &name) };
    if section == "8" {
        man.render_extra_section(&mut page)?;
    }
    let mut roff = Roff::new();
    entries(&mut roff, "EXIT STATUS", &beside.exit_status);
    entries(&mut roff, "ENVIRONMENT", &beside.environment);
    entries(&mut roff, "FILES", &beside.files);
    examples(&mut roff, &name);
    roff.control("SH", ["SEE ALSO"]).text([roman(beside.see_also.join(", "))]);
    roff.to_writer(&mut page)?;
    Ok(GeneratedFile { path: format!("man/{name}.{section}"), content: tidied(&String::from_utf8_lossy(&page)).into_bytes() })
}

/// Without what `mandoc` warns of: breaks around blank lines, and blanks at the ends of lines.
fn tidied(page: &str) -> String {
    let page = page.replace("\n.br\n\n.br\n", "\n.sp\n").replace(".SH EXTRA", ".SH NOTES").replace("\n\n", "\n.sp\n");
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

fn entries(roff: &mut Roff, heading: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    roff.control("SH", [heading]);
    for (word, what) in entries {
        roff.control("TP", []).text([bold(word)]).text([roman(what)]);
    }
}

fn examples(roff: &mut Roff, name: &str) {
    let mut of_name = EXAMPLES.iter().filter(|(page, ..)| *page == name).peekable();
    if of_name.peek().is_none() {
        return;
    }
    roff.control("SH", ["EXAMPLES"]);
    for (_, line, what) in of_name {
        roff.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
}

fn of_command(command: &Command, name: &str) -> Beside {
    let parents = name.rsplit_once('-').map(|(parent, _)| format!("{parent}(1)"));
    let children = command.get_subcommands().filter_map(Command::get_display_name).map(|child| format!("{child}(1)"));
    let others = ["soramode-runbook(7)", "soramoded(8)"].map(str::to_owned);
    Beside {
        exit_status: exit_status().map(|(code, what)| (code.to_string(), what.to_owned())).collect(),
        environment: owned(&ENVIRONMENT),
        files: owned(&FILES),
        see_also: parents.into_iter().chain(children).chain(others).collect(),
    }
}

fn of_daemon() -> Beside {
    Beside {
        exit_status: owned(&[("0", "stopped in order"), ("1", "it cannot start or run"), ("2", "a wrong flag or file")]),
        environment: owned(&[("SORAMODED_NAME", "the value of the flag of that name: SORAMODED_NODE_NAME is that of --node-name")]),
        files: owned(&[
            ("/etc/soramode/soramoded.toml", "the configuration of the packaged unit"),
            ("/run/soramode/soramode.sock", "the control socket"),
            ("/var/lib/soramode", "the state of the packaged unit"),
        ]),
        see_also: ["soramode(1)", "soramode-protocol(7)", "soramode-runbook(7)"].map(str::to_owned).into(),
    }
}

fn owned(entries: &[(&str, &str)]) -> Vec<Entry> {
    entries.iter().map(|(word, what)| ((*word).to_owned(), (*what).to_owned())).collect()
}

const ENVIRONMENT: [(&str, &str); 5] = [
    ("SORAMODE_SOCKET", "the daemon's socket; --socket overrides it"),
    ("SORAMODE_API_URL", "the server that speaks Sora's API; --api-url overrides it"),
    ("NO_COLOR", "if set, no colours are used; --color overrides it"),
    ("TERM", "if unset or dumb, no colours are used and nothing is redrawn"),
    ("TZ", "the zone of the times on a terminal"),
];

const FILES: [(&str, &str); 2] = [
    ("/run/soramode/soramode.sock", "the control socket of the system's soramoded"),
    ("$XDG_RUNTIME_DIR/soramode/soramode.sock", "that of a user's own"),
];

/// A page, a command line and what it does.
const EXAMPLES: [(&str, &str, &str); 22] = [
    ("soramode", "soramode status", "Check that soramoded runs, and count the node's sessions and connections."),
    ("soramode", "soramode drain --timeout 30m -m upgrade", "Close the node to new sessions and wait until the last has ended."),
    ("soramode", "soramode set normal", "Open the node again."),
    ("soramode-get", "soramode get", "Print the mode, as for a prompt."),
    ("soramode-set", "soramode set block_new_session -m CHG-123 --for 45m", "Close the node to new sessions for 45 minutes."),
    ("soramode-set", "soramode set normal --if-mode block_new_session", "Open it only if it is still block_new_session."),
    ("soramode-drain", "soramode drain --timeout 30m --on-timeout undo", "Drain, and open the node again if that takes too long."),
    ("soramode-drain", "soramode drain --node sfu-02 --keep-open 2", "Drain another node, if two others stay open."),
    ("soramode-maintain", "soramode maintain -m upgrade -- systemctl restart sora", "Drain, restart the SFU, and open the node."),
    ("soramode-wait", "soramode wait drained --timeout 1h", "Watch a drain that was started elsewhere."),
    ("soramode-is", "soramode is drained", "Test by the exit code, before a restart."),
    ("soramode-status", "soramode status --watch", "See the node as it changes; q quits."),
    ("soramode-sessions", "soramode sessions --older 2h --sort size", "List what holds up a drain."),
    ("soramode-sessions", "soramode sessions -o wide", "List with every column in full."),
    ("soramode-session", "soramode session spam", "Print the session on a channel and its connections."),
    ("soramode-connections", "soramode connections --channel spam", "List the connections of a channel."),
    ("soramode-explain", "soramode explain spam", "Print what a new connection would be answered, and why."),
    ("soramode-tail", "soramode tail --since 10m --type session.*", "Print the session events of the last 10 minutes, then new ones."),
    ("soramode-history", "soramode history -n 10", "List the last ten changes of the mode."),
    ("soramode-deliveries", "soramode deliveries --state failed", "List the webhook deliveries that failed."),
    ("soramode-nodes", "soramode nodes", "List the nodes of the cluster."),
    ("soramode-doctor", "soramode doctor", "Check the node's setup."),
];

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::Args;

    #[test]
    fn each_example_is_a_command_line() {
        for (_, line, _) in EXAMPLES {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(Args::read(&words).is_ok(), "{line}");
        }
    }
}
