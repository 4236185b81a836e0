//! Pages of the commands for webhooks.

use super::exits::{LISTED, NO_DELIVERY, SHOWN};
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
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
            example(
                "soramode webhook test --format slack - < chat-url",
                "Send a sample message to the chat at the URL in a file",
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
];
