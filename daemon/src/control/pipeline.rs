//! Protocol of a client without its socket: lines become requests, responses become lines.
//!
//! Requests go to the gate at once and are answered in their order: an early answer is held back.
//! Errors, lists and subscriptions wait until all earlier requests were answered, and hold back the
//! later ones (a barrier). Where the SFU holds the mode, a change of the mode holds back the later
//! requests too: they see its outcome. Waits are outside this order.
//!
//! A page of a list is requested in slices of 64 rows, and before each the runtime polls the
//! sockets, so that it delays no other client. Two tasks that wake each other make the runtime poll
//! only after 61 turns, which is too late: a page of 1,000 rows ends before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use soramode_core::effect::WaitProgress;
use soramode_protocol::access::Access;
use soramode_protocol::codec::LineBuffer;
use soramode_protocol::envelope::{Incoming, NotificationLine, ReplyTo, read_request};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::node::Info;
use soramode_protocol::reply::Answer;
use soramode_protocol::request::{GateRequest, Method, Request};
use soramode_protocol::session::ListRequest;
use soramode_protocol::subscribe::{Subscribe, Subscribed, Unsubscribed};
use soramode_protocol::version::{PROTOCOL, VERSION};
use soramode_protocol::wait::Wait;
use tokio::sync::OwnedSemaphorePermit;

use super::budget::{Budget, IN_FLIGHT_MAX};
use super::discover::OPENRPC;
use super::listing::{PageBuilder, PageStep};
use super::output::Output;
use super::peer::Peer;
use super::state::ControlState;
use super::subscription::{Notifiers, Subscription};
use crate::engine::SerialRequest;
use crate::outputs::Response;

/// Pipeline of one client.
#[derive(Debug)]
pub(super) struct RequestPipeline {
    state: Arc<ControlState>,
    peer: Peer,
    budget: Arc<Budget>,
    last_serial: u64,
    lines_taken: u64,
    in_flight: VecDeque<PendingResponse>,
    waits: BTreeMap<u64, PendingWait>,
    /// Requests that the gate answers later than those behind them may be.
    deferred: BTreeMap<u64, Option<ReplyTo>>,
    /// Request that waits until all earlier ones are answered.
    barrier: Option<(Option<ReplyTo>, Barrier)>,
    listing: Option<PageBuilder>,
    pub(super) subscription: Option<Subscription>,
    /// The client has subscribed, or does not any more, and the engine was not told yet.
    has_subscription_changed: bool,
    pub(super) out: Output,
    /// `true` if no more input is accepted.
    is_closing: bool,
}

/// Wait in flight, and its share of the limit of its access level.
#[derive(Debug)]
struct PendingWait {
    reply_to: Option<ReplyTo>,
    _permit: OwnedSemaphorePermit,
}

/// An answer that is pending, in the order of the requests.
#[derive(Debug)]
struct PendingResponse {
    serial: u64,
    reply_to: Option<ReplyTo>,
    /// Answer that came before its turn.
    answer: Option<Answer>,
    /// Reading stops until it is answered: no later request is read before.
    stops_reading: bool,
}

impl PendingResponse {
    const fn new(serial: u64, reply_to: Option<ReplyTo>) -> Self {
        Self {
            serial,
            reply_to,
            answer: None,
            stops_reading: false,
        }
    }
}

/// Request that the gate does not answer in one piece.
#[derive(Debug)]
enum Barrier {
    Refuse(Error),
    List(ListRequest),
    /// Has a large answer: one at a time, so that at most one waits for a client that does not read.
    Ask(GateRequest),
    Subscribe(Subscribe),
    Unsubscribe,
    GetInfo,
    Discover,
}

impl RequestPipeline {
    pub(super) fn new(state: Arc<ControlState>, peer: Peer) -> Self {
        let budget = Arc::clone(state.budgets.of(peer.access));
        Self {
            state,
            peer,
            last_serial: 0,
            lines_taken: 0,
            in_flight: VecDeque::new(),
            waits: BTreeMap::new(),
            deferred: BTreeMap::new(),
            barrier: None,
            listing: None,
            subscription: None,
            has_subscription_changed: false,
            out: Output::new(Arc::clone(&budget.unread)),
            budget,
            is_closing: false,
        }
    }

