//! Addresses that are listened on, and that the machine does not have yet.

use std::net::SocketAddr;

/// An address that is listened on, and that the machine does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) address: SocketAddr,
    /// The settings that name it.
    pub(crate) names: String,
}

impl Absent {
    /// States the fact and the remedy, for the log and for `status`.
    pub(crate) fn warning(&self) -> String {
        let Self { address, names } = self;
        format!(
            "no interface of this machine has the address {} yet, so no client can reach {address} ({names}). soramoded serves it as soon as \
             an interface has it. If the address is wrong, correct {names} and restart soramoded",
            address.ip()
        )
    }
}
