//! The one way to the gate, and the way back: every door writes letters, the driver reads them and sends mail.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use soramode_core::effect::WaitProgress;
use soramode_core::input::{AttemptResult, Input, SocketId, SoraInput};
use soramode_core::member::etcd::{EtcdResponse, MembershipView};
use soramode_core::snapshot::Webhook;
use soramode_protocol::reply::Answer;
use soramode_protocol::request::GateRequest;
use tokio::sync::mpsc;

use crate::webhook::Webhooks;

/// Letters that wait at most; a door that has one more waits itself.
pub const LETTERS_MAX: usize = 1_024;

/// The HTTP doors, which share one mailbox. The control socket's clients are counted from 1.
pub const HTTP_DOORS: SocketId = SocketId(0);

/// What a door says.
#[derive(Debug)]
pub enum Letter {
    /// A client came: where its mail goes.
    Open(SocketId, Mailbox),
    /// A client asks, each request with the number that its answer will have.
    Ask {
        /// The client.
        socket: SocketId,
        /// Who it is, as a mode change records it.
        actor: Arc<str>,
        /// What it asks, checked, and within its access.
        requests: Vec<(u64, GateRequest)>,
    },
    /// A client went.
    Gone(SocketId),
    /// A response of the cluster's etcd.
    Etcd(Box<EtcdResponse>),
    /// An input of the gate that needs nothing else: from a fence, or at the stop.
    Input(Box<Input>),
    /// All members of the cluster were read: what was read last is in the slot that the driver looks at ([`LastLook`]).
    Looked,
    /// A real Sora said something.
    Sora(Box<SoraInput>),
    /// There are other receivers of events.
    Renewed(Box<Renewal>),
    /// A delivery was tried.
    Tried {
        /// The receiver, by its place in the settings.
        place: usize,
        /// The delivery.
        id: u64,
        /// How it went.
        tried: AttemptResult,
    },
}

/// Other receivers of events, each in the place that it had.
#[derive(Debug)]
pub struct Renewal {
    /// For the gate.
    pub(crate) webhooks: Vec<Webhook>,
    /// For the driver.
    pub(crate) ways: Webhooks,
}

/// What a client is sent.
#[derive(Debug)]
pub enum Mail {
    /// The answer to its request of this number.
    Answer(u64, Answer),
    /// The answer to its request of this number comes later than those behind it may.
    Deferred(u64),
    /// How its wait of this number is going.
    Progress(u64, Box<WaitProgress>),
}

/// The last read of all members, which comes before everything else that waits: however long the driver was held up by a slow disk,
/// a right that was renewed meanwhile goes on.
#[derive(Clone, Debug, Default)]
pub struct LastLook(Arc<Mutex<Option<Box<MembershipView>>>>);

impl LastLook {
    /// Puts a read there, in place of one that was not taken.
    pub fn put(&self, looked: MembershipView) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(looked));
    }

    /// Takes it.
    pub fn take(&self) -> Option<Box<MembershipView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The doors' end.
pub type Inbox = mpsc::Sender<Letter>;

/// A doors' end that does not keep the driver alive.
pub type WeakInbox = mpsc::WeakSender<Letter>;

/// The driver's end.
pub type Letters = mpsc::Receiver<Letter>;

/// Where a client's mail goes, from the driver.
pub type Mailbox = Arc<dyn Recipient>;

/// Whoever is sent mail.
pub trait Recipient: fmt::Debug + Send + Sync {
    /// Takes mail in, without a wait. Whoever is gone by now needs none.
    fn take(&self, mail: Mail);
}

/// Bounded by what the client may have in flight, and by how often a wait tells how it goes.
impl Recipient for mpsc::UnboundedSender<Mail> {
    fn take(&self, mail: Mail) {
        self.send(mail).unwrap_or_default();
    }
}

/// A new way to the gate.
pub fn inbox() -> (Inbox, Letters) {
    mpsc::channel(LETTERS_MAX)
}
