//! File of a Unix socket: not accessible before its permissions are set, never taken from a live
//! daemon, and removed by a clean stop.

mod error;
mod folder;
mod lock;
mod same_file;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;
use tokio::net::UnixListener;

pub use self::error::SocketError;
use self::lock::Lock;
use self::same_file::remove_if_same;
use crate::config::Config;
use crate::socket_activation::SocketOwner;

/// Number of clients that may wait to be accepted; the kernel uses `net.core.somaxconn` if that is
/// lower.
const BACKLOG: i32 = 1024;

/// Permission bits while the socket is not yet its group's.
const MODE_BEFORE_HANDOVER: u32 = 0o600;

/// Permission bits of a socket for operators only.
const MODE_FOR_OPERATORS: u32 = 0o660;

/// Returns the permission bits of a socket for operators only.
pub(crate) const fn operators_mode(operator_gid: Option<u32>) -> u32 {
    // Without an operator group, the file's group is arbitrary.
    if operator_gid.is_some() {
        MODE_FOR_OPERATORS
    } else {
        MODE_BEFORE_HANDOVER
    }
}

/// The control socket. It listens as long as this lives; then the file is removed if it is still ours, and so is the lock.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    operator_gid: Option<u32>,
    /// None where the socket was passed to us: then its file is another's.
    bound_file: Option<(BoundFile, Lock)>,
}

impl SocketFile {
    /// Creates the control socket at the path in `config`. Needs a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, SocketError> {
        let operator_gid = check(config)?;
        let path = &config.socket;
        let (listener, bound_file) = make(path, operator_gid, config.socket_mode)?;
        Self::listening(listener, bound_file, (path, operator_gid))
    }

    /// A socket that was passed to this process, as it is. Needs a tokio runtime.
    pub fn inherited(listener: StdListener, config: &Config) -> Result<Self, SocketError> {
        let operator_gid = check(config)?;
        let path = listener
            .local_addr()
            .ok()
            .and_then(|address| address.as_pathname().map(Path::to_owned))
            .unwrap_or_default();
        Self::listening(listener, None, (&path, operator_gid))
    }

    /// Makes a socket for operators alone, by the same rules. Needs a tokio runtime.
    pub fn open_for_operators(path: &Path, config: &Config) -> Result<Self, SocketError> {
        let operator_gid = check(config)?;
        check_length(path)?;
        let (listener, bound_file) = make(path, operator_gid, operators_mode(operator_gid))?;
        Self::listening(listener, bound_file, (path, operator_gid))
    }

    fn listening(
        listener: StdListener,
        bound_file: Option<(BoundFile, Lock)>,
        site: (&Path, Option<u32>),
    ) -> Result<Self, SocketError> {
        let (path, operator_gid) = site;
        // Inherited sockets block; accepting must not.
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| UnixListener::from_std(listener));
        let listener = listener.map_err(SocketError::on("watch", path))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            operator_gid,
            bound_file,
        })
    }

    /// Returns the path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle by which the file can be given to another group; none where the socket was passed to us.
    pub(crate) fn handle(&self) -> io::Result<Option<FileHandle>> {
        self.bound_file
            .as_ref()
            .map(|(bound_file, _)| bound_file.try_clone())
            .transpose()
    }

    /// Returns the owner of the listening socket.
    pub(crate) const fn owner(&self) -> SocketOwner {
        if self.bound_file.is_some() {
            SocketOwner::Daemon
        } else {
            SocketOwner::ServiceManager
        }
    }

    /// Returns the listening socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The operator group's number.
    pub fn operator_gid(&self) -> Option<u32> {
        self.operator_gid
    }

    /// Stops listening and removes the file, as dropping does.
    pub fn close(self) {}
}

/// Checks the settings without touching any file, and returns the operator group's id.
pub fn check(config: &Config) -> Result<Option<u32>, SocketError> {
    check_length(&config.socket)?;
    config.operator_group.as_deref().map(find_group).transpose()
}

fn check_length(path: &Path) -> Result<(), SocketError> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        return Err(SocketError::PathTooLong(path.to_owned()));
    }
    Ok(())
}

fn make(
    path: &Path,
    operator_gid: Option<u32>,
    bits: u32,
) -> Result<(StdListener, Option<(BoundFile, Lock)>), SocketError> {
    folder::prepare(path)?;
    let lock = Lock::take(path)?;
    remove_stale(path)?;
    let bound = Bound::to(path)?;
    bound.set_access(operator_gid, bits)?;
    let (socket, bound_file) = bound.listen()?;
    Ok((socket.into(), Some((bound_file, lock))))
}

/// Returns the id of a group.
pub(crate) fn find_group(name: &str) -> Result<u32, SocketError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        // A group may have a number alone.
        Ok(None) => name
            .parse()
            .ok()
            .filter(|gid| *gid != u32::MAX)
            .ok_or_else(|| SocketError::NoSuchGroup(name.to_owned())),
        Err(error) => Err(SocketError::on("find the operator group", Path::new(name))(
            error,
        )),
    }
}

/// Makes room for the socket: a dead one is removed, anything else stays and is an error.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => return remove_if_dead(path),
        Ok(there) if there.is_symlink() => "a symbolic link",
        Ok(there) if there.is_dir() => "a folder",
        Ok(_) => "not a socket",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::on("look at", path)(error)),
    };
    Err(SocketError::PathConflict {
        path: path.to_owned(),
        found: found.to_owned(),
        wanted: "a socket or not there",
    })
}

