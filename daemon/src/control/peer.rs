//! Identity and access of a control client, from its kernel credentials when it connects.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::access::Access;
use tokio::net::UnixStream;
use tokio::net::unix::UCred;
use tokio::time::timeout;

use super::credentials::{is_member, is_shared_group, is_shared_user};
use super::users::{KnownUser, SYSTEM, Users};
use crate::rate_limit::log_limited;

/// Time limit of a client's look-up in the user database. After it the client may only view.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Time to wait for the user database for the name of an operator that the kernel credentials
/// identify. After that, the name is omitted.
const NAME_TIMEOUT: Duration = Duration::from_millis(250);

/// The longest user name that is recorded, in characters.
const NAME_CHARACTERS_MAX: usize = 64;

const ROOT: u32 = 0;

/// User id that the kernel uses for no user.
const UNKNOWN_UID: u32 = u32::MAX;

/// Identity of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User that connected; `u32::MAX` if the kernel did not say.
    pub uid: u32,
    /// Access level of the client.
    pub access: Access,
    /// Name in records: `uid:1000(name)`, or `uid:1000` if the name is unknown.
    pub actor: Arc<str>,
}

impl Peer {
    fn new(uid: u32, access: Access, name: Option<&str>) -> Self {
        let actor = match name {
            Some(name) => format!("uid:{uid}({})", plain(name)),
            None if uid == UNKNOWN_UID => "uid:unknown".to_owned(),
            None => format!("uid:{uid}"),
        };
        Self {
            uid,
            access,
            actor: actor.into(),
        }
    }
}

/// Determines the access of clients.
#[derive(Debug)]
pub struct Peers {
    operator_gid: Option<u32>,
    /// `true` if group credentials count: not if the group's id may stand for several groups.
    is_group_told: bool,
    /// Root and our own user, which always may operate, even if the user database fails.
    always: Vec<Peer>,
    users: Users,
    timeout: Duration,
}

/// Client that needs a look-up of its process and of the user database.
#[derive(Debug)]
pub(super) struct UnknownPeer {
    credentials: UCred,
    operator_gid: u32,
}

impl UnknownPeer {
    pub(super) fn uid(&self) -> u32 {
        self.credentials.uid()
    }
}

impl Peers {
    /// Gives members of this group the access `operate`, in addition to root and the user of this
    /// process. Their names are looked up now.
    pub fn new(operator_gid: Option<u32>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        // In a user namespace the daemon's own number may be that of all users of other namespaces.
        let always = if own == ROOT || is_shared_user(own) {
            vec![ROOT]
        } else {
            vec![ROOT, own]
        };
        let name = |uid| (SYSTEM.user)(uid).map(|user| user.name);
        let always = always
            .into_iter()
            .map(|uid| Peer::new(uid, Access::Operate, name(uid).as_deref()))
            .collect();
        let is_group_told = operator_gid.is_some_and(|gid| !is_shared_group(gid));
        Self {
            operator_gid,
            is_group_told,
            always,
            users: Users::new(SYSTEM),
            timeout: LOOKUP_TIMEOUT,
        }
    }

    /// Returns the operator group.
    pub fn operator_gid(&self) -> Option<u32> {
        self.operator_gid
    }

    /// Identifies a client. Takes at most a few seconds, and no time for root and our own user.
    pub(crate) async fn identify(&self, stream: &UnixStream) -> Peer {
        match self.recognise(stream) {
            Ok(peer) => peer,
            Err(unknown) => self.look_up(stream, &unknown).await,
        }
    }

    /// Identifies a client without a look-up: root, our own user, and members of the operator group
    /// that are cached.
    pub(super) fn recognise(&self, stream: &UnixStream) -> Result<Peer, UnknownPeer> {
        let credentials = match stream.peer_cred() {
            Ok(credentials) => credentials,
            Err(error) => {
                log_limited!(warn, %error, "cannot identify the client's user; the client may only view");
                return Ok(Peer::new(UNKNOWN_UID, Access::View, None));
            }
        };
        self.recognise_user(credentials.uid())
            .map_err(|operator_gid| UnknownPeer {
                credentials,
                operator_gid,
            })
    }

