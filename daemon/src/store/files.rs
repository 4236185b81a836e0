//! The state's files: checks their owner, and whether they are still the ones that were opened.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::Access;

use super::file_names::{COMPANIONS, LOCK, beside, database, databases};
use super::problem::{Problem, on};
use super::state_lock::StateLock;
use super::write_error::WriteError;

/// Permission bits of the folder and of its files: connections are private data.
const FOLDER_BITS: u32 = 0o700;
const FILE_BITS: u32 = 0o600;

/// Permission bits with which others than the owner could put files into the folder.
const BITS_OF_OTHER_WRITERS: u32 = 0o022;

/// Makes the folder if it is not there, and makes sure that no other user can write to it or has made its files.
pub(super) fn prepare(folder: &Path) -> Result<(), Problem> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_BITS)
        .create(folder);
    made.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Problem::NotFolder
        } else {
            on("make the folder")(error)
        }
    })?;
    check_folder(folder, own_uid())?;
    databases(folder)
        .into_iter()
        .try_for_each(|path| close_to_others(&path))
}

/// Checks the folder and its files as a start would, and changes nothing. Returns whether there is a database.
pub(super) fn inspect(folder: &Path) -> Result<Inspection, Problem> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return may_be_made(folder).map(|()| Inspection::Nothing);
        }
        Err(error) => return Err(on("read the folder")(error)),
        Ok(_) => {}
    }
    let uid = presumed_owner(folder);
    check_folder(folder, uid)?;
    for path in databases(folder).into_iter().chain([folder.join(LOCK)]) {
        plain(&path)?;
    }
    let database = fs::symlink_metadata(database(folder));
    Ok(if database.is_ok() {
        Inspection::DatabaseOf(uid)
    } else {
        Inspection::Nothing
    })
}

/// Result of an inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspection {
    /// Folder has no database.
    Nothing,
    /// Folder has a database, of the soramoded of this user.
    DatabaseOf(u32),
}

/// The user that a state is judged for. Root also checks the state of a daemon that runs as another user: the one that owns both the folder
/// and the database.
fn presumed_owner(folder: &Path) -> u32 {
    let owner = |path: &Path| fs::symlink_metadata(path).map(|there| there.uid()).ok();
    let own = own_uid();
    match (owner(folder), owner(&database(folder))) {
        (Some(of_folder), Some(of_database)) if own == 0 && of_folder == of_database => of_folder,
        _ => own,
    }
}

/// Checks that the folder can be made where the nearest one above it is.
fn may_be_made(folder: &Path) -> Result<(), Problem> {
    let above = folder.ancestors().skip(1).map(|above| {
        if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        }
    });
    let Some(nearest) = above.into_iter().find(|above| above.exists()) else {
        return Ok(());
    };
    rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(on("make the folder"))
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Checks that the folder is one that only this user, or root, can change. A link to a folder is its owner's to change.
fn check_folder(folder: &Path, uid: u32) -> Result<(), Problem> {
    let (link, there) = (fs::symlink_metadata(folder), fs::metadata(folder));
    let link = link.map_err(on("read the folder"))?;
    let there = there.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Problem::NotFolder
        } else {
            on("read the folder")(error)
        }
    })?;
    if !there.is_dir() {
        return Err(Problem::NotFolder);
    }
    for metadata in [&link, &there] {
        if ![0, uid].contains(&metadata.uid()) {
            return Err(Problem::FolderOfAnother(metadata.uid()));
        }
    }
    if there.mode() & BITS_OF_OTHER_WRITERS != 0 {
        return Err(Problem::FolderForOthers(there.mode() & 0o7777));
    }
    Ok(())
}

/// Checks that it is a plain file with one name, or not there.
fn plain(path: &Path) -> Result<Option<Metadata>, Problem> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(on("read its files")(error)),
    };
    if !there.is_file() || there.nlink() > 1 {
        return Err(Problem::NotPlain(path.to_owned()));
    }
    Ok(Some(there))
}

/// Checks that it is a plain file, and closes it to all but its owner.
fn close_to_others(path: &Path) -> Result<(), Problem> {
    let Some(there) = plain(path)? else {
        return Ok(());
    };
    if there.uid() == own_uid() && there.mode() & 0o777 & !FILE_BITS != 0 {
        fs::set_permissions(path, Permissions::from_mode(FILE_BITS))
            .map_err(on("close its files to other users"))?;
    }
    Ok(())
}

