//! Durability that a commit needs, by its records.

use soramode_core::effect::Record;
use soramode_protocol::event::EventKind;

/// Failure that a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// The daemon's end: the file has it.
    ProcessCrash,
    /// The machine's: the disk has it, which is waited for.
    PowerLoss,
}

/// Returns true if the record must survive a power loss.
pub(super) fn needs_sync(record: &Record) -> bool {
    match record {
        // The node's incarnation must be known again: without it its channels may be unavailable for a long time.
        Record::Mode(_)
        | Record::ExpiresAtBoot(_)
        | Record::Member(_)
        // An operator's decision.
        | Record::Plan(_)
        | Record::PlanProgress(_)
        | Record::End(_)
        | Record::EndFinished { .. }
        // A promise to a roll, on which what it does to other nodes rests.
        | Record::Reservation(_) => true,
        // A pending delivery. The outcome of an attempt may be lost: then it is repeated, and its receiver knows it by its id.
        Record::Delivery(delivery) => delivery.attempts == 0,
        Record::Event(event) => matches!(event.kind, EventKind::ModeChanged(_)),
        Record::Pending { .. }
        | Record::PendingEnded(_)
        | Record::BoundTo { .. }
        | Record::ConnectionOfSfu(_)
        | Record::SessionOfSora(_)
        | Record::SessionOfGate(_)
        | Record::DeliveryForgotten(_)
        | Record::Claimed { .. }
        | Record::Unclaimed(_)
        // Written again a little later, and with the node's incarnation where it joins.
        | Record::Etcd(_)
        | Record::VanishedPending(_)
        // No lock outlives a loss of power.
        | Record::RoomLocked(_)
        | Record::RoomUnlocked(_)
        | Record::PlanCounts(_)
        | Record::Announcement(_)
        | Record::AnnouncementProgress { .. }
        | Record::AnnouncementFinished(_)
        | Record::EndProgress { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use soramode_core::handles::DeliveryId;
    use soramode_core::stored::StoredDelivery;
    use soramode_protocol::delivery::DeliveryState;
    use soramode_protocol::event::Event;
    use soramode_protocol::id::{EventId, NodeName};
    use soramode_protocol::time::Time;

    #[test]
    fn pending_deliveries_wait_for_the_disk_and_outcomes_do_not() {
        let time = Time::from_micros(0);
        let node_name = Arc::new(NodeName::new("node-01").unwrap());
        let event = Event {
            seq: 1,
            id: EventId::generate([0; 16]),
            kind: EventKind::SessionVanished,
            timestamp: time,
            node_name,
        };
        let pending = StoredDelivery {
            id: DeliveryId(1),
            url: "http://localhost/".to_owned(),
            endpoint: "http://localhost/".to_owned(),
            event,
            generation: 1,
            state: DeliveryState::Pending,
            attempts: 0,
            created_at: time,
            next_attempt_at: None,
            finished_at: None,
            status: None,
            problem: None,
        };
        let tried = StoredDelivery {
            attempts: 1,
            state: DeliveryState::Succeeded,
            finished_at: Some(time),
            ..pending.clone()
        };
        assert!(needs_sync(&Record::Delivery(Box::new(pending))));
        assert!(!needs_sync(&Record::Delivery(Box::new(tried))));
    }
}
