//! Limit of the clients of each listener. A client that is being answered keeps its permit; any
//! other can be evicted for a new one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    networks: Mutex<Networks>,
}

#[derive(Debug, Default)]
struct Networks {
    last_order: u64,
    networks: BTreeMap<Option<IpAddr>, Network>,
}

/// The clients of one address; of one network, where a single host has many addresses.
#[derive(Debug, Default)]
struct Network {
    clients: usize,
    /// Clients that may lose their places, in the order in which they do.
    evictable: BTreeMap<EvictionKey, Arc<CancellationToken>>,
}

/// Position of a client in the order of eviction within its network.
type EvictionKey = (Rank, u64);

/// Order in which clients are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Request is incomplete, or the answer is not being read.
    Unfinished,
    /// Every request was answered.
    Idle,
}

/// State of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its next request is incomplete.
    ReadingRequest,
    /// Its request is being answered.
    Active,
    /// Every request was answered.
    Idle,
}

/// A client's place. It is free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Permit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Arc<ConnectionLimit>,
    network: Option<IpAddr>,
    evicted: Arc<CancellationToken>,
    state: Mutex<State>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// `true` if the client does not read its answer.
    is_stalled: bool,
    eviction_key: Option<EvictionKey>,
}

/// Notes that an answer that is sent piece by piece has ended, when dropped.
#[derive(Debug)]
pub(crate) struct IdleOnDrop(Permit);

impl ConnectionLimit {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max)),
            networks: Mutex::default(),
        })
    }

    /// Takes a place for a client from this address (`None`: a Unix socket), if need be from another client: of the network that has most,
    /// and there from the one with nothing finished, and then from the one that has been idle longest. `None` if all are being answered.
    pub(super) async fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Option<Permit> {
        let permit = if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            permit
        } else {
            self.lock().next_evicted()?.cancel();
            // The evicted client's task ends when it is polled next.
            Arc::clone(&self.free).acquire_owned().await.ok()?
        };
        let network = ip.map(network_of);
        self.lock().networks.entry(network).or_default().clients += 1;
        let state = Mutex::new(State {
            phase: Phase::ReadingRequest,
            is_stalled: false,
            eviction_key: None,
        });
        let permit = Permit(Arc::new(Inner {
            limit: Arc::clone(self),
            network,
            evicted: Arc::default(),
            state,
            _permit: permit,
        }));
        permit.change(|_| ());
        Some(permit)
    }

    fn lock(&self) -> MutexGuard<'_, Networks> {
        lock(&self.networks)
    }
}

impl Networks {
    /// The client that is to lose its place. It is found once.
    fn next_evicted(&mut self) -> Option<Arc<CancellationToken>> {
        let first = |network: &Network| {
            network
                .evictable
                .first_key_value()
                .map(|(eviction_key, _)| (network.clients, Reverse(*eviction_key)))
        };
        let fullest = self
            .networks
            .values_mut()
            .filter(|network| !network.evictable.is_empty())
            .max_by_key(|network| first(network))?;
        fullest.evictable.pop_first().map(|(_, evicted)| evicted)
    }
}

impl Permit {
    /// Marks a client with an incomplete request body.
    pub(super) fn set_reading_request(&self) {
        self.change(|state| state.phase = Phase::ReadingRequest);
    }

    /// A whole request is there: the client keeps its place until it is answered.
    pub(super) fn set_active(&self) {
        self.change(|state| state.phase = Phase::Active);
    }

    /// The client has its answer.
    pub(super) fn set_idle(&self) {
        self.change(|state| state.phase = Phase::Idle);
    }

    /// Marks a client that does not read its answer.
    pub(super) fn set_stalled(&self) {
        self.change(|state| state.is_stalled = true);
    }

    /// The client reads on.
    pub(super) fn set_unstalled(&self) {
        self.change(|state| state.is_stalled = false);
    }

    /// Keeps the client's place until the value is dropped.
    pub(super) fn idle_on_drop(&self) -> IdleOnDrop {
        IdleOnDrop(self.clone())
    }

    /// Returns true if the client's request is being answered, and the client reads.
    pub(super) fn is_busy(&self) -> bool {
        let state = lock(&self.0.state);
        rank(&state).is_none()
    }

