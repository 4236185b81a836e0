//! Actors that are parts of soramoded, in place of a client.

use crate::wire_enum::wire_enum;

wire_enum! {
    /// Cause for which soramoded itself acts.
    pub enum SystemActor {
        /// Its start.
        Start = "system:start",
        /// A plan.
        Plan = "system:plan",
        /// A mode with a limited time, which is over.
        Expired = "system:expired",
        /// The end of a roll's reservation.
        Reservation = "system:reservation",
        /// A state that it cannot write.
        Storage = "system:storage",
        /// The node joined its cluster.
        Joined = "system:joined",
        /// The node lost contact with its cluster.
        Isolated = "system:isolated",
        /// The node was fenced.
        Fenced = "system:fenced",
    }
}

impl SystemActor {
    /// Describes the actor in a sentence: "set by …".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Start => "soramoded at its start",
            Self::Plan => "soramoded (its maintenance plan)",
            Self::Expired => "the timer of --for",
            Self::Reservation => "soramoded (the reservation of the node is over)",
            Self::Storage => "soramoded (it could not write its state)",
            Self::Joined => "soramoded (the node joined its cluster)",
            Self::Isolated => "soramoded (the node lost contact with its cluster)",
            Self::Fenced => "soramoded (the node was fenced)",
        }
    }
}
