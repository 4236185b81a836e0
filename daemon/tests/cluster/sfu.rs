//! Stand-in for an SFU with its signaling server: it connects clients that its soramoded offers,
//! and ends its sessions when its grant expires, counted from the request. It records its services
//! by the true clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_protocol::client::{Client, ClientError, Message};
use soramode_protocol::cluster::{Acknowledge, Fence, Grant, OfferedClaim};
use soramode_protocol::decision::{Connect, Decision, Disconnect};
use soramode_protocol::envelope::Notification;
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::request::Call;
use soramode_protocol::subscribe::Subscribe;
use tokio::time::timeout;

use crate::checker::Service;
use crate::clock::{self, Clock};

/// Interval of requests for a grant.
const GRANT_EVERY: Duration = Duration::from_millis(200);

/// Timeout of answers that need only the daemon.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Timeout of answers that may need etcd.
const DECISION_MAX: Duration = Duration::from_secs(3);

/// Interval of checks of the grant.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Time during which a connection is disconnected repeatedly, because its offer may still be in
/// flight.
const GIVE_BACK: Duration = Duration::from_secs(12);

pub(crate) struct Sfu {
    pub(crate) name: String,
    socket: PathBuf,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the newest grant was asked for, and when it ends.
    asked: Duration,
    granted_until: Option<Duration>,
    serving: BTreeMap<ChannelId, Serving>,
    served: Vec<Service>,
    /// To be disconnected, until then.
    give_back: BTreeMap<ConnectionId, Duration>,
}

struct Serving {
    token: u64,
    start: Duration,
    connections: BTreeSet<ConnectionId>,
}

/// Outcome of a client's request to connect.
pub(crate) enum Knock {
    In,
    /// To the node of this name.
    Elsewhere(String),
    /// Reason for not connecting.
    Out(String),
}

