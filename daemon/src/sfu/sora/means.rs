//! Sora's API as means to end sessions, and to announce maintenance to their clients.

use std::time::Duration;

use soramode_core::member::etcd::FenceScope;
use soramode_core::plan::calls::SfuFailure;
use soramode_protocol::announce::Notice;
use soramode_protocol::end::EndSession;
use soramode_protocol::id::ChannelId;
use soramode_protocol::sora::DisconnectReason;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::sfu::timeouts::CALL_TIME;

/// Timeout for all sessions of a fence. Sessions that were not tried by then count as failed.
const END_TIME: Duration = Duration::from_secs(8);

/// Maximum number of concurrent requests to Sora.
const ENDS_IN_FLIGHT_MAX: usize = 8;

/// Sora's API, with a timeout of at most [`CALL_TIME`].
#[derive(Clone, Debug)]
pub(crate) struct SoraMeans(SoraApi);

impl SoraMeans {
    pub(crate) fn new(api: &SoraApi) -> Self {
        Self(api.within(CALL_TIME))
    }

    /// Has Sora end a session. Returns within [`CALL_TIME`].
    pub(crate) async fn end(&self, session: &EndSession) -> Result<(), SfuFailure> {
        let reason = DisconnectReason {
            plan_id: session.plan_id.as_ref(),
            ..DisconnectReason::default()
        };
        let call = self.0.disconnect_channel(&session.channel_id, Some(reason));
        self.outcome("DisconnectChannel", call).await
    }

    /// Sends a notice to the clients of a session. Returns within [`CALL_TIME`].
    pub(crate) async fn announce(
        &self,
        channel_id: &ChannelId,
        notice: &Notice,
    ) -> Result<(), SfuFailure> {
        let call = self.0.push_channel(channel_id, notice);
        self.outcome("PushChannel", call).await
    }

    /// Ends sessions that the node no longer owns; Sora may have more of them than it reported.
    pub(crate) async fn fence(
        &self,
        of: &FenceScope,
        sessions: Vec<EndSession>,
    ) -> Result<(), String> {
        let mut channels: Vec<ChannelId> = sessions.into_iter().map(|it| it.channel_id).collect();
        if *of == FenceScope::All {
            let listed = self.0.list_connections().await;
            let listed = listed.map_err(|error| self.describe("ListConnections", &error))?;
            channels.extend(listed.into_iter().map(|it| it.channel_id));
            channels.sort();
            channels.dedup();
        }
        self.end_all(channels).await
    }

    async fn end_all(&self, channels: Vec<ChannelId>) -> Result<(), String> {
        let until = Instant::now() + END_TIME;
        let mut left = channels.into_iter();
        let (mut in_flight, mut failed, mut problem) = (JoinSet::new(), 0, None);
        loop {
            // A failure is likely to repeat: no more are tried then.
            while in_flight.len() < ENDS_IN_FLIGHT_MAX
                && problem.is_none()
                && Instant::now() < until
            {
                let Some(channel) = left.next() else { break };
                let api = self.0.clone();
                in_flight.spawn(async move {
                    timeout_at(until, api.disconnect_channel(&channel, None)).await
                });
            }
            let Some(ended) = in_flight.join_next().await else {
                break;
            };
            // A channel without a session has ended as well.
            let ended = ended.map_err(|bug| bug.to_string()).and_then(|ended| {
                let ended = ended.unwrap_or(Err(SoraApiError::TimedOut));
                ended.map_err(|error| self.describe("DisconnectChannel", &error))
            });
            if let Err(error) = ended {
                failed += 1;
                problem = Some(error);
            }
        }
        failed += left.count();
        let problem = problem.unwrap_or_else(|| {
            let seconds = END_TIME.as_secs();
            format!("not all could be ended within {seconds} s; retry for the rest")
        });
        if failed == 0 {
            Ok(())
        } else {
            Err(format!("{failed} sessions could not be ended: {problem}"))
        }
    }

    /// Waits for an answer of Sora's API about a channel. A channel that it does not know has no client left: nothing remains to be done.
    async fn outcome(
        &self,
        operation: &str,
        call: impl Future<Output = Result<bool, SoraApiError>>,
    ) -> Result<(), SfuFailure> {
        call.await.map(|_| ()).map_err(|error| {
            let problem = self.describe(operation, &error);
            match error {
                SoraApiError::Refused { .. } => SfuFailure::Refused(problem),
                SoraApiError::Unreachable(_)
                | SoraApiError::TimedOut
                | SoraApiError::Unreadable(_)
                | SoraApiError::TooLarge => SfuFailure::Unreachable(problem),
            }
        })
    }

    /// Describes a failed call: `Sora's API at http://127.0.0.1:3000/ (PushChannel) answered 500`.
    fn describe(&self, operation: &str, error: &SoraApiError) -> String {
        let url = self.0.url();
        match error {
            SoraApiError::Refused { .. } | SoraApiError::Unreadable(_) | SoraApiError::TooLarge => {
                format!("Sora's API at {url} ({operation}) {error}")
            }
            SoraApiError::Unreachable(_) | SoraApiError::TimedOut => {
                format!("Sora's API at {url} ({operation}): {error}")
            }
        }
    }
}
