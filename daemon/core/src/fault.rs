//! Mistakes that tests plant in the code, one at a time, to show that they would be found.
//!
//! Feature `fault-injection`, which no shipped program has. It lets a test choose a mistake; until then nothing behaves differently.

/// Mistake in one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A takeover does not wait.
    TakeoverWithoutWait,
    /// A takeover waits half as long as the owner's lease may run.
    TakeoverWaitTooShort,
    /// The wait for an owner that no read has shown yet begins at once.
    WaitForUnseenOwner,
    /// A read from before an incarnation was created counts as a proof that it is gone.
    OldReadProvesDeparture,
    /// The lease runs from the answer to a read, not from its sending.
    LeaseFromAnswer,
    /// The SFU never learns that the lease ends.
    LeaseWithoutEnd,
    /// A node joins anew, and the sessions of its previous incarnation go on.
    JoinWithoutEnding,
    /// A claim of the node's own that it finds is used as it is, also while a release of it is in flight.
    FoundClaimIsUsed,
    /// A claim counts that was won under an earlier member key.
    ClaimUnderLostKey,
    /// The lease of the next incarnation begins before the claims are written anew.
    LeaseBeforeMigration,
    /// The next incarnation is stored before the claims are written anew.
    StoredBeforeMigration,
    /// Every etcd is accepted, also one that has lost writes.
    AnyEtcdIsAccepted,
    /// A restart forgets which etcd the node knows.
    EtcdIsForgotten,
    /// Effects leave during the write of earlier records.
    ReleaseDuringWrite,
    /// Effects leave before their own records are written.
    ReleaseUnwritten,
    /// A write begins during another one, or after one that failed.
    BeginTooEarly,
    /// Steps made during a write that fails do not fail with it.
    FailureSparesLaterSteps,
    /// Answers stand though their records could not be written.
    FailureKeepsPromises,
    /// The gate does not learn which offers were refused.
    FailureIsNotReported,
    /// Deliveries leave though their records could not be written.
    DeliveryAfterFailure,
    /// A second retry begins beside the first.
    RetryTwice,
    /// Records made during a retry that fails come before its own.
    RetryOutOfOrder,
    /// Deliveries made during a retry leave when it succeeds.
    DeliveryBeforeRecord,
    /// Records made during a retry that succeeds are dropped.
    RetryDropsLaterRecords,
    /// A mode is read that is being written.
    ModeReadDuringWrite,
    /// A mode is read before its write has begun.
    ModeReadUnwritten,
    /// Records of a retry do not count as unwritten.
    RetryIsNotCounted,
    /// A roll closes the node with the round of an earlier renewal.
    AnyRoundCloses,
    /// A roll closes the node with a reservation that was not renewed since the daemon started.
    ReservationOutlivesRestart,
    /// A renewal of an earlier round than the release reserves the node again.
    ReleaseForgetsRound,
    /// A release of a roll that has not reserved the node is forgotten.
    UnknownReleaseIsForgotten,
    /// The round of a roll is forgotten when another roll reserves the node.
    OtherRollForgetsRound,
    /// A plan keeps the end that it has announced by the wall clock alone.
    AnnouncedEndByWallClock,
    /// A step of a plan runs although the plan is late by more than it allows.
    LateStepRuns,
    /// A step of a plan runs without the means for it.
    StepRunsWithoutMeans,
    /// A plan goes on after an announcement that reached nobody.
    UnheardAnnouncementCounts,
    /// A plan that is over leaves its requests to end sessions.
    OverPlanEndsSessions,
}

/// The planted mistake, if there is one.
pub type PlantedFault = soramode_protocol::planted_fault::PlantedFault<Fault>;
