//! `soramode drill`

mod cluster_stage;
mod cluster_story;
mod private_cluster;
mod private_daemon;
mod script;
mod stage;
mod story;
mod view;

use cluster_stage::ClusterStage;
use private_cluster::PrivateCluster;
use private_daemon::{PrivateDaemon, PrivateNode};
use stage::Stage;
use story::STORY;
use view::{Playbill, View};

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
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.cluster {
        let mut view = View::new(&mut context.output, cluster_story::playbill());
        let ended = rehearse_cluster(&mut view).await;
        return view.finish(ended);
    }
    let what = "A rehearsal with a private soramoded; one that runs is not touched.";
    let mut view = View::new(
        &mut context.output,
        Playbill {
            what,
            steps: script::steps_total(STORY),
            next: view::NEXT,
        },
    );
    let ended = rehearse(&mut view).await;
    view.finish(ended)
}

async fn rehearse_cluster(view: &mut View<'_>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut cluster = PrivateCluster::start().await?;
    let played = tokio::select! {
        played = play_cluster(&mut cluster, view) => played,
        exit = signals.next() => Err(Failure::new(exit, format!("stopped after step {}; nothing is left behind", view.so_far()))),
    };
    let stopped = cluster.stop().await;
    played.and(stopped)
}

async fn play_cluster(cluster: &mut PrivateCluster, view: &mut View<'_>) -> Result<(), Failure> {
    view.begin(&escape(&cluster.program().to_string_lossy()))?;
    cluster.ready().await?;
    let mut stage = ClusterStage::enter(cluster)
        .await
        .map_err(|lost| cluster.gone(&lost.to_string()))?;
    script::play(
        cluster_story::STORY,
        view,
        async |ask| stage.perform(ask).await,
        |why| cluster.gone(why),
    )
    .await
}

/// Whatever comes in between, the daemon is stopped and its folder removed.
async fn rehearse(view: &mut View<'_>) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut daemon = PrivateDaemon::start()?;
    let played = tokio::select! {
        played = play(&mut daemon, view) => played,
        exit = signals.next() => Err(Failure::new(exit, format!("stopped after step {}; nothing is left behind", view.so_far()))),
    };
    let stopped = daemon.stop().await;
    played.and(stopped)
}

async fn play(daemon: &mut PrivateDaemon, view: &mut View<'_>) -> Result<(), Failure> {
    let daemon = daemon.node();
    view.begin(&escape(&daemon.program().to_string_lossy()))?;
    daemon.ready().await?;
    let mut stage = Stage::enter(&daemon.socket())
        .await
        .map_err(|lost| gone(daemon, &lost.to_string()))?;
    let perform = async |ask| stage.perform(ask).await.map(|said| said.to_string());
    script::play(STORY, view, perform, |why| gone(daemon, why)).await
}

/// It started, and then did not answer: what it said last may tell why.
fn gone(daemon: &PrivateNode, why: &str) -> Failure {
    let message =
        format!("the rehearsal cannot go on: {why}. The last lines of its soramoded's log:");
    Failure {
        details: daemon.last_words(),
        ..Failure::new(Exit::Failed, message)
    }
}
