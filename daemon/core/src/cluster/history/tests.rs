//! Every kind of etcd that can be found, against what a node knows.

use super::*;

fn id<T: std::str::FromStr<Err: fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn configuration() -> Configuration {
    Configuration {
        cluster_id: id("tokyo"),
        history_id: id("second"),
        epoch: 2,
        etcd_cluster_id: 7,
        set_back: None,
    }
}

/// The etcd that is known, a little later.
fn same() -> ObservedEtcd {
    ObservedEtcd {
        configuration: Some(configuration()),
        etcd_cluster_id: 7,
        revision: 120,
        revision_before: 110,
        rollback: None,
    }
}

fn known() -> EtcdIdentity {
    EtcdIdentity {
        cluster_id: id("tokyo"),
        history_id: id("second"),
        epoch: 2,
        etcd_cluster_id: 7,
        revision: 100,
    }
}

fn with(change: impl FnOnce(&mut Configuration)) -> ObservedEtcd {
    let mut changed = configuration();
    change(&mut changed);
    ObservedEtcd {
        configuration: Some(changed),
        ..same()
    }
}

#[test]
fn the_etcd_that_is_known_is_taken_and_a_first_one_too() {
    assert_eq!(evaluate(Some(&known()), &same()), Ok(Accepted::Known));
    assert_eq!(
        evaluate(
            Some(&known()),
            &ObservedEtcd {
                revision: 110,
                ..same()
            }
        ),
        Ok(Accepted::Known),
        "nothing was written"
    );
    assert_eq!(evaluate(None, &same()), Ok(Accepted::First));
    assert_eq!(
        EtcdIdentity::of(&same()),
        Some(EtcdIdentity {
            revision: 120,
            ..known()
        })
    );
}

#[test]
fn an_empty_etcd_is_nobodys_to_take() {
    let empty = ObservedEtcd {
        configuration: None,
        ..same()
    };
    assert_eq!(evaluate(None, &empty), Err(Refusal::NotInitialized));
    assert_eq!(evaluate(Some(&known()), &empty), Err(Refusal::Emptied));
    assert_eq!(EtcdIdentity::of(&empty), None);
}

#[test]
fn an_etcd_that_was_rolled_back_is_refused_by_the_stored_and_by_later_revisions() {
    assert_eq!(
        evaluate(
            Some(&known()),
            &ObservedEtcd {
                revision: 99,
                revision_before: 0,
                ..same()
            }
        ),
        Err(Refusal::RolledBack {
            seen: 100,
            found: 99
        })
    );
    assert_eq!(
        evaluate(
            Some(&known()),
            &ObservedEtcd {
                revision: 109,
                ..same()
            }
        ),
        Err(Refusal::RolledBack {
            seen: 110,
            found: 109
        })
    );
    assert_eq!(
        evaluate(Some(&known()), &with(|it| it.epoch = 1)),
        Err(Refusal::OlderEpoch { known: 2, found: 1 })
    );
}

#[test]
fn a_write_has_a_revision_of_its_own() {
    assert_eq!(rollback(100, 100, Writes::Nothing), None);
    assert_eq!(rollback(100, 101, Writes::Something), None);
    assert_eq!(
        rollback(100, 99, Writes::Nothing),
        Some(Rollback {
            seen: 100,
            found: 99
        })
    );
    let rollback = rollback(100, 100, Writes::Something);
    assert_eq!(
        rollback,
        Some(Rollback {
            seen: 100,
            found: 100
        }),
        "somebody else wrote at 100"
    );
    // Later writes hide it from the read.
    assert_eq!(
        evaluate(Some(&known()), &ObservedEtcd { rollback, ..same() }),
        Err(Refusal::RolledBack {
            seen: 100,
            found: 100
        })
    );
}

#[test]
fn another_history_of_the_same_epoch_is_refused_at_any_revision() {
    let other = with(|it| it.history_id = id("another"));
    assert_eq!(
        evaluate(
            Some(&known()),
            &ObservedEtcd {
                revision: u64::MAX,
                ..other
            }
        ),
        Err(Refusal::OtherHistory { epoch: 2 })
    );
    let moved = ObservedEtcd {
        etcd_cluster_id: 8,
        ..with(|it| it.etcd_cluster_id = 8)
    };
    assert_eq!(
        evaluate(Some(&known()), &moved),
        Err(Refusal::OtherHistory { epoch: 2 })
    );
}

