//! One roll by itself, over a network without delays: the order of its steps, where it stops, and how it is resumed.

use std::collections::VecDeque;
use std::time::Duration;

use soramode_core::fault::PlantedFault;
use soramode_protocol::access::Access;
use soramode_protocol::error::Error;
use soramode_protocol::id::LogId;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::plan::{PlanStep, StartPlan};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Reserve, RollStep};
use soramode_roll::{
    Action, Answer, Call, CallError, Close, ClosedNodes, Finish, HostFacts, Input, RollRun,
    Settings, Stage, Start, StopKind, Task, TaskEnd, Work, check, preview,
};

use crate::commands::answer;
use crate::nodes::{Nodes, Promise};

pub(crate) fn settings(nodes: usize, keep_open: usize) -> Settings {
    Settings {
        roll: "R1".parse().unwrap(),
        by: "alice@laptop".to_owned(),
        keep_open,
        maintained: (0..nodes).collect(),
        close: Close::Mode(Box::new(ChangeMode::to(SettableMode::BlockNewSession))),
        work: Work {
            command: true,
            reboot: false,
        },
        pause: Duration::from_secs(3),
        closed_nodes: ClosedNodes::Refuse,
        start: Start::New,
        salt: 7,
        fault: soramode_roll::fault::PlantedFault::NONE,
    }
}

/// Answer of a test to a task.
pub(crate) enum Reaction {
    Ends(TaskEnd),
    /// It is looked at again when time has passed.
    GoesOn,
    /// The operator interrupts the roll this many times.
    Interrupts(usize),
}

/// Nodes, a clock, and the calls of the roll in their order.
pub(crate) struct Scene {
    pub(crate) nodes: Nodes,
    pub(crate) now: Duration,
    pub(crate) calls: Vec<String>,
    /// Call after which the operator interrupts the roll, before its answer.
    pub(crate) interrupts_at: Option<&'static str>,
    /// Call before which the command of before goes on until the node is awaited to be ready.
    pub(crate) ends_at: Option<&'static str>,
    pub(crate) shown: Vec<(usize, Stage)>,
    /// Call that is lost before it arrives, and how many times.
    pub(crate) lost: Option<(&'static str, u8)>,
}

impl Scene {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes: Nodes::new(nodes, PlantedFault::NONE),
            now: Duration::ZERO,
            calls: Vec::new(),
            interrupts_at: None,
            ends_at: None,
            shown: Vec::new(),
            lost: None,
        }
    }

    pub(crate) fn facts(&mut self) -> Vec<Result<HostFacts, String>> {
        let count = self.nodes.count();
        let facts = |node: usize| {
            Ok(HostFacts {
                // The order of the reservations is not that of the list.
                log_id: LogId::new(&format!("log-{}", 9 - node)).unwrap(),
                access: Access::Operate,
                can_reserve: true,
                cannot_work: None,
                status: self.nodes.status(self.now, node),
            })
        };
        (0..count).map(facts).collect()
    }

    fn set(&mut self, node: usize, mode: SettableMode) {
        let request = GateRequest::ChangeMode(Box::new(ChangeMode::to(mode)));
        self.nodes
            .request(self.now, node, request)
            .unwrap()
            .unwrap();
    }

    pub(crate) fn mode(&mut self, node: usize) -> Mode {
        self.nodes.status(self.now, node).mode.mode
    }

    pub(crate) fn step_of(&mut self, node: usize) -> Option<RollStep> {
        let reservation = self.nodes.status(self.now, node).reservation;
        reservation.and_then(|it| it.step)
    }

    /// Records that the host is done, once, if this is the call at which it is to be.
    fn end_where_due(&mut self, host: usize, line: &str) {
        let is_due = self.ends_at.take_if(|begin| line.starts_with(*begin));
        if is_due.is_some() {
            self.record(host, RollStep::Ready);
        }
    }

    /// Makes a call, unless it is to be lost.
    fn ask(&mut self, host: usize, line: &str, call: Call) -> Result<Answer, CallError> {
        if let Some((lost, times)) = &mut self.lost
            && *lost == line
            && *times > 0
        {
            *times -= 1;
            return Err(CallError::Lost("the connection was lost".to_owned()));
        }
        answer(self.nodes.request(self.now, host, call.into()).unwrap())
    }

    /// Records a step of the roll, without a round.
    fn record(&mut self, node: usize, step: RollStep) {
        let record = Reserve {
            command_exit: (step == RollStep::CommandEnded).then_some(0),
            ..Reserve::step("R1".parse().unwrap(), step)
        };
        let request = GateRequest::Reserve(Box::new(record));
        let answer = self.nodes.request(self.now, node, request);
        answer.unwrap().unwrap();
    }

    /// Plays a roll until it is over.
    pub(crate) fn play(
        &mut self,
        settings: Settings,
        mut react: impl FnMut(&mut Self, usize, &Task) -> Reaction,
    ) -> Finish {
        let keep_open = settings.keep_open;
        let hosts = (0..self.nodes.count()).collect();
        let promise = Promise { hosts, keep_open };
        self.nodes.promises.insert(settings.roll.clone(), promise);
        let mut roll = RollRun::new(settings);
        let mut inputs = VecDeque::from([Input::Connected(self.facts())]);
        let mut tasks: Vec<(usize, Task)> = Vec::new();
        for _ in 0..10_000 {
            let input = inputs.pop_front().unwrap_or_else(|| {
                let next = roll.next_deadline().into_iter();
                let next = next.chain(self.nodes.next_deadline()).min();
                self.now = self.now.max(next.unwrap());
                self.nodes.tick(self.now).unwrap();
                Input::Tick
            });
            let mut begun = std::mem::take(&mut tasks);
            for action in roll.step(self.now, input) {
                match action {
                    Action::Call(host, id, call) => {
                        let line = format!("{host} {}", describe(&call));
                        let is_interrupt = self.interrupts_at == Some(&*line);
                        inputs.extend(is_interrupt.then_some(Input::Interrupted));
                        inputs.rotate_right(usize::from(is_interrupt));
                        self.end_where_due(host, &line);
                        let answer = self.ask(host, &line, call);
                        self.calls.push(line);
                        inputs.push_back(Input::Answered(id, answer));
                    }
                    Action::Begin(host, task) => begun.push((host, task)),
                    Action::Show(host, stage) => self.shown.push((host, stage)),
                    Action::Abandon(_) => {}
                    Action::Finish(finish) => return finish,
                }
            }
            for (host, task) in begun {
                match react(self, host, &task) {
                    Reaction::Ends(end) => inputs.push_back(Input::Ended(host, end)),
                    Reaction::GoesOn => tasks.push((host, task)),
                    Reaction::Interrupts(times) => {
                        inputs.extend(std::iter::repeat_with(|| Input::Interrupted).take(times));
                    }
                }
            }
        }
        panic!("it has no end: {roll:?}")
    }
}

