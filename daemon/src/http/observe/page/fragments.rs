//! Fragments that several sections of the page have.

use maud::{Markup, html};
use soramode_protocol::text::shorten;

use super::language::{Language, Texts};
use super::messages;

/// Length of a name on the page, in bytes.
pub(super) const NAME_BYTES_SHOWN: usize = 64;

/// Says how many rows are left out.
pub(super) fn omitted(rows: usize, shown: usize, texts: &Texts) -> Markup {
    html! {
        @if rows > shown {
            p.none { (rows - shown) " " (texts.more) }
        }
    }
}

/// Shortens a name.
pub(super) fn short(name: &str) -> String {
    shorten(name, NAME_BYTES_SHOWN)
}

/// Describes an actor, and the person that it acted for.
pub(super) fn by(actor: &str, on_behalf_of: Option<&str>, language: Language) -> String {
    let actor = short(&language.actor(actor));
    match (on_behalf_of.map(short), language) {
        (None, _) => actor,
        (Some(operator), Language::English) => format!("{actor} for {operator}"),
        (Some(operator), Language::Japanese) => format!("{actor} ({operator} の代理)"),
    }
}

/// Writes a text that soramoded or another program has worded: without a template it stays English, and is cut at this length.
pub(super) fn worded(text: &str, unknown_bytes_max: usize, language: Language) -> Markup {
    let translated = messages::translate(text, unknown_bytes_max, language);
    html! {
        @if language == Language::Japanese && translated.is_ascii() {
            span lang="en" { (translated) }
        } @else {
            (translated)
        }
    }
}
