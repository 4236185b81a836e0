//! The cluster as a whole, on real machines as far as a kernel can be several: namespaces, real etcd, faults, and a checker that
//! judges what was served. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::print_stderr,
    reason = "a suite that goes by a seed says so, and what it has seen"
)]

mod checker;
mod clock;
mod etcd;
mod faults;
mod load;
mod net;
mod nodes;
mod process;
mod sfu;
mod suite;