fn describe(call: &Call) -> String {
    match call {
        Call::Reserve(it) => {
            let step = it.step.map_or_else(String::new, |step| format!(" {step}"));
            format!("reserve {}{step}", it.round.unwrap())
        }
        Call::Release(_) => "release".to_owned(),
        Call::GetStatus => "status".to_owned(),
        Call::ChangeMode(change) => match change.round {
            Some(round) => format!("close {round}"),
            None => "open".to_owned(),
        },
        Call::StartPlan(start) => format!("plan {}", start.round.unwrap()),
    }
}

/// Ends each task at once. The end of the command is recorded, as `exec-stdio` does it.
pub(crate) fn at_once(scene: &mut Scene, host: usize, task: &Task) -> Reaction {
    Reaction::Ends(match task {
        Task::Command => {
            scene.record(host, RollStep::CommandEnded);
            TaskEnd::CommandEnded(0)
        }
        Task::Drain(_) | Task::Reboot | Task::Ready => TaskEnd::Done,
    })
}

pub(crate) fn stopped(finish: &Finish) -> (StopKind, Option<usize>) {
    let stop = finish.stop.as_ref().unwrap();
    (stop.kind, stop.host)
}

#[test]
fn the_steps_of_one_host() {
    let mut scene = Scene::new(3);
    let settings = Settings {
        maintained: [1].into(),
        ..settings(3, 2)
    };
    let finish = scene.play(settings, at_once);
    assert!(finish.stop.is_none());
    assert_eq!(finish.least_open, Some(2));
    let expected = [
        "2 reserve 1",
        "1 reserve 1",
        "0 reserve 1",
        // Itself first, then the others; then all are asked.
        "1 reserve 2 draining",
        "0 reserve 2",
        "2 reserve 2",
        "0 status",
        "1 status",
        "2 status",
        "1 close 2",
        "1 reserve 3 command",
        // It must still be closed by the roll.
        "1 status",
        "1 reserve 4 ready",
        "1 open",
        "1 reserve 5 done",
        "0 release",
        "1 release",
        "2 release",
    ];
    assert_eq!(scene.calls, expected);
    assert_eq!(scene.mode(1), Mode::Normal);
}

