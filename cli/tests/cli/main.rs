//! The `soramode` program against a daemon: the real one, or a fake one where the daemon must misbehave.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails the test that called it"
)]

mod announcements;
mod ansible;
mod api;
mod as_on_the_node;
mod certificates;
#[cfg(feature = "cluster")]
mod cluster;
mod command_lines;
mod completion;
mod doc_commands;
mod doctor;
mod drill;
mod drill_janus;
mod examples;
mod exits;
mod expected_end;
mod faults;
mod fleet;
mod keep_open;
mod lists;
mod live;
#[cfg(feature = "cluster")]
mod machines;
mod maintenance;
mod meanwhile;
mod output;
mod owners;
mod plan_dst;
mod plan_screens;
mod plan_timeline;
mod plan_waits;
mod plans;
mod protocol;
mod reservation;
mod roll_checker;
#[cfg(feature = "cluster")]
mod roll_cluster;
#[cfg(feature = "cluster")]
mod roll_hangs;
mod roll_lapses;
#[cfg(feature = "cluster")]
mod roll_load;
mod roll_obstacles;
mod roll_pairs;
mod roll_screens;
mod rolls;
mod runbook;
mod runbook_plans;
#[cfg(feature = "cluster")]
mod silent_node;
mod sora;
mod ssh;
mod ssh_interrupts;
#[cfg(feature = "cluster")]
mod ssh_killed;
mod ssh_losses;
mod ssh_prompts;
mod ssh_terminals;
mod suggestions;
mod support;
mod tail;
mod terminal;
mod unconfirmed;
mod waits;
mod webhooks;
mod widths;
