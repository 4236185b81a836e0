//! Nodes that another roll, or a `maintain`, has closed and left: the refusal names that roll and how to go on with it.

use soramode_protocol::id::RollId;
use soramode_protocol::mode::{ChangeMode, SettableMode};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Release, Reserve, RollStep};
use soramode_roll::check;

use crate::nodes::Promise;
use crate::steps::{Scene, settings};

#[test]
fn a_node_that_a_roll_without_reservation_or_a_maintain_has_closed_names_what_goes_on() {
    for (roll, problem, hint) in [
        (
            "R2",
            "by roll R2 of bob: CHG-1. It holds no reservation: it has stopped, or has lost its connection",
            "with --resume R2. To see its step: soramode status",
        ),
        (
            "maintain-R2",
            "by maintain-R2 of bob: CHG-1. It holds no reservation: it has stopped, or has lost its connection",
            "Run that maintain again. Or, once its work is over, open the node: soramode set normal",
        ),
    ] {
        let mut scene = Scene::new(2);
        let roll: RollId = roll.parse().unwrap();
        let promise = Promise {
            hosts: [1].into(),
            keep_open: 0,
        };
        scene.nodes.promises.insert(roll.clone(), promise);
        let reserve = Reserve {
            by: Some("bob".to_owned()),
            seconds: Some(60),
            round: Some(1),
            ..Reserve::step(roll.clone(), RollStep::Draining)
        };
        let close = ChangeMode {
            roll: Some(roll.clone()),
            round: Some(1),
            reason: Some("CHG-1".to_owned()),
            ..ChangeMode::to(SettableMode::BlockNewSession)
        };
        let release = Release {
            roll,
            round: Some(2),
        };
        for request in [
            GateRequest::Reserve(Box::new(reserve)),
            GateRequest::ChangeMode(Box::new(close)),
            GateRequest::Release(release),
        ] {
            let answer = scene.nodes.request(scene.now, 1, request);
            answer.unwrap().unwrap();
        }
        let stop = check(&settings(2, 1), &scene.facts()).unwrap_err();
        let expected = format!("is closed (block_new_session) {problem}");
        assert_eq!((stop.host, stop.problem), (Some(1), expected));
        let said = stop.hint.unwrap();
        assert!(said.ends_with(hint), "{said}");
        // Its record is gone.
        let mut facts = scene.facts();
        facts[1].as_mut().unwrap().status.reservation = None;
        let said = check(&settings(2, 1), &facts).unwrap_err().hint.unwrap();
        assert!(
            said.ends_with("open the node: soramode set normal"),
            "{said}"
        );
    }
}