    /// The client of this user; the group that it has to be a member of, where that is not known yet.
    fn recognise_user(&self, uid: u32) -> Result<Peer, u32> {
        if let Some(peer) = self.always.iter().find(|peer| peer.uid == uid) {
            return Ok(peer.clone());
        }
        // Without a group no other user can operate, and viewers are not recorded: no look-up is
        // needed.
        let Some(operator_gid) = self.operator_gid else {
            return Ok(Peer::new(uid, Access::View, None));
        };
        let user = self
            .users
            .remembered(uid)
            .filter(|user| user.groups.contains(&operator_gid));
        user.map(|user| operator(uid, Some(&user)))
            .ok_or(operator_gid)
    }

    /// Looks up the client's process, and the user database: takes at most a few seconds.
    pub(super) async fn look_up(&self, stream: &UnixStream, unknown: &UnknownPeer) -> Peer {
        let UnknownPeer {
            credentials,
            operator_gid,
        } = unknown;
        if self.is_group_told && is_member(stream, credentials, *operator_gid) {
            self.name_member(credentials.uid()).await
        } else {
            self.look_up_user(credentials.uid(), *operator_gid).await
        }
    }

    /// Identifies a member of the operator group by kernel credentials; the database only provides
    /// the name.
    async fn name_member(&self, uid: u32) -> Peer {
        let user = timeout(NAME_TIMEOUT, self.users.look_up(uid))
            .await
            .ok()
            .flatten();
        operator(uid, user.as_deref())
    }

    async fn look_up_user(&self, uid: u32, operator_gid: u32) -> Peer {
        match timeout(self.timeout, self.users.look_up(uid)).await {
            Ok(Some(user)) if user.groups.contains(&operator_gid) => operator(uid, Some(&user)),
            Ok(user) => Peer::new(
                uid,
                Access::View,
                user.as_ref().map(|user| user.name.as_str()),
            ),
            Err(_) => {
                log_limited!(
                    warn,
                    uid,
                    "the user database does not answer; the client may only view"
                );
                Peer::new(uid, Access::View, None)
            }
        }
    }
}

fn operator(uid: u32, user: Option<&KnownUser>) -> Peer {
    Peer::new(uid, Access::Operate, user.map(|user| user.name.as_str()))
}

