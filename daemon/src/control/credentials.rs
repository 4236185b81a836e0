//! Credentials of the connected process, from the kernel: its user and its groups.
//!
//! The kernel recorded the effective group when the process connected. No safe call returns the
//! supplementary groups of that moment (`SO_PEERGROUPS`), so they are read from the process itself,
//! held by a pidfd: a process with a reused pid is not taken for it. They count only while the
//! process still runs as the user that connected: after a set-user-ID program it may have other
//! groups than its client.

use std::fs::{self, File};
use std::io::Read;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;
use tokio::net::unix::UCred;

/// The longest status of a process that is read, in bytes: one with all the groups that a process can have.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;

/// Room for the status of most processes, in bytes: the kernel writes it anew for each read.
const STATUS_BYTES_USUAL: usize = 8 * 1024;

/// Files that name the ids that stand for users and groups outside this process's user namespace.
const OVERFLOW_UID: &str = "/proc/sys/kernel/overflowuid";
const OVERFLOW_GID: &str = "/proc/sys/kernel/overflowgid";

/// Returns whether the connected process is a member of the group.
pub(super) fn is_member(stream: &UnixStream, credentials: &UCred, gid: u32) -> bool {
    credentials.gid() == gid
        || supplementary_groups(stream, credentials).is_some_and(|groups| groups.contains(&gid))
}

fn supplementary_groups(stream: &UnixStream, credentials: &UCred) -> Option<Vec<u32>> {
    let pid = Pid::from_raw(credentials.pid()?)?;
    let process = match getsockopt(stream, PeerPidfd) {
        Ok(process) => process,
        // Kernels before 6.5.
        Err(Errno::ENOPROTOOPT) => pidfd_open(pid, PidfdFlags::empty()).ok()?,
        Err(_) => return None,
    };
    let mut status = String::with_capacity(STATUS_BYTES_USUAL);
    let file = File::open(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    file.take(STATUS_BYTES_MAX)
        .read_to_string(&mut status)
        .ok()?;
    let has_ended = poll(
        &mut [PollFd::new(&process, PollFlags::IN)],
        Some(&Timespec::default()),
    )
    .ok()?
        > 0;
    groups_in(&status, credentials.uid()).filter(|_| !has_ended)
}

/// The supplementary groups in a process's status, if it runs as this user alone.
fn groups_in(status: &str, uid: u32) -> Option<Vec<u32>> {
    let numbers = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u32>>>()
    };
    let uids = numbers("Uid:")?;
    (uids.len() == 4 && uids.iter().all(|it| *it == uid)).then(|| numbers("Groups:"))?
}

/// Returns true if this id may stand for users that this process's user namespace does not have.
pub(super) fn is_shared_user(uid: u32) -> bool {
    stands_for_many(uid, OVERFLOW_UID, "/proc/self/uid_map")
}

/// Returns true if this id may stand for groups that this process's user namespace does not have.
pub(super) fn is_shared_group(gid: u32) -> bool {
    stands_for_many(gid, OVERFLOW_GID, "/proc/self/gid_map")
}

fn stands_for_many(id: u32, overflow: &str, map: &str) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    read(overflow).trim().parse() == Ok(id) && !maps_all(&read(map))
}

/// Returns true if a namespace maps all ids. The last one, `u32::MAX`, is never used.
fn maps_all(map: &str) -> bool {
    let count = |line: &str| {
        line.split_ascii_whitespace()
            .nth(2)
            .and_then(|count| count.parse::<u64>().ok())
    };
    map.lines().filter_map(count).sum::<u64>() >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t7\t7\t7\t7\nGid:\t7\t7\t7\t7\nGroups:\t4 24 4000 \n";

    #[test]
    fn groups_count_only_of_the_user_that_connected() {
        assert_eq!(groups_in(STATUS, 7), Some(vec![4, 24, 4000]));
        assert_eq!(groups_in(STATUS, 8), None);
        assert_eq!(
            groups_in(&STATUS.replace("7\t7\t7\t7\nGid", "7\t0\t0\t0\nGid"), 7),
            None,
            "it has become root"
        );
        assert_eq!(
            groups_in(&STATUS.replace("4 24 4000 ", ""), 7),
            Some(vec![])
        );
        assert_eq!(groups_in("", 7), None);
    }

    #[tokio::test]
    async fn the_groups_of_a_process_that_connected_are_its_own() {
        let (_client, server) = UnixStream::pair().unwrap();
        let credentials = server.peer_cred().unwrap();
        let own: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        assert_eq!(supplementary_groups(&server, &credentials), Some(own));
        assert!(is_member(
            &server,
            &credentials,
            rustix::process::getegid().as_raw()
        ));
        assert!(!is_member(&server, &credentials, 3_999_999_999));
    }

    #[test]
    fn a_namespace_of_few_users_has_one_number_for_all_others() {
        assert!(maps_all("         0          0 4294967295\n"));
        assert!(!maps_all(
            "         0       1000          1\n         1     100000      65536\n"
        ));
        assert!(!maps_all(""));
        assert!(!is_shared_user(0) && !is_shared_group(0));
    }
}
