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
}

/// The planted mistake, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlantedFault {
    #[cfg(feature = "fault-injection")]
    fault: Option<Fault>,
}

impl PlantedFault {
    /// No mistake.
    pub const NONE: Self = Self {
        #[cfg(feature = "fault-injection")]
        fault: None,
    };

    /// Plants a mistake.
    #[cfg(feature = "fault-injection")]
    pub const fn of(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }

    /// Returns whether this mistake is planted.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn is(self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// Returns false: there is nothing to plant.
    #[cfg(not(feature = "fault-injection"))]
    pub(crate) const fn is(self, _: Fault) -> bool {
        let Self {} = self;
        false
    }
}
