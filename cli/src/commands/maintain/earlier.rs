//! An earlier maintenance of the same node over ssh: its command, which may still run, and its reservation.

use soramode_protocol::node::GetStatus;
use soramode_protocol::reservation::{Release, Reservation, RollStep, is_maintain, roll_words};

use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::escape::escape;
use crate::ssh::command::CommandThere;
use crate::ssh::{self, SshHost};

/// Refuses while the command of an earlier maintenance runs there. If this operator's own one has died, its reservation is ended.
pub(super) async fn check_earlier(host: &SshHost, node: Node<'_>) -> Result<(), Failure> {
    let mut daemon = node.connect().await?;
    let status = daemon.call(&GetStatus {}).await?;
    let Some(record) = status.reservation else {
        return Ok(());
    };
    // Operators without names cannot be told apart.
    let is_own = is_maintain(&record.roll)
        && ssh::local_operator().is_some_and(|operator| operator == record.by);
    if record.is_current() && !is_own {
        // It is refused in the daemon's own words.
        return Ok(());
    }
    if record.step == Some(RollStep::Command) {
        match host.look(&record.roll).await {
            Some(CommandThere::NotRunning) => {}
            Some(CommandThere::Runs) => return Err(still_runs(host, &record)),
            None => return Ok(()),
        }
    }
    if record.is_current() {
        let release = Release {
            roll: record.roll,
            round: None,
        };
        daemon.call(&release).await?;
    }
    Ok(())
}

fn still_runs(host: &SshHost, record: &Reservation) -> Failure {
    let message = format!(
        "the command of {} of {} (since {}) still runs on {}. Nothing was changed",
        roll_words(&record.roll),
        escape(&record.by),
        record.since,
        host.shown()
    );
    Failure::new(Exit::Refused, message).with_hint("Wait until it has ended, then run this again")
}