#[test]
fn another_etcd_or_another_cluster_is_refused() {
    let copied = ObservedEtcd {
        etcd_cluster_id: 8,
        ..same()
    };
    for known in [None, Some(&known())] {
        assert_eq!(
            evaluate(known, &copied),
            Err(Refusal::Copied {
                made_in: 7,
                found: 8
            })
        );
    }
    let (known_id, found) = (id("tokyo"), id("osaka"));
    let other = with(|it| (it.cluster_id, it.epoch) = (id("osaka"), 9));
    assert_eq!(
        evaluate(Some(&known()), &other),
        Err(Refusal::OtherCluster {
            known: known_id,
            found
        })
    );
}

#[test]
fn a_later_history_of_the_same_cluster_is_taken_in_any_etcd_and_at_any_revision() {
    let later = with(|it| (it.epoch, it.history_id, it.etcd_cluster_id) = (3, id("third"), 8));
    let later = ObservedEtcd {
        etcd_cluster_id: 8,
        revision: 2,
        ..later
    };
    assert_eq!(evaluate(Some(&known()), &later), Ok(Accepted::NewHistory));
}

#[test]
fn a_reported_rollback_counts_for_nodes_that_cannot_see_it() {
    let marked = with(|it| it.set_back = Some("n2".to_owned()));
    for known in [None, Some(&known())] {
        assert_eq!(
            evaluate(known, &marked),
            Err(Refusal::Reported("n2".to_owned()))
        );
    }
    let first_hand = ObservedEtcd {
        revision: 99,
        ..marked
    };
    assert!(
        evaluate(Some(&known()), &first_hand)
            .unwrap_err()
            .is_proof(),
        "it is said again, should the mark be lost"
    );
}

fn plan(
    known: Option<&EtcdIdentity>,
    shown: &ObservedEtcd,
    risk: AcceptedRisk,
) -> Result<Configuration, InitRefusal> {
    plan_init(known, shown, risk, (id("new"), id("fresh")))
}

#[test]
fn a_cluster_is_made_only_where_none_is_and_none_was() {
    let empty = ObservedEtcd {
        configuration: None,
        ..same()
    };
    let new = Configuration {
        cluster_id: id("new"),
        history_id: id("fresh"),
        epoch: 1,
        etcd_cluster_id: 7,
        set_back: None,
    };
    for risk in [AcceptedRisk::None, AcceptedRisk::LostClaims] {
        assert_eq!(plan(None, &empty, risk), Ok(new.clone()));
        assert_eq!(
            plan(None, &same(), risk),
            Err(InitRefusal::Exists { epoch: 2 })
        );
        assert_eq!(
            plan(Some(&known()), &same(), risk),
            Err(InitRefusal::Exists { epoch: 2 })
        );
    }
    assert_eq!(
        plan(Some(&known()), &empty, AcceptedRisk::None),
        Err(InitRefusal::NeedsRisk(Refusal::Emptied))
    );
}

#[test]
fn with_the_risk_accepted_the_cluster_that_is_known_goes_on_in_a_later_epoch() {
    let next = Configuration {
        history_id: id("fresh"),
        epoch: 3,
        ..configuration()
    };
    let empty = ObservedEtcd {
        configuration: None,
        ..same()
    };
    let marked = with(|it| it.set_back = Some("n2".to_owned()));
    for shown in [
        empty,
        ObservedEtcd {
            revision: 3,
            ..same()
        },
        with(|it| it.epoch = 1),
        marked.clone(),
    ] {
        assert_eq!(
            plan(Some(&known()), &shown, AcceptedRisk::LostClaims),
            Ok(next.clone())
        );
        assert_eq!(
            evaluate(
                Some(&known()),
                &ObservedEtcd {
                    configuration: Some(next.clone()),
                    ..shown
                }
            ),
            Ok(Accepted::NewHistory)
        );
    }
    assert_eq!(
        plan(None, &marked, AcceptedRisk::LostClaims),
        Ok(next.clone()),
        "by what is there, where the node knows nothing"
    );
    let restored = ObservedEtcd {
        etcd_cluster_id: 8,
        ..same()
    };
    assert_eq!(
        plan(Some(&known()), &restored, AcceptedRisk::LostClaims),
        Ok(Configuration {
            etcd_cluster_id: 8,
            ..next
        })
    );
}

#[test]
fn another_cluster_is_never_overwritten() {
    let other = with(|it| it.cluster_id = id("osaka"));
    for shown in [
        other.clone(),
        ObservedEtcd {
            etcd_cluster_id: 8,
            ..other
        },
    ] {
        let refused = plan(Some(&known()), &shown, AcceptedRisk::LostClaims);
        assert!(
            matches!(refused, Err(InitRefusal::OtherCluster(_))),
            "{refused:?}"
        );
    }
}
