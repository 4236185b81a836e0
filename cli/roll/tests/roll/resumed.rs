//! One roll that was stopped, and is resumed: it goes on after the step that each host is at.

use std::time::Duration;

use soramode_core::input::HostState;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::plan::{PlanStep, StartPlan};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Reserve, RollStep};
use soramode_roll::{Close, Finish, Settings, Start, Stop, StopKind, Task, TaskEnd, Work};

use crate::steps::{Reaction, Scene, at_once, settings, stopped};

/// Stops a roll at a task on its first host, and resumes it.
fn resumed(at: &Task, end: &TaskEnd, start: Start) -> (Scene, Finish, Vec<Task>) {
    let mut scene = Scene::new(2);
    let mut end = Some(end.clone());
    let first = scene.play(settings(2, 1), |scene, host, task| {
        if task == at {
            return end.take().map_or(Reaction::Interrupts(1), Reaction::Ends);
        }
        at_once(scene, host, task)
    });
    assert!(first.stop.is_some());
    scene.calls.clear();
    let mut tasks = Vec::new();
    let settings = Settings {
        start,
        ..settings(2, 1)
    };
    let finish = scene.play(settings, |scene, host, task| {
        if host == 0 {
            tasks.push(task.clone());
        }
        at_once(scene, host, task)
    });
    (scene, finish, tasks)
}

fn failed() -> TaskEnd {
    TaskEnd::Failed(Stop::on(0, StopKind::TimedOut, "it took too long"))
}

#[test]
fn a_resumed_roll_goes_on_after_the_step_that_it_was_at() {
    let (_, finish, tasks) = resumed(&Task::Drain(None), &failed(), Start::Resume);
    assert!(finish.stop.is_none());
    assert_eq!(tasks, [Task::Drain(None), Task::Command, Task::Ready]);
    let (mut scene, finish, tasks) = resumed(&Task::Ready, &failed(), Start::Resume);
    assert!(finish.stop.is_none());
    assert_eq!(tasks, [Task::Ready]);
    assert_eq!(scene.mode(0), Mode::Normal);
    assert_eq!(scene.step_of(1), Some(RollStep::Done));
}

#[test]
fn a_plan_is_refused_for_a_node_that_was_closed_without_one() {
    let mut scene = Scene::new(2);
    let first = scene.play(settings(2, 1), |_, _, _| Reaction::Ends(failed()));
    assert!(first.stop.is_some());
    let mode = PlanStep::Mode {
        at_seconds: 0,
        mode: SettableMode::BlockNewSession,
    };
    let resume = |close| Settings {
        start: Start::Resume,
        close,
        ..settings(2, 1)
    };
    let plan = Close::Plan(Box::new(StartPlan::now(vec![mode])));
    let refused = scene.play(resume(plan), at_once);
    assert_eq!(stopped(&refused), (StopKind::Refused, Some(0)));
    assert_eq!(scene.mode(0), Mode::BlockNewSession);
    let done = scene.play(resume(settings(2, 1).close), at_once);
    assert!(done.stop.is_none());
}

#[test]
fn a_command_that_may_still_run_is_not_run_again_unless_requested() {
    let lost = TaskEnd::Lost("the connection was lost".to_owned());
    let (_, finish, tasks) = resumed(&Task::Command, &lost, Start::Resume);
    assert_eq!(stopped(&finish), (StopKind::Refused, Some(0)));
    assert_eq!(tasks, []);
    let (_, finish, tasks) = resumed(&Task::Command, &lost, Start::ResumeAgain);
    assert!(finish.stop.is_none());
    assert_eq!(tasks, [Task::Command, Task::Ready]);
}

/// Checks that a roll stopped at once when the end of its command became unknown, and goes on only if the command may run again.
fn assert_stops_at_once_and_resumes_again(scene: &mut Scene, finish: &Finish) {
    assert_eq!(stopped(finish), (StopKind::Failed, Some(0)));
    assert!(scene.now < Duration::from_mins(1), "{:?}", scene.now);
    let mut resume = |start| {
        let settings = Settings {
            start,
            ..settings(2, 1)
        };
        scene.play(settings, at_once)
    };
    let refused = resume(Start::Resume);
    assert_eq!(stopped(&refused), (StopKind::Refused, Some(0)));
    assert!(resume(Start::ResumeAgain).stop.is_none());
}