/// Makes the database's file, which `SQLite` gives the bits of to its other files.
pub(super) fn make_database(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_BITS)
        .open(path)
        .map(drop)
}

/// A file's device and its number there: another file of the same name has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// `None` where nothing is there.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Ok(there) => Ok(Some(Self {
                device: there.dev(),
                inode: there.ino(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Result of a check of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// All are the ones that were opened.
    Same,
    /// Some were deleted or moved: the open ones still have everything.
    Lost,
    /// Another database is in the place of the one that was opened.
    Replaced,
}

/// Files of an open state, to detect their loss: `SQLite` continues to write to a deleted file
/// without an error.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    database: PathBuf,
    database_identity: Option<Identity>,
    companions: [(PathBuf, Option<Identity>); 2],
    lock: StateLock,
}

impl Files {
    /// Notes the files of a state that has been opened and written to, so that all its files exist.
    pub(super) fn opened(folder: &Path, lock: StateLock) -> io::Result<Self> {
        let database = database(folder);
        let companion = |suffix: &str| -> io::Result<_> {
            let path = beside(&database, suffix);
            Identity::of(&path).map(|identity| (path, identity))
        };
        let [wal, index] = COMPANIONS;
        Ok(Self {
            database_identity: Identity::of(&database)?,
            companions: [companion(wal)?, companion(index)?],
            folder: folder.to_owned(),
            database,
            lock,
        })
    }

    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Checks that the files are still there.
    pub(super) fn presence(&self) -> io::Result<Presence> {
        match Identity::of(&self.database)? {
            None => return Ok(Presence::Lost),
            there if there != self.database_identity => return Ok(Presence::Replaced),
            Some(_) => {}
        }
        for (path, identity) in &self.companions {
            if Identity::of(path)? != *identity {
                return Ok(Presence::Lost);
            }
        }
        Ok(if self.has_lock()? {
            Presence::Same
        } else {
            Presence::Lost
        })
    }

    fn has_lock(&self) -> io::Result<bool> {
        let held = self.lock.metadata()?;
        Ok(Identity::of(&self.folder.join(LOCK))?
            == Some(Identity {
                device: held.dev(),
                inode: held.ino(),
            }))
    }

    /// Writes the contents of an open connection as a new database in the old one's place. The
    /// caller opens it.
    pub(super) fn rewrite(&mut self, from: &Connection) -> Result<(), WriteError> {
        prepare(&self.folder).map_err(|problem| self.lost(problem.to_string()))?;
        let lost = |error: io::Error| self.lost(error.to_string());
        let device = fs::metadata(&self.folder).map_err(lost)?.dev();
        if self
            .database_identity
            .is_some_and(|before| before.device != device)
        {
            return Err(self.lost("its folder is on another file system now".to_owned()));
        }
        if !self.has_lock().map_err(lost)? {
            self.lock =
                StateLock::take(&self.folder).map_err(|error| self.lost(error.to_string()))?;
        }
        let lost = |error: io::Error| self.lost(error.to_string());
        let new = beside(&self.database, ".new");
        remove(&new)
            .and_then(|()| make_database(&new))
            .map_err(lost)?;
        // SQLite returns its names in UTF-8.
        from.execute("VACUUM INTO ?1", [new.to_string_lossy()])?;
        File::open(&new)
            .and_then(|file| file.sync_all())
            .map_err(lost)?;
        self.companions
            .iter()
            .try_for_each(|(path, _)| remove(path))
            .map_err(lost)?;
        fs::rename(&new, &self.database)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(lost)
    }

    /// Notes the outcome of a commit, for the next start.
    pub(super) fn note_commit(&mut self, is_written: bool) {
        self.lock.note_commit(is_written);
    }

    /// Notes the new files as the current ones.
    pub(super) fn reopened(&mut self) -> io::Result<()> {
        self.database_identity = Identity::of(&self.database)?;
        for (path, identity) in &mut self.companions {
            *identity = Identity::of(path)?;
        }
        Ok(())
    }

    fn lost(&self, problem: String) -> WriteError {
        WriteError::Lost {
            path: self.database.clone(),
            problem,
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
