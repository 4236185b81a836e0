//! The core's tests: stories as text, a second model with seeds, and the promise to be pure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admission;
mod cluster_model;
mod cluster_simulation;
mod deliveries;
mod etcd;
mod faults;
mod held_mode;
mod lossy_sora;
mod plain_settings;
mod plan_requests;
mod plan_simulation;
mod purity;
mod room_locks;
mod scenarios;
mod seeds;
mod show;
mod show_etcd;
mod show_mode;
mod show_plan;
mod show_status;
mod simulation;