/// Returns the name without characters that could imitate other text in a log or an actor: only
/// letters, digits and usual punctuation of names.
fn plain(name: &str) -> String {
    let keep = |character: char| character.is_alphanumeric() || "-_.@$+\\".contains(character);
    name.chars()
        .take(NAME_CHARACTERS_MAX)
        .map(|character| if keep(character) { character } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::users::{Database, LOOKUPS_MAX};

    const OPERATORS: u32 = 4000;
    const STRANGER: u32 = 70_001;
    const OPERATOR: u32 = 70_002;

    fn test_user(uid: u32) -> Option<KnownUser> {
        match uid {
            STRANGER => Some(KnownUser {
                name: "eve".to_owned(),
                groups: vec![STRANGER],
            }),
            OPERATOR => Some(KnownUser {
                name: "op (root)\n".to_owned(),
                groups: vec![OPERATOR, OPERATORS],
            }),
            _ => None,
        }
    }

    fn peers(operator_gid: Option<u32>, user: fn(u32) -> Option<KnownUser>) -> Peers {
        Peers {
            users: Users::new(Database { user }),
            ..Peers::new(operator_gid)
        }
    }

    /// Creates a client of this user, in a process without a group that counts.
    async fn of_user(peers: &Peers, uid: u32) -> Peer {
        match peers.recognise_user(uid) {
            Ok(peer) => peer,
            Err(operator_gid) => peers.look_up_user(uid, operator_gid).await,
        }
    }

    #[tokio::test]
    async fn the_daemons_own_user_operates_over_a_real_socket() {
        let (_client, server) = UnixStream::pair().unwrap();
        let peer = peers(None, |_| panic!("nobody to look up"))
            .recognise(&server)
            .unwrap();
        assert_eq!(
            (peer.uid, peer.access),
            (rustix::process::geteuid().as_raw(), Access::Operate)
        );
        assert!(peer.actor.starts_with(&format!("uid:{}", peer.uid)));
    }

    #[tokio::test]
    async fn root_operates_without_a_look_up() {
        let peer = peers(Some(OPERATORS), |_| panic!("nobody to look up"))
            .recognise_user(ROOT)
            .unwrap();
        assert_eq!(
            (peer.access, &*peer.actor),
            (Access::Operate, "uid:0(root)")
        );
    }

    #[tokio::test]
    async fn members_of_the_group_operate_and_others_view() {
        let peers = peers(Some(OPERATORS), test_user);
        assert_eq!(
            of_user(&peers, OPERATOR).await,
            Peer::new(OPERATOR, Access::Operate, Some("op__root__"))
        );
        assert!(
            peers.recognise_user(OPERATOR).is_ok(),
            "the next takes no look at anything"
        );
        assert_eq!(
            of_user(&peers, STRANGER).await,
            Peer::new(STRANGER, Access::View, Some("eve"))
        );
        assert_eq!(
            peers.name_member(STRANGER).await,
            Peer::new(STRANGER, Access::Operate, Some("eve"))
        );
        let unknown = of_user(&peers, 70_003).await;
        assert_eq!(
            (unknown.access, &*unknown.actor),
            (Access::View, "uid:70003")
        );
        assert_eq!(of_user(&peers, UNKNOWN_UID).await.access, Access::View);
    }

    #[tokio::test]
    async fn without_a_group_no_user_is_looked_up() {
        let peer = peers(None, |_| panic!("nobody to look up"))
            .recognise_user(OPERATOR)
            .unwrap();
        assert_eq!(peer, Peer::new(OPERATOR, Access::View, None));
    }

    #[tokio::test]
    async fn a_look_up_that_fails_leaves_view() {
        let peers = peers(Some(OPERATORS), |_| panic!("the library broke"));
        assert_eq!(
            of_user(&peers, OPERATOR).await,
            Peer::new(OPERATOR, Access::View, None)
        );
    }

    /// Channel that the stuck look-ups wait for.
    static STUCK: Mutex<Option<Receiver<()>>> = Mutex::new(None);

    fn stuck_user(uid: u32) -> Option<KnownUser> {
        STUCK.lock().unwrap().as_ref().unwrap().recv().unwrap();
        test_user(uid)
    }

    #[tokio::test]
    async fn a_database_that_hangs_leaves_view_but_to_members_by_the_kernels_word() {
        let (release, wait): (Sender<()>, _) = channel();
        *STUCK.lock().unwrap() = Some(wait);
        let peers = Peers {
            timeout: Duration::from_millis(1),
            ..peers(Some(OPERATORS), stuck_user)
        };
        for uid in (0..).map(|number| STRANGER + number).take(2 * LOOKUPS_MAX) {
            assert_eq!(of_user(&peers, uid).await.access, Access::View);
        }
        assert_eq!(
            peers.name_member(90_000).await,
            Peer::new(90_000, Access::Operate, None)
        );
        for _ in 0..=2 * LOOKUPS_MAX {
            release.send(()).unwrap();
        }
        // Once the database answers, clients are known again.
        let peers = Peers {
            timeout: LOOKUP_TIMEOUT,
            ..peers
        };
        assert_eq!(of_user(&peers, OPERATOR).await.access, Access::Operate);
    }

    #[test]
    fn a_name_cannot_pass_for_more_than_it_is() {
        assert_eq!(plain("DOMAIN\\some.one-2@x"), "DOMAIN\\some.one-2@x");
        assert_eq!(plain("a)b(c\u{1b}[31m\u{202e} d"), "a_b_c__31m__d");
        assert_eq!(
            plain(&"x".repeat(NAME_CHARACTERS_MAX + 1)).len(),
            NAME_CHARACTERS_MAX
        );
    }
}