#[test]
fn hosts_are_maintained_one_after_the_other_and_all_are_renewed_meanwhile() {
    let mut scene = Scene::new(3);
    let mut drains = 0;
    let finish = scene.play(settings(3, 1), |scene, host, task| {
        let closed = (0..3).filter(|node| scene.mode(*node) != Mode::Normal);
        let closed: Vec<usize> = closed.collect();
        assert_eq!(closed, [host], "{task:?}");
        drains += u32::from(matches!(task, Task::Drain(_)));
        at_once(scene, host, task)
    });
    assert!(finish.stop.is_none());
    assert_eq!(drains, 3);
    for node in 0..3 {
        assert_eq!(scene.step_of(node), Some(RollStep::Done));
    }
}

#[test]
fn a_plan_is_confirmed_in_each_round_until_it_has_closed_the_node() {
    let mut scene = Scene::new(2);
    let steps = vec![
        PlanStep::Unready { at_seconds: -45 },
        PlanStep::Mode {
            at_seconds: 0,
            mode: SettableMode::BlockNewSession,
        },
    ];
    let settings = Settings {
        maintained: [0].into(),
        close: Close::Plan(Box::new(StartPlan::now(steps))),
        ..settings(2, 1)
    };
    let finish = scene.play(settings, |scene, host, task| match task {
        Task::Drain(Some(_)) if scene.mode(host) == Mode::Normal => Reaction::GoesOn,
        Task::Drain(None) => panic!("it has a plan"),
        _ => at_once(scene, host, task),
    });
    assert!(finish.stop.is_none());
    let plans = scene.calls.iter().filter(|call| call.contains("plan"));
    let plans: Vec<&String> = plans.collect();
    assert_eq!(plans, ["0 plan 2", "0 plan 3", "0 plan 4"]);
    let confirmed = [
        "0 reserve 3",
        "1 reserve 3",
        "0 status",
        "1 status",
        "0 plan 3",
    ];
    let is_confirmed = |calls: &[String]| calls == confirmed;
    assert!(
        scene.calls.windows(5).any(is_confirmed),
        "{:?}",
        scene.calls
    );
}

#[test]
fn a_command_that_fails_stops_the_roll_and_leaves_the_node_closed() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |scene, host, task| match task {
        Task::Command => Reaction::Ends(TaskEnd::CommandEnded(3)),
        _ => at_once(scene, host, task),
    });
    assert_eq!(stopped(&finish), (StopKind::Failed, Some(0)));
    assert_eq!(
        (scene.mode(0), scene.mode(1)),
        (Mode::BlockNewSession, Mode::Normal)
    );
    scene.nodes.check_none_reserved(scene.now).unwrap();
}

#[test]
fn too_few_open_nodes_stop_the_roll_after_a_minute() {
    let mut scene = Scene::new(3);
    scene.set(2, SettableMode::BlockNewSession);
    let settings = Settings {
        maintained: [0].into(),
        ..settings(3, 2)
    };
    let finish = scene.play(settings, at_once);
    assert_eq!(stopped(&finish), (StopKind::Refused, Some(0)));
    assert!(scene.now >= Duration::from_mins(1) && scene.now < Duration::from_secs(63));
    assert!(!scene.calls.iter().any(|call| call.contains("close")));
}

#[test]
fn the_first_step_refuses_what_cannot_work() {
    let mut scene = Scene::new(3);
    let settings = settings(3, 1);
    let kind = |facts: &[Result<HostFacts, String>]| {
        check(&settings, facts).map_err(|stop| (stop.kind, stop.host.unwrap()))
    };
    let facts = scene.facts();
    assert!(kind(&facts).is_ok());
    let mut lost = scene.facts();
    lost[1] = Err("no route to host".to_owned());
    assert_eq!(kind(&lost), Err((StopKind::Unreachable, 1)));
    let with = |change: fn(&mut HostFacts)| {
        let mut facts = facts.clone();
        change(facts[2].as_mut().unwrap());
        kind(&facts)
    };
    let refused = with(|facts| facts.access = Access::View);
    assert_eq!(refused, Err((StopKind::NotPermitted, 2)));
    let refused = with(|facts| facts.can_reserve = false);
    assert_eq!(refused, Err((StopKind::TooOld, 2)));
    let refused = with(|facts| facts.log_id = LogId::new("log-9").unwrap());
    assert_eq!(refused, Err((StopKind::Usage, 2)));
    scene.set(1, SettableMode::BlockNewConnection);
    let facts = scene.facts();
    assert_eq!(kind(&facts), Err((StopKind::Refused, 1)));
    let skips = Settings {
        closed_nodes: ClosedNodes::Skip,
        ..settings.clone()
    };
    let schedule = check(&skips, &facts).unwrap();
    assert_eq!((schedule.closed, schedule.skipped), (vec![0, 2], vec![1]));
}

