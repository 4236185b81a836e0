//! Lock files: opened without following a link, and with the holder's process id in them, for people.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Bytes of the line with the process id, and the most that is read of a lock file.
pub(crate) const PID_LINE_BYTES: usize = 16;

/// Permission bits of a lock file.
const BITS: u32 = 0o600;

/// Opens a lock file, and makes it if it is not there; `None` where something else than a plain file with one name is there.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(BITS)) {
        Ok(file) => File::from(file),
        // A link, a folder, a socket: each is refused in its own way.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    Ok((metadata.is_file() && metadata.nlink() <= 1).then_some(file))
}

/// Returns true if only this process's user or root can have written the file.
pub(crate) fn is_ours(metadata: &Metadata) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid())
}

/// Returns the process that holds the lock, if the file names it and no other user can have written
/// the file.
pub(crate) fn holder(file: File) -> Option<i32> {
    if !is_ours(&file.metadata().ok()?) {
        return None;
    }
    let mut line = String::new();
    let bytes = u64::try_from(PID_LINE_BYTES).ok()?;
    file.take(bytes).read_to_string(&mut line).ok()?;
    line.trim_end().parse().ok().filter(|pid| *pid > 0)
}

/// Returns the line that names this process.
pub(crate) fn pid_line() -> String {
    let width = PID_LINE_BYTES - 1;
    format!("{:<width$}\n", std::process::id())
}

/// Writes that this process holds the lock.
pub(crate) fn write_holder(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_plain_file_with_one_name_is_a_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(open(&path("new")).unwrap().is_some());
        symlink(path("new"), path("link")).unwrap();
        std::fs::write(path("two"), "").unwrap();
        std::fs::hard_link(path("two"), path("names")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        for wrong in ["link", "two", "folder"] {
            assert!(open(&path(wrong)).unwrap().is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_holder_is_believed_only_where_no_other_user_could_have_written_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = || open(&path).unwrap().unwrap();
        write_holder(&lock()).unwrap();
        assert_eq!(holder(lock()), i32::try_from(std::process::id()).ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            assert_eq!(holder(lock()), None);
        }
    }
}