#[test]
fn a_command_that_a_reboot_has_ended_is_waited_for_no_longer() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |scene, host, task| match task {
        Task::Command => {
            let rebooted = scene.nodes.restart(scene.now, host, HostState::Rebooted);
            rebooted.unwrap();
            Reaction::Ends(TaskEnd::Lost("the connection was lost".to_owned()))
        }
        _ => at_once(scene, host, task),
    });
    assert_stops_at_once_and_resumes_again(&mut scene, &finish);
}

#[test]
fn a_command_that_is_gone_is_waited_for_no_longer() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |scene, host, task| match task {
        Task::Command => {
            let gone = Reserve::step("R1".parse().unwrap(), RollStep::CommandEnded);
            let request = GateRequest::Reserve(Box::new(gone));
            let recorded = scene.nodes.request(scene.now, host, request);
            recorded.unwrap().unwrap();
            Reaction::Ends(TaskEnd::Lost("the connection was lost".to_owned()))
        }
        _ => at_once(scene, host, task),
    });
    assert_stops_at_once_and_resumes_again(&mut scene, &finish);
}

/// Reboots the first host of a roll that was stopped, as it may have been asked to before; then resumes it.
fn resumed_after_a_reboot(work: Work, stops_at: &Task, reboots: bool) -> Vec<Task> {
    let mut scene = Scene::new(2);
    let with = |start| Settings {
        start,
        maintained: [0].into(),
        work,
        ..settings(2, 1)
    };
    let first = scene.play(with(Start::New), |scene, host, task| match task {
        it if it == stops_at => Reaction::Ends(failed()),
        _ => at_once(scene, host, task),
    });
    assert!(first.stop.is_some());
    if reboots {
        let rebooted = scene.nodes.restart(scene.now, 0, HostState::Rebooted);
        rebooted.unwrap();
    }
    let mut tasks = Vec::new();
    let finish = scene.play(with(Start::Resume), |scene, host, task| {
        tasks.push(task.clone());
        at_once(scene, host, task)
    });
    assert!(finish.stop.is_none(), "{finish:?}");
    assert_eq!(scene.step_of(0), Some(RollStep::Done));
    tasks
}

#[test]
fn a_host_that_has_rebooted_since_its_command_is_not_rebooted_again() {
    for command in [true, false] {
        let work = Work {
            command,
            reboot: true,
        };
        let tasks = resumed_after_a_reboot(work, &Task::Reboot, true);
        assert_eq!(tasks, [Task::Ready], "{work:?}");
        let tasks = resumed_after_a_reboot(work, &Task::Reboot, false);
        assert_eq!(tasks, [Task::Reboot, Task::Ready], "{work:?}");
        // A reboot before the command does not count.
        let mut tasks = resumed_after_a_reboot(work, &Task::Drain(None), true);
        tasks.retain(|task| *task == Task::Reboot);
        assert_eq!(tasks, [Task::Reboot], "{work:?}");
    }
}

#[test]
fn a_step_that_the_command_of_before_records_at_last_is_seen_when_the_roll_is_resumed() {
    let mut scene = Scene::new(2);
    let first = scene.play(settings(2, 1), |scene, host, task| match task {
        Task::Command => Reaction::Ends(failed()),
        _ => at_once(scene, host, task),
    });
    assert!(first.stop.is_some());
    // Its command ends while the other one is reserving the hosts.
    scene.ends_at = Some("0 reserve ");
    let resumed = Settings {
        start: Start::ResumeAgain,
        ..settings(2, 1)
    };
    let mut tasks = Vec::new();
    let finish = scene.play(resumed, |scene, host, task| {
        tasks.push((host, task.clone()));
        at_once(scene, host, task)
    });
    assert!(finish.stop.is_none(), "{finish:?}");
    assert_eq!(tasks[0], (0, Task::Ready), "{tasks:?}");
}

#[test]
fn a_roll_that_no_node_knows_cannot_be_resumed() {
    let mut scene = Scene::new(2);
    let settings = Settings {
        start: Start::Resume,
        ..settings(2, 1)
    };
    let finish = scene.play(settings, at_once);
    assert_eq!(stopped(&finish), (StopKind::Refused, None));
    assert_eq!(scene.calls, Vec::<String>::new());
}
