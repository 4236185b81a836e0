//! Exit codes and examples of each command: the one list for `--help`, the manual and the test that runs the examples.

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
        .iter()
        .find(|page| page.command == command)
        .unwrap_or(&ROOT)
}

/// Lists every command with its examples.
pub fn examples() -> impl Iterator<Item = (&'static str, &'static [Example])> {
    std::iter::once(&ROOT)
        .chain(PAGES)
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

/// The pages, in the order of the manual.
static PAGES: &[Page] = &[
    Page {
        command: "get",
        exits: &[PRINTED],
        examples: &[
            example("soramode get", "Print the mode"),
            example(
                "soramode get -o json",
                "Print it with its actor, reason, generation and times",
            ),
        ],
    },
    Page {
        command: "set",
        exits: &[
            (Exit::Done, "the node is in this mode; with --wait: drained"),
            (
                Exit::Refused,
                "refused: --keep-open, --require-published, initial, normal if not joined",
            ),
            CONDITION_FALSE,
            WAIT_INCOMPLETE,
            NO_NODE,
            WAIT_TIMED_OUT,
        ],
        examples: &[
            example(
                "soramode set block_new_session -m CHG-123 --for 45m",
                "Close the node for 45 minutes",
            ),
            example(
                "soramode set normal --if-mode block_new_session",
                "Open the node only if it is block_new_session",
            ),
        ],
    },
    Page {
        command: "open",
        exits: &[
            (Exit::Done, "the node is open"),
            (
                Exit::Refused,
                "refused: the node has not joined its cluster",
            ),
            (Exit::Superseded, "--if-* condition false"),
            NO_NODE,
        ],
        examples: &[example(
            "soramode open -m 'CHG-123 done'",
            "Open the node and record why",
        )],
    },
    Page {
        command: "close",
        exits: &[
            (Exit::Done, "the node is closed; with --wait: drained"),
            CLOSE_REFUSED,
            CONDITION_FALSE,
            WAIT_INCOMPLETE,
            NO_NODE,
            WAIT_TIMED_OUT,
        ],
        examples: &[
            example("soramode close -m CHG-123", "Close the node and record why"),
            example(
                "soramode close --for 2h",
                "Close the node, and reopen it automatically after 2 hours",
            ),
        ],
    },
    Page {
        command: "drain",
        exits: &[
            (
                Exit::Done,
                "closed, and no session is left (at most N with --max-sessions)",
            ),
            WAIT_LOST,
            CLOSE_REFUSED,
            (
                Exit::Superseded,
                "another user changed the mode while this waited",
            ),
            WAIT_INCOMPLETE,
            NO_NODE,
            (Exit::TimedOut, "timed out; see --on-timeout"),
            (Exit::Interrupted, "interrupted; the node stays closed"),
        ],
        examples: &[
            example(
                "soramode drain --timeout 30m -m 'CHG-123 kernel'",
                "Close the node and wait at most 30 minutes",
            ),
            example(
                "soramode drain --timeout 30m --on-timeout undo",
                "The same, but reopen the node if that is not enough",
            ),
            example(
                "soramode drain --node sfu-02 --keep-open 1",
                "Drain another node, if at least one node stays open",
            ),
        ],
    },
    Page {
        command: "maintain",
        exits: &[
            (Exit::Done, "COMMAND succeeded and the node is open"),
            WAIT_LOST,
            CLOSE_REFUSED,
            (
                Exit::Superseded,
                "the node stays closed: another user closed it, or for another reason",
            ),
            WAIT_INCOMPLETE,
            (Exit::TimedOut, "the drain timed out; see --on-timeout"),
            (Exit::Command(126), "COMMAND cannot be started"),
            (
                Exit::Command(127),
                "COMMAND was not found; nothing was changed",
            ),
            (
                ANY_OTHER,
                "that of COMMAND: it failed, the node stays closed (json: command_exit)",
            ),
        ],
        examples: &[example(
            "soramode maintain -m CHG-123 -- systemctl restart sora",
            "Drain, restart the SFU, and open the node",
        )],
    },
    Page {
        command: "wait",
        exits: &[
            (Exit::Done, "the condition is true"),
            WAIT_LOST,
            (
                Exit::Refused,
                "the condition cannot become true, such as drained on an open node",
            ),
            (Exit::Superseded, "another user changed the mode"),
            WAIT_INCOMPLETE,
            NO_NODE,
            (Exit::TimedOut, "timed out"),
        ],
        examples: &[
            example(
                "soramode wait drained --timeout 1h",
                "Follow a drain that was started elsewhere",
            ),
            example("soramode wait mode=normal", "Wait until the node is open"),
        ],
    },
    Page {
        command: "is",
        exits: &[
            (Exit::Done, "true"),
            (Exit::False, "false"),
            (
                Exit::SessionsIncomplete,
                "cannot be decided: session list incomplete, see soramode doctor",
            ),
        ],
        examples: &[
            example(
                "soramode is drained && systemctl restart sora",
                "Restart the SFU only if the node is empty",
            ),
            example(
                "soramode is normal || soramode open",
                "Open the node unless it is open",
            ),
        ],
    },
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
            (Exit::Done, "asked to end the sessions"),
            NOT_ACCEPTED,
            (
                Exit::Refused,
                "cannot end sessions: no --sora-api and no client accepts end requests",
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
        command: "deliveries",
        exits: &[LISTED],
        examples: &[
            example(
                "soramode deliveries --state failed",
                "List the deliveries that failed",
            ),
            example(
                "soramode deliveries resend 1",
                "Send the delivery with the ID 1 again",
            ),
        ],
    },
    Page {
        command: "deliveries list",
        exits: &[LISTED],
        examples: &[example(
            "soramode deliveries list --state pending",
            "List the deliveries that are still to be sent",
        )],
    },
    Page {
        command: "deliveries show",
        exits: &[SHOWN, NO_DELIVERY],
        examples: &[example(
            "soramode deliveries show 1",
            "Show the delivery with the ID 1",
        )],
    },
    Page {
        command: "deliveries resend",
        exits: &[
            (Exit::Done, "queued"),
            (Exit::Refused, "obsolete, or its receiver was removed"),
            NO_DELIVERY,
        ],
        examples: &[example(
            "soramode deliveries resend 1",
            "Send the delivery with the ID 1 again",
        )],
    },
    Page {
        command: "webhook",
        exits: &[
            (Exit::Done, "delivered, or genuine"),
            (Exit::False, "verify: not genuine"),
            (Exit::Failed, "test: not delivered"),
        ],
        examples: &[
            example(
                "soramode webhook test http://127.0.0.1:9000/hook",
                "Send a sample webhook to a receiver",
            ),
            example(
                "soramode webhook verify --secret-file webhook-secrets < request",
                "Verify a received request",
            ),
        ],
    },
    Page {
        command: "webhook test",
        exits: &[
            (Exit::Done, "the receiver accepted it (2xx)"),
            (Exit::Failed, "not delivered"),
        ],
        examples: &[
            example(
                "soramode webhook test http://127.0.0.1:9000/hook",
                "Send an unsigned sample",
            ),
            example(
                "soramode webhook test --secret-file webhook-secrets http://127.0.0.1:9000/hook",
                "Send a signed sample",
            ),
        ],
    },
    Page {
        command: "webhook verify",
        exits: &[(Exit::Done, "genuine"), (Exit::False, "not genuine")],
        examples: &[example(
            "soramode webhook verify --secret-file webhook-secrets < request",
            "Verify a saved request: its headers, an empty line and the body",
        )],
    },
    Page {
        command: "nodes",
        exits: &[LISTED],
        examples: &[
            example("soramode nodes", "List the nodes of the cluster"),
            example(
                "soramode nodes -o json",
                "List them with every field, as JSON",
            ),
        ],
    },
    Page {
        command: "nodes init",
        exits: &[
            (Exit::Done, "created"),
            (
                Exit::Refused,
                "etcd has this cluster already, or another one",
            ),
            NO_CLUSTER,
        ],
        examples: &[
            example(
                "soramode nodes init",
                "Create the cluster, on its first node",
            ),
            example(
                "soramode nodes init --accept-risk=lost-claims",
                "Continue in an etcd that was restored from a backup",
            ),
        ],
    },
    Page {
        command: "nodes purge",
        exits: &[
            (Exit::Done, "purged: its channels may open on any node"),
            NOT_ACCEPTED,
            (Exit::Refused, "the node still runs: stop it first"),
            (Exit::NotFound, "no node of this name, or no cluster"),
        ],
        examples: &[example(
            "soramode nodes purge sfu-03 --accept-risk=still-running",
            "Release the channels of sfu-03, which is off",
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
    Page {
        command: "drill",
        exits: &[
            (Exit::Done, "every answer was as documented"),
            (
                Exit::Failed,
                "an answer was not, or the drill could not run",
            ),
        ],
        examples: &[
            example("soramode drill", "Rehearse a maintenance"),
            example(
                "soramode drill --cluster",
                "Rehearse a cluster of three nodes",
            ),
        ],
    },
    Page {
        command: "completions",
        exits: &[PRINTED],
        examples: &[
            example(
                "source <(soramode completions bash)",
                "Complete in this bash; add the line to ~/.bashrc to keep it",
            ),
            example(
                "source <(soramode completions zsh)",
                "Complete in this zsh; add the line to ~/.zshrc, after compinit",
            ),
            example(
                "soramode completions fish | source",
                "Complete in this fish",
            ),
        ],
    },
    Page {
        command: "help",
        exits: &[PRINTED, (Exit::Usage, "no such command or topic")],
        examples: &[
            example(
                "soramode help drain",
                "Print the help for drain (the same as soramode drain --help)",
            ),
            example(
                "soramode help exit-codes",
                "Print every exit code and what it means",
            ),
        ],
    },
    Page {
        command: "version",
        exits: &[PRINTED],
        examples: &[example("soramode version", "Print the version of soramode")],
    },
];
