//! The HTTP listeners over real sockets: Sora's API, a real Sora's webhooks, and the pages for monitoring.

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

mod api;
mod browsers;
mod commit_failure;
mod fake;
mod limits;
mod methods;
mod mirror;
mod observe;
mod passing;
mod proxies;
mod reason;
mod standin;
mod status_page;
mod terminate;
mod tools;
mod unix;
mod webhooks;
mod wire;
