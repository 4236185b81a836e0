//! Pages of the commands for a cluster.

use super::exits::{LISTED, NO_CLUSTER, NOT_ACCEPTED};
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
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
];
