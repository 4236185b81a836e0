//! Commands in soramoded's own words. It does not know how the user reaches it: they are completed with the flags that select it.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The beginning of a command.
const PROGRAM: &str = "soramode ";

/// Fields of results in soramoded's own words. Others may be a user's.
const FIELDS: [&str; 5] = ["hint", "problem", "warning", "warnings", "why"];

/// Verbs that concern one node.
pub(crate) const VERBS: [&str; 23] = [
    "announce",
    "close",
    "connect",
    "connections",
    "deliveries",
    "disconnect",
    "doctor",
    "drain",
    "end",
    "explain",
    "get",
    "history",
    "info",
    "maintain",
    "nodes",
    "open",
    "plan",
    "session",
    "sessions",
    "set",
    "status",
    "tail",
    "wait",
];

/// Completes each command of a text; `command` returns one as it is typed for the node.
pub(crate) fn completed(text: &str, command: impl Fn(&str) -> String) -> Cow<'_, str> {
    if !text.contains(PROGRAM) {
        return Cow::Borrowed(text);
    }
    let mut completed = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(PROGRAM) {
        let end = after.find(|letter: char| !letter.is_ascii_lowercase());
        let (verb, tail) = after.split_at(end.unwrap_or(after.len()));
        completed.push_str(before);
        if VERBS.contains(&verb) && !before.ends_with(is_of_a_path) {
            completed.push_str(&command(verb));
        } else {
            completed.push_str(PROGRAM);
            completed.push_str(verb);
        }
        rest = tail;
    }
    completed.push_str(rest);
    Cow::Owned(completed)
}

/// Completes the commands of a result.
pub(crate) fn completed_result(
    result: Box<RawValue>,
    command: impl Fn(&str) -> String,
) -> Box<RawValue> {
    if !result.get().contains(PROGRAM) {
        return result;
    }
    let Ok(mut value) = serde_json::from_str(result.get()) else {
        return result;
    };
    complete(&mut value, false, &command);
    to_raw_value(&value).unwrap_or(result)
}

fn complete(value: &mut Value, is_own: bool, command: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) if is_own => *text = completed(text, command).into_owned(),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| complete(item, is_own, command)),
        Value::Object(fields) => fields
            .iter_mut()
            .for_each(|(name, value)| complete(value, FIELDS.contains(&name.as_str()), command)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_of_a_path(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '/' | '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn on_host(words: &str) -> String {
        format!("soramode -H sfu-02 {words}")
    }

    #[test]
    fn commands_name_the_node_and_other_sentences_stay() {
        for (text, wanted) in [
            (
                "Then run: soramode set normal",
                "Then run: soramode -H sfu-02 set normal",
            ),
            (
                "In an emergency: soramode drain --replace, or soramode set",
                "In an emergency: soramode -H sfu-02 drain --replace, or soramode -H sfu-02 set",
            ),
            (
                "soramode is older; soramode 0.1.0 on sfu-02, soramode leaves it",
                "soramode is older; soramode 0.1.0 on sfu-02, soramode leaves it",
            ),
            (
                "soramode -H sfu-02 get, /opt/soramode get, soramode drill",
                "soramode -H sfu-02 get, /opt/soramode get, soramode drill",
            ),
            ("the command soramode ", "the command soramode "),
        ] {
            assert_eq!(completed(text, on_host), wanted);
        }
    }

    #[test]
    fn only_the_daemons_own_words_change_in_a_result() {
        let run = "run: soramode set normal";
        let result = |words: &str| {
            serde_json::json!({
                "reason": run, "warnings": [words, "none"], "sources": [{"name": run, "hint": words}], "plan": {"why": words, "at": 1.5},
            })
        };
        let raw = completed_result(to_raw_value(&result(run)).unwrap(), on_host);
        let changed: Value = serde_json::from_str(raw.get()).unwrap();
        assert_eq!(changed, result("run: soramode -H sfu-02 set normal"));
    }

    /// Lines of the golden results, and of the sources of soramoded and its protocol.
    fn lines_of(folder: &str, extension: &str) -> Vec<String> {
        let mut folders = vec![
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(folder),
        ];
        let mut lines = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    let text = fs::read_to_string(path).unwrap();
                    lines.extend(text.lines().map(str::to_owned));
                }
            }
        }
        lines
    }

    /// Returns the strings with a command, each with the field that it is in.
    fn commands_in(value: &Value, field: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::String(text) if completed(text, on_host) != *text => {
                found.push((field.to_owned(), text.clone()));
            }
            Value::Array(items) => items.iter().for_each(|it| commands_in(it, field, found)),
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, it)| commands_in(it, name, found)),
            _ => {}
        }
    }

    #[test]
    fn no_other_field_of_a_golden_result_has_a_command() {
        let mut found = Vec::new();
        for line in lines_of("shared/tests/wire/v1", "jsonl") {
            let message: Value = serde_json::from_str(&line).unwrap();
            commands_in(&message, "", &mut found);
        }
        assert!(!found.is_empty());
        for (field, text) in found {
            // `message` is that of an error.
            let is_known = FIELDS.contains(&&*field) || field == "message";
            assert!(is_known, "add {field} to FIELDS: {text}");
        }
    }

    /// Words after `soramode` in soramoded's texts that are no verbs.
    const NO_VERBS: [&str; 7] = ["checks", "leaves", "have", "is", "says", "on", "and"];

    #[test]
    fn each_command_in_the_sources_of_soramoded_is_one_that_is_completed() {
        let sources = ["shared/src", "daemon/core/src", "daemon/src"];
        let lines = sources.iter().flat_map(|folder| lines_of(folder, "rs"));
        let literals = lines.filter(|line| !line.trim_start().starts_with("//"));
        let mut checked = 0;
        for line in literals {
            for (_, after) in line.match_indices(PROGRAM).map(|(at, _)| line.split_at(at)) {
                let after = after.strip_prefix(PROGRAM).unwrap();
                let word = after.split(|letter: char| !letter.is_ascii_lowercase());
                let word = word.into_iter().next().unwrap_or_default();
                if word.is_empty() || NO_VERBS.contains(&word) {
                    continue;
                }
                assert!(VERBS.contains(&word), "{word} is no verb: {line}");
                checked += 1;
            }
        }
        assert!(checked > 15, "{checked}");
    }
}
