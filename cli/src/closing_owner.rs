//! The owner of a closing decides the mode that `maintain` restores. Only the daemon's history is
//! evidence.

use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{DatedModeChange, ModeState};

/// The owner of a closing by `maintain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) actor: String,
    pub(crate) on_behalf_of: Option<String>,
    pub(crate) reason: Option<String>,
}

impl Owner {
    /// Returns the owner as [`with_operator`](crate::mode_info::with_operator) names an actor.
    pub(crate) fn name(&self) -> String {
        match &self.on_behalf_of {
            Some(operator) => format!("{} for {operator}", self.actor),
            None => self.actor.clone(),
        }
    }
}

/// The mode to restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RestoreTo {
    /// `normal`: this owner closed the node.
    Open,
    /// The mode in which another owner had closed the node before.
    ClosedBy(Box<ModeState>),
    /// The present mode: another owner set it.
    Stays,
}

/// The changes that a run of `maintain` made itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OwnChanges<'a> {
    /// The change of this generation, if it made one.
    Generation(Option<u64>),
    /// The changes of this plan.
    Plan(&'a PlanId),
}

/// Returns the mode to restore, from the changes, newest first.
pub(crate) fn restore_to(
    changes: &[DatedModeChange],
    owner: &Owner,
    own: OwnChanges<'_>,
) -> RestoreTo {
    let is_owners = |dated: &&DatedModeChange| {
        let change = &dated.change;
        let is_same = change.actor == owner.actor
            && change.on_behalf_of == owner.on_behalf_of
            && change.reason == owner.reason;
        let is_own = match own {
            OwnChanges::Generation(generation) => generation == Some(change.generation),
            OwnChanges::Plan(plan) => change.plan_id.as_ref() == Some(plan),
        };
        is_own || (is_same && change.mode.is_block())
    };
    let owners = changes.iter().take_while(is_owners).count();
    let Some(first) = owners.checked_sub(1).and_then(|last| changes.get(last)) else {
        return RestoreTo::Stays;
    };
    if !first.change.previous_mode.is_block() {
        return RestoreTo::Open;
    }
    // A closing that is no longer in the history counts as another owner's.
    changes.get(owners).map_or(RestoreTo::Stays, |theirs| {
        RestoreTo::ClosedBy(Box::new(theirs.state()))
    })
}

#[cfg(test)]
mod tests {
    use soramode_protocol::mode::{Mode, ModeChange};
    use soramode_protocol::time::Time;

    use super::*;

    fn owner() -> Owner {
        Owner {
            actor: "uid:1000(ops)".to_owned(),
            on_behalf_of: None,
            reason: Some("CHG-1".to_owned()),
        }
    }

    fn change(
        generation: u64,
        (previous_mode, mode): (Mode, Mode),
        actor: &str,
        reason: Option<&str>,
    ) -> DatedModeChange {
        let change = ModeChange {
            mode,
            previous_mode,
            generation,
            actor: actor.to_owned(),
            on_behalf_of: None,
            reason: reason.map(str::to_owned),
            expires_at: None,
            expected_end_at: None,
            plan_id: None,
            roll: None,
        };
        DatedModeChange {
            timestamp: Time::default(),
            change,
        }
    }

    const CLOSE: (Mode, Mode) = (Mode::Normal, Mode::BlockNewSession);
    const TIGHTEN: (Mode, Mode) = (Mode::BlockNewSession, Mode::BlockNewConnection);

    #[test]
    fn a_closing_of_this_run_or_of_an_earlier_one_is_opened() {
        let own = change(4, CLOSE, "uid:1000(ops)", Some("CHG-1"));
        assert_eq!(
            restore_to(
                std::slice::from_ref(&own),
                &owner(),
                OwnChanges::Generation(Some(4))
            ),
            RestoreTo::Open
        );
        assert_eq!(
            restore_to(
                std::slice::from_ref(&own),
                &owner(),
                OwnChanges::Generation(None)
            ),
            RestoreTo::Open,
            "an earlier run that failed"
        );
        let tightened = change(5, TIGHTEN, "uid:1000(ops)", Some("CHG-1"));
        assert_eq!(
            restore_to(&[tightened, own], &owner(), OwnChanges::Generation(Some(5))),
            RestoreTo::Open
        );
        assert_eq!(
            restore_to(
                &[change(2, (Mode::Initial, Mode::BlockNewSession), "x", None)],
                &owner(),
                OwnChanges::Generation(Some(2))
            ),
            RestoreTo::Open
        );
    }

    #[test]
    fn the_closing_of_another_owner_stays() {
        for (actor, reason) in [
            ("uid:1001(ann)", Some("CHG-1")),
            ("uid:1000(ops)", Some("CHG-2")),
            ("uid:1000(ops)", None),
        ] {
            let theirs = change(4, CLOSE, actor, reason);
            assert_eq!(
                restore_to(
                    std::slice::from_ref(&theirs),
                    &owner(),
                    OwnChanges::Generation(None)
                ),
                RestoreTo::Stays,
                "{actor} {reason:?}"
            );
            let tightened = change(5, TIGHTEN, "uid:1000(ops)", Some("CHG-1"));
            assert_eq!(
                restore_to(
                    &[tightened, theirs.clone()],
                    &owner(),
                    OwnChanges::Generation(Some(5))
                ),
                RestoreTo::ClosedBy(Box::new(theirs.state()))
            );
        }
        let behalf = Owner {
            on_behalf_of: Some("bob".to_owned()),
            ..owner()
        };
        assert_eq!(
            restore_to(
                &[change(4, CLOSE, "uid:1000(ops)", Some("CHG-1"))],
                &behalf,
                OwnChanges::Generation(None)
            ),
            RestoreTo::Stays
        );
    }

    #[test]
    fn the_steps_of_a_plan_are_undone_together() {
        let plan: PlanId = PlanId::new("7Q2K9XA0").unwrap();
        let of_plan = |generation, modes| {
            let mut dated = change(generation, modes, "uid:1000(ops)", None);
            dated.change.plan_id = Some(plan.clone());
            dated
        };
        let steps = [of_plan(5, TIGHTEN), of_plan(4, CLOSE)];
        let own = OwnChanges::Plan(&plan);
        assert_eq!(restore_to(&steps, &owner(), own), RestoreTo::Open);
        let theirs = change(4, CLOSE, "uid:1001(ann)", None);
        assert_eq!(
            restore_to(&[of_plan(5, TIGHTEN), theirs.clone()], &owner(), own),
            RestoreTo::ClosedBy(Box::new(theirs.state()))
        );
        let other = PlanId::new("AAAA0000").unwrap();
        assert_eq!(
            restore_to(&steps, &owner(), OwnChanges::Plan(&other)),
            RestoreTo::Stays
        );
    }

    #[test]
    fn a_closing_missing_from_the_history_stays() {
        assert_eq!(
            restore_to(&[], &owner(), OwnChanges::Generation(Some(4))),
            RestoreTo::Stays
        );
        assert_eq!(
            restore_to(
                &[change(5, TIGHTEN, "uid:1000(ops)", Some("CHG-1"))],
                &owner(),
                OwnChanges::Generation(Some(5))
            ),
            RestoreTo::Stays
        );
    }
}
