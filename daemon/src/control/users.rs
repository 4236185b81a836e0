//! Users and their groups in the system's database, which may be a remote server: each user is
//! looked up once and cached for some seconds, however many clients of this user connect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::lock::lock;
use crate::rate_limit::log_limited;

/// Time for which a user is cached. A change of groups takes effect after that.
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

/// Users that are remembered at most.
pub(super) const USERS_MAX: usize = 1_024;

/// Maximum number of concurrent look-ups: each holds a thread, possibly for as long as a directory
/// server does not answer.
pub(super) const LOOKUPS_MAX: usize = 4;

/// Source of users.
#[derive(Clone, Copy, Debug)]
pub(super) struct Database {
    pub(super) user: fn(u32) -> Option<KnownUser>,
}

/// Database of the system.
pub(super) const SYSTEM: Database = Database { user: system_user };

/// Entry of a uid in the user database.
#[derive(Clone, Debug)]
pub(super) struct KnownUser {
    pub(super) name: String,
    /// Ids of the primary and supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Users that were looked up, and look-ups in flight.
#[derive(Debug)]
pub(super) struct Users {
    database: Database,
    lookups: Arc<Semaphore>,
    asked: Mutex<BTreeMap<u32, Lookup>>,
    tasks: TaskTracker,
}

#[derive(Clone, Debug)]
struct Lookup {
    begun: Instant,
    answer: watch::Receiver<Option<Answer>>,
}

#[derive(Clone, Debug)]
struct Answer {
    at: Instant,
    user: Option<Arc<KnownUser>>,
}

impl Lookup {
    /// Returns true if the result has expired, or will never come.
    fn is_over(&self) -> bool {
        let answered = self.answer.borrow().as_ref().map(|answer| answer.at);
        answered.map_or_else(
            || self.answer.has_changed().is_err(),
            |at| at.elapsed() >= REMEMBERED,
        )
    }
}

impl Users {
    pub(super) fn new(database: Database) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self {
            database,
            lookups,
            asked: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Returns the user, if cached.
    pub(super) fn remembered(&self, uid: u32) -> Option<Arc<KnownUser>> {
        let asked = lock(&self.asked);
        let lookup = asked.get(&uid).filter(|lookup| !lookup.is_over())?;
        lookup
            .answer
            .borrow()
            .as_ref()
            .and_then(|answer| answer.user.clone())
    }

    /// Looks up the user. Concurrent look-ups of one user share a query.
    pub(super) async fn look_up(&self, uid: u32) -> Option<Arc<KnownUser>> {
        let mut answer = self.lookup(uid).answer;
        let answer = answer.wait_for(Option::is_some).await.ok()?;
        answer.as_ref().and_then(|answer| answer.user.clone())
    }

    fn lookup(&self, uid: u32) -> Lookup {
        let mut asked = lock(&self.asked);
        if let Some(lookup) = asked.get(&uid).filter(|lookup| !lookup.is_over()) {
            return lookup.clone();
        }
        if asked.len() >= USERS_MAX {
            asked.retain(|_, lookup| !lookup.is_over());
        }
        if asked.len() >= USERS_MAX
            && let Some(oldest) = asked
                .iter()
                .min_by_key(|(_, lookup)| lookup.begun)
                .map(|(uid, _)| *uid)
        {
            asked.remove(&oldest);
        }
        let (sender, answer) = watch::channel(None);
        let lookup = Lookup {
            begun: Instant::now(),
            answer,
        };
        asked.insert(uid, lookup.clone());
        self.tasks
            .spawn(ask(self.database, Arc::clone(&self.lookups), uid, sender));
        lookup
    }
}

/// Queries the database in a thread of its own, so that other blocking work cannot delay it.
async fn ask(
    database: Database,
    lookups: Arc<Semaphore>,
    uid: u32,
    sender: watch::Sender<Option<Answer>>,
) {
    let Ok(turn) = lookups.acquire_owned().await else {
        return;
    };
    let (found, is_found) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("user lookup".to_owned())
        .spawn(move || {
            let user = (database.user)(uid);
            drop(turn);
            // The client may have disconnected.
            let _ = found.send(user);
        });
    if let Err(error) = thread {
        log_limited!(warn, uid, %error, "cannot start a thread to look up a user");
    }
    // If the thread did not start or panicked, the next client of this user starts another look-up.
    if let Ok(user) = is_found.await {
        sender.send_replace(Some(Answer {
            at: Instant::now(),
            user: user.map(Arc::new),
        }));
    }
}

fn system_user(uid: u32) -> Option<KnownUser> {
    let user = match User::from_uid(Uid::from_raw(uid)) {
        Ok(user) => user?,
        Err(error) => {
            log_limited!(warn, uid, %error, "cannot look up a user");
            return None;
        }
    };
    let groups = std::ffi::CString::new(user.name.as_str())
        .ok()
        .and_then(|name| getgrouplist(&name, user.gid).ok());
    Some(KnownUser {
        name: user.name,
        groups: groups
            .unwrap_or_default()
            .into_iter()
            .map(Gid::as_raw)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicUsize, Ordering};

    const UNKNOWN: u32 = u32::MAX;

    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn counted_user(uid: u32) -> Option<KnownUser> {
        ASKED.fetch_add(1, Ordering::Relaxed);
        (uid != UNKNOWN).then(|| KnownUser {
            name: format!("user{uid}"),
            groups: vec![uid],
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_looked_up_once_in_a_while_however_many_clients_come() {
        let users = Users::new(Database { user: counted_user });
        assert!(users.remembered(1).is_none());
        for _ in 0..100 {
            assert_eq!(users.look_up(1).await.unwrap().name, "user1");
        }
        let (first, second) = tokio::join!(users.look_up(2), users.look_up(2));
        assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()));
        assert_eq!(
            (
                ASKED.load(Ordering::Relaxed),
                users.remembered(2).unwrap().groups.as_slice()
            ),
            (2, &[2][..])
        );
        tokio::time::advance(REMEMBERED).await;
        assert!(users.remembered(1).is_none());
        users.look_up(1).await.unwrap();
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
        for uid in 0..2 * u32::try_from(USERS_MAX).unwrap() {
            users.lookup(uid);
        }
        assert_eq!(users.asked.lock().unwrap().len(), USERS_MAX);
    }

    #[test]
    fn the_system_knows_root_and_its_primary_group() {
        let root = system_user(0).unwrap();
        assert!(root.groups.contains(&0), "{root:?}");
        assert!(system_user(u32::MAX - 1).is_none());
    }
}
