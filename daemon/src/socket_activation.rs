//! Sockets inherited from systemd or another starter (`LISTEN_FDS`): each is matched to a listener
//! by its name (`FileDescriptorName=`), or else by its address.
//!
//! A socket that is not configured is refused, so that no listener is open unintentionally.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use tokio::time::Instant;

use crate::args::http::Listen;
use crate::config::Config;

/// The name of the control socket.
const CONTROL: &str = "control";

/// Names of HTTP listeners, and the settings with their addresses.
const HTTP: [(&str, &str); 4] = [
    ("api", "api-listen"),
    ("sora", "sora-listen"),
    ("janus", "janus-listen"),
    ("observe", "observe-listen"),
];

/// Time that a client of a socket that outlives the daemon has for its first request, from its
/// connection, even during a shutdown.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Owner of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// The daemon: clients that connect during a shutdown are refused anyway.
    Daemon,
    /// The service manager, which keeps it for the next daemon: clients that connect must not
    /// notice the restart.
    ServiceManager,
}

impl SocketOwner {
    /// Returns the time until which a shutdown waits for the first request of a client that
    /// connects now.
    pub(crate) fn first_request_deadline(self) -> Instant {
        match self {
            Self::Daemon => Instant::now(),
            Self::ServiceManager => Instant::now() + FIRST_REQUEST_TIMEOUT,
        }
    }
}

/// Why sockets that were passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedSocketError {
    /// It is not a listening socket.
    #[error("LISTEN_FDS socket #{number} ({name}) is not a listening TCP or Unix stream socket")]
    NotListening {
        /// Number of the socket, from 1.
        number: usize,
        /// Name of the socket.
        name: String,
    },
    /// No setting names it.
    #[error(
        "inherited socket {name:?} listens on {place}, which is not configured in {settings}: add it there, or disable the socket unit"
    )]
    NotConfigured {
        /// Name of the socket.
        name: String,
        /// Address of the socket.
        place: String,
        /// The settings that could speak of it.
        settings: &'static str,
    },
    /// Two could be the control socket.
    #[error(
        "two inherited sockets could be the control socket: name one of them {CONTROL} (FileDescriptorName=)"
    )]
    TwoControls,
    /// A system call failed.
    #[error("cannot read the address of the inherited socket {name:?}: {error}")]
    System {
        /// Name of the socket.
        name: String,
        /// Error that the system returned.
        error: io::Error,
    },
}

impl InheritedSocketError {
    /// Names the socket that the system call failed for.
    fn system(name: &str) -> impl FnOnce(io::Error) -> Self {
        let name = name.to_owned();
        |error| Self::System { name, error }
    }
}

/// Inherited sockets, until their listeners take them.
#[derive(Debug, Default)]
pub(crate) struct InheritedSockets {
    control: Option<UnixListener>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl InheritedSockets {
    /// Takes all inherited sockets of this process. A second call finds none.
    pub(crate) fn take(config: &Config) -> Result<Self, InheritedSocketError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut descriptors = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..descriptors.len() {
            let name = names.get(index).copied().unwrap_or_default();
            if let Ok(Some(listener)) = descriptors.take_unix_listener(index)
                && listens(&listener)
            {
                inherited.add_unix(listener, name, config)?;
            } else if let Ok(Some(listener)) = descriptors.take_tcp_listener(index)
                && listens(&listener)
            {
                inherited.add_tcp(listener, name, config)?;
            } else {
                return Err(InheritedSocketError::NotListening {
                    number: index + 1,
                    name: name.to_owned(),
                });
            }
        }
        Ok(inherited)
    }

    /// Takes the control socket.
    pub(crate) fn control(&mut self) -> Option<UnixListener> {
        self.control.take()
    }

    /// The listener of this address.
    pub(crate) fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(there, _)| *there == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// The listener of this path, which is not the control socket.
    pub(crate) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(there, _)| there == path)?;
        Some(self.unix.swap_remove(at).1)
    }

    fn add_unix(
        &mut self,
        listener: UnixListener,
        name: &str,
        config: &Config,
    ) -> Result<(), InheritedSocketError> {
        let address = listener
            .local_addr()
            .map_err(InheritedSocketError::system(name))?;
        let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
        let is_api = config.http.api.listen.contains(&Listen::Unix(path.clone()));
        if name != CONTROL && is_api {
            self.unix.push((path, listener));
            return Ok(());
        }
        if HTTP.iter().any(|(known, _)| *known == name) {
            let place = Listen::Unix(path).to_string();
            return Err(InheritedSocketError::NotConfigured {
                name: name.to_owned(),
                place,
                settings: "api-listen",
            });
        }
        match self.control.replace(listener) {
            None => Ok(()),
            Some(_) => Err(InheritedSocketError::TwoControls),
        }
    }

    fn add_tcp(
        &mut self,
        listener: TcpListener,
        name: &str,
        config: &Config,
    ) -> Result<(), InheritedSocketError> {
        let address = listener
            .local_addr()
            .map_err(InheritedSocketError::system(name))?;
        let http = &config.http;
        let says = |setting: &str| match setting {
            "api-listen" => http.api.listen.contains(&Listen::Tcp(address)),
            "sora-listen" => http.sora.listen == Some(address),
            "janus-listen" => http.janus_listen() == Some(address),
            _ => http.observe_listen == Some(address),
        };
        let named = HTTP
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, setting)| *setting);
        let is_configured =
            named.map_or_else(|| HTTP.iter().any(|(_, setting)| says(setting)), says);
        if !is_configured {
            let settings =
                named.unwrap_or("api-listen, sora-listen, janus-listen or observe-listen");
            return Err(InheritedSocketError::NotConfigured {
                name: name.to_owned(),
                place: address.to_string(),
                settings,
            });
        }
        self.tcp.push((address, listener));
        Ok(())
    }
}

fn listens(socket: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}
