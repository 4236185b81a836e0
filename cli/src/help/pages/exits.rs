//! Exit codes that several pages have, with their meanings there.

use crate::error::Exit;

/// The code of the command that `maintain` ran: in no list.
pub(crate) const ANY_OTHER: Exit = Exit::Command(0);

pub(super) const CLOSE_REFUSED: (Exit, &str) = (
    Exit::Refused,
    "--keep-open refused, or --require-published failed (the node is closed)",
);
pub(super) const WAIT_INCOMPLETE: (Exit, &str) = (
    Exit::SessionsIncomplete,
    "session list incomplete: see soramode doctor",
);
pub(super) const WAIT_LOST: (Exit, &str) = (
    Exit::Unreachable,
    "soramoded was lost, and did not come back within 10 s",
);
pub(super) const WAIT_TIMED_OUT: (Exit, &str) =
    (Exit::TimedOut, "timed out; the node stays closed");
pub(super) const CONDITION_FALSE: (Exit, &str) = (
    Exit::Superseded,
    "--if-* condition false, or with --wait: another user changed the mode",
);
pub(super) const NO_NODE: (Exit, &str) = (Exit::NotFound, "--node: no node of this name");
pub(super) const NO_CLUSTER: (Exit, &str) = (Exit::NotFound, "this node has no cluster");
pub(super) const NOT_ACCEPTED: (Exit, &str) =
    (Exit::Usage, "--accept-risk is missing: nothing was done");
pub(super) const NO_SESSION: (Exit, &str) = (Exit::NotFound, "no session on this channel");
pub(super) const NO_DELIVERY: (Exit, &str) = (Exit::NotFound, "no delivery with this ID");
pub(super) const SHOWN: (Exit, &str) = (Exit::Done, "shown");
pub(super) const LISTED: (Exit, &str) = (Exit::Done, "listed, also if the list is empty");
pub(super) const PRINTED: (Exit, &str) = (Exit::Done, "printed");
