//! Carries out a rolling maintenance: connects to the hosts, does what the roll decides, and shows it.

mod calls;
mod dry_run;
mod resume;
mod show;
mod tasks;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Duration;

use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::or_pending::or_pending;
use soramode_protocol::reservation::RollStep;
use soramode_protocol::session::ListSessions;
use soramode_protocol::time::Time;
use soramode_protocol::wait::Wait;
use soramode_roll::{
    Action, Finish, HostFacts, HostIndex, Input, RollRun, Settings, Stop, StopKind, Task,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::fleet::{HOSTS_AT_ONCE, join_all};
use crate::output::Output;
use crate::signals::Signals;
use calls::Caller;
pub(crate) use resume::ResumeCommand;
use show::{Host, RollView};

/// A roll to carry out.
pub(crate) struct RollRequest {
    pub(crate) settings: Settings,
    /// The hosts as they were typed.
    pub(crate) hosts: Vec<String>,
    pub(crate) work: HostWork,
    /// The command that goes on after a stop.
    pub(crate) resume: ResumeCommand,
    pub(crate) is_dry_run: bool,
}

/// The work on each host.
pub(crate) struct HostWork {
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Command line that must succeed before the node is opened.
    pub(crate) ready: Option<String>,
    pub(crate) ready_timeout: Duration,
    pub(crate) drain: DrainPlan,
}

/// The wait for a drain.
pub(crate) struct DrainPlan {
    /// The request, without generation and plan.
    pub(crate) wait: Wait,
    pub(crate) limit: Option<Duration>,
    /// The condition once a plan has closed the node, if it is another than the end of the plan.
    pub(crate) after_close: Option<Wait>,
    /// The node is opened again on a timeout.
    pub(crate) undoes: bool,
}

/// A host as it was found at the start.
struct HostAtStart {
    facts: HostFacts,
    node_name: String,
    /// The begin of its oldest session.
    oldest: Option<Time>,
}

/// A host that was connected to, or not.
type Connected = Result<HostAtStart, Failure>;

impl RollRequest {
    /// Carries the roll out; returns its exit code.
    pub(crate) async fn run(
        self,
        endpoints: Vec<Endpoint>,
        output: &mut Output,
    ) -> Result<Exit, Failure> {
        let mut signals = Signals::listen()?;
        let is_maintained = |host: &HostIndex| self.settings.maintained.contains(host);
        let hosts_in_order = endpoints.iter().enumerate();
        let connecting = hosts_in_order.map(|(host, endpoint)| async move {
            let mut start = connect(endpoint).await?;
            if is_maintained(&host) {
                start.facts.cannot_work = find_obstacle(host, endpoint).await;
            }
            Ok(start)
        });
        let connecting = join_all(connecting, HOSTS_AT_ONCE);
        let connected = tokio::select! {
            connected = connecting => connected,
            exit = signals.next() => return Err(crate::wait::interrupted(exit, Duration::ZERO)),
        };
        if self.is_dry_run {
            return dry_run::show(&self, &connected, output);
        }
        let view = RollView::new(&self, hosts(&self.hosts, &connected), output);
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
        };
        let local = LocalSet::new();
        let finish = local
            .run_until(async {
                driver.start(facts);
                while driver.finish.is_none() {
                    let deadline = driver.roll.next_deadline();
                    let deadline = deadline.map(|deadline| driver.began + deadline);
                    let input = tokio::select! {
                        biased;
                        exit = signals.next() => {
                            driver.exit_of_signal.get_or_insert(exit);
                            driver.view.interrupted();
                            Input::Interrupted
                        }
                        Some(input) = incoming.recv() => input,
                        () = or_pending(deadline.map(sleep_until)) => Input::Tick,
                    };
                    driver.step(input);
                }
                driver.finish.take()
            })
            .await;
        let finish = finish.unwrap_or(Finish {
            stop: None,
            least_open: None,
        });
        let exit = exit_of(&finish, &failures, driver.exit_of_signal);
        driver.view.finish(&finish, exit, &request, output)?;
        Ok(exit)
    }
}

/// Reads the facts of a host.
async fn connect(endpoint: &Endpoint) -> Connected {
    let mut daemon = endpoint.connect().await?;
    let (info, status) = daemon.call_both(&GetInfo {}, &GetStatus {}).await?;
    let first = ListSessions {
        limit: Some(1),
        ..ListSessions::default()
    };
    let oldest = daemon.call(&first).await?.sessions;
    let facts = HostFacts {
        log_id: info.log_id,
        access: info.access,
        can_reserve: info.methods.iter().any(|method| method == "Reserve"),
        cannot_work: None,
        status: Box::new(status),
    };
    Ok(HostAtStart {
        facts,
        node_name: info.node_name.to_string(),
        oldest: oldest.first().map(|session| session.created_at),
    })
}

/// Finds the reason why no command can be run on a host. Later connections to it ask for nothing, and neither does this one.
async fn find_obstacle(number: HostIndex, endpoint: &Endpoint) -> Option<Stop> {
    let host = endpoint.host()?.clone().without_prompts();
    let failure = host.check_exec().await.err()?;
    Some(stop_of(number, &failure))
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

/// Returns the exit code for a reason to stop.
pub(crate) const fn exit_of_kind(kind: StopKind) -> Exit {
    match kind {
        StopKind::Usage => Exit::Usage,
        StopKind::Unreachable => Exit::Unreachable,
        StopKind::NotPermitted => Exit::NotPermitted,
        StopKind::Refused => Exit::Refused,
        StopKind::Superseded => Exit::Superseded,
        StopKind::TooOld => Exit::Versions,
        StopKind::SessionsIncomplete => Exit::SessionsIncomplete,
        StopKind::Failed => Exit::Failed,
        StopKind::TimedOut => Exit::TimedOut,
        StopKind::Interrupted => Exit::Interrupted,
    }
}

/// Returns the kind of a reason to stop for a failure.
const fn kind_of(exit: Exit) -> StopKind {
    match exit {
        Exit::Usage => StopKind::Usage,
        Exit::Unreachable => StopKind::Unreachable,
        Exit::NotPermitted => StopKind::NotPermitted,
        Exit::Refused => StopKind::Refused,
        Exit::Superseded => StopKind::Superseded,
        Exit::Versions => StopKind::TooOld,
        Exit::SessionsIncomplete => StopKind::SessionsIncomplete,
        Exit::TimedOut => StopKind::TimedOut,
        _ => StopKind::Failed,
    }
}

/// Returns the reason to stop that a failure on a host is.
fn stop_of(host: HostIndex, failure: &Failure) -> Stop {
    Stop::on(host, kind_of(failure.exit), failure.message.clone())
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
            // The roll may be over.
            let _ = inputs.send(Input::Ended(host, end));
        });
        self.tasks.insert(host, running.abort_handle());
    }
}

/// Returns the word for a step.
pub(crate) const fn describe_step(step: RollStep) -> &'static str {
    match step {
        RollStep::Draining => "draining",
        RollStep::Command => "running the command",
        RollStep::CommandEnded => "command ended",
        RollStep::Ready => "waiting until ready",
        RollStep::Done => "done",
    }
}
