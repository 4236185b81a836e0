//! Pages of the commands for sessions and connections.

use super::exits::{LISTED, NO_SESSION, NOT_ACCEPTED, SHOWN};
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
    Page {
        command: "sessions",
        exits: &[LISTED],
        examples: &[
            example(
                "soramode sessions --older 2h",
                "List the sessions that are at least 2 hours old",
            ),
            example(
                "soramode sessions --sort size -o wide",
                "List with every column, the largest sessions first",
            ),
        ],
    },
    Page {
        command: "session",
        exits: &[SHOWN, NO_SESSION],
        examples: &[example(
            "soramode session spam",
            "Show the session on the channel spam, with its connections",
        )],
    },
    Page {
        command: "connections",
        exits: &[LISTED],
        examples: &[
            example(
                "soramode connections --channel spam",
                "List the connections in the channel spam",
            ),
            example(
                "soramode connections -o plain | wc -l",
                "Count all connections",
            ),
        ],
    },
    Page {
        command: "connect",
        exits: &[
            (Exit::Done, "offered: the connection is admitted"),
            (Exit::False, "rejected, or redirected to another node"),
            (
                Exit::Refused,
                "the connection id is in use in another channel",
            ),
        ],
        examples: &[
            example(
                "soramode connect spam",
                "Request admission to the channel spam",
            ),
            example(
                "soramode connect spam --connection-id c-9",
                "Use this connection id",
            ),
        ],
    },
    Page {
        command: "disconnect",
        exits: &[
            (Exit::Done, "removed"),
            (Exit::NotFound, "no connection with this id"),
        ],
        examples: &[example(
            "soramode disconnect c-1",
            "Remove the connection c-1 after its client is gone",
        )],
    },
    Page {
        command: "end",
        exits: &[
            (
                Exit::Done,
                "asked to end the sessions; with --wait: they have ended",
            ),
            NOT_ACCEPTED,
            (
                Exit::Refused,
                "cannot end sessions: no --sora-api and no client accepts end requests",
            ),
            (
                Exit::Superseded,
                "with --wait: the rest is not ended, since that was stopped",
            ),
            NO_SESSION,
            (Exit::Failed, "some sessions could not be ended"),
        ],
        examples: &[
            example(
                "soramode end spam --accept-risk=cuts-clients",
                "End the session on the channel spam",
            ),
            example(
                "soramode end --all --accept-risk=cuts-clients",
                "End every session on the node",
            ),
        ],
    },
    Page {
        command: "announce",
        exits: &[
            (Exit::Done, "every channel has it"),
            (
                Exit::Refused,
                "no means: no --sora-api, no subscriber and no webhook",
            ),
            NO_SESSION,
            (Exit::Failed, "some channels did not get it"),
        ],
        examples: &[
            example(
                "soramode announce 'Maintenance tonight at 02:00'",
                "Announce to every channel",
            ),
            example(
                "soramode announce --channel spam --data '{\"level\":1}'",
                "Send data to the clients of the channel spam",
            ),
        ],
    },
];
