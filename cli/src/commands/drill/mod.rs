//! `soramode drill`

mod private_daemon;
mod stage;
mod story;
mod view;

use private_daemon::PrivateDaemon;
use stage::Stage;
use story::STORY;
use view::View;

use crate::Context;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::signals::Signals;

/// Rehearse a maintenance against a private soramoded: both diagrams of the documentation and a drain
///
/// It starts the soramoded that is beside this program in a temporary folder, asks it what operators and signalling servers ask, holds
/// each answer against what the documentation says, and removes everything again. A soramoded that runs is not touched.
/// It ends with 0 if all held and with 70 if anything did not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut view = View::new(&mut context.output);
    let ended = rehearse(&mut view).await;
    view.finish(ended)
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
    view.begin(&escape(&daemon.program().to_string_lossy()))?;
    daemon.ready().await?;
    let mut stage = Stage::enter(&daemon.socket()).await.map_err(|lost| gone(daemon, &lost.to_string()))?;
    for part in STORY {
        view.part(part)?;
        for step in part.steps {
            let said = stage.perform(step.ask).await;
            let lost = said.as_ref().err().cloned();
            view.step(part, step, said)?;
            if let Some(lost) = lost {
                return Err(gone(daemon, &format!("{lost}, at step {}", view.so_far())));
            }
        }
    }
    Ok(())
}

/// It started, and then did not answer: what it said last may tell why.
fn gone(daemon: &PrivateDaemon, why: &str) -> Failure {
    let message = format!("the rehearsal cannot go on: {why}. The last lines of its soramoded's log:");
    Failure { details: daemon.last_words(), ..Failure::new(Exit::Failed, message) }
}
