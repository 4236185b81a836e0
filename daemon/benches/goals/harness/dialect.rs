//! Dialects of the servers: the same requests in each server's protocol.

/// Every request of Janus' admin API has it.
pub(crate) const JANUS_SECRET: &str = "secret";

/// Alternating requests of one client, and the end of their answers.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// Said first, answered once; empty for nothing.
    pub(crate) greeting: &'static [u8],
    /// Stands once in each answer.
    pub(crate) end: u8,
    /// Its socket is one of packets (`SOCK_SEQPACKET`), each with one message.
    pub(crate) packets: bool,
    words: Words,
}

#[derive(Clone, Debug)]
enum Words {
    Soramode,
    /// Calls the two scripts by their digests.
    Redis {
        connect: String,
        disconnect: String,
    },
    /// Changes of the mode.
    Modes,
    RedisModes,
    HaProxy,
    /// Sets the admission of new sessions.
    Janus,
}

/// A message with this many requests.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) message: Vec<u8>,
    pub(crate) requests: usize,
}

impl Dialect {
    pub(crate) const fn soramode() -> Self {
        Self {
            greeting: b"",
            end: b'\n',
            packets: false,
            words: Words::Soramode,
        }
    }

    pub(crate) const fn modes() -> Self {
        Self {
            greeting: b"",
            end: b'\n',
            packets: false,
            words: Words::Modes,
        }
    }

    pub(crate) const fn redis(connect: String, disconnect: String) -> Self {
        Self {
            greeting: b"",
            end: b'\n',
            packets: false,
            words: Words::Redis {
                connect,
                disconnect,
            },
        }
    }

    /// The mode as a word that is set.
    pub(crate) const fn redis_modes() -> Self {
        Self {
            greeting: b"",
            end: b'\n',
            packets: false,
            words: Words::RedisModes,
        }
    }

    pub(crate) const fn haproxy() -> Self {
        Self {
            greeting: b"prompt\n",
            end: b'>',
            packets: false,
            words: Words::HaProxy,
        }
    }

    pub(crate) const fn janus() -> Self {
        Self {
            greeting: b"",
            end: b'}',
            packets: true,
            words: Words::Janus,
        }
    }

    /// Returns the two alternating messages of a client, each with this many requests: the second
    /// disconnects the connections of the first.
    pub(crate) fn turns(&self, client: usize, depth: usize) -> [Exchange; 2] {
        let channel = format!("channel-{client}");
        let connection = |number: usize| format!("CONNECTION{client:08}X{number:07}");
        let all = |one: &dyn Fn(usize) -> String| Exchange {
            message: (0..depth).map(one).collect::<String>().into_bytes(),
            requests: depth,
        };
        [
            all(&|number| self.come(&channel, &connection(number))),
            all(&|number| self.go(&connection(number))),
        ]
    }

    pub(crate) fn come(&self, channel: &str, connection: &str) -> String {
        match &self.words {
            Words::Soramode => format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Connect\",\"params\":{{\"channel_id\":\"{channel}\",\"connection_id\":\"{connection}\"}}}}\n"
            ),
            Words::Redis { connect, .. } => resp(&["EVALSHA", connect, "0", channel, connection]),
            Words::Modes => change_mode("block_new_session"),
            Words::RedisModes => resp(&["SET", "mode", "block_new_session"]),
            Words::HaProxy => "set server sfu/node state drain\n".to_owned(),
            Words::Janus => accept_new_sessions("false"),
        }
    }

    pub(crate) fn go(&self, connection: &str) -> String {
        match &self.words {
            Words::Soramode => {
                format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Disconnect\",\"params\":{{\"connection_id\":\"{connection}\"}}}}\n"
                )
            }
            Words::Redis { disconnect, .. } => resp(&["EVALSHA", disconnect, "0", connection]),
            Words::Modes => change_mode("normal"),
            Words::RedisModes => resp(&["SET", "mode", "normal"]),
            Words::HaProxy => "set server sfu/node state ready\n".to_owned(),
            Words::Janus => accept_new_sessions("true"),
        }
    }
}

fn change_mode(mode: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ChangeMode\",\"params\":{{\"mode\":\"{mode}\"}}}}\n"
    )
}

/// To Janus' admin API.
fn accept_new_sessions(accept: &str) -> String {
    format!(
        "{{\"janus\":\"accept_new_sessions\",\"transaction\":\"1\",\"admin_secret\":\"{JANUS_SECRET}\",\"accept\":{accept}}}"
    )
}

/// A command as Redis reads it.
pub(crate) fn resp(words: &[&str]) -> String {
    let words = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()));
    std::iter::once(format!("*{}\r\n", words.len()))
        .chain(words)
        .collect()
}
