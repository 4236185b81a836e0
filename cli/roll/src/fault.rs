//! Mistakes that tests plant in the code, one at a time, to show that they would be found.
//!
//! Feature `fault-injection`, which no shipped program has. It lets a test choose a mistake; until then nothing behaves differently.

/// Mistake in one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A pass renews the node that is to be closed after the others.
    RenewLast,
    /// A pass renews in the round of the pass before it.
    SameRound,
    /// The end of a roll releases all nodes at once.
    ReleaseAtOnce,
    /// A resumed roll reboots a host that has rebooted since the command ended.
    RepeatReboot,
}

/// The planted mistake, if there is one.
pub type PlantedFault = soramode_protocol::planted_fault::PlantedFault<Fault>;
