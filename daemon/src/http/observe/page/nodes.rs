//! Other nodes on the page: the members of the cluster, and the peers.

use maud::{Markup, html};
use soramode_protocol::chat::PAGE_URL_BYTES_MAX;
use soramode_protocol::http_client::read_url;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{ClusterNode, Membership, Status};

use super::super::peers::PeerState;
use super::fragments::{NAME_BYTES_SHOWN, omitted, short, worded};
use super::language::{Language, Texts};

/// Number of nodes that each list of nodes shows.
pub(super) const NODES_SHOWN: usize = 16;

/// Row of a node.
struct Row<'node> {
    name: &'node str,
    /// URL of its page.
    page: Option<&'node str>,
    /// Its state, or why there is none.
    state: Result<State, &'node str>,
}

/// State of a node; a part that is not known is shown as `-`.
struct State {
    mode: Option<Mode>,
    sessions: Option<u64>,
    connections: Option<u64>,
}

/// Lists the members of the cluster: for a node that is not joined the others are as it last saw them, and the title says so.
pub(super) fn members(status: &Status, members: &[ClusterNode], language: Language) -> Markup {
    let texts = language.texts();
    let title = match status.membership {
        Membership::Joined | Membership::Standalone => texts.members,
        Membership::Isolated | Membership::Fenced => texts.last_known_members,
    };
    let rows = members.iter().map(|node| Row {
        name: node.node_name.as_str(),
        page: node.cluster_page_url.as_deref().filter(|url| is_web(url)),
        state: Ok(State {
            mode: if node.node_name == status.node_name {
                Some(status.mode.mode)
            } else {
                node.mode.filter(|_| node.connected)
            },
            sessions: node.sessions,
            connections: node.connections,
        }),
    });
    table(title, &rows.collect::<Vec<_>>(), language)
}

pub(super) fn peers(peers: &[PeerState], language: Language) -> Markup {
    let rows = peers.iter().map(|peer| match &peer.status {
        Ok(status) => Row {
            name: status.node_name.as_str(),
            page: None,
            state: Ok(State {
                mode: Some(status.mode),
                sessions: Some(status.sessions),
                connections: Some(status.connections),
            }),
        },
        Err(problem) => Row {
            name: &peer.url,
            page: None,
            state: Err(problem),
        },
    });
    table(language.texts().peers, &rows.collect::<Vec<_>>(), language)
}

fn table(title: &str, rows: &[Row<'_>], language: Language) -> Markup {
    let texts = language.texts();
    html! {
        section {
            h2 { (title) }
            table {
                tr { th { (texts.node) } th { (texts.mode) } th.n { (texts.sessions) } th.n { (texts.connections) } }
                @for row in rows.iter().take(NODES_SHOWN) {
                    tr {
                        td {
                            @match row.page {
                                Some(page) => a href=(page) { (short(row.name)) },
                                None => (short(row.name)),
                            }
                        }
                        @match &row.state {
                            Ok(state) => (cells(state, texts)),
                            Err(problem) => td colspan="3" { span.closed { (worded(problem, NAME_BYTES_SHOWN, language)) } },
                        }
                    }
                }
            }
            (omitted(rows.len(), NODES_SHOWN, texts))
        }
    }
}

fn cells(state: &State, texts: &Texts) -> Markup {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    html! {
        td {
            @match state.mode.map(|mode| texts.word(mode)) {
                Some((class, word)) => span class=(class) { (word) },
                None => "-",
            }
        }
        td.n { (number(state.sessions)) }
        td.n { (number(state.connections)) }
    }
}

/// Returns true for the URL of a page. Another node has published it, and a browser must run no script of it.
fn is_web(url: &str) -> bool {
    url.len() <= PAGE_URL_BYTES_MAX && read_url(url).is_ok()
}
