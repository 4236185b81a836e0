//! Pages of the commands for learning.

use super::exits::PRINTED;
use super::page::{Page, example};
use crate::error::Exit;

pub(super) static PAGES: &[Page] = &[
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
            example("soramode drill --plan", "Rehearse a maintenance plan"),
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
