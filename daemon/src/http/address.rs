//! TCP addresses to listen on, including ones that the machine does not have yet: an interface may
//! come up after the daemon.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Clients that may wait to be accepted; the kernel keeps to its `net.core.somaxconn` if that is lower.
const BACKLOG: u32 = 1_024;

/// Interval between checks for addresses that no interface has yet.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Listens on an address, whether the machine has it or not.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match socket(address)?.bind(address) {
        Ok(listening) => Ok(listening),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            socket(address)?.bind_free(address)
        }
        Err(error) => Err(error),
    }
}

/// Returns whether an interface of this machine has the address.
pub(super) fn is_there(address: SocketAddr) -> bool {
    // Any port works: it is a UDP port, and released at once.
    let mut any_port = address;
    any_port.set_port(0);
    UdpSocket::bind(any_port)
        .err()
        .is_none_or(|error| error.kind() != io::ErrorKind::AddrNotAvailable)
}

/// Looks for the absent addresses until all are there or the daemon stops.
pub(super) async fn look_for_absent(health: Arc<Health>, stop: CancellationToken) {
    while health.look_for_absent(|absent| is_there(absent.address)) > 0 {
        tokio::select! {
            () = tokio::time::sleep(LOOK_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Socket(TcpSocket);

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Needed for a restart: connections of the previous daemon may still be closing.
    socket.set_reuseaddr(true)?;
    Ok(Socket(socket))
}

impl Socket {
    fn bind(self, address: SocketAddr) -> io::Result<TcpListener> {
        self.0.bind(address)?;
        self.0.listen(BACKLOG)
    }

    /// The kernel lets any process do this, and delivers clients as soon as an interface has the address.
    fn bind_free(self, address: SocketAddr) -> io::Result<TcpListener> {
        match address {
            SocketAddr::V4(_) => rustix::net::sockopt::set_ip_freebind(&self.0, true)?,
            SocketAddr::V6(_) => rustix::net::sockopt::set_ipv6_freebind(&self.0, true)?,
        }
        self.bind(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::http::Absent;

    /// Addresses of the range for documentation, which no machine has.
    const NOWHERE: [&str; 2] = ["192.0.2.77:0", "[2001:db8::77]:0"];

    #[tokio::test]
    async fn an_address_that_is_not_there_yet_is_listened_on_all_the_same() {
        for address in NOWHERE {
            let address: SocketAddr = address.parse().unwrap();
            let listener = listen(address).unwrap();
            assert_eq!(listener.local_addr().unwrap().ip(), address.ip());
            assert!(!is_there(address));
        }
        let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let taken = listen(loopback).unwrap().local_addr().unwrap();
        assert!(is_there(taken));
    }

    #[tokio::test]
    async fn an_address_that_another_has_is_still_refused() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusal = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn an_address_that_appears_is_not_looked_up_again() {
        let health = Arc::new(Health::default());
        let absent = |address: &str| Absent {
            address: address.parse().unwrap(),
            names: "api-listen".to_owned(),
        };
        health.note_absent(vec![absent("127.0.0.1:1"), absent("192.0.2.77:1")]);
        assert_eq!(health.look_for_absent(|absent| is_there(absent.address)), 1);
        assert_eq!(health.look_for_absent(|_| true), 0);
    }
}
