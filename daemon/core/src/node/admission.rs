//! Admission of a new connection to a channel: the one decision, for both sources of connections and for `Explain`.
//!
//! The first rule that applies decides. `man/protocol.md` has the same table, and a test holds both against the gate.
//!
//! | rule | applies if | answer |
//! |---|---|---|
//! | 1 | the connection is in another channel | error `ConnectionIdInUse` |
//! | 2 | the connection is in this channel | the same offer again |
//! | 3 | the mode is `initial`, or the node is fenced | reject `INITIAL` |
//! | 4 | the mode is `block_new_connection` | reject `BLOCK-NEW-CONNECTION` |
//! | 5 | the mode is `block_new_session`, and the channel has no live connection, nor lost its last one less than `--reconnect-grace` ago; or its session is being ended | reject `BLOCK-NEW-SESSION` |
//! | 6 | the node has `--max-connections` | reject `AT-CAPACITY` |
//! | 7 | in a cluster: another node owns the channel, or is to own it, or its owner is gone, or etcd does not answer | redirect, reject `OWNER-LOST`, or error |
//! | 8 | always | offer |
//!
//! In a cluster rule 7 comes before 4 and 5 for a channel without a session: another node may take it.

use soramode_protocol::decision::{Connect, Decision, RejectReason};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;
use soramode_protocol::session::ConnectionState;

use crate::admission_request::AdmissionRequest;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::handles::{ConnectionSlot, ReplyHandle, SessionSlot};
use crate::member::{CannotClaim, Waiter};
use crate::node::Node;
use crate::settings::SfuAdmission;
use crate::tables::rows::{NewConnection, Source, WrappingBootSecs};
use crate::timers::{Timer, Timers};

/// Rule of the decision table that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The connection is in another channel.
    ConnectionIdInUse(ConnectionSlot),
    /// The connection is in this channel.
    OfferedBefore(ConnectionSlot),
    Initial,
    BlockNewConnection,
    BlockNewSession,
    AtCapacity,
    Offer,
}

impl Rule {
    pub(super) const fn reject_reason(self) -> Option<RejectReason> {
        match self {
            Self::Initial => Some(RejectReason::Initial),
            Self::BlockNewConnection => Some(RejectReason::BlockNewConnection),
            Self::BlockNewSession => Some(RejectReason::BlockNewSession),
            Self::AtCapacity => Some(RejectReason::AtCapacity),
            Self::ConnectionIdInUse(_) | Self::OfferedBefore(_) | Self::Offer => None,
        }
    }
}

impl Node {
    /// Decides on the connection of a `Connect`; `None` if the cluster must answer first.
    pub(crate) fn connect(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        connect: Connect,
    ) -> Option<Result<Decision, Error>> {
        self.sync.on_socket_contact(ctx.now.wall);
        // Janus shows each client; until then it is pending.
        let source = if self.settings.sfu.feed.is_janus() {
            Source::Sfu
        } else {
            Source::ControlSocket
        };
        self.request_admission(ctx, AdmissionRequest::connect(reply_to, source, connect))
    }

    /// Admits or rejects a connection; `None` if the cluster must answer first.
    pub(crate) fn request_admission(
        &mut self,
        ctx: &mut Ctx,
        request: AdmissionRequest,
    ) -> Option<Result<Decision, Error>> {
        let (rule, session) = self.decide(ctx.timers, &request);
        if self.needs_cluster(rule, &request.channel_id)
            && let Some((member, view)) = self.cluster()
        {
            let channel_id = request.channel_id.clone();
            return match member.claim(ctx, view, &channel_id, Waiter::Client(request)) {
                Ok(()) => None,
                Err(CannotClaim::Unavailable(error)) => Some(Err(error)),
                Err(CannotClaim::Full { retry_after_ms }) => {
                    self.count_rejected(RejectReason::AtCapacity);
                    Some(Ok(Decision::Reject {
                        reason: RejectReason::AtCapacity,
                        mode: self.mode.mode(),
                        retry_after_ms,
                    }))
                }
            };
        }
        Some(self.carry_out_rule(ctx, request, rule, session))
    }

    /// Admits or rejects a connection by the node's own state alone: the cluster has answered.
    pub(crate) fn admit_locally(
        &mut self,
        ctx: &mut Ctx,
        request: AdmissionRequest,
    ) -> Result<Decision, Error> {
        let (rule, session) = self.decide(ctx.timers, &request);
        self.carry_out_rule(ctx, request, rule, session)
    }

