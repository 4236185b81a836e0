//! Poller that reads all members at each heartbeat and on request, and gives the result to the gate
//! before any later input.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::input::Input;
use soramode_core::member::etcd::{EtcdResponse, MembersRead};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::etcd::Etcd;
use super::ignored_fields::IgnoredFields;
use super::lost_nodes::{self, LostNodes};
use super::members_read;
use super::trusted::Trusted;
use crate::engine::{Engine, Stopped};

/// Pause after a failed read, if the heartbeat is not shorter.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Time in which further requests for a read are merged.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// Minimum pause between reads: every write under the watched keys requests one.
const READ_PAUSE_MIN: Duration = Duration::from_millis(50);

/// Maximum jitter of a heartbeat, in 1/256 of the interval, so that many nodes do not read at the
/// same moment.
const JITTER: u32 = 51;

/// Reads the members at each heartbeat, and when that is wanted.
pub(super) struct MembershipPoller {
    pub(super) etcd: Arc<Etcd>,
    pub(super) heartbeat: Duration,
    pub(super) engine: Engine,
    pub(super) wanted: Arc<Notify>,
    pub(super) lost_nodes: LostNodes,
    pub(super) ignored_fields: IgnoredFields,
    pub(super) tasks: TaskTracker,
}

impl MembershipPoller {
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut beats: u32 = 0;
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                read = self.etcd.read_members() => read,
                () = stop.cancelled() => return,
            };
            beats = beats.wrapping_add(1);
            let pause = if read.is_ok() {
                self.pause(beats)
            } else {
                self.heartbeat.min(RETRY_PAUSE)
            };
            if self.report(read).is_err() {
                return;
            }
            tokio::select! {
                () = sleep_until(began + pause) => {}
                () = self.wanted.notified() => sleep_until((began + READ_PAUSE_MIN).max(Instant::now() + GATHER_TIME)).await,
                () = stop.cancelled() => return,
            }
        }
    }

    /// The heartbeat, a little earlier: by how much differs from node to node and from beat to beat.
    fn pause(&self, beats: u32) -> Duration {
        let spread = self.etcd.identity.start.bytes().fold(beats, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        self.heartbeat
            .saturating_sub(self.heartbeat * (spread % JITTER) / 256)
    }

    /// Counts the channels of lost nodes in a task of its own: the reads renew the ownership lease
    /// and must not wait.
    fn warn_of_lost_nodes(&mut self, members: &MembersRead) {
        let gone = self.lost_nodes.update(&members.nodes);
        let trusted = Trusted::new(&self.etcd);
        if let Some(trusted) = trusted.filter(|_| !gone.is_empty()) {
            self.tasks.spawn(lost_nodes::warn(trusted, gone));
        }
    }

    /// Gives a read to the gate.
    fn report(
        &mut self,
        read: Result<members_read::MembersReadResult, String>,
    ) -> Result<(), Stopped> {
        let response = match read {
            Ok(members_read::MembersReadResult {
                members,
                lease,
                ignored,
            }) => {
                self.ignored_fields.warn(ignored);
                if lease.is_some() {
                    self.etcd.set_lease(lease);
                }
                self.warn_of_lost_nodes(&members);
                EtcdResponse::MembersRead(Box::new(members))
            }
            Err(why) => {
                tracing::debug!(why, "cannot read the members from etcd");
                EtcdResponse::MembersReadFailed(why)
            }
        };
        self.engine.apply(Input::Etcd(response))
    }
}
