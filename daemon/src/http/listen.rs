//! HTTP listeners: addresses, each with the routes that share it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::either::Either;

use super::absent::Absent;
use super::address;
use crate::args::http::Listen;
use crate::config::Config;
use crate::control::{Operators, peer::Peer};
use crate::socket_activation::{InheritedSockets, SocketOwner};
use crate::socket_file::{FileHandle, SocketError, SocketFile};

/// Set of routes of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes(u8);

impl Routes {
    /// Routes of Sora's API.
    pub(crate) const API: Self = Self(1);
    /// Routes of Sora's webhooks.
    pub(crate) const SORA: Self = Self(2);
    /// The routes `/live`, `/ready` and `/metrics`.
    pub(crate) const OBSERVE: Self = Self(4);
    /// Route of Janus's events.
    pub(crate) const JANUS: Self = Self(8);

    pub(crate) const fn contains(self, route: Self) -> bool {
        self.0 & route.0 != 0
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A client's stream.
pub(crate) type Stream = Either<TcpStream, UnixStream>;

/// Client, and the listener that accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Routes of the listener.
    pub(crate) routes: Routes,
    /// Address of the client; `None` over a Unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// User of a Unix socket client, from kernel credentials.
    pub(crate) peer: Option<Peer>,
}

impl Caller {
    /// Adds the user, if the kernel knows it. May take a few seconds.
    pub(crate) async fn identified(self, stream: &Stream, operators: &Operators) -> Self {
        match stream {
            Stream::Left(_) => self,
            Stream::Right(stream) => Self {
                peer: Some(operators.identify(stream).await),
                ..self
            },
        }
    }
}

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Listening on an address failed.
    #[error("cannot listen on {address} ({names}): {error}")]
    Address {
        /// Address to listen on.
        address: SocketAddr,
        /// Settings that name the address.
        names: String,
        /// Error that the system returned.
        error: io::Error,
    },
    /// Creating a Unix socket failed.
    #[error("api-listen: {0}")]
    Socket(#[from] SocketError),
}

impl ListenError {
    /// Returns the remedy for the operator, if there is one in addition to the message.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Address {
                address,
                names,
                error,
            } if error.kind() == io::ErrorKind::AddrInUse => Some(format!(
                "Find the program that listens there with: ss -Hltnp 'sport = :{}'. Stop it, or choose another port in {names}",
                address.port()
            )),
            Self::Address { names, error, .. }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(format!(
                    "Only root may listen on ports below 1024: choose another port in {names}"
                ))
            }
            Self::Address { .. } => None,
            Self::Socket(error) => error.hint(),
        }
    }
}

/// Listening socket with its routes.
#[derive(Debug)]
pub(crate) struct Listener {
    routes: Routes,
    owner: SocketOwner,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(SocketFile),
}

/// The listeners, and those of their addresses that the machine does not have yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) absents: Vec<Absent>,
}

/// Opens all configured listeners; equal addresses share one. Needs a tokio runtime.
pub(crate) fn listeners(
    config: &Config,
    inherited: &mut InheritedSockets,
) -> Result<Listeners, ListenError> {
    let http = &config.http;
    let mut addresses: Vec<(SocketAddr, Routes, String)> = Vec::new();
    let mut listeners = Vec::new();
    let mut asked = Vec::new();
    for listen in &http.api.listen {
        match listen {
            Listen::Tcp(address) => asked.push((*address, Routes::API, "api-listen")),
            Listen::Unix(path) => {
                let file = match inherited.unix(path) {
                    Some(listener) => SocketFile::inherited(listener, config)?,
                    None => SocketFile::open_for_operators(path, config)?,
                };
                listeners.push(Listener {
                    routes: Routes::API,
                    owner: file.owner(),
                    socket: Socket::Unix(file),
                });
            }
        }
    }
    asked.extend(
        http.sora
            .listen
            .map(|address| (address, Routes::SORA, "sora-listen")),
    );
    asked.extend(
        http.janus_listen()
            .map(|address| (address, Routes::JANUS, "janus-listen")),
    );
    asked.extend(
        http.observe_listen
            .map(|address| (address, Routes::OBSERVE, "observe-listen")),
    );
    for (address, route, name) in asked {
        // Port 0 is another port each time.
        match addresses
            .iter_mut()
            .find(|(there, ..)| *there == address && address.port() != 0)
        {
            Some((_, routes, names)) => {
                *routes = routes.and(route);
                *names = format!("{names}, {name}");
            }
            None => addresses.push((address, route, name.to_owned())),
        }
    }
    let mut absents = Vec::new();
    for (address, routes, names) in addresses {
        let (owner, listener) = match inherited.tcp(address) {
            Some(listener) => (
                SocketOwner::ServiceManager,
                listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener)),
            ),
            None => (SocketOwner::Daemon, address::listen(address)),
        };
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let (port, listener) = bound.map_err(|error| ListenError::Address {
            address,
            names: names.clone(),
            error,
        })?;
        tracing::info!(address = %SocketAddr::new(address.ip(), port), "listening for HTTP ({names})");
        if !address::is_there(address) {
            let absent = Absent {
                address: SocketAddr::new(address.ip(), port),
                names,
            };
            tracing::warn!("{}", absent.warning());
            absents.push(absent);
        }
        listeners.push(Listener {
            routes,
            owner,
            socket: Socket::Tcp(listener),
        });
    }
    Ok(Listeners { listeners, absents })
}

impl Listener {
    /// The file of a Unix socket that is ours.
    pub(crate) fn file(&self) -> io::Result<Option<FileHandle>> {
        match &self.socket {
            Socket::Tcp(..) => Ok(None),
            Socket::Unix(file) => file.handle(),
        }
    }

    /// Returns the owner of the listening socket.
    pub(crate) const fn owner(&self) -> SocketOwner {
        self.owner
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, Caller)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and leave in one piece: nothing is to be waited for.
                stream.set_nodelay(true)?;
                Ok((
                    Stream::Left(stream),
                    Caller {
                        routes: self.routes,
                        ip: Some(peer.ip().to_canonical()),
                        peer: None,
                    },
                ))
            }
            Socket::Unix(file) => {
                let (stream, _) = file.listener().accept().await?;
                Ok((
                    Stream::Right(stream),
                    Caller {
                        routes: self.routes,
                        ip: None,
                        peer: None,
                    },
                ))
            }
        }
    }
}