    /// Answers a request by the rule that applies. `session` is the channel's, if it has one.
    fn carry_out_rule(
        &mut self,
        ctx: &mut Ctx,
        request: AdmissionRequest,
        rule: Rule,
        session: Option<SessionSlot>,
    ) -> Result<Decision, Error> {
        if let Rule::ConnectionIdInUse(slot) = rule {
            return Err(self.connection_id_in_use(ctx, slot));
        }
        if let Rule::OfferedBefore(slot) = rule {
            if request.source == Source::ControlSocket {
                self.mark_live(ctx, slot);
                self.bind_to_socket(ctx, slot, request.bound_socket());
            }
            return self.offer(ctx, slot, false);
        }
        let rejected = rule.reject_reason().map(|reason| self.reject(reason));
        let is_shadow =
            request.source == Source::Sfu && self.settings.sfu.admission == SfuAdmission::Shadow;
        if let Some(rejected) = &rejected
            && !is_shadow
        {
            return Ok(rejected.clone());
        }
        self.check_owned(&request.channel_id)?;
        let created = session.is_none();
        let session =
            session.unwrap_or_else(|| self.open_session(ctx, request.channel_id.clone(), None));
        let slot = match request.source {
            Source::ControlSocket => self.admit_live(ctx, session, request),
            Source::Sfu => self.admit_pending(ctx, session, request),
        };
        let offer = self.offer(ctx, slot, created)?;
        // In shadow mode the rejection is reported, and the client is admitted all the same.
        Ok(rejected.unwrap_or(offer))
    }

    /// Returns the first rule that applies, and the channel's session, if it has one.
    fn decide(&self, timers: &Timers, request: &AdmissionRequest) -> (Rule, Option<SessionSlot>) {
        let existing = request
            .connection_id
            .as_ref()
            .and_then(|id| self.sessions.find(id));
        let session = self.sessions.find_session(&request.channel_id);
        let rule = match existing {
            Some(slot) if self.sessions.is_in(slot, &request.channel_id) => {
                Rule::OfferedBefore(slot)
            }
            Some(slot) => Rule::ConnectionIdInUse(slot),
            None => self.decide_new(timers, self.mode.mode(), session),
        };
        (rule, session)
    }

    /// Returns the first rule that applies to a new connection under a mode, which is the present one but for `Explain`.
    /// `session` is the channel's, if it has one.
    pub(super) fn decide_new(
        &self,
        timers: &Timers,
        mode: Mode,
        session: Option<SessionSlot>,
    ) -> Rule {
        match mode {
            Mode::Initial => return Rule::Initial,
            _ if self.membership() == Membership::Fenced => return Rule::Initial,
            Mode::BlockNewConnection => return Rule::BlockNewConnection,
            Mode::BlockNewSession if !self.is_joinable(timers, session) => {
                return Rule::BlockNewSession;
            }
            Mode::BlockNewSession | Mode::Normal => {}
        }
        if self.sessions.connection_count() >= self.settings.max_connections {
            Rule::AtCapacity
        } else {
            Rule::Offer
        }
    }

    /// Returns whether the present mode admits a connection to a session, or to a channel without one.
    pub(super) fn would_admit(&self, timers: &Timers, session: Option<SessionSlot>) -> bool {
        let rule = self.decide_new(timers, self.mode.mode(), session);
        rule.reject_reason().is_none()
    }

    /// Returns whether the cluster must answer before this rule applies.
    pub(super) fn needs_cluster(&self, rule: Rule, channel_id: &ChannelId) -> bool {
        if self.member.is_none() || self.claim_token(channel_id).is_some() {
            return false;
        }
        match rule {
            Rule::Offer => true,
            // Another node may take it.
            Rule::BlockNewConnection | Rule::BlockNewSession => {
                self.membership() == Membership::Joined
                    && self.sessions.find_session(channel_id).is_none()
            }
            Rule::ConnectionIdInUse(_)
            | Rule::OfferedBefore(_)
            | Rule::Initial
            | Rule::AtCapacity => false,
        }
    }

