//! The end of a roll: each node is released, also where an answer was lost or is still on its way.

use soramode_protocol::mode::Mode;
use soramode_roll::{StopKind, Task};

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
    assert_eq!(stopped(&finish), (StopKind::Interrupted, None));
    assert!(finish.unreleased.is_empty(), "{finish:?}");
    assert_eq!(scene.mode(0), Mode::BlockNewSession);
    scene.nodes.check_none_reserved(scene.now).unwrap();
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
