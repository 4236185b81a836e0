//! Who is at the other end of a control connection and what they may do: from the kernel's word, once, when they connect.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use soramode_protocol::access::Access;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};

use crate::rate_limit::log_limited;

/// How long the user database may take over a client. Then it is unknown, and may look.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// How many look-ups go on at once: each holds a thread, perhaps for as long as a directory server does not answer.
const LOOKUPS_MAX: usize = 4;

/// The longest user name that is recorded, in characters.
const NAME_CHARACTERS_MAX: usize = 64;

const ROOT: u32 = 0;

/// The kernel's own number for nobody at all.
const UNKNOWN_UID: u32 = u32::MAX;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user that connected; `u32::MAX` if the kernel did not say.
    pub uid: u32,
    /// What they may do.
    pub access: Access,
    /// How they are recorded: `uid:1000(name)`, or `uid:1000` where the name is not known.
    pub actor: Arc<str>,
}

impl Peer {
    fn new(uid: u32, access: Access, name: Option<&str>) -> Self {
        let actor = match name {
            Some(name) => format!("uid:{uid}({})", plain(name)),
            None if uid == UNKNOWN_UID => "uid:unknown".to_owned(),
            None => format!("uid:{uid}"),
        };
        Self { uid, access, actor: actor.into() }
    }
}

/// Tells what clients may do.
#[derive(Debug)]
pub struct Peers {
    operator_gid: Option<u32>,
    /// Root and our own user: they may always operate, whatever state the user database is in.
    always: Vec<Peer>,
    database: Database,
    timeout: Duration,
    lookups: Arc<Semaphore>,
}

