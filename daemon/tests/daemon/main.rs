//! The daemon over real sockets: what the control socket promises, its limits, slow and hostile clients, and the process itself.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::print_stderr,
    reason = "a test that is skipped, or goes by a seed, says so"
)]

mod absent_address;
mod access;
mod attack;
mod client_libraries;
mod client_limit;
mod corpus;
mod discover;
mod events;
mod failed_storage_restart;
mod full_disk;
mod half_close;
mod http_flood;
mod http_methods;
mod kills;
mod lifetime;
mod limits;
mod lists;
mod model;
mod order;
mod packaging;
mod plans;
mod process;
mod reload;
mod request_lines;
mod reservation;
mod sessions_known;
mod slow;
mod small_disk;
mod socket_activation;
mod state;
mod subscribers;
mod unread_log;
mod watchdog;
mod webhooks;
