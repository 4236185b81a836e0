//! Who is being asked about: a client may be asked about twice at one time, where Sora asks again before it was answered. It is given up
//! only when the last of them is over and none has let it in.

use std::collections::HashMap;

use soramode_core::input::SoraInput;
use soramode_protocol::error::Error;
use soramode_protocol::id::ConnectionId;
use tokio::sync::Mutex;

use super::webhook::Auth;
use crate::http::asker::{Asker, Awaited};

/// Clients that are being asked about. The lock is held while the gate is told, so that it hears everything about one client in order.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    by_id: Mutex<HashMap<ConnectionId, Guest>>,
}

/// What is known of a client so far.
#[derive(Debug, Default)]
struct Guest {
    /// Questions that are not over.
    questions: u32,
    /// The gate waits for it.
    is_expected: bool,
    /// Sora was told to let it in.
    is_let_in: bool,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The gate did not let it in: it waits for nobody.
    TurnedAway,
    /// The gate waits for it, and it may come.
    LetIn,
    /// The gate waits for it in vain.
    Refused,
}

impl Guests {
    /// Asks the gate. Must be followed by [`over`](Self::over), and not be dropped.
    pub(crate) async fn ask(&self, asker: &Asker, auth: Auth) -> Result<Awaited, Error> {
        let Auth {
            channel_id,
            connection_id,
            client_id,
        } = auth;
        let mut by_id = self.by_id.lock().await;
        by_id.entry(connection_id.clone()).or_default().questions += 1;
        asker
            .admit(|reply_to| SoraInput::Admit {
                reply_to,
                channel_id,
                connection_id,
                client_id,
            })
            .await
    }

    /// A question is over. Must not be dropped.
    pub(crate) async fn over(&self, asker: &Asker, connection_id: ConnectionId, ended: Ended) {
        let mut by_id = self.by_id.lock().await;
        let Some(guest) = by_id.get_mut(&connection_id) else {
            return;
        };
        guest.questions -= 1;
        match ended {
            Ended::TurnedAway => {}
            Ended::LetIn => (guest.is_expected, guest.is_let_in) = (true, true),
            Ended::Refused => guest.is_expected = true,
        }
        if guest.questions > 0 {
            return;
        }
        let is_in_vain = guest.is_expected && !guest.is_let_in;
        by_id.remove(&connection_id);
        if is_in_vain {
            // Where the daemon is stopping nobody is waited for any more.
            asker
                .tell(SoraInput::Denied { connection_id })
                .await
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use soramode_protocol::id::ChannelId;
    use tokio_util::task::TaskTracker;

    use crate::inbox::{Letter, inbox};

    /// What the gate hears of two questions about one client that end in this way.
    async fn heard_of(ends: [Ended; 2]) -> Vec<&'static str> {
        let (inbox, mut letters) = inbox();
        let asker = Asker::open(inbox, TaskTracker::new()).await;
        let guests = Guests::default();
        let connection_id = ConnectionId::new("c").unwrap();
        for _ in ends {
            let auth = Auth {
                channel_id: ChannelId::new("a").unwrap(),
                connection_id: connection_id.clone(),
                client_id: None,
            };
            guests.ask(&asker, auth).await.unwrap();
        }
        for ended in ends {
            guests.over(&asker, connection_id.clone(), ended).await;
        }
        assert!(guests.by_id.lock().await.is_empty());
        let mut heard = Vec::new();
        while let Ok(letter) = letters.try_recv() {
            match letter {
                Letter::Sora(input) if matches!(*input, SoraInput::Admit { .. }) => {
                    heard.push("admit");
                }
                Letter::Sora(input) if matches!(*input, SoraInput::Denied { .. }) => {
                    heard.push("denied");
                }
                Letter::Open(..) => {}
                other @ (Letter::Ask { .. }
                | Letter::Gone(_)
                | Letter::Sora(_)
                | Letter::Tried { .. }
                | Letter::Etcd(_)
                | Letter::Input(_)
                | Letter::Renewed(_)
                | Letter::Looked) => panic!("{other:?}"),
            }
        }
        heard
    }

    #[tokio::test]
    async fn who_is_asked_about_twice_is_given_up_once_and_only_if_nobody_let_it_in() {
        use Ended::{LetIn, Refused, TurnedAway};
        for ends in [
            [Refused, Refused],
            [TurnedAway, Refused],
            [Refused, TurnedAway],
        ] {
            assert_eq!(
                heard_of(ends).await,
                ["admit", "admit", "denied"],
                "{ends:?}"
            );
        }
        for ends in [
            [LetIn, Refused],
            [Refused, LetIn],
            [LetIn, LetIn],
            [TurnedAway, TurnedAway],
            [TurnedAway, LetIn],
        ] {
            assert_eq!(heard_of(ends).await, ["admit", "admit"], "{ends:?}");
        }
    }
}