impl Peers {
    /// Lets members of this group operate, beside root and the user that runs this process, whose names are looked up now.
    pub fn new(operator_gid: Option<u32>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let always = if own == ROOT { vec![ROOT] } else { vec![ROOT, own] };
        let name = |uid| (SYSTEM.user)(uid).map(|user| user.name);
        let always = always.into_iter().map(|uid| Peer::new(uid, Access::Operate, name(uid).as_deref())).collect();
        Self { operator_gid, always, database: SYSTEM, timeout: LOOKUP_TIMEOUT, lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The group whose members may operate.
    pub fn operator_gid(&self) -> Option<u32> {
        self.operator_gid
    }

    /// Who has connected there. Takes at most a few seconds, and for root and our own user no time.
    pub async fn identify(&self, stream: &UnixStream) -> Peer {
        match stream.peer_cred() {
            Ok(credentials) => self.of_uid(credentials.uid()).await,
            Err(error) => {
                log_limited!(warn, %error, "cannot tell who connected; the client may only view");
                Peer::new(UNKNOWN_UID, Access::View, None)
            }
        }
    }

    async fn of_uid(&self, uid: u32) -> Peer {
        if let Some(peer) = self.always.iter().find(|peer| peer.uid == uid) {
            return peer.clone();
        }
        // Without a group nobody else can operate, and who only looks is not recorded: nothing to ask.
        let Some(operator_gid) = self.operator_gid else { return Peer::new(uid, Access::View, None) };
        match tokio::time::timeout(self.timeout, self.look_up(uid)).await {
            Ok(Some(user)) => {
                let access = if user.groups.contains(&operator_gid) { Access::Operate } else { Access::View };
                Peer::new(uid, access, Some(&user.name))
            }
            Ok(None) => Peer::new(uid, Access::View, None),
            Err(_) => {
                log_limited!(warn, uid, "the user database does not answer; the client may only view");
                Peer::new(uid, Access::View, None)
            }
        }
    }

    /// Looks a user up in a thread of its own: the database may be a server far away, and no other blocking work may hold this up.
    async fn look_up(&self, uid: u32) -> Option<KnownUser> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await.ok()?;
        let (database, (tell, found)) = (self.database, oneshot::channel());
        let thread = thread::Builder::new().name("user lookup".to_owned()).spawn(move || {
            tell.send((database.user)(uid)).unwrap_or_default();
            drop(turn);
        });
        if let Err(error) = thread {
            log_limited!(warn, uid, %error, "cannot start a thread to look up a user");
        }
        found.await.ok().flatten()
    }
}

/// Where users are looked up.
#[derive(Clone, Copy, Debug)]
struct Database {
    user: fn(u32) -> Option<KnownUser>,
}

const SYSTEM: Database = Database { user: system_user };

/// What the user database says of a uid.
#[derive(Clone, Debug)]
struct KnownUser {
    name: String,
    /// Primary and supplementary.
    groups: Vec<u32>,
}

fn system_user(uid: u32) -> Option<KnownUser> {
    let user = match User::from_uid(Uid::from_raw(uid)) {
        Ok(user) => user?,
        Err(error) => {
            log_limited!(warn, uid, %error, "cannot look up a user");
            return None;
        }
    };
    let groups = std::ffi::CString::new(user.name.as_str()).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
    Some(KnownUser { name: user.name, groups: groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect() })
}

/// The name without what could pass for something else in a log or an actor: only letters, digits and what names have between them.
fn plain(name: &str) -> String {
    let keep = |character: char| character.is_alphanumeric() || "-_.@$+\\".contains(character);
    name.chars().take(NAME_CHARACTERS_MAX).map(|character| if keep(character) { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const OPERATORS: u32 = 4000;
    const STRANGER: u32 = 70_001;
    const OPERATOR: u32 = 70_002;

    fn test_user(uid: u32) -> Option<KnownUser> {
        match uid {
            STRANGER => Some(KnownUser { name: "eve".to_owned(), groups: vec![STRANGER] }),
            OPERATOR => Some(KnownUser { name: "op (root)\n".to_owned(), groups: vec![OPERATOR, OPERATORS] }),
            _ => None,
        }
    }

    fn peers(operator_gid: Option<u32>, user: fn(u32) -> Option<KnownUser>) -> Peers {
        Peers { database: Database { user }, ..Peers::new(operator_gid) }
    }

    #[tokio::test]
    async fn the_daemons_own_user_operates_over_a_real_socket() {
        let (_client, server) = UnixStream::pair().unwrap();
        let peer = peers(None, |_| panic!("nobody to look up")).identify(&server).await;
        assert_eq!((peer.uid, peer.access), (rustix::process::geteuid().as_raw(), Access::Operate));
        assert!(peer.actor.starts_with(&format!("uid:{}", peer.uid)));
    }

    #[tokio::test]
    async fn root_operates_without_a_look_up() {
        let peer = peers(Some(OPERATORS), |_| panic!("nobody to look up")).of_uid(ROOT).await;
        assert_eq!((peer.access, &*peer.actor), (Access::Operate, "uid:0(root)"));
    }

    #[tokio::test]
    async fn members_of_the_group_operate_and_others_look() {
        let peers = peers(Some(OPERATORS), test_user);
        assert_eq!(peers.of_uid(OPERATOR).await, Peer::new(OPERATOR, Access::Operate, Some("op__root__")));
        assert_eq!(peers.of_uid(STRANGER).await, Peer::new(STRANGER, Access::View, Some("eve")));
        let unknown = peers.of_uid(70_003).await;
        assert_eq!((unknown.access, &*unknown.actor), (Access::View, "uid:70003"));
        assert_eq!(peers.of_uid(UNKNOWN_UID).await.access, Access::View);
    }

    #[tokio::test]
    async fn without_a_group_nobody_is_looked_up() {
        let peer = peers(None, |_| panic!("nobody to look up")).of_uid(OPERATOR).await;
        assert_eq!(peer, Peer::new(OPERATOR, Access::View, None));
    }

    #[tokio::test]
    async fn a_look_up_that_fails_leaves_view() {
        let peer = peers(Some(OPERATORS), |_| panic!("the library broke")).of_uid(OPERATOR).await;
        assert_eq!(peer, Peer::new(OPERATOR, Access::View, None));
    }

    /// What the stuck look-ups wait for.
    static STUCK: Mutex<Option<Receiver<()>>> = Mutex::new(None);

    fn stuck_user(uid: u32) -> Option<KnownUser> {
        STUCK.lock().unwrap().as_ref().unwrap().recv().unwrap();
        test_user(uid)
    }

    #[tokio::test]
    async fn a_database_that_hangs_leaves_view_and_holds_a_bounded_number_of_threads() {
        let (release, wait): (Sender<()>, _) = channel();
        *STUCK.lock().unwrap() = Some(wait);
        let peers = Peers { timeout: Duration::from_millis(1), ..peers(Some(OPERATORS), stuck_user) };
        for _ in 0..=LOOKUPS_MAX {
            assert_eq!(peers.of_uid(OPERATOR).await.access, Access::View);
        }
        assert_eq!(peers.lookups.available_permits(), 0);
        for _ in 0..LOOKUPS_MAX {
            release.send(()).unwrap();
        }
        // With the threads free again, clients are known again.
        let free = peers.lookups.acquire_many(u32::try_from(LOOKUPS_MAX).unwrap()).await.unwrap();
        drop(free);
        release.send(()).unwrap();
        let peers = Peers { timeout: LOOKUP_TIMEOUT, ..peers };
        assert_eq!(peers.of_uid(OPERATOR).await.access, Access::Operate);
    }

    #[test]
    fn the_system_knows_root_and_its_primary_group() {
        let root = system_user(ROOT).unwrap();
        assert!(root.groups.contains(&0), "{root:?}");
        assert!(system_user(UNKNOWN_UID - 1).is_none());
    }

    #[test]
    fn a_name_cannot_pass_for_more_than_it_is() {
        assert_eq!(plain("DOMAIN\\some.one-2@x"), "DOMAIN\\some.one-2@x");
        assert_eq!(plain("a)b(c\u{1b}[31m\u{202e} d"), "a_b_c__31m__d");
        assert_eq!(plain(&"x".repeat(NAME_CHARACTERS_MAX + 1)).len(), NAME_CHARACTERS_MAX);
    }
}
