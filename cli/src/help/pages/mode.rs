//! Pages of the commands that change the mode, or wait for it.

use super::exits::{
    ANY_OTHER, CLOSE_REFUSED, CONDITION_FALSE, NO_NODE, PRINTED, WAIT_INCOMPLETE, WAIT_LOST,
    WAIT_TIMED_OUT,
};
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
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
                "soramode set block_new_session -m CHG-123 --until 2h",
                "Close the node, and record that the maintenance is expected to take 2 hours",
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
                "another user opened the node, or the plan was cancelled or replaced",
            ),
            (
                Exit::Versions,
                "this soramoded knows no plans: nothing was changed",
            ),
            WAIT_INCOMPLETE,
            NO_NODE,
            (Exit::Failed, "the plan failed"),
            (
                Exit::TimedOut,
                "timed out (see --on-timeout), or the plan was missed",
            ),
            (
                Exit::Interrupted,
                "interrupted; the node stays closed, and a plan goes on",
            ),
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
            example(
                "soramode drain --end-after 40m --accept-risk=cuts-clients --no-wait",
                "Close the node, and end the sessions that are left after 40 minutes",
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
            (
                Exit::TimedOut,
                "the drain timed out (see --on-timeout), or the plan was missed",
            ),
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
        command: "roll",
        exits: &[
            (
                Exit::Done,
                "each node was maintained and is open, or was skipped on request",
            ),
            (Exit::Unreachable, "a host cannot be reached"),
            (
                Exit::Refused,
                "another roll has a node, another user closed one, or too few are open",
            ),
            (
                Exit::Superseded,
                "another user changed the mode; the node is left as it is",
            ),
            (Exit::Versions, "a soramoded or soramode there is too old"),
            WAIT_INCOMPLETE,
            (
                Exit::Failed,
                "COMMAND or a reboot failed; the node stays closed",
            ),
            (
                Exit::TimedOut,
                "a drain timed out, or a node was not ready in time",
            ),
            (
                Exit::Interrupted,
                "interrupted; the printed command goes on",
            ),
        ],
        examples: &[
            example(
                "soramode -H @tokyo roll --keep-open 2 -m CHG-123 --reboot --dry-run",
                "Print the order and the obstacles, and change nothing",
            ),
            example(
                "soramode -H @tokyo roll --keep-open 2 -m CHG-1 -- systemctl restart sora",
                "Restart the SFU on each host of a fleet, with two others open",
            ),
        ],
    },
    Page {
        command: "plan",
        exits: &[(Exit::Done, "shown, also if there is no plan")],
        examples: &[
            example(
                "soramode plan",
                "Show the plan: its steps, and what is next",
            ),
            example("soramode plan -o json", "Show it with every field, as JSON"),
        ],
    },
    Page {
        command: "plan cancel",
        exits: &[
            (Exit::Done, "cancelled, or over already; the mode stays"),
            (Exit::NotFound, "no plan with this ID"),
        ],
        examples: &[example(
            "soramode plan cancel -m 'CHG-123 put off'",
            "Cancel the plan that runs, and record why",
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
];
