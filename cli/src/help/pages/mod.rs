//! Exit codes and examples of each command: the one list for `--help`, the manual and the test that runs the examples.

mod cluster;
mod look;
mod mode;
mod sessions;
mod start;
mod webhooks;

use crate::error::Exit;

/// A command line with its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The line, as it is typed.
    pub line: &'static str,
    /// A sentence without a full stop.
    pub what: &'static str,
}

/// The additions to a command's help and manual page.
pub(crate) struct Page {
    command: &'static str,
    /// Exit codes with a meaning of their own for this command.
    pub(crate) exits: &'static [(Exit, &'static str)],
    pub(crate) examples: &'static [Example],
}

/// Returns the page of a command, such as `drain` or `webhook test`; for any other name, that of `soramode`.
pub(crate) fn page(command: &str) -> &'static Page {
    PAGES
        .into_iter()
        .flatten()
        .find(|page| page.command == command)
        .unwrap_or(&ROOT)
}

/// Lists every command with its examples.
pub fn examples() -> impl Iterator<Item = (&'static str, &'static [Example])> {
    std::iter::once(&ROOT)
        .chain(PAGES.into_iter().flatten())
        .map(|page| (page.command, page.examples))
}

const fn example(line: &'static str, what: &'static str) -> Example {
    Example { line, what }
}

const ROOT: Page = Page {
    command: "soramode",
    exits: &[],
    examples: &[
        example("soramode status", "Show mode, sessions and health"),
        example(
            "soramode drain --timeout 30m",
            "Close the node and wait until it is empty",
        ),
        example("soramode open", "Open the node again"),
    ],
};

/// The code of the command that `maintain` ran: in no list.
pub(crate) const ANY_OTHER: Exit = Exit::Command(0);

const CLOSE_REFUSED: (Exit, &str) = (
    Exit::Refused,
    "--keep-open refused, or --require-published failed (the node is closed)",
);
const WAIT_INCOMPLETE: (Exit, &str) = (
    Exit::SessionsIncomplete,
    "session list incomplete: see soramode doctor",
);
const WAIT_LOST: (Exit, &str) = (
    Exit::Unreachable,
    "soramoded was lost, and did not come back within 10 s",
);
const WAIT_TIMED_OUT: (Exit, &str) = (Exit::TimedOut, "timed out; the node stays closed");
const CONDITION_FALSE: (Exit, &str) = (
    Exit::Superseded,
    "--if-* condition false, or with --wait: another user changed the mode",
);
const NO_NODE: (Exit, &str) = (Exit::NotFound, "--node: no node of this name");
const NO_CLUSTER: (Exit, &str) = (Exit::NotFound, "this node has no cluster");
const NOT_ACCEPTED: (Exit, &str) = (Exit::Usage, "--accept-risk is missing: nothing was done");
const NO_SESSION: (Exit, &str) = (Exit::NotFound, "no session on this channel");
const NO_DELIVERY: (Exit, &str) = (Exit::NotFound, "no delivery with this ID");
const SHOWN: (Exit, &str) = (Exit::Done, "shown");
const LISTED: (Exit, &str) = (Exit::Done, "listed, also if the list is empty");
const PRINTED: (Exit, &str) = (Exit::Done, "printed");

/// The pages, by the subject of their commands.
static PAGES: [&[Page]; 6] = [
    mode::PAGES,
    look::PAGES,
    sessions::PAGES,
    webhooks::PAGES,
    cluster::PAGES,
    start::PAGES,
];
