//! Exit codes and examples of each command: the one list for `--help`, the manual and the test that runs the examples.

mod cluster;
pub(crate) mod exits;
mod look;
mod mode;
pub(crate) mod page;
mod sessions;
mod start;
mod webhooks;

use page::{Example, Page, example};

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

/// The pages, by the subject of their commands.
static PAGES: [&[Page]; 6] = [
    mode::PAGES,
    look::PAGES,
    sessions::PAGES,
    webhooks::PAGES,
    cluster::PAGES,
    start::PAGES,
];