/// Removes the socket if no daemon answers. The lock says that none runs, but a live daemon's lock
/// file may have been removed.
fn remove_if_dead(path: &Path) -> Result<(), SocketError> {
    let probe = stream_socket(path)?;
    let address = address(path)?;
    let running = |pid| {
        Err(SocketError::Running {
            path: path.to_owned(),
            pid,
        })
    };
    match rustix::net::connect(&probe, &address) {
        Ok(()) => running(
            rustix::net::sockopt::socket_peercred(&probe)
                .ok()
                .map(|peer| peer.pid.as_raw_nonzero().get()),
        ),
        // It listens, with a full backlog.
        Err(Errno::AGAIN) => running(None),
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(SocketError::on("remove the stale socket", path))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(SocketError::on("connect to", path)(error)),
    }
}

/// A socket that has its file, but does not listen yet.
struct Bound {
    socket: OwnedFd,
    bound_file: BoundFile,
}

impl Bound {
    fn to(path: &Path) -> Result<Self, SocketError> {
        let socket = stream_socket(path)?;
        // Linux gives the file the bits of the socket itself, less the umask. To narrow the umask instead would do so for the
        // whole process, and to narrow the file afterwards would be too late.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(MODE_BEFORE_HANDOVER))
            .map_err(SocketError::on("set the permissions of", path))?;
        rustix::net::bind(&socket, &address(path)?).map_err(SocketError::on("create", path))?;
        Ok(Self {
            socket,
            bound_file: BoundFile::find(path)?,
        })
    }

    /// First the group, then the bits: the other way round the wrong group could open it for a moment.
    fn set_access(&self, operator_gid: Option<u32>, bits: u32) -> Result<(), SocketError> {
        let file = &self.bound_file.0;
        if let Some(gid) = operator_gid {
            file.set_group(gid)?;
        }
        file.set_mode(bits)
    }

    fn listen(self) -> Result<(OwnedFd, BoundFile), SocketError> {
        rustix::net::listen(&self.socket, BACKLOG)
            .map_err(SocketError::on("listen on", &self.bound_file.0.path))?;
        Ok((self.socket, self.bound_file))
    }
}

/// File of a socket, independent of its path.
#[derive(Debug)]
pub(crate) struct FileHandle {
    path: PathBuf,
    handle: File,
}

impl FileHandle {
    /// Gives the file to another group, or to our own. In between only its owner can open it.
    pub(crate) fn set_access(
        &self,
        operator_gid: Option<u32>,
        bits: u32,
    ) -> Result<(), SocketError> {
        self.set_mode(MODE_BEFORE_HANDOVER)?;
        self.set_group(operator_gid.unwrap_or_else(|| rustix::process::getegid().as_raw()))?;
        self.set_mode(bits)
    }

    fn set_group(&self, gid: u32) -> Result<(), SocketError> {
        rustix::fs::chownat(
            &self.handle,
            "",
            None,
            Some(Gid::from_raw(gid)),
            AtFlags::EMPTY_PATH,
        )
        .map_err(SocketError::on(
            "give to the operator group, of which soramoded's user must be a member,",
            &self.path,
        ))
    }

    fn set_mode(&self, bits: u32) -> Result<(), SocketError> {
        // Through the handle again, which only /proc offers: by path, another file could have
        // replaced it.
        let through = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let set = rustix::fs::chmodat(CWD, through, Mode::from_raw_mode(bits), AtFlags::empty());
        set.map_err(SocketError::on(
            "set the permissions (through /proc, which must be mounted) of",
            &self.path,
        ))
    }
}

/// A socket file that we made. It is removed with this value, unless another has taken its place.
#[derive(Debug)]
struct BoundFile(FileHandle);

impl BoundFile {
    fn find(path: &Path) -> Result<Self, SocketError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(path, flags, Mode::empty()).map_err(SocketError::on("open", path))?;
        let bound_file = Self(FileHandle {
            path: path.to_owned(),
            handle: handle.into(),
        });
        let found = bound_file
            .0
            .handle
            .metadata()
            .map_err(SocketError::on("look at", path))?;
        if found.file_type().is_socket() && found.uid() == rustix::process::geteuid().as_raw() {
            return Ok(bound_file);
        }
        Err(SocketError::PathConflict {
            path: path.to_owned(),
            found: "no longer the socket that soramoded created".to_owned(),
            wanted: "the new socket",
        })
    }
}

impl BoundFile {
    fn try_clone(&self) -> io::Result<FileHandle> {
        Ok(FileHandle {
            path: self.0.path.clone(),
            handle: self.0.handle.try_clone()?,
        })
    }
}

impl Drop for BoundFile {
    fn drop(&mut self) {
        remove_if_same(&self.0.path, &self.0.handle);
    }
}

fn stream_socket(path: &Path) -> Result<OwnedFd, SocketError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(SocketError::on("create a socket for", path))
}

fn address(path: &Path) -> Result<SocketAddrUnix, SocketError> {
    SocketAddrUnix::new(path).map_err(SocketError::on("use the path", path))
}
