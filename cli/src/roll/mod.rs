//! Carries out a rolling maintenance: connects to the hosts, does what the roll decides, and shows it.

mod calls;
mod command_end;
mod connect;
mod dry_run;
pub(crate) mod id;
pub(crate) mod request;
mod result;
pub(crate) mod resume;
mod show;
mod stop;
mod tasks;

use std::collections::BTreeMap;
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use soramode_protocol::or_pending::or_pending;
use soramode_roll::{
    Action, Finish, HostFacts, HostIndex, Input, RollRun, StopKind, Task, TaskEnd,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::fleet::{HOSTS_AT_ONCE, join_all};
use crate::node::{Node, caller, mode_now};
use crate::opening::opening_by_roll;
use crate::output::Output;
use crate::signals::Signals;
use calls::Caller;
use connect::{Connected, connect, find_obstacle};
use request::RollRequest;
use result::Left;
use show::{Host, RollView};
use stop::{complete_hint, exit_of_kind};

/// Pause between two updates of the rows.
const DRAW_PAUSE: Duration = Duration::from_secs(1);

/// Notes at the first and the second interrupt while a command runs.
const INTERRUPTED: &str =
    "interrupted: the command that runs is waited for. Ctrl-C again does not wait for it";
const INTERRUPTED_AGAIN: &str = "interrupted again: the command is not waited for. Ctrl-C again leaves at once, also if nodes are not released";

/// Limit of the time for a look at the node that a roll leaves closed.
const LOOK_MAX: Duration = Duration::from_secs(5);

impl RollRequest {
    /// Carries the roll out; returns its exit code.
    pub(crate) async fn run(
        self,
        endpoints: Vec<Endpoint>,
        output: &mut Output,
    ) -> Result<Exit, Failure> {
        let mut signals = Signals::listen()?;
        let is_maintained = |host: &HostIndex| self.settings.maintained.contains(host);
        let command = &self.work.command;
        let hosts_in_order = endpoints.iter().enumerate();
        let connecting = hosts_in_order.map(|(host, endpoint)| async move {
            let mut start = connect(endpoint).await?;
            if is_maintained(&host) {
                start.facts.cannot_work = find_obstacle(host, endpoint, command).await;
            }
            Ok(start)
        });
        let connecting = join_all(connecting, HOSTS_AT_ONCE);
        let connected = tokio::select! {
            connected = connecting => connected,
            exit = signals.next() => return Err(crate::wait::interrupted(exit, Duration::ZERO)),
        };
        self.warn_of_other_work(&connected, output);
        if self.is_dry_run {
            return dry_run::show(&self, (&endpoints, &connected), output);
        }
        let view = RollView::new(&self, hosts(&self.hosts, &connected), output)?;
        let failures: Vec<Option<Failure>> = connected
            .iter()
            .map(|it| it.as_ref().err().cloned())
            .collect();
        let facts = connected.into_iter().map(|connected| {
            connected
                .map(|start| start.facts)
                .map_err(|failure| failure.message)
        });
        let facts = facts.collect();
        let (inputs, mut incoming) = unbounded_channel();
        // From here on the table is on the terminal.
        let endpoints = endpoints.into_iter().map(Endpoint::without_prompts);
        let endpoints: Vec<Rc<Endpoint>> = endpoints.map(Rc::new).collect();
        let request = Rc::new(self);
        let mut driver = Driver {
            roll: RollRun::new(request.settings.clone()),
            request: Rc::clone(&request),
            callers: Vec::new(),
            tasks: BTreeMap::new(),
            endpoints,
            inputs,
            view: Rc::new(view),
            began: Instant::now(),
            finish: None,
            exit_of_signal: None,
            is_in_a_hurry: false,
        };
        let local = LocalSet::new();
        let finish = local
            .run_until(async {
                driver.start(facts);
                // The rows say for how long each step has lasted.
                let mut seconds = interval(DRAW_PAUSE);
                seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while driver.finish.is_none() {
                    let deadline = driver.roll.next_deadline();
                    let deadline = deadline.map(|deadline| driver.began + deadline);
                    let input = tokio::select! {
                        biased;
                        exit = signals.next() => {
                            match (driver.exit_of_signal, driver.is_in_a_hurry) {
                                (None, _) => driver.view.interrupted(INTERRUPTED),
                                (Some(_), false) => driver.view.interrupted(INTERRUPTED_AGAIN),
                                (Some(_), true) => {}
                            }
                            driver.is_in_a_hurry = driver.exit_of_signal.is_some();
                            driver.exit_of_signal.get_or_insert(exit);
                            Input::Interrupted
                        }
                        Some(input) = incoming.recv() => input,
                        _ = seconds.tick() => {
                            driver.view.draw();
                            continue;
                        }
                        () = or_pending(deadline.map(sleep_until)) => Input::Tick,
                    };
                    driver.step(input);
                }
                driver.finish.take()
            })
            .await;
        let mut finish = finish.unwrap_or(Finish {
            stop: None,
            least_open: None,
            unreleased: Vec::new(),
        });
        let exit = exit_of(&finish, &failures, driver.exit_of_signal);
        let left = match &finish.stop {
            Some(_) => driver.look_at_left(&mut signals).await,
            None => None,
        };
        driver.complete_hint(&mut finish, &failures);
        let view = &driver.view;
        view.finish(&finish, (exit, left.as_ref()), &request, output)?;
        Ok(exit)
    }
}

impl RollRequest {
    /// Warns if this command goes on with the roll, and has other work than before.
    fn warn_of_other_work(&self, connected: &[Connected], output: &Output) {
        let roll = &self.settings.roll;
        let records = connected.iter().flatten();
        let mut records = records.filter_map(|it| it.facts.status.reservation.as_deref());
        if self.has_other_work && records.any(|record| record.roll == *roll) {
            output.warn(&format!(
                "roll {roll} began with another command, --reboot or --ready: hosts that are not done yet get those of this command"
            ));
        }
    }
}

fn hosts(typed: &[String], connected: &[Connected]) -> Vec<Host> {
    typed
        .iter()
        .zip(connected)
        .map(|(host, connected)| {
            let name = connected.as_ref().ok().map(|it| it.node_name.clone());
            Host::new(host.clone(), name)
        })
        .collect()
}

/// Returns the exit code. A host that could not be connected to at the start has its own.
fn exit_of(finish: &Finish, failures: &[Option<Failure>], signal: Option<Exit>) -> Exit {
    let Some(stop) = &finish.stop else {
        return Exit::Done;
    };
    let at_start = stop
        .host
        .and_then(|host| failures.get(host)?.as_ref())
        .map(|failure| failure.exit);
    match (stop.kind, at_start, signal) {
        (StopKind::Unreachable, Some(exit), _) => exit,
        (StopKind::Interrupted, _, Some(signal)) => signal,
        (kind, _, _) => exit_of_kind(kind),
    }
}

/// The roll, and what carries its actions out.
struct Driver {
    roll: RollRun,
    request: Rc<RollRequest>,
    callers: Vec<Caller>,
    /// Tasks that run, by their host.
    tasks: BTreeMap<HostIndex, AbortHandle>,
    endpoints: Vec<Rc<Endpoint>>,
    inputs: UnboundedSender<Input>,
    view: Rc<RollView>,
    began: Instant,
    finish: Option<Finish>,
    exit_of_signal: Option<Exit>,
    /// It was interrupted more than once.
    is_in_a_hurry: bool,
}

impl Driver {
    fn start(&mut self, facts: Vec<Result<HostFacts, String>>) {
        let caller =
            |endpoint: &Rc<Endpoint>| Caller::start(Rc::clone(endpoint), self.inputs.clone());
        self.callers = self.endpoints.iter().map(caller).collect();
        self.step(Input::Connected(facts));
    }

    fn step(&mut self, input: Input) {
        for action in self.roll.step(self.began.elapsed(), input) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Call(host, id, call) => {
                if let Some(caller) = self.callers.get(host) {
                    caller.call(id, call);
                }
            }
            Action::Begin(host, task) => self.begin(host, task),
            Action::Abandon(host) => {
                if let Some(task) = self.tasks.remove(&host) {
                    task.abort();
                }
            }
            Action::Show(host, stage) => self.view.show(host, stage),
            Action::Finish(finish) => self.finish = Some(finish),
        }
    }

    fn complete_hint(&self, finish: &mut Finish, failures: &[Option<Failure>]) {
        if let Some(stop) = &mut finish.stop
            && let Some(host) = stop.host
        {
            let endpoint = self.endpoints.get(host).map(Rc::as_ref);
            complete_hint(stop, endpoint, failures.get(host).and_then(Option::as_ref));
        }
    }

    /// Looks at the node that the roll leaves closed: another user may have opened it. An operator in a hurry does not wait for that.
    async fn look_at_left(&self, signals: &mut Signals) -> Option<Left> {
        let host = self.view.left_closed()?;
        let endpoint = self.endpoints.get(host)?;
        let look = async {
            let mut daemon = endpoint.connect().await.ok()?;
            let mode = mode_now(&mut daemon).await.ok()?;
            let me = caller(&mut daemon).await;
            let opening =
                opening_by_roll(Node::Daemon(endpoint), &self.request.settings.roll).await;
            Some((mode, (me, opening)))
        };
        let looked = tokio::select! {
            looked = look, if !self.is_in_a_hurry => looked,
            () = ready(()), if self.is_in_a_hurry => None,
            () = sleep(LOOK_MAX) => None,
            _ = signals.next() => None,
        };
        let (mode, rest) = looked.unzip();
        let (me, opening) = rest.unzip();
        Some(Left {
            host,
            is_looked_at: !self.is_in_a_hurry,
            mode,
            me: me.flatten(),
            opening,
            open: endpoint.command("set normal"),
            sessions: endpoint.command("sessions"),
        })
    }

    fn begin(&mut self, host: HostIndex, task: Task) {
        let Some(endpoint) = self.endpoints.get(host).map(Rc::clone) else {
            return;
        };
        let worker = tasks::Worker {
            host,
            endpoint,
            request: Rc::clone(&self.request),
            view: Rc::clone(&self.view),
        };
        let inputs = self.inputs.clone();
        let running = spawn_local(async move {
            let end = worker.run(task).await;
            let is_lost = matches!(end, TaskEnd::Lost(_));
            // The roll may be over.
            let _ = inputs.send(Input::Ended(host, end));
            if is_lost {
                worker.look_for_command().await;
            }
        });
        self.tasks.insert(host, running.abort_handle());
    }
}
