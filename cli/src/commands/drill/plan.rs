//! The scenario of a maintenance plan: one is stopped by opening the node, one is cancelled, and one ends the sessions.

use std::time::Duration;

use soramode_protocol::mode::Mode::Normal;

use super::scenario::Request::{CancelPlan, Connect, EndByPlan, Set, StartPlan};
use super::scenario::{Part, Scenario, step};

pub(super) const SCENARIO: Scenario = Scenario {
    about: "A rehearsal of plans with a private soramoded; a running one is not touched.",
    parts: PARTS,
    next: NEXT,
    step_max: Duration::from_secs(10),
};

/// The commands of the first plan.
const NEXT: &str = "\
Your first plan:
  soramode drain --at '2026-12-01 02:00'     close the node at that time
  soramode drain --end-after 40m ...         end what is left after 40 minutes
  soramode plan                              see the steps, and what is next
  soramode plan cancel                       stop it; the mode stays as it is
All options: soramode help drain";

const PARTS: &[Part] = &[
    Part {
        name: "lead",
        heading: "The lead: the node is not ready for new sessions, and still open",
        steps: &[
            step(
                Connect("spam-1", "spam"),
                "offer, a new session",
                "normal admits every client",
            ),
            step(
                StartPlan {
                    lead: 60,
                    end: 3_600,
                },
                "lead; next: mode",
                "soramoded runs the steps by itself, also after a restart",
            ),
            step(
                Connect("egg-1", "egg"),
                "offer, a new session",
                "nothing is rejected yet",
            ),
            step(
                Set(Normal),
                "the plan is cancelled",
                "to open the node stops a plan that has begun",
            ),
        ],
    },
    Part {
        name: "cancel",
        heading: "A plan that is cancelled leaves the mode as it is",
        steps: &[
            step(
                StartPlan {
                    lead: 0,
                    end: 3_600,
                },
                "closed; next: end",
                "without a lead the node closes at once",
            ),
            step(
                Connect("ham-1", "ham"),
                "reject BLOCK-NEW-SESSION",
                "ham has no session, and no new one begins",
            ),
            step(
                CancelPlan,
                "cancelled; block_new_session",
                "no further step runs, and the node stays closed",
            ),
        ],
    },
    Part {
        name: "end",
        heading: "A plan that ends the sessions that are left",
        steps: &[
            step(
                EndByPlan,
                "done; 2 asked to end, 2 ended",
                "the SFU is asked for each session; its clients are disconnected",
            ),
            step(
                Set(Normal),
                "was block_new_connection; 0 connected",
                "the maintenance is done",
            ),
        ],
    },
];
