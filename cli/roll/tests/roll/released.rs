//! The end of a roll: each node is released, also where an answer was lost or is still on its way.

use soramode_protocol::id::RollId;
use soramode_protocol::mode::Mode;
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Release, Reserve, RollStep};
use soramode_roll::{Settings, Start, StopKind, Task, TaskEnd, Work};

use crate::steps::{Reaction, Scene, at_once, settings, stopped};

#[test]
fn a_reservation_that_is_under_way_at_an_interrupt_is_released() {
    for begin in ["2 reserve 1", "0 reserve 1"] {
        let mut scene = Scene {
            interrupts_at: Some(begin),
            ..Scene::new(3)
        };
        let finish = scene.play(settings(3, 1), at_once);
        assert_eq!(stopped(&finish), (StopKind::Interrupted, None));
        assert!(finish.unreleased.is_empty(), "{finish:?}");
        scene.nodes.check_none_reserved(scene.now).unwrap();
    }
}

#[test]
fn a_second_interrupt_leaves_the_command_and_releases_the_nodes() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |scene, host, task| match task {
        Task::Command => Reaction::Interrupts(2),
        _ => at_once(scene, host, task),
    });
    assert_eq!(stopped(&finish), (StopKind::Interrupted, Some(0)));
    let stop = finish.stop.as_ref().unwrap();
    assert_eq!(stop.problem, "interrupted; the command goes on there");
    assert!(stop.hint.as_ref().unwrap().ends_with(": soramode status"));
    assert!(finish.unreleased.is_empty(), "{finish:?}");
    assert_eq!(scene.mode(0), Mode::BlockNewSession);
    scene.nodes.check_none_reserved(scene.now).unwrap();
}

#[test]
fn an_interrupt_names_the_work_that_goes_on_without_the_roll() {
    for (is_lost, problem) in [
        (true, "interrupted; the command may still run there"),
        (false, "interrupted while the machine reboots"),
    ] {
        let mut scene = Scene::new(2);
        let reboot = Settings {
            work: Work {
                command: true,
                reboot: true,
            },
            ..settings(2, 1)
        };
        let finish = scene.play(reboot, |scene, host, task| match task {
            Task::Command if is_lost => {
                scene.interrupts_at = Some("0 status");
                Reaction::Ends(TaskEnd::Lost("the connection was lost".to_owned()))
            }
            Task::Reboot => Reaction::Interrupts(1),
            _ => at_once(scene, host, task),
        });
        assert_eq!(stopped(&finish), (StopKind::Interrupted, Some(0)));
        assert_eq!(finish.stop.unwrap().problem, problem);
    }
}

#[test]
fn a_release_whose_connection_was_lost_is_sent_once_more() {
    for (losses, unreleased) in [(1, &[][..]), (2, &[1][..])] {
        let mut scene = Scene {
            lost: Some(("1 release", losses)),
            ..Scene::new(3)
        };
        let finish = scene.play(settings(3, 1), at_once);
        assert!(finish.stop.is_none(), "{finish:?}");
        assert_eq!(finish.unreleased, unreleased);
        let sent = scene.calls.iter().filter(|call| *call == "1 release");
        assert_eq!(sent.count(), 2);
    }
}

/// Reserves a node as a command of before has done it.
fn reserve(scene: &mut Scene, node: usize) {
    let reserve = Reserve {
        by: Some("alice@laptop".to_owned()),
        seconds: Some(60),
        round: Some(1),
        ..Reserve::step("R1".parse().unwrap(), RollStep::Draining)
    };
    let request = GateRequest::Reserve(Box::new(reserve));
    let answer = scene.nodes.request(scene.now, node, request);
    answer.unwrap().unwrap();
}

fn release(scene: &mut Scene, node: usize) {
    let roll: RollId = "R1".parse().unwrap();
    let release = GateRequest::Release(Release { roll, round: None });
    let answer = scene.nodes.request(scene.now, node, release);
    answer.unwrap().unwrap();
}

#[test]
fn a_resumed_roll_that_stops_while_it_reserves_names_the_nodes_that_stay_reserved() {
    // The order of the reservations is 2, 1, 0. The command of before has released node 0, or has been killed.
    for (is_released, unreleased) in [(false, &[0, 1, 2][..]), (true, &[1, 2])] {
        let mut scene = Scene {
            interrupts_at: Some("1 reserve 9"),
            ..Scene::new(3)
        };
        for node in 0..3 {
            reserve(&mut scene, node);
        }
        if is_released {
            release(&mut scene, 0);
        }
        let resumed = Settings {
            start: Start::Resume,
            ..settings(3, 1)
        };
        let finish = scene.play(resumed, at_once);
        assert_eq!(stopped(&finish), (StopKind::Interrupted, None));
        assert_eq!(finish.unreleased, unreleased);
    }
}

#[test]
fn a_node_that_another_roll_has_is_none_that_stays_reserved() {
    let mut scene = Scene::new(3);
    for node in 1..3 {
        reserve(&mut scene, node);
    }
    let other = Reserve {
        by: Some("bob@laptop".to_owned()),
        seconds: Some(60),
        round: Some(1),
        ..Reserve::step("R2".parse().unwrap(), RollStep::Draining)
    };
    let request = GateRequest::Reserve(Box::new(other));
    let answer = scene.nodes.request(scene.now, 0, request);
    answer.unwrap().unwrap();
    let resumed = Settings {
        start: Start::Resume,
        ..settings(3, 1)
    };
    let finish = scene.play(resumed, at_once);
    assert_eq!(stopped(&finish), (StopKind::Refused, Some(0)));
    assert_eq!(finish.unreleased, [1, 2]);
}
