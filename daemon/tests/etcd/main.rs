//! Nodes on a real etcd, on this machine: what a cluster promises when nothing goes wrong, and in the mishaps of a day. What happens
//! when much goes wrong at once is for the fault suite, `tests/cluster`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod backups;
mod channels;
mod etcd;
mod fences;
mod foreign_values;
mod history;
mod isolation;
mod joining;
mod login;
mod lost;
mod members;
mod node;
mod outages;
mod pages;
mod plans;
mod takeover;
mod tls;
