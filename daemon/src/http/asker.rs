//! How an HTTP door asks the gate: one question, one answer, whoever else asks meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::FixedState;
use soramode_core::input::{ReplyHandle, SoraInput};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::reply::Answer;
use soramode_protocol::request::GateRequest;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::inbox::{HTTP_DOORS, Inbox, Letter, Mail, Recipient};

/// The HTTP doors' way to the gate. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    inbox: Inbox,
    tracker: TaskTracker,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_serial: u64,
    /// By numbers that are given out here: nobody can aim at one place.
    by_serial: HashMap<u64, oneshot::Sender<Answer>, FixedState>,
}

/// The HTTP doors' mailbox: brings each answer to who waits for it.
#[derive(Debug)]
struct Answers(Arc<Mutex<Waiting>>);

/// An answer that is still to come.
#[derive(Debug)]
pub(crate) struct Awaited(oneshot::Receiver<Answer>);

impl Awaited {
    pub(crate) async fn answer(self) -> Answer {
        self.0.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Asker {
    /// Opens the way; `tracker` has what goes on whether or not the client waits for it.
    pub(crate) async fn open(inbox: Inbox, tracker: TaskTracker) -> Self {
        let waiting = Arc::default();
        // Where the driver is gone already every question will say so.
        inbox
            .send(Letter::Open(
                HTTP_DOORS,
                Arc::new(Answers(Arc::clone(&waiting))),
            ))
            .await
            .unwrap_or_default();
        Self {
            inbox,
            tracker,
            waiting,
        }
    }

    /// Asks, and waits for the answer. `actor` is who a change of the mode is recorded under.
    pub(crate) async fn ask(&self, actor: Arc<str>, request: GateRequest) -> Answer {
        let (serial, answer) = self.expect_answer();
        self.send(Letter::Ask {
            socket: HTTP_DOORS,
            actor,
            requests: vec![(serial, request)],
        })
        .await?;
        answer.answer().await
    }

    /// Asks whether a client of Sora's may come in; `input` makes the question out of the `reply_to`. What is told after this returned comes
    /// after it.
    pub(crate) async fn admit(
        &self,
        input: impl FnOnce(ReplyHandle) -> SoraInput,
    ) -> Result<Awaited, Error> {
        let (serial, answer) = self.expect_answer();
        self.tell(input(ReplyHandle {
            socket: HTTP_DOORS,
            serial,
        }))
        .await?;
        Ok(answer)
    }

    /// Tells what a Sora said. It is before whatever is asked after this returned.
    pub(crate) async fn tell(&self, input: SoraInput) -> Result<(), Error> {
        self.send(Letter::Sora(Box::new(input))).await
    }

    /// What goes on behind an answer belongs here.
    pub(crate) const fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    async fn send(&self, letter: Letter) -> Result<(), Error> {
        // There is nearly always room, and then nothing to wait for.
        match self.inbox.try_send(letter) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(letter)) => self.inbox.send(letter).await.map_err(|_| stopped()),
            Err(TrySendError::Closed(_)) => Err(stopped()),
        }
    }

    fn expect_answer(&self) -> (u64, Awaited) {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.last_serial += 1;
        let serial = waiting.last_serial;
        waiting.by_serial.insert(serial, sender);
        (serial, Awaited(answer))
    }
}

impl Recipient for Answers {
    fn take(&self, mail: Mail) {
        // Nobody waits through these doors.
        let Mail::Answer(serial, answer) = mail else {
            return;
        };
        let asked = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_serial
            .remove(&serial);
        // Whoever asked may be gone by now.
        if let Some(asked) = asked {
            asked.send(answer).unwrap_or_default();
        }
    }
}

impl Drop for Answers {
    /// The driver is gone. Who still waits hears that nothing will come: the senders are dropped with the map.
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_serial
            .clear();
    }
}

fn stopped() -> Error {
    Error::new(ErrorType::Internal, "soramoded is stopping")
}
