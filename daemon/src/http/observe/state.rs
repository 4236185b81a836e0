//! Metrics of the node's present state.

use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Registry};
use soramode_protocol::mode::{InForce, Mode};
use soramode_protocol::node::{Membership, Status, StorageState};
use soramode_protocol::plan::{Plan, PlanState, StallCause};
use soramode_protocol::reservation::Reservation;
use soramode_protocol::time::Time;
use soramode_protocol::version::VERSION;

use crate::metrics::named;

/// Label in place of a plan's state.
const NO_PLAN: &str = "none";

/// The gauges of a status; `subscribers` follow the event log.
pub(super) fn gather(
    status: &Status,
    subscribers: usize,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let gauges = Gauges(Registry::new());
    gauges.one_of(
        "mode",
        "1 for the mode that the node is in.",
        Mode::ALL.map(|mode| (mode.name(), mode == status.mode.mode)),
    )?;
    gauges.one_of(
        "membership",
        "1 for the node's membership in its cluster.",
        Membership::ALL.map(|it| (it.name(), it == status.membership)),
    )?;
    gauges.set(
        "mode_since_timestamp_seconds",
        "Start time of the current mode.",
        seconds(status.mode.since),
    )?;
    gauges.set(
        "mode_expected_end_timestamp_seconds",
        "Time at which the maintenance is expected to be over; 0 for none.",
        status.mode.expected_end_at.map_or(0, seconds),
    )?;
    gauges.set(
        "mode_generation",
        "Generation of the mode, which counts its changes.",
        count(status.mode.generation),
    )?;
    let ways = [
        ("ok", StorageState::Ok),
        ("memory", StorageState::Memory),
        ("failed", StorageState::Failed),
    ];
    gauges.one_of(
        "storage",
        "1 for the state of the storage.",
        ways.map(|(name, it)| (name, it == status.storage.state)),
    )?;
    gauges.set(
        "sessions",
        "Sessions on the node, including those with only pending connections.",
        count(status.sessions),
    )?;
    gauges.set(
        "connections",
        "Connections on the node, including pending ones.",
        count(status.connections),
    )?;
    gauges.set(
        "pending_connections",
        "Pending connections: admitted, not yet seen connected.",
        count(status.pending),
    )?;
    auth_gauge(&gauges, status)?;
    gauges.set(
        "sessions_complete",
        "1 if soramoded knows every session.",
        i64::from(status.sessions_complete),
    )?;
    holder_gauges(&gauges, status)?;
    gauges.set(
        "shadow",
        "1 in shadow mode: decisions are only logged, and Sora's clients are admitted.",
        i64::from(status.shadow),
    )?;
    gauges.set(
        "subscribers",
        "Subscribers of the event log.",
        i64::try_from(subscribers).unwrap_or(i64::MAX),
    )?;
    gauges.set(
        "reserved",
        "1 if the node is reserved for a rolling maintenance.",
        i64::from(
            status
                .reservation
                .as_deref()
                .is_some_and(Reservation::is_current),
        ),
    )?;
    plan_gauges(&gauges, status)?;
    let deliveries = [
        ("pending", count(status.deliveries.pending)),
        ("failed", count(status.deliveries.failed)),
    ];
    gauges.each(
        ("deliveries", "state"),
        "Webhook deliveries that are pending, and failed ones that are kept.",
        deliveries,
    )?;
    gauges.set(
        "start_timestamp_seconds",
        "Start time of the daemon.",
        seconds(status.started_at),
    )?;
    let build = IntGaugeVec::new(
        named("build_info", "1, with the daemon's version."),
        &["version"],
    )?;
    build.with_label_values(&[VERSION]).set(1);
    gauges.0.register(Box::new(build))?;
    Ok(gauges.0.gather())
}

fn auth_gauge(gauges: &Gauges, status: &Status) -> Result<(), prometheus::Error> {
    let without_auth = status.sources.iter().find_map(|source| source.without_auth);
    gauges.set(
        "connections_without_auth",
        "Connections that came to Sora without an auth webhook: the mode does not keep such clients out. 0 again once Sora asks.",
        count(without_auth.unwrap_or_default()),
    )
}

fn holder_gauges(gauges: &Gauges, status: &Status) -> Result<(), prometheus::Error> {
    gauges.set(
        "mode_in_force",
        "1 if the mode is in force; 0 while rooms of Janus are not locked or unlocked as it requires.",
        i64::from(matches!(status.in_force, None | Some(InForce::Yes))),
    )?;
    let rooms = status.rooms.unwrap_or_default();
    let rooms = [
        ("settled", count(rooms.settled)),
        ("outstanding", count(rooms.outstanding)),
        ("impossible", count(rooms.impossible)),
    ];
    gauges.each(
        ("rooms", "lock"),
        "Rooms of Janus by the state of their locks; 0 unless soramoded locks rooms.",
        rooms,
    )
}

fn plan_gauges(gauges: &Gauges, status: &Status) -> Result<(), prometheus::Error> {
    let plan = status.plan.as_deref();
    let state = plan.map_or(NO_PLAN, |plan| plan.state.name());
    let names = [
        NO_PLAN,
        PlanState::Scheduled.name(),
        PlanState::Lead.name(),
        PlanState::Closed.name(),
        PlanState::Ending.name(),
    ];
    gauges.one_of(
        "plan_state",
        "1 for the state of the maintenance plan; none if no plan runs.",
        names.map(|name| (name, name == state)),
    )?;
    let at = |time: Option<Time>| time.map_or(0, seconds);
    gauges.set(
        "plan_next_step_timestamp_seconds",
        "Time of the maintenance plan's next step; 0 for none.",
        at(plan.and_then(Plan::next_step).map(|step| step.due_at)),
    )?;
    gauges.set(
        "plan_sessions_end_timestamp_seconds",
        "Time from which the maintenance plan ends sessions; 0 for never.",
        at(plan.and_then(Plan::sessions_end_at)),
    )?;
    gauges.set(
        "plan_delay_seconds",
        "Time by which the maintenance plan is late.",
        count(plan.map_or(0, |plan| plan.delay_seconds)),
    )?;
    let causes = StallCause::ALL.map(|cause| {
        let is_present = status.stalled.is_some_and(|it| it.cause == cause);
        (cause.name(), i64::from(is_present))
    });
    gauges.each(
        ("stalled", "cause"),
        "1 for the cause for which the drain of a closed node does not progress.",
        causes,
    )
}

/// Seconds since 1970.
const fn seconds(time: Time) -> i64 {
    time.as_micros() / 1_000_000
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Gauges(Registry);

impl Gauges {
    fn set(&self, name: &str, help: &str, value: i64) -> Result<(), prometheus::Error> {
        let gauge = IntGauge::with_opts(named(name, help))?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }

    /// A series for each value of a label.
    fn each<const N: usize>(
        &self,
        (name, label): (&str, &str),
        help: &str,
        counts: [(&str, i64); N],
    ) -> Result<(), prometheus::Error> {
        let gauges = IntGaugeVec::new(named(name, help), &[label])?;
        for (value, count) in counts {
            gauges.with_label_values(&[value]).set(count);
        }
        self.0.register(Box::new(gauges))
    }

    /// Creates one series per value, with 1 for the present one. The label has the metric's name.
    fn one_of<const N: usize>(
        &self,
        name: &str,
        help: &str,
        words: [(&str, bool); N],
    ) -> Result<(), prometheus::Error> {
        self.each(
            (name, name),
            help,
            words.map(|(word, holds)| (word, i64::from(holds))),
        )
    }
}
