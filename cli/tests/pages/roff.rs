//! Text as roff takes it.

/// With what roff would read as its own, or print as another character than was meant.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A line of text that would be a request is none.
pub(crate) fn start_line(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// How wide it will be, in characters.
pub(crate) fn width(roff: &str) -> usize {
    let plain = ["\\fB", "\\fI", "\\fR"].iter().fold(roff.to_owned(), |text, font| text.replace(font, ""));
    let plain = ["(aq", "(ga", "(ha", "(ti", "e", "-"].iter().fold(plain, |text, name| text.replace(&format!("\\{name}"), "x"));
    plain.chars().count()
}