    /// Refuses a connection to a channel on which a node in a cluster has no claim.
    fn check_owned(&self, channel_id: &ChannelId) -> Result<(), Error> {
        if self.member.is_some() && self.claim_token(channel_id).is_none() {
            return Err(Error::cluster_unavailable(
                "no node can take the channel at the moment",
            ));
        }
        Ok(())
    }

    /// Adds a connection that is on the SFU from now on.
    fn admit_live(
        &mut self,
        ctx: &mut Ctx,
        session: SessionSlot,
        request: AdmissionRequest,
    ) -> ConnectionSlot {
        let socket = request.bound_socket();
        let connection_id = request
            .connection_id
            .unwrap_or_else(|| ConnectionId::generate(ctx.random.bytes()));
        let new = NewConnection {
            connection_id,
            client_id: request.client_id,
            created_at: ctx.now.wall,
            state: ConnectionState::Live,
            source: Source::ControlSocket,
            since: WrappingBootSecs::at(ctx.now.boot),
        };
        let slot = self.add_live(ctx, session, new);
        self.bind_to_socket(ctx, slot, socket);
        slot
    }

    /// Adds a connection that Sora has yet to report.
    fn admit_pending(
        &mut self,
        ctx: &mut Ctx,
        session: SessionSlot,
        request: AdmissionRequest,
    ) -> ConnectionSlot {
        let connection_id = request
            .connection_id
            .unwrap_or_else(|| ConnectionId::generate(ctx.random.bytes()));
        let row = self.sessions.session(session);
        match row.map(|row| row.session_id.clone()) {
            Some(session_id) => ctx.record(Record::Pending {
                channel_id: request.channel_id,
                connection_id: connection_id.clone(),
                client_id: request.client_id.clone(),
                created_at: ctx.now.wall,
                session_id,
            }),
            None => ctx.bug("a connection is admitted to a session that is not in the table"),
        }
        let new = NewConnection {
            connection_id,
            client_id: request.client_id,
            created_at: ctx.now.wall,
            state: ConnectionState::Pending,
            source: Source::Sfu,
            since: WrappingBootSecs::at(ctx.now.boot),
        };
        let slot = self.sessions.add_connection(session, new);
        let expires = ctx.now.boot + self.settings.pending_timeout;
        ctx.timers.set(Timer::PendingTimeout(slot), expires);
        slot
    }

    /// Returns the offer of a connection; `created` if its session was created for it.
    fn offer(&self, ctx: &mut Ctx, slot: ConnectionSlot, created: bool) -> Result<Decision, Error> {
        let found = self
            .sessions
            .connection(slot)
            .and_then(|row| Some((row, self.sessions.session(row.session)?)));
        let Some((connection, session)) = found else {
            ctx.bug("an offered connection has no session");
            return Err(no_session());
        };
        Ok(Decision::Offer {
            claim: self
                .member
                .as_deref()
                .and_then(|member| member.claim_of(&session.channel_id, ctx.now.boot))
                .map(Box::new),
            channel_id: session.channel_id.clone(),
            connection_id: connection.connection_id.clone(),
            session_id: session.session_id.clone(),
            created,
        })
    }

    fn connection_id_in_use(&self, ctx: &mut Ctx, slot: ConnectionSlot) -> Error {
        let Some(connection) = self.sessions.view_connection(slot) else {
            ctx.bug("a connection in use has no session");
            return no_session();
        };
        Error::connection_id_in_use(&connection.connection_id, connection.channel_id)
    }

    pub(crate) fn reject(&mut self, reason: RejectReason) -> Decision {
        self.count_rejected(reason);
        Decision::Reject {
            reason,
            mode: self.mode.mode(),
            retry_after_ms: None,
        }
    }

    pub(crate) fn count_rejected(&mut self, reason: RejectReason) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    /// Returns whether a node that is closed to new sessions admits connections to this one: it has a live connection, or lost its last one
    /// less than the grace ago; and the SFU was not requested to end it.
    pub(super) fn is_joinable(&self, timers: &Timers, session: Option<SessionSlot>) -> bool {
        session.is_some_and(|slot| {
            let has_grace = timers.is_set(Timer::ReconnectGrace(slot));
            (self.sessions.has_live(slot) || has_grace) && !self.plans.is_asked_to_end(slot)
        })
    }
}

/// Error for a connection without its session, which must not occur.
fn no_session() -> Error {
    Error::new(ErrorType::Internal, "the connection has no session")
}
