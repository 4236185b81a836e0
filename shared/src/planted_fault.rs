//! A mistake that a test plants in the code, to show that it would be found.
//!
//! Feature `fault-injection`, which no shipped program has. It lets a test choose a mistake; until then nothing behaves differently.

/// The planted one of the mistakes `F`, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlantedFault<F> {
    #[cfg(feature = "fault-injection")]
    fault: Option<F>,
    #[cfg(not(feature = "fault-injection"))]
    fault: std::marker::PhantomData<F>,
}

impl<F: Copy + PartialEq> PlantedFault<F> {
    /// No mistake.
    pub const NONE: Self = Self {
        #[cfg(feature = "fault-injection")]
        fault: None,
        #[cfg(not(feature = "fault-injection"))]
        fault: std::marker::PhantomData,
    };

    /// Plants a mistake.
    #[cfg(feature = "fault-injection")]
    pub const fn of(fault: F) -> Self {
        Self { fault: Some(fault) }
    }

    /// Returns whether this mistake is planted.
    #[cfg(feature = "fault-injection")]
    pub fn is(self, fault: F) -> bool {
        self.fault == Some(fault)
    }

    /// Returns false: there is nothing to plant.
    #[cfg(not(feature = "fault-injection"))]
    pub const fn is(self, _: F) -> bool {
        let Self { fault: _ } = self;
        false
    }
}

impl<F: Copy + PartialEq> Default for PlantedFault<F> {
    fn default() -> Self {
        Self::NONE
    }
}
