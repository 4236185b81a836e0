//! The checker on histories made by hand: one that is as it must be, and each thing that must not be.

use std::time::Duration;

use super::{Change, Service, Violation, What, check};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn service(node: &str, token: u64, start: u64, end: u64) -> Service {
    Service {
        channel: "spam".to_owned(),
        node: node.to_owned(),
        token,
        start: s(start),
        end: s(end),
    }
}

fn change(revision: u64, what: What) -> Change {
    Change {
        revision,
        seen: Some(s(revision)),
        what,
    }
}

fn claimed(revision: u64, node: &str) -> Change {
    change(
        revision,
        What::Claimed {
            channel: "spam".to_owned(),
            node: node.to_owned(),
        },
    )
}

fn freed(revision: u64) -> Change {
    change(
        revision,
        What::Freed {
            channel: "spam".to_owned(),
        },
    )
}

fn mode(revision: u64, node: &str, mode: Option<&str>) -> Change {
    change(
        revision,
        What::Mode {
            node: node.to_owned(),
            mode: mode.map(str::to_owned),
        },
    )
}

/// Two nodes that are normal, and what follows; a change of revision n is seen at second n.
fn history(rest: &[Change]) -> Vec<Change> {
    let mut history = vec![mode(1, "n1", Some("normal")), mode(2, "n2", Some("normal"))];
    history.extend(rest.iter().cloned());
    history
}

#[test]
fn a_channel_that_changes_hands_in_order_is_as_it_must_be() {
    let services = [
        service("n1", 10, 10, 15),
        service("n1", 14, 15, 20),
        service("n2", 20, 20, 25),
    ];
    let history = history(&[claimed(10, "n1"), claimed(14, "n1"), claimed(20, "n2")]);
    assert_eq!(check(&services, &history), []);
}

#[test]
fn a_channel_that_was_released_is_as_it_must_be() {
    let services = [
        service("n1", 10, 10, 15),
        service("n1", 10, 16, 17),
        service("n2", 20, 20, 29),
    ];
    let history = history(&[claimed(10, "n1"), freed(18), claimed(20, "n2"), freed(30)]);
    assert_eq!(check(&services, &history), []);
}

#[test]
fn two_nodes_at_the_same_time_are_seen() {
    let history = history(&[claimed(10, "n1"), claimed(20, "n2")]);
    for (first_end, time) in [(22, s(2)), (30, s(5))] {
        let (first, second) = (service("n1", 10, 10, first_end), service("n2", 20, 20, 25));
        let violations = check(&[second.clone(), first.clone()], &history);
        assert!(
            violations.contains(&Violation::Overlap {
                first,
                second,
                time
            }),
            "{violations:?}"
        );
    }
}

#[test]
fn an_overlap_is_seen_behind_later_and_shorter_services() {
    let long = service("n1", 10, 10, 50);
    let services = [
        long.clone(),
        service("n1", 10, 12, 13),
        service("n2", 20, 40, 41),
    ];
    let violations = check(&services, &history(&[claimed(10, "n1"), claimed(20, "n2")]));
    assert!(
        violations.contains(&Violation::Overlap {
            first: long,
            second: services[2].clone(),
            time: s(1)
        }),
        "{violations:?}"
    );
}

#[test]
fn other_channels_do_not_count() {
    let mut other = service("n2", 11, 10, 20);
    other.channel = "eggs".to_owned();
    let eggs = change(
        11,
        What::Claimed {
            channel: "eggs".to_owned(),
            node: "n2".to_owned(),
        },
    );
    assert_eq!(
        check(
            &[service("n1", 10, 10, 20), other],
            &history(&[claimed(10, "n1"), eggs])
        ),
        []
    );
}

#[test]
fn a_token_that_does_not_grow_is_seen() {
    let history = history(&[claimed(10, "n1"), claimed(20, "n2"), claimed(30, "n1")]);
    let (first, second) = (service("n2", 20, 20, 25), service("n1", 10, 26, 27));
    let violations = check(&[first.clone(), second.clone()], &history);
    assert!(
        violations.contains(&Violation::TokenOrder { first, second }),
        "{violations:?}"
    );
    let same = [service("n1", 10, 10, 11), service("n2", 10, 12, 13)];
    assert!(
        check(&same, &history)
            .iter()
            .any(|it| matches!(it, Violation::TokenOrder { .. }))
    );
    let back = [service("n1", 30, 30, 31), service("n1", 10, 32, 33)];
    assert!(
        check(&back, &history)
            .iter()
            .any(|it| matches!(it, Violation::TokenOrder { .. }))
    );
}

#[test]
fn a_service_without_a_claim_is_seen() {
    let history = history(&[claimed(10, "n1")]);
    for served in [service("n1", 11, 11, 12), service("n2", 10, 11, 12)] {
        assert_eq!(
            check(std::slice::from_ref(&served), &history),
            [Violation::NoSuchClaim(served)]
        );
    }
}

#[test]
fn a_service_that_outlives_its_claim_is_seen() {
    for over in [freed(15), claimed(15, "n2")] {
        let served = service("n1", 10, 10, 16);
        let violations = check(
            std::slice::from_ref(&served),
            &history(&[claimed(10, "n1"), over]),
        );
        assert_eq!(
            violations,
            [Violation::OutlivedItsClaim {
                service: served,
                seen: s(15)
            }]
        );
    }
}

#[test]
fn a_claim_that_was_deleted_and_made_anew_is_another() {
    let served = service("n1", 10, 10, 18);
    let violations = check(
        std::slice::from_ref(&served),
        &history(&[claimed(10, "n1"), freed(15), claimed(17, "n1")]),
    );
    assert_eq!(
        violations,
        [Violation::OutlivedItsClaim {
            service: served,
            seen: s(15)
        }]
    );
}

#[test]
fn a_change_that_no_read_showed_gives_no_time_to_hold_against() {
    let unseen = Change {
        seen: None,
        ..freed(15)
    };
    assert_eq!(
        check(
            &[service("n1", 10, 10, 16)],
            &history(&[claimed(10, "n1"), unseen])
        ),
        []
    );
}

#[test]
fn a_new_claim_of_a_node_that_is_not_normal_is_seen() {
    for published in [
        Some("block_new_session"),
        Some("block_new_connection"),
        Some("initial"),
        None,
    ] {
        let violations = check(
            &[],
            &history(&[mode(5, "n1", published), claimed(10, "n1")]),
        );
        let [
            Violation::ClaimWhileNotNormal {
                revision: 10, mode, ..
            },
        ] = &violations[..]
        else {
            panic!("{violations:?}")
        };
        assert_eq!(mode.as_deref(), published);
    }
}

#[test]
fn a_draining_node_may_write_its_own_claims_anew() {
    let drained = mode(12, "n1", Some("block_new_session"));
    assert_eq!(
        check(
            &[],
            &history(&[claimed(10, "n1"), drained.clone(), claimed(15, "n1")])
        ),
        []
    );
    let violations = check(
        &[],
        &history(&[claimed(10, "n1"), drained, freed(13), claimed(15, "n1")]),
    );
    assert!(
        matches!(
            violations[..],
            [Violation::ClaimWhileNotNormal { revision: 15, .. }]
        ),
        "{violations:?}"
    );
}
