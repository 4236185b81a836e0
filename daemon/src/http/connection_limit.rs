//! Limit of the clients of each listener. A client that is being answered keeps its permit; any
//! other can be evicted for a new one.
//!
//! A request only notes its phase; the clients are compared when one has to make room.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use crate::lock::lock;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    free: Arc<Semaphore>,
    networks: Mutex<Networks>,
    /// Number of the last change of a client, by which the earliest is found.
    last_change: AtomicU64,
}

/// The clients of each address; of each network, where a single host has many addresses.
#[derive(Debug, Default)]
struct Networks(BTreeMap<Option<IpAddr>, BTreeMap<ClientNumber, Arc<Client>>>);

/// Number of the change with which a client took its place.
type ClientNumber = u64;

/// A client as the others see it.
#[derive(Debug, Default)]
struct Client(Mutex<State>);

/// Order in which clients are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Request is incomplete, or the answer is not being read.
    Unfinished,
    /// Every request was answered.
    Idle,
}

/// State of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Its next request is incomplete.
    #[default]
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
    number: ClientNumber,
    client: Arc<Client>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct State {
    /// The task that serves it; `None` before there is one, and once another client has its place.
    task: Option<AbortHandle>,
    phase: Phase,
    /// `true` if the client does not read its answer.
    is_stalled: bool,
    /// Number of the last change.
    changed: u64,
}

/// Notes that an answer that is sent piece by piece has ended, when dropped.
#[derive(Debug)]
pub(crate) struct IdleOnDrop(Permit);

impl ConnectionLimit {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(max)),
            networks: Mutex::default(),
            last_change: AtomicU64::default(),
        })
    }

    /// Takes a place for a client from this address (`None`: a Unix socket), if need be from another client: of the network that has most,
    /// and there from the one with nothing finished, and then from the one that has been idle longest. `None` if all are being answered.
    pub(super) async fn take(self: &Arc<Self>, ip: Option<IpAddr>) -> Option<Permit> {
        let permit = if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            permit
        } else {
            self.lock().next_evicted()?.evict();
            // The evicted client's task is dropped when it would be polled next.
            Arc::clone(&self.free).acquire_owned().await.ok()?
        };
        let (network, number) = (ip.map(network_of), self.next_change());
        let client = Arc::new(Client::default());
        self.lock()
            .0
            .entry(network)
            .or_default()
            .insert(number, Arc::clone(&client));
        Some(Permit(Arc::new(Inner {
            limit: Arc::clone(self),
            network,
            number,
            client,
            _permit: permit,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Networks> {
        lock(&self.networks)
    }

    fn next_change(&self) -> u64 {
        self.last_change.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Networks {
    /// Returns the client that is to lose its place.
    fn next_evicted(&self) -> Option<&Client> {
        let clients = self.0.values().flat_map(|network| {
            let size = Reverse(network.len());
            network
                .values()
                .filter_map(move |client| Some(((size, client.eviction_key()?), client)))
        });
        let (_, client) = clients.min_by_key(|(key, _)| *key)?;
        Some(client)
    }
}

impl Client {
    /// Returns its position in the order of eviction; `None` if it keeps its place, or has lost it.
    fn eviction_key(&self) -> Option<(Rank, u64)> {
        let state = lock(&self.0);
        let rank = rank(&state).filter(|_| state.task.is_some())?;
        Some((rank, state.changed))
    }

    fn evict(&self) {
        if let Some(task) = lock(&self.0).task.take() {
            task.abort();
            tracing::debug!("closed an HTTP client to admit another");
        }
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
        let state = lock(&self.0.client.0);
        rank(&state).is_none()
    }

    /// Sets the task that ends when the place is another client's.
    pub(super) fn set_task(&self, task: AbortHandle) {
        self.change(|state| state.task = Some(task));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.0.client.0);
        change(&mut state);
        state.changed = self.0.limit.next_change();
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
        let mut networks = self.limit.lock();
        let Some(clients) = networks.0.get_mut(&self.network) else {
            return;
        };
        clients.remove(&self.number);
        if clients.is_empty() {
            networks.0.remove(&self.network);
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
    use tokio_util::task::TaskTracker;

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
                    .position(|(_, permit)| lock(&permit.0.client.0).task.is_none());
                evicted = at.map(|at| self.0.remove(at).0);
            };
            let permit = permit?;
            let task = TaskTracker::new().spawn(std::future::pending::<()>());
            permit.set_task(task.abort_handle());
            self.0.push((name, permit));
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
        assert!(limit.lock().0.is_empty());
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
