//! The parts of a help page.

use clap::builder::Styles;

pub(super) fn heading(text: &str) -> String {
    let style = *Styles::styled().get_header();
    format!("{style}{text}:{style:#}")
}

pub(super) fn paragraph(title: &str, text: &str) -> String {
    format!("{} {text}", heading(title))
}

pub(super) fn table(rows: &[(String, String)]) -> String {
    let width = rows
        .iter()
        .map(|(word, _)| word.len())
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = rows
        .iter()
        .map(|(word, text)| format!("  {word:<width$}  {text}"))
        .collect();
    lines.join("\n")
}