impl Sfu {
    pub(crate) fn new(name: &str, socket: PathBuf, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            socket,
            clock,
            state: Mutex::default(),
        })
    }

    /// A client asks for a channel.
    pub(crate) async fn knock(
        &self,
        channel: &ChannelId,
        connection: &ConnectionId,
        hops: u8,
    ) -> Knock {
        let asked = self.clock.now();
        let connect = Connect {
            hops,
            ..Connect::new(channel.clone(), connection.clone())
        };
        let decided = timeout(DECISION_MAX, self.ask(&connect)).await;
        match decided {
            Ok(Ok(Decision::Offer {
                claim: Some(claim), ..
            })) if self.begin((channel, connection), *claim, asked) => Knock::In,
            Ok(Ok(Decision::Offer { claim: Some(_), .. })) => Knock::Out("too late".to_owned()),
            Ok(Ok(Decision::Offer { claim: None, .. })) => {
                panic!("{} offered {channel} without a claim", self.name)
            }
            Ok(Ok(Decision::Redirect { node_name, .. })) => Knock::Elsewhere(node_name.to_string()),
            Ok(Ok(Decision::Reject { reason, .. })) => Knock::Out(reason.to_string()),
            Ok(Err(ClientError::Refused(error))) => {
                self.give_up(connection, &format!("{:?}", error.data.error_type))
            }
            Ok(Err(_)) => self.give_up(connection, "no daemon"),
            Err(_) => self.give_up(connection, "no answer"),
        }
    }

    fn give_up(&self, connection: &ConnectionId, why: &str) -> Knock {
        self.state
            .lock()
            .unwrap()
            .give_back
            .insert(connection.clone(), clock::boot() + GIVE_BACK);
        Knock::Out(why.to_owned())
    }

    fn begin(
        &self,
        (channel, connection): (&ChannelId, &ConnectionId),
        claim: OfferedClaim,
        asked: Duration,
    ) -> bool {
        let mut state = self.state.lock().unwrap();
        let until = claim
            .valid_for_ms
            .map(|time| asked + Duration::from_millis(time));
        state.grant(asked, until);
        if state.is_over(self.clock.now()) || until.is_some_and(|until| self.clock.now() >= until) {
            state
                .give_back
                .insert(connection.clone(), clock::boot() + GIVE_BACK);
            return false;
        }
        let now = clock::boot();
        let newest = Serving {
            token: claim.token,
            start: now,
            connections: BTreeSet::new(),
        };
        let serving = state.serving.entry(channel.clone()).or_insert(newest);
        serving.connections.insert(connection.clone());
        if serving.token < claim.token {
            let (token, start) = (
                std::mem::replace(&mut serving.token, claim.token),
                std::mem::replace(&mut serving.start, now),
            );
            state
                .served
                .push(self.service(channel, token, (start, now)));
        }
        true
    }

    /// Disconnects a client.
    pub(crate) async fn leave(&self, channel: &ChannelId, connection: &ConnectionId) {
        {
            let mut state = self.state.lock().unwrap();
            let Some(serving) = state.serving.get_mut(channel) else {
                return;
            };
            serving.connections.remove(connection);
            if serving.connections.is_empty() {
                self.end(&mut state, channel);
            }
            state
                .give_back
                .insert(connection.clone(), clock::boot() + GIVE_BACK);
        }
        let left = timeout(
            ANSWER_MAX,
            self.ask(&Disconnect {
                connection_id: connection.clone(),
            }),
        )
        .await;
        if matches!(left, Ok(Ok(_))) {
            self.state.lock().unwrap().give_back.remove(connection);
        }
    }

    /// Returns true if the client is still served.
    pub(crate) fn serves(&self, channel: &ChannelId, connection: &ConnectionId) -> bool {
        let state = self.state.lock().unwrap();
        state
            .serving
            .get(channel)
            .is_some_and(|serving| serving.connections.contains(connection))
    }

    /// All that it has served, and serves up to now.
    pub(crate) fn services(&self) -> Vec<Service> {
        let state = self.state.lock().unwrap();
        let now = clock::boot();
        let open = state
            .serving
            .iter()
            .map(|(channel, it)| self.service(channel, it.token, (it.start, now)));
        state.served.iter().cloned().chain(open).collect()
    }

    /// Asks for grants, and gives connections back.
    pub(crate) async fn keep_granted(&self) {
        loop {
            // A daemon that is dead or frozen is asked again over another socket.
            self.keep_granted_until_broken().await.unwrap_or_default();
            tokio::time::sleep(GRANT_EVERY).await;
        }
    }

    async fn keep_granted_until_broken(&self) -> Result<(), ClientError> {
        let mut client = Client::connect(&self.socket).await?;
        while let Ok(renewed) = timeout(ANSWER_MAX, self.renew(&mut client)).await {
            renewed?;
            tokio::time::sleep(GRANT_EVERY).await;
        }
        Ok(())
    }

    async fn renew(&self, client: &mut Client) -> Result<(), ClientError> {
        let asked = self.clock.now();
        let granted = client.call(&Grant {}).await?;
        let back: Vec<ConnectionId> = {
            let mut state = self.state.lock().unwrap();
            state.grant(
                asked,
                granted
                    .valid_for_ms
                    .map(|time| asked + Duration::from_millis(time)),
            );
            state.give_back.retain(|_, until| clock::boot() < *until);
            state.give_back.keys().cloned().collect()
        };
        for connection_id in back {
            client.call(&Disconnect { connection_id }).await?;
        }
        Ok(())
    }

    /// Ends everything as soon as the grant is over.
    pub(crate) async fn die_ungranted(&self) {
        loop {
            self.end_if_over();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn end_if_over(&self) {
        let mut state = self.state.lock().unwrap();
        if state.is_over(self.clock.now()) {
            self.end_all(&mut state);
        }
    }

    /// Does what a fence says, and says so.
    pub(crate) async fn obey_fences(&self) {
        loop {
            // A daemon that is gone is asked again, and what it fenced meanwhile it says again.
            self.obey_until_broken().await.unwrap_err();
            tokio::time::sleep(GRANT_EVERY).await;
        }
    }

    async fn obey_until_broken(&self) -> Result<std::convert::Infallible, ClientError> {
        let mut client = Client::connect(&self.socket).await?;
        client
            .call(&Subscribe {
                ends: true,
                ..Subscribe::default()
            })
            .await?;
        loop {
            if let Message::Notification(Notification::Fence(Fence { id, channel_id })) =
                client.receive().await?
            {
                self.end_fenced(channel_id.as_ref());
                client.call(&Acknowledge { id }).await?;
            }
        }
    }

    fn end_fenced(&self, channel: Option<&ChannelId>) {
        let mut state = self.state.lock().unwrap();
        match channel {
            Some(channel) => self.end(&mut state, channel),
            None => self.end_all(&mut state),
        }
    }

    fn end_all(&self, state: &mut State) {
        while let Some(channel) = state.serving.keys().next().cloned() {
            self.end(state, &channel);
        }
    }

    fn end(&self, state: &mut State, channel: &ChannelId) {
        let Some(Serving {
            token,
            start,
            connections,
        }) = state.serving.remove(channel)
        else {
            return;
        };
        let now = clock::boot();
        state.give_back.extend(
            connections
                .into_iter()
                .map(|connection| (connection, now + GIVE_BACK)),
        );
        state
            .served
            .push(self.service(channel, token, (start, now)));
    }

    fn service(
        &self,
        channel: &ChannelId,
        token: u64,
        (start, end): (Duration, Duration),
    ) -> Service {
        Service {
            channel: channel.to_string(),
            node: self.name.clone(),
            token,
            start,
            end,
        }
    }

    pub(crate) async fn ask<C: Call>(&self, params: &C) -> Result<C::Reply, ClientError> {
        Client::connect(&self.socket).await?.call(params).await
    }
}

impl State {
    /// The answer to the newest question counts.
    fn grant(&mut self, asked: Duration, until: Option<Duration>) {
        if asked >= self.asked {
            (self.asked, self.granted_until) = (asked, until);
        }
    }

    fn is_over(&self, now: Duration) -> bool {
        self.granted_until.is_some_and(|until| now >= until)
    }
}
