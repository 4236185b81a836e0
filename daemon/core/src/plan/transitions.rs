//! The table of a plan's states: what each input means in each of them.

use soramode_protocol::plan::{PlanHold, PlanState};

/// Input to a plan that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlanInput {
    /// The next step is due, and late by no more than the plan allows.
    StepDue,
    /// The next step, or the next call, is late by more than the plan allows.
    TooLate,
    /// An operator sets `normal`, also where that changes nothing.
    OperatorOpens,
    /// An expiry or a start opens the node.
    SystemOpens,
    /// The mode becomes stricter, or the cluster changes it.
    ModeChanges,
    /// An operator sets a more open mode than the plan has set; the node stays closed.
    OperatorLoosens,
    /// An operator cancels it.
    OperatorCancels,
    /// No session is left, and the session list is complete.
    Drained,
    /// The state cannot be written.
    StorageFails,
    /// The session list may lack sessions, and the step that is due ends them.
    EndWithoutSessions,
    /// The step that is due announces or ends sessions, and there are no means to.
    WithoutMeans,
    /// Fewer nodes are open than must be, and the step that is due closes this one.
    TooFewOpen,
    /// The announcement before the step that is due has not reached every channel.
    StillAnnouncing,
    /// The step that is due closes the node, and the reservation of the plan's roll was renewed in a later round.
    RoundIsOver,
    /// The plan has not closed the node, and its roll has no current reservation.
    ReservationEnds,
    /// The step that is due cannot be carried out; or an announcement reached nobody.
    CannotGoOn,
}

/// Reaction of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The plan stays as it is.
    Stay,
    /// The step runs.
    Run,
    /// The step waits.
    Hold(PlanHold),
    /// The plan is over.
    Finish,
    Cancel,
    Miss,
    Fail,
}

/// Returns what the input means in this state.
pub(crate) const fn react(state: PlanState, input: PlanInput) -> Reaction {
    use PlanHold::{Announcing, KeepOpen, NoMeans, Reservation, SessionsIncomplete, StorageFailed};
    use PlanInput as In;
    use Reaction::{Cancel, Fail, Finish, Hold, Miss, Run, Stay};

    let [scheduled, lead, closed, ending] = match input {
        In::StepDue => [Run, Run, Run, Stay],
        In::TooLate => [Miss, Miss, Miss, Miss],
        In::OperatorOpens => [Stay, Cancel, Cancel, Cancel],
        In::SystemOpens | In::OperatorLoosens => [Stay, Stay, Cancel, Cancel],
        In::ModeChanges => [Stay, Stay, Stay, Stay],
        In::OperatorCancels => [Cancel, Cancel, Cancel, Cancel],
        In::Drained => [Stay, Stay, Finish, Finish],
        In::StorageFails => [Hold(StorageFailed); 4],
        In::EndWithoutSessions => [Stay, Stay, Hold(SessionsIncomplete), Stay],
        In::WithoutMeans => [Hold(NoMeans), Hold(NoMeans), Hold(NoMeans), Stay],
        In::TooFewOpen => [Hold(KeepOpen), Hold(KeepOpen), Hold(KeepOpen), Stay],
        In::StillAnnouncing => [Hold(Announcing); 4],
        In::RoundIsOver => [
            Hold(Reservation),
            Hold(Reservation),
            Hold(Reservation),
            Stay,
        ],
        In::ReservationEnds => [Cancel, Cancel, Cancel, Stay],
        In::CannotGoOn => [Fail, Fail, Fail, Fail],
    };
    match state {
        PlanState::Scheduled => scheduled,
        PlanState::Lead => lead,
        PlanState::Closed => closed,
        PlanState::Ending => ending,
        PlanState::Over => Stay,
    }
}
