//! Pages of the commands that show the node.

use super::exits::{LISTED, SHOWN, WAIT_LOST};
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
    Page {
        command: "status",
        exits: &[SHOWN],
        examples: &[
            example("soramode status", "Show the node once"),
            example(
                "soramode status --watch",
                "Follow the node in the terminal; q quits",
            ),
        ],
    },
    Page {
        command: "explain",
        exits: &[(Exit::Done, "shown, for any decision")],
        examples: &[example(
            "soramode explain spam",
            "Show what a new connection to the channel spam is answered",
        )],
    },
    Page {
        command: "tail",
        exits: &[WAIT_LOST, (Exit::Interrupted, "stopped with Ctrl-C")],
        examples: &[
            example(
                "soramode tail --since 10m --type 'session.*'",
                "Print the session events of the last 10 minutes, then new ones",
            ),
            example(
                "soramode tail -n 20 -o jsonl",
                "Print the last 20 events, then new ones, as JSON",
            ),
        ],
    },
    Page {
        command: "history",
        exits: &[LISTED],
        examples: &[example(
            "soramode history -n 10",
            "List the last 10 changes of the mode",
        )],
    },
    Page {
        command: "doctor",
        exits: &[
            (Exit::Done, "nothing is wrong"),
            (Exit::False, "something is wrong"),
        ],
        examples: &[
            example("soramode doctor", "Check the setup"),
            example("soramode doctor -o json", "The same, for monitoring"),
        ],
    },
    Page {
        command: "info",
        exits: &[SHOWN],
        examples: &[example(
            "soramode info",
            "Show versions, and what you may do",
        )],
    },
];
