//! `soramode drill`

mod cluster;
mod janus;
mod janus_client;
mod janus_process;
mod one_node;
mod plan;
mod plan_runner;
mod process;
mod runner;
mod sandbox;
mod scenario;
mod step_error;
mod view;

use runner::Runner;
use sandbox::Sandbox;
use scenario::Scenario;
use view::View;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::signals::Signals;

/// Rehearse a maintenance on a throwaway soramoded
///
/// Touches nothing real: starts the soramoded beside this program in a temporary folder, sends it the requests of operators and signalling servers,
/// compares each answer with the documentation, and removes everything again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rehearse a cluster of three nodes instead
    ///
    /// Joining, redirects, a drain without a rejected client, isolation and return. Needs etcd in $PATH, and starts one of its own.
    #[arg(long)]
    cluster: bool,
    /// Rehearse a maintenance plan instead
    ///
    /// A plan that is stopped by opening the node, one that is cancelled, and one that ends the sessions.
    #[arg(long, conflicts_with = "cluster")]
    plan: bool,
    /// Rehearse the modes of a Janus instead
    ///
    /// Real clients in its rooms, locks, and a drain. Needs janus in $PATH, and starts one of its own.
    #[arg(long, conflicts_with_all = ["cluster", "plan"])]
    janus: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let scenario = if args.cluster {
        &cluster::SCENARIO
    } else if args.plan {
        &plan::SCENARIO
    } else if args.janus {
        &janus::SCENARIO
    } else {
        &one_node::SCENARIO
    };
    let mut view = View::new(&mut context.output, scenario);
    let ended = rehearse(&args, scenario, &mut view).await;
    view.finish(ended)
}

/// Runs a scenario. However that ends, the processes are stopped and their folder is removed.
async fn rehearse(args: &Args, scenario: &Scenario, view: &mut View<'_>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut sandbox = if args.cluster {
        Sandbox::cluster().await?
    } else if args.janus {
        Sandbox::janus().await?
    } else {
        Sandbox::one_node()?
    };
    let ended = tokio::select! {
        ended = run_scenario(scenario, &mut sandbox, view) => ended,
        exit = signals.next() => {
            let progress = view.progress();
            Err(Failure::new(exit, format!("stopped after step {progress}; nothing is left behind")))
        }
    };
    let stopped = sandbox.stop().await;
    ended.and(stopped)
}

async fn run_scenario(
    scenario: &Scenario,
    sandbox: &mut Sandbox,
    view: &mut View<'_>,
) -> Result<(), Failure> {
    view.begin(&escape(&sandbox.program().to_string_lossy()))?;
    sandbox.ready().await?;
    let runner = Runner::connect(&sandbox.sockets(), sandbox.servers(), scenario.step_max).await;
    let mut runner = runner.map_err(|lost| sandbox.failure(&lost.to_string()))?;
    for part in scenario.parts {
        view.part(part.heading)?;
        for step in part.steps {
            let answer = runner.execute(step).await;
            let lost = answer.as_ref().err().cloned();
            view.step(part.name, step, answer)?;
            if let Some(lost) = lost {
                let progress = view.progress();
                return Err(sandbox.failure(&format!("{lost}, at step {progress}")));
            }
        }
    }
    Ok(())
}
