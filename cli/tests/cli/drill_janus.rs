//! `drill --janus`: every step passes with a real Janus, and a missing one is reported.

use crate::drill::Place;
use crate::support::Run;

#[test]
fn every_step_with_a_janus_passes() {
    let place = Place::real();
    let ended = place.drill().arg("--janus").ended();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.contains("All 16 steps passed"), "{ended:?}");
    assert!(place.is_clean());
}

#[test]
fn a_missing_janus_is_reported_with_a_remedy() {
    let place = Place::real();
    let mut drill = place.drill();
    let ended = drill.arg("--janus").env("PATH", place.path("tmp")).ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("there is no janus in the search path")
            && ended.stderr.contains("apt-get install janus"),
        "{ended:?}"
    );
    assert!(place.is_clean());
}