    /// Returns true if another line would be accepted.
    pub(super) fn is_open(&self) -> bool {
        let undecided = self.in_flight.len() + self.deferred.len();
        let is_stopped = self.in_flight.back().is_some_and(|last| last.stops_reading);
        let has_room = !is_stopped
            && undecided < self.budget.in_flight_max
            && undecided + self.waits.len() < IN_FLIGHT_MAX
            && !self.out.is_full();
        has_room && self.barrier.is_none() && self.listing.is_none() && !self.is_closing
    }

    /// Returns true if nothing is pending except waits and the subscription.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.is_empty()
            && self.deferred.is_empty()
            && self.barrier.is_none()
            && self.listing.is_none()
    }

    /// Returns true if a wait or a subscription is active.
    pub(super) fn is_following(&self) -> bool {
        !self.is_closing && (!self.waits.is_empty() || self.subscription.is_some())
    }

    /// Returns the number of lines so far, which identifies a line.
    pub(super) const fn lines_taken(&self) -> u64 {
        self.lines_taken
    }

    pub(super) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Returns whether the client's subscription has changed since the last time.
    pub(super) const fn take_subscription_change(&mut self) -> bool {
        std::mem::replace(&mut self.has_subscription_changed, false)
    }

    /// Stops accepting input.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    /// Refuses the input, and stops accepting more.
    pub(super) fn refuse_and_close(&mut self, error: Error) {
        self.barrier = Some((Some(ReplyTo::Null), Barrier::Refuse(error)));
        self.is_closing = true;
    }

    /// Reads lines as far as this client may go on, at most `turn_bytes`, and adds the requests for the engine to `requests`.
    pub(super) fn take_lines(
        &mut self,
        lines: &mut LineBuffer,
        turn_bytes: &mut usize,
        requests: &mut Vec<SerialRequest>,
    ) {
        loop {
            self.process_barrier(requests);
            if !self.is_open() || *turn_bytes == 0 {
                return;
            }
            match lines.next_line() {
                Ok(None) => return,
                Ok(Some(line)) => {
                    *turn_bytes = self.take_line_of_turn(line, requests, *turn_bytes);
                }
                Err(too_long) => self
                    .refuse_and_close(Error::new(ErrorType::InvalidRequest, too_long.to_string())),
            }
        }
    }

    /// Takes a line, and returns the rest of the turn: nothing after a subscription, which sends a
    /// turn's events at once.
    fn take_line_of_turn(
        &mut self,
        line: &[u8],
        requests: &mut Vec<SerialRequest>,
        turn_bytes: usize,
    ) -> usize {
        self.take_line(line, requests);
        let subscribes = matches!(self.barrier, Some((_, Barrier::Subscribe(_))));
        if subscribes {
            0
        } else {
            turn_bytes.saturating_sub(line.len() + 1)
        }
    }

    fn take_line(&mut self, line: &[u8], requests: &mut Vec<SerialRequest>) {
        self.lines_taken += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        let Incoming { reply_to, request } = read_request(line);
        let barrier = match request
            .and_then(|(method, request)| self.permit(method, &request).map(|()| request))
        {
            Err(error) => Barrier::Refuse(error),
            Ok(Request::Subscribe(subscribe)) => Barrier::Subscribe(subscribe),
            Ok(Request::Unsubscribe) => Barrier::Unsubscribe,
            Ok(Request::GetInfo) => Barrier::GetInfo,
            Ok(Request::Discover) => Barrier::Discover,
            Ok(Request::Gate(GateRequest::List(list))) => Barrier::List(list),
            Ok(Request::Gate(
                request @ (GateRequest::ListModeChanges(_)
                | GateRequest::ListDeliveries(_)
                | GateRequest::ListClusterNodes(_)),
            )) => Barrier::Ask(request),
            Ok(Request::Gate(GateRequest::Wait(wait))) => {
                return self.take_wait(reply_to, wait, requests);
            }
            Ok(Request::Gate(request)) => return self.take_ordered(reply_to, request, requests),
        };
        self.barrier = Some((reply_to, barrier));
    }

    /// Takes a wait, which is answered outside the order of the requests.
    fn take_wait(
        &mut self,
        reply_to: Option<ReplyTo>,
        wait: Box<Wait>,
        requests: &mut Vec<SerialRequest>,
    ) {
        let Ok(permit) = Arc::clone(&self.budget.waits).try_acquire_owned() else {
            let refusal = too_many_waits(self.peer.access, self.budget.waits_max);
            self.barrier = Some((reply_to, Barrier::Refuse(refusal)));
            return;
        };
        let serial = self.next_serial();
        let pending = PendingWait {
            reply_to,
            _permit: permit,
        };
        self.waits.insert(serial, pending);
        requests.push((serial, GateRequest::Wait(wait)));
    }

    /// Takes a request that is answered in its order.
    fn take_ordered(
        &mut self,
        reply_to: Option<ReplyTo>,
        request: GateRequest,
        requests: &mut Vec<SerialRequest>,
    ) {
        let serial = self.next_serial();
        let stops_reading =
            self.state.sfu_holds_mode && matches!(request, GateRequest::ChangeMode(_));
        self.in_flight.push_back(PendingResponse {
            stops_reading,
            ..PendingResponse::new(serial, reply_to)
        });
        requests.push((serial, request));
    }

    fn permit(&self, method: Method, request: &Request) -> Result<(), Error> {
        // A viewer must not subscribe with `ends: true`: it cannot end sessions, and would stand in
        // for a client that can. The same holds for announcements.
        let (what, needed) = match request {
            Request::Subscribe(Subscribe { ends: true, .. }) => {
                ("Subscribe with ends", Access::Operate)
            }
            Request::Subscribe(Subscribe {
                announcements: true,
                ..
            }) => ("Subscribe with announcements", Access::Operate),
            _ => (method.name(), method.access()),
        };
        if self.peer.access >= needed {
            return Ok(());
        }
        Err(Error::permission_denied(
            what,
            needed,
            self.state.operator_group.as_deref(),
        ))
    }

    /// Processes the barrier, if all requests before it are answered.
    fn process_barrier(&mut self, requests: &mut Vec<SerialRequest>) {
        let Some((reply_to, barrier)) = self.barrier.take_if(|_| self.in_flight.is_empty()) else {
            return;
        };
        let to = reply_to.as_ref();
        match barrier {
            Barrier::Refuse(error) => self.out.refuse(to, &error),
            Barrier::GetInfo => self.out.answer(to, Ok(&self.info())),
            Barrier::Discover => self.out.answer(to, Ok(&*OPENRPC)),
            Barrier::Unsubscribe => {
                let found = self.subscription.take().is_some();
                self.has_subscription_changed |= found;
                self.out.answer(to, Ok(&Unsubscribed { found }));
            }
            Barrier::Subscribe(subscribe) => match self.subscribe(&subscribe) {
                Err(error) => self.out.refuse(to, &error),
                Ok((subscription, subscribed)) => {
                    self.has_subscription_changed = true;
                    self.out.answer(to, Ok(&subscribed));
                    self.subscription
                        .insert(subscription)
                        .send_events(&mut self.out);
                }
            },
            Barrier::List(list) => {
                // A list changes nothing: without a recipient there is nothing to do.
                let Some(reply_to) = reply_to else { return };
                let listing = PageBuilder::new(list, reply_to, self.out.take_buffer());
                requests.push((self.next_serial(), listing.slice()));
                self.listing = Some(listing);
            }
            Barrier::Ask(request) => {
                let serial = self.next_serial();
                self.in_flight
                    .push_back(PendingResponse::new(serial, reply_to));
                requests.push((serial, request));
            }
        }
    }

    fn subscribe(&self, subscribe: &Subscribe) -> Result<(Subscription, Subscribed), Error> {
        let ControlState {
            event_log,
            announcer,
            terminator,
            budgets,
            ..
        } = self.state.as_ref();
        let notifiers = Notifiers {
            announcer,
            terminator,
        };
        Subscription::new(
            event_log,
            notifiers,
            &budgets.of(self.peer.access).readings,
            subscribe,
        )
    }

    /// Takes in a response, and returns the next request for the gate: the next slice of a list.
    pub(super) fn take_response(&mut self, response: Response) -> Option<SerialRequest> {
        match response {
            Response::Progress(serial, progress) => {
                self.send_progress(serial, *progress);
                None
            }
            Response::Deferred(serial) => {
                self.defer(serial);
                None
            }
            Response::Answer(serial, answer) => self.take_answer(serial, answer),
        }
    }

    /// Sends the progress of a wait; nothing to a client that does not read, until it does.
    fn send_progress(&mut self, serial: u64, progress: WaitProgress) {
        let wait = self.waits.get(&serial).filter(|_| !self.out.is_full());
        if let Some(PendingWait {
            reply_to: Some(ReplyTo::Id(id)),
            ..
        }) = wait
        {
            let progress = progress.notification(id.clone());
            self.out.message(&NotificationLine::new(&progress));
        }
    }

    fn take_answer(&mut self, serial: u64, answer: Answer) -> Option<SerialRequest> {
        if let Some(pending) = self.in_flight.pop_front_if(|first| first.serial == serial) {
            self.out.answer(pending.reply_to.as_ref(), answer.as_ref());
            self.send_held_back();
            return None;
        }
        // Serials rise.
        if let Ok(index) = self
            .in_flight
            .binary_search_by_key(&serial, |pending| pending.serial)
        {
            if let Some(pending) = self.in_flight.get_mut(index) {
                pending.answer = Some(answer);
            }
            return None;
        }
        let waited = self.waits.remove(&serial).map(|wait| wait.reply_to);
        if let Some(reply_to) = waited.or_else(|| self.deferred.remove(&serial)) {
            self.out.answer(reply_to.as_ref(), answer.as_ref());
            return None;
        }
        let listing = self.listing.as_mut()?;
        match listing.take(answer) {
            Ok(PageStep::Ask(slice)) => return Some((self.next_serial(), slice)),
            Ok(PageStep::Answer(line)) => self.out.push_line(line),
            Err(error) => self.out.refuse(Some(&listing.reply_to), &error),
        }
        self.listing = None;
        None
    }

    /// Ends the request's turn: its answer is sent by its id when it comes.
    fn defer(&mut self, serial: u64) {
        let Ok(index) = self
            .in_flight
            .binary_search_by_key(&serial, |pending| pending.serial)
        else {
            return;
        };
        if let Some(pending) = self.in_flight.remove(index) {
            self.deferred.insert(serial, pending.reply_to);
            self.send_held_back();
        }
    }

    /// Sends the answers that are next in order.
    fn send_held_back(&mut self) {
        while let Some(pending) = self.in_flight.pop_front_if(|first| first.answer.is_some()) {
            if let Some(answer) = pending.answer {
                self.out.answer(pending.reply_to.as_ref(), answer.as_ref());
            }
        }
    }

    /// Sends some of the available events. Returns true if more can be sent at once.
    pub(super) fn send_events(&mut self) -> bool {
        self.subscription
            .as_mut()
            .is_some_and(|subscription| subscription.send_events(&mut self.out))
    }

    fn info(&self) -> Info {
        Info {
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            node_name: self.state.node_name.clone(),
            log_id: self.state.event_log.log_id().clone(),
            access: self.peer.access,
            actor: Some(self.peer.actor.to_string()),
            methods: Method::ALL
                .iter()
                .map(|method| method.name().to_owned())
                .collect(),
        }
    }

    const fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }
}

fn too_many_waits(access: Access, max: usize) -> Error {
    let clients = match access {
        Access::View => "clients that may only view",
        Access::Operate => "clients that may operate",
    };
    let message = format!("{clients} already have {max} waits under way in total");
    Error::new(ErrorType::InvalidRequest, message).with_hint("Wait until some of them have ended")
}

#[cfg(test)]
mod tests;