#[test]
fn a_plan_is_refused_where_a_node_has_no_means_for_its_steps() {
    let facts = Scene::new(2).facts();
    let announce = PlanStep::Announce {
        at_seconds: 0,
        text: None,
        data: None,
    };
    let end = PlanStep::End {
        at_seconds: 60,
        per_minute: None,
    };
    for (step, refusal) in [
        (announce, Error::cannot_announce(None)),
        (end, Error::cannot_end_sessions()),
    ] {
        let close = PlanStep::Mode {
            at_seconds: 0,
            mode: SettableMode::BlockNewSession,
        };
        let settings = Settings {
            close: Close::Plan(Box::new(StartPlan::now(vec![close, step]))),
            ..settings(2, 1)
        };
        for checked in [check(&settings, &facts), preview(&settings, &facts)] {
            let stop = checked.unwrap_err();
            assert_eq!(
                (stop.kind, stop.problem),
                (StopKind::Refused, refusal.to_string())
            );
        }
    }
}

#[test]
fn a_preview_says_what_the_roll_would_stop_at() {
    let mut scene = Scene::new(2);
    let facts = scene.facts();
    assert!(preview(&settings(2, 1), &facts).is_ok());
    let stop = preview(&settings(2, 2), &facts).unwrap_err();
    assert_eq!((stop.kind, stop.host), (StopKind::Refused, Some(0)));
    let reserve = Reserve {
        by: Some("bob".to_owned()),
        seconds: Some(60),
        round: Some(1),
        step: None,
        ..Reserve::step("R2".parse().unwrap(), RollStep::Draining)
    };
    let request = GateRequest::Reserve(Box::new(reserve));
    scene.nodes.request(scene.now, 1, request).unwrap().unwrap();
    let stop = preview(&settings(2, 1), &scene.facts()).unwrap_err();
    assert_eq!((stop.kind, stop.host), (StopKind::Refused, Some(1)));
    let finish = scene.play(settings(2, 1), at_once);
    assert_eq!(stopped(&finish), (StopKind::Refused, Some(1)));
    assert!(stop.problem.contains("roll R2 of bob"), "{}", stop.problem);
}

#[test]
fn an_interrupted_roll_releases_the_nodes_and_leaves_the_present_one_closed() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |_, _, task| {
        assert_eq!(*task, Task::Drain(None));
        Reaction::Interrupts(1)
    });
    assert_eq!(stopped(&finish).0, StopKind::Interrupted);
    assert_eq!(scene.mode(0), Mode::BlockNewSession);
    scene.nodes.check_none_reserved(scene.now).unwrap();
}

#[test]
fn a_node_that_another_user_has_closed_more_is_not_opened() {
    let mut scene = Scene::new(2);
    let finish = scene.play(settings(2, 1), |scene, host, task| {
        if *task == Task::Ready {
            scene.set(host, SettableMode::BlockNewConnection);
        }
        at_once(scene, host, task)
    });
    assert_eq!(stopped(&finish), (StopKind::Superseded, Some(0)));
    assert_eq!(scene.mode(0), Mode::BlockNewConnection);
}

#[test]
fn nothing_is_run_on_a_node_that_another_user_has_opened() {
    for opened_in in [Task::Drain(None), Task::Command] {
        let mut scene = Scene::new(2);
        let settings = Settings {
            work: Work {
                command: true,
                reboot: true,
            },
            ..settings(2, 1)
        };
        let mut begun = Vec::new();
        let finish = scene.play(settings, |scene, host, task| {
            begun.push(task.clone());
            if *task == opened_in {
                scene.set(host, SettableMode::Normal);
            }
            at_once(scene, host, task)
        });
        assert_eq!(stopped(&finish), (StopKind::Superseded, Some(0)));
        assert_eq!(begun.last(), Some(&opened_in), "{begun:?}");
        assert_eq!(scene.mode(1), Mode::Normal, "the next node is left alone");
    }
}

#[test]
fn a_close_that_is_under_way_at_an_interrupt_is_shown() {
    let mut scene = Scene {
        interrupts_at: Some("0 close 2"),
        ..Scene::new(2)
    };
    let finish = scene.play(settings(2, 1), at_once);
    assert_eq!(stopped(&finish), (StopKind::Interrupted, None));
    assert_eq!(scene.mode(0), Mode::BlockNewSession);
    let draining = Stage::At(RollStep::Draining);
    assert_eq!(scene.shown.last(), Some(&(0, draining)));
}
