//! The gate as a whole: how it starts, and the one way in.

use std::time::Duration;

use crate::ctx::Services;
use crate::effect::Effects;
use crate::handles::Timestamp;
use crate::input::Input;
use crate::node::Node;

/// The gate.
pub struct Gate {
    pub(crate) node: Node,
    pub(crate) services: Services,
}

impl Gate {
    /// Takes in an input. Deadlines that have come by `now` come first.
    pub fn step(&mut self, now: Timestamp, input: Input) -> Effects {
        let mut effects = Effects::default();
        self.step_into(now, input, &mut effects);
        effects
    }

    /// Takes in an input, with its effects behind those of the steps before it.
    pub fn step_into(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        self.node
            .step(&mut self.services.begin(now, effects), input);
    }

    /// Plants a mistake about the reservation.
    #[cfg(feature = "fault-injection")]
    pub const fn plant_reservation_fault(&mut self, fault: crate::fault::PlantedFault) {
        self.node.reservations.plant(fault);
    }

    /// Plants a mistake about plans.
    #[cfg(feature = "fault-injection")]
    pub const fn plant_plan_fault(&mut self, fault: crate::fault::PlantedFault) {
        self.node.plans.plant(fault);
    }

    /// When the next deadline comes, by the boot clock. One that lies in the past wants a [`Input::Tick`] at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.services.timers.next()
    }

    /// Returns an error if the tables of sessions and connections do not agree with each other or with the timers.
    pub fn check(&self) -> Result<(), String> {
        self.node.sessions.check(&self.services.timers)
    }
}
