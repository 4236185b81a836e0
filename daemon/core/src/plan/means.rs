//! Means to announce to the clients of a session and to end it, and a watch on those that the plan needs.

use std::time::Duration;

use soramode_protocol::end::EndMethod;
use soramode_protocol::error::Error;
use soramode_protocol::id::PlanId;
use soramode_protocol::node::MeansFor;
use soramode_protocol::plan::PlanStep;

use crate::input::Subscribers;
use crate::settings::SfuMeans;

/// Time without means after which a plan that needs them is reported. Within it a signalling server that was restarted subscribes again.
const MEANS_GRACE: Duration = Duration::from_mins(1);

/// Means to reach the clients of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) sfu: SfuMeans,
    pub(crate) subscribers: Subscribers,
    /// Number of webhooks that receive announcements.
    pub(crate) webhooks: u64,
}

/// Returns the means by which sessions are ended, if there are any.
pub(crate) fn end_method(sfu: SfuMeans, subscribers: Subscribers) -> Option<EndMethod> {
    let subscribers = (subscribers.ends > 0).then_some(EndMethod::Subscribers);
    sfu.end.or(subscribers)
}

impl Means {
    pub(crate) fn check_end(&self) -> Result<EndMethod, Error> {
        end_method(self.sfu, self.subscribers).ok_or_else(Error::cannot_end_sessions)
    }

    pub(crate) fn check_announce(&self) -> Result<(), Error> {
        if self.sfu.announces || self.subscribers.announcements > 0 || self.webhooks > 0 {
            Ok(())
        } else {
            Err(self.cannot_announce())
        }
    }

    pub(super) fn cannot_announce(&self) -> Error {
        Error::cannot_announce(self.sfu.end)
    }

    /// Refuses a step for which there are no means.
    pub(super) fn check(&self, step: &PlanStep) -> Result<(), Error> {
        match step {
            PlanStep::Announce { .. } => self.check_announce(),
            PlanStep::End { .. } => self.check_end().map(|_| ()),
            PlanStep::Unready { .. } | PlanStep::Mode { .. } | PlanStep::Unknown => Ok(()),
        }
    }

    /// Lists the actions for which there are no means.
    pub(crate) fn missing(&self) -> Vec<MeansFor> {
        let announce = self.check_announce().is_err().then_some(MeansFor::Announce);
        let end = self.check_end().is_err().then_some(MeansFor::End);
        announce.into_iter().chain(end).collect()
    }
}

/// Watches whether the plan that runs has the means for its steps.
#[derive(Debug, Default)]
pub(crate) struct MeansWatch {
    missing_since: Option<Duration>,
    /// Plan that was reported, until its means are back.
    reported: Option<PlanId>,
}

impl MeansWatch {
    /// Checks the plan that has no means. Returns whether to report it now: once, until it has means again.
    pub(super) fn is_due(&mut self, now: Duration, plan_without_means: Option<&PlanId>) -> bool {
        let Some(plan_id) = plan_without_means else {
            *self = Self::default();
            return false;
        };
        let since = *self.missing_since.get_or_insert(now);
        if now < since + MEANS_GRACE || self.reported.as_ref() == Some(plan_id) {
            return false;
        }
        self.reported = Some(plan_id.clone());
        true
    }

    /// Returns when a plan without means is to be reported.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let since = self.missing_since.filter(|_| self.reported.is_none())?;
        Some(since + MEANS_GRACE)
    }
}
