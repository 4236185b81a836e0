//! Clients of a simulated cluster, and its faults.

use std::time::Duration;

use soramode_core::cluster::claim::ClaimReply;
use soramode_core::commit_failure::Refused;
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::member::etcd::EtcdResponse;
use soramode_protocol::decision::{Connect, Disconnect, Explain, HOPS_MAX, Lifetime};
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::mode::{ChangeMode, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::request::GateRequest;

use super::{Due, SORA, World};

impl World {
    /// Cuts a node off, loses its key, ends its daemon or its machine, or has its storage fail.
    pub(super) fn fault(&mut self) {
        let node = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap();
        match self.rng.below(6) {
            0 => {
                let time = Duration::from_millis(self.rng.below(25_000));
                self.nodes[node].cut_until = self.now + time;
            }
            1 => {
                let name = self.nodes[node].caller.name.clone();
                self.etcd.lose_member(&name);
            }
            2..5 if self.nodes[node].gate.is_some() => {
                let host = if self.rng.one_in(3) {
                    HostState::Rebooted
                } else {
                    HostState::Running
                };
                self.nodes[node].crash(host);
                if self.mistakes.one_in(6) {
                    self.nodes[node].purge(&mut self.etcd);
                }
                let time = if self.rng.one_in(3) { 30_000 } else { 3_000 };
                let time = Duration::from_millis(self.rng.below(time));
                self.after(time, Due::Start { node, host });
            }
            _ if self.nodes[node].gate.is_some() && self.rng.one_in(2) => {
                self.step(node, Input::StorageFailed(Refused::default()));
                self.deliver(node, Duration::from_secs(3), Input::StorageRestored);
            }
            _ => {}
        }
    }

    /// Returns whether a node loses its member key after it has won this claim, and hears of that later than of the loss.
    pub(super) fn is_key_lost_after(&mut self, response: &EtcdResponse) -> bool {
        let is_won = matches!(
            response,
            EtcdResponse::ClaimReplied {
                reply: Ok(ClaimReply::Won(_)),
                ..
            }
        );
        is_won && !self.is_healed && self.rng.one_in(20)
    }

    /// A request of a client, or of Sora.
    pub(super) fn client(&mut self) {
        let node = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap();
        if self.nodes[node].gate.is_none() {
            return;
        }
        let rng = &mut self.rng;
        let channel_id: ChannelId = ["spam", "egg", "ham"][usize::try_from(rng.below(3)).unwrap()]
            .parse()
            .unwrap();
        // The connections of one node are not another's.
        let connection_id: ConnectionId = format!("n{node}-c{}", rng.below(5)).parse().unwrap();
        let request = match rng.below(24) {
            0..8 => GateRequest::Connect(Connect {
                channel_id,
                connection_id: Some(connection_id),
                client_id: None,
                lifetime: if rng.one_in(3) {
                    Lifetime::Socket
                } else {
                    Lifetime::Explicit
                },
                hops: if rng.one_in(2) { HOPS_MAX } else { 0 },
            }),
            8..15 => GateRequest::Disconnect(Disconnect { connection_id }),
            15 => GateRequest::ChangeMode(Box::new(ChangeMode::to(if rng.one_in(3) {
                SettableMode::BlockNewSession
            } else {
                SettableMode::Normal
            }))),
            16 => GateRequest::Explain(Explain { channel_id }),
            17 => GateRequest::ListClusterNodes(ListClusterNodes {
                count_orphaned: true,
            }),
            18 => GateRequest::Grant,
            19 => {
                if let Some(&socket) = self.nodes[node].sockets.first() {
                    self.step(node, Input::SocketClosed(socket));
                }
                return;
            }
            20 => {
                let connection_id = format!("n{node}-s{}", rng.below(3)).parse().unwrap();
                let input = SoraInput::ConnectionDestroyed { connection_id };
                return self.step(node, Input::Sora(input));
            }
            _ => {
                let connection_id = format!("n{node}-s{}", rng.below(3)).parse().unwrap();
                let reply_to = self.nodes[node].reply_to(SORA);
                let admit = SoraInput::Admit {
                    reply_to,
                    channel_id,
                    connection_id,
                    client_id: None,
                };
                self.nodes[node].asked_by_sora(reply_to);
                return self.step(node, Input::Sora(admit));
            }
        };
        let sockets = self.nodes[node].sockets.clone();
        let socket = match sockets.last() {
            Some(&socket) if !self.rng.one_in(8) => socket,
            _ => self.nodes[node].open_socket(),
        };
        let reply_to = self.nodes[node].reply_to(socket);
        self.step(
            node,
            Input::Request {
                reply_to,
                actor: "uid:1(ops)".into(),
                request,
            },
        );
    }
}
