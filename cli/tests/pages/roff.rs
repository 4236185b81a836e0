//! Text as roff takes it.

/// Escapes characters that roff would interpret or print differently.
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
    if line.starts_with(['.', '\'']) {
        format!("\\&{line}")
    } else {
        line.to_owned()
    }
}

/// A heading. What is escaped in it stays as it is.
pub(crate) fn upper_case(roff: &str) -> String {
    let mut pieces = roff.split('\\');
    let mut heading = pieces.next().unwrap_or_default().to_uppercase();
    for piece in pieces {
        let name = match piece.chars().next() {
            Some('(') => 3,
            Some('f') => 2,
            Some(_) | None => 1,
        };
        let (escape, text) = piece.split_at(name.min(piece.len()));
        heading.extend(["\\", escape, &text.to_uppercase()]);
    }
    heading
}

/// Returns the width in characters.
pub(crate) fn width(roff: &str) -> usize {
    let plain = ["\\fB", "\\fI", "\\fR"]
        .iter()
        .fold(roff.to_owned(), |text, font| text.replace(font, ""));
    let plain = ["(aq", "(ga", "(ha", "(ti", "e", "-"]
        .iter()
        .fold(plain, |text, name| text.replace(&format!("\\{name}"), "x"));
    plain.chars().count()
}
