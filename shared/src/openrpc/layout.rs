//! Layout of the document as text.

use serde_json::{Map, Value};

/// Longest line of an object or an array that is not divided, in bytes.
const LINE_BYTES_MAX: usize = 180;

/// Returns the document as text that people read and that a difference shows well. A line feed and
/// the spaces after it stand only between members, so a reader that needs one line removes them.
pub fn to_text(document: &Value) -> String {
    let mut text = String::new();
    write(document, 0, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let line = value.to_string();
    match value {
        Value::Object(members) if line.len() > LINE_BYTES_MAX => {
            write_members(members, depth, text);
        }
        Value::Array(items) if line.len() > LINE_BYTES_MAX => {
            divide(['[', ']'], items, depth, text, |item, text| {
                write(item, depth + 1, text);
            });
        }
        _ => text.push_str(&line),
    }
}

fn write_members(members: &Map<String, Value>, depth: usize, text: &mut String) {
    divide(['{', '}'], members, depth, text, |(name, value), text| {
        text.push_str(&Value::from(name.as_str()).to_string());
        text.push(':');
        write(value, depth + 1, text);
    });
}

/// Writes each item on a line of its own.
fn divide<T>(
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    depth: usize,
    text: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    let indent = |text: &mut String, depth| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', depth));
    };
    text.push(open);
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        indent(text, depth + 1);
        write(item, text);
    }
    indent(text, depth);
    text.push(close);
}