    /// Returns when the place is another client's.
    pub(super) async fn evicted(&self) {
        self.0.evicted.cancelled().await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let inner = &self.0;
        let mut state = lock(&inner.state);
        change(&mut state);
        let mut networks = inner.limit.lock();
        networks.last_order += 1;
        let eviction_key = rank(&state).map(|rank| (rank, networks.last_order));
        let before = std::mem::replace(&mut state.eviction_key, eviction_key);
        let Some(network) = networks.networks.get_mut(&inner.network) else {
            return;
        };
        if let Some(before) = before {
            network.evictable.remove(&before);
        }
        // A client that has lost its place does not get it back.
        if let Some(eviction_key) = eviction_key
            && !inner.evicted.is_cancelled()
        {
            network
                .evictable
                .insert(eviction_key, Arc::clone(&inner.evicted));
        }
    }
}

fn rank(state: &State) -> Option<Rank> {
    match (state.is_stalled, state.phase) {
        (true, _) | (false, Phase::ReadingRequest) => Some(Rank::Unfinished),
        (false, Phase::Active) => None,
        (false, Phase::Idle) => Some(Rank::Idle),
    }
}

impl Drop for IdleOnDrop {
    fn drop(&mut self) {
        self.0.set_idle();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut networks = self.limit.lock();
        let Some(network) = networks.networks.get_mut(&self.network) else {
            return;
        };
        if let Some(eviction_key) = state.eviction_key.take() {
            network.evictable.remove(&eviction_key);
        }
        network.clients -= 1;
        if network.clients == 0 {
            networks.networks.remove(&self.network);
        }
    }
}

/// Returns the network of an address: all of the loopback, 64 bits of an IPv6 address, or else the
/// address.
fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::task::yield_now;

    const NEAR: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn far(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
    }

    /// Clients by name, as their tasks hold them: until they are evicted.
    #[derive(Default)]
    struct Clients(Vec<(&'static str, Permit)>);

    impl Clients {
        /// Connects a client; returns the one that is evicted for it.
        async fn connect(
            &mut self,
            limit: &Arc<ConnectionLimit>,
            name: &'static str,
            ip: Option<IpAddr>,
        ) -> Option<&'static str> {
            let (mut evicted, mut taking) = (None, std::pin::pin!(limit.take(ip)));
            let permit = loop {
                tokio::select! {
                    biased;
                    permit = &mut taking => break permit,
                    () = yield_now() => {}
                }
                let at = self
                    .0
                    .iter()
                    .position(|(_, permit)| permit.0.evicted.is_cancelled());
                evicted = at.map(|at| self.0.remove(at).0);
            };
            self.0.push((name, permit?));
            evicted
        }

        fn permit(&self, name: &str) -> &Permit {
            &self.0.iter().find(|(other, _)| *other == name).unwrap().1
        }
    }

    #[tokio::test]
    async fn clients_with_nothing_finished_make_room_before_idle_ones_and_those_being_answered_never()
     {
        let (limit, mut clients) = (ConnectionLimit::new(5), Clients::default());
        for name in [
            "idle",
            "answered",
            "half a body",
            "nothing",
            "reads nothing",
        ] {
            assert_eq!(clients.connect(&limit, name, NEAR).await, None);
        }
        for name in ["idle", "answered", "reads nothing"] {
            clients.permit(name).set_active();
        }
        clients.permit("idle").set_idle();
        clients.permit("half a body").set_reading_request();
        clients.permit("reads nothing").set_stalled();
        for evicted in ["nothing", "half a body", "reads nothing", "idle"] {
            assert_eq!(clients.connect(&limit, "new", NEAR).await, Some(evicted));
            clients.0.last().unwrap().1.set_active();
        }
        assert!(limit.take(NEAR).await.is_none(), "all are being answered");
        drop(clients.permit("answered").idle_on_drop());
        assert_eq!(clients.connect(&limit, "new", NEAR).await, Some("answered"));
        drop(clients);
        assert!(limit.lock().networks.is_empty());
    }

    #[tokio::test]
    async fn the_address_with_most_clients_makes_room() {
        let (limit, mut clients) = (ConnectionLimit::new(4), Clients::default());
        for (name, ip) in [
            ("sora", far(1)),
            ("first", far(2)),
            ("second", far(2)),
            ("third", far(2)),
        ] {
            clients.connect(&limit, name, Some(ip)).await;
        }
        for name in ["first", "second", "third"] {
            clients.permit(name).set_active();
            clients.permit(name).set_idle();
        }
        assert_eq!(
            clients.connect(&limit, "new", Some(far(3))).await,
            Some("first"),
            "though the one of Sora's has nothing finished"
        );
    }

    #[test]
    fn a_host_with_many_addresses_is_one_network() {
        let network = |ip: &str| network_of(ip.parse().unwrap());
        assert_eq!(network("127.0.0.2"), network("::1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
