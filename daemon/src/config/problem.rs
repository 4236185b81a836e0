//! Messages about an invalid or doubtful configuration. They repeat no value: that may be a secret.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use soramode_protocol::chat::WebhookFormat;

use super::http::HttpConfig;
use super::webhooks::WebhookConfig;
use crate::args::{self, Settings, WHOLE_NUMBER};

/// Minimum similarity of a misspelled name to a known one, from 0 to 1.
const NEAR: f64 = 0.85;

/// Prefix of the settings' environment variables.
const PREFIX: &str = "SORAMODED_";

/// Permission bits with which every user may read.
const BIT_OF_ANY_READER: u32 = 0o004;

/// The key that a line of the file sets.
pub(super) fn key(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    let is_key = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte));
    is_key.then_some(key)
}

/// Rewrites a message of the TOML parser for operators.
pub(super) fn plain_message(message: &str) -> String {
    if let Some(unknown) = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'))
        .map(|(name, _)| name)
    {
        return match nearest(&unknown.replace('_', "-"), settings()) {
            Some(known) => format!("unknown field `{unknown}`: did you mean {known}?"),
            None => format!("unknown field `{unknown}`: soramoded(8) lists all settings"),
        };
    }
    let message = message
        .replace('\n', ", ")
        .replace("expected u64", &format!("expected {WHOLE_NUMBER}"));
    let message = message
        .replace("expected a boolean", "expected true or false")
        .replace("expected a string", "expected a text in quotes");
    let wrong = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix));
    match wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        // A text in quotes may be a secret.
        Some((got, takes)) if got.starts_with("string ") => format!("got a text, takes {takes}"),
        Some((got, takes)) => format!("got {got}, takes {takes}"),
        None => message,
    }
}

/// Returns warnings for variables that match no setting, such as typos.
pub(super) fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let known: Vec<String> = settings()
        .map(|name| name.replace('-', "_").to_uppercase())
        .collect();
    let names = names.filter_map(|name| name.to_str()?.strip_prefix(PREFIX).map(str::to_owned));
    let unknown = names.filter(|name| !known.contains(name));
    let told = |name: String| match nearest(&name, known.iter().cloned()) {
        Some(known) => format!(
            "environment variable {PREFIX}{name} is ignored: no such setting. Did you mean {PREFIX}{known}?"
        ),
        None => format!(
            "environment variable {PREFIX}{name} is ignored: no such setting. soramoded(8) lists all settings"
        ),
    };
    unknown.map(told).collect()
}

/// Returns a warning for a socket of the file in the place of which `SORAMODE_SOCKET` names another.
pub(super) fn overridden_socket(variable: &Path, file: Option<&Path>) -> Option<String> {
    let is_other = file.is_some_and(|file| file != variable);
    is_other.then(|| {
        "socket in the configuration file is not used, because the environment variable SORAMODE_SOCKET names another".to_owned()
    })
}

/// A folder for a state that is not kept there.
pub(super) fn unused_state_dir(settings: &Settings) -> Option<String> {
    let is_unused = settings.ephemeral == Some(true) && settings.state_dir.is_some();
    is_unused.then(|| "state-dir is not used, because ephemeral is set: the state is lost when soramoded stops".to_owned())
}

/// Secrets in a file that every user may read.
pub(super) fn readable_secrets(
    path: &Path,
    http: &HttpConfig,
    webhooks: &WebhookConfig,
) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let sora = &http.sora;
    let upstreams = [
        &sora.upstreams.auth,
        &sora.upstreams.session,
        &sora.upstreams.event,
        &sora.api,
    ];
    let receivers = &webhooks.receivers;
    let mut urls = receivers
        .iter()
        .map(|receiver| &receiver.url)
        .chain(upstreams.into_iter().flatten());
    // The path of a chat's URL is a token.
    let has_secret = receivers.iter().any(|it| it.format != WebhookFormat::Json)
        || urls.any(|url| url.0.password().is_some() || url.0.query().is_some());
    (has_secret && mode & BIT_OF_ANY_READER != 0).then(|| {
        let path = path.display();
        format!("every user can read the passwords and tokens in the URLs of {path} ({mode:04o}); run: chmod o= {path}")
    })
}

/// Names of settings, as flags without their dashes.
fn settings() -> impl Iterator<Item = String> {
    args::command()
        .get_arguments()
        .filter_map(|flag| flag.get_env().and(flag.get_long()).map(str::to_owned))
        .collect::<Vec<_>>()
        .into_iter()
}

/// Returns the most similar known name, if one is near.
fn nearest(word: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let near = known
        .map(|known| (strsim::jaro_winkler(word, &known), known))
        .filter(|(near, _)| *near >= NEAR);
    near.max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_names_another_socket_than_the_file_is_reported() {
        let (one, other) = (Path::new("/one"), Path::new("/other"));
        assert_eq!(overridden_socket(one, None), None);
        assert_eq!(overridden_socket(one, Some(one)), None);
        let warning = overridden_socket(one, Some(other)).unwrap();
        assert!(warning.contains("SORAMODE_SOCKET"), "{warning}");
    }

    #[test]
    fn an_unknown_key_is_reported_with_a_suggestion() {
        assert_eq!(
            plain_message("unknown field `reconnect-grac`, expected one of `socket`, `x`"),
            "unknown field `reconnect-grac`: did you mean reconnect-grace?"
        );
        assert_eq!(
            plain_message("unknown field `node_name`, expected `x`"),
            "unknown field `node_name`: did you mean node-name?"
        );
        assert_eq!(
            plain_message("unknown field `zzz`, expected `x`"),
            "unknown field `zzz`: soramoded(8) lists all settings"
        );
    }

    #[test]
    fn numbers_are_described_and_texts_are_not_repeated() {
        assert_eq!(
            plain_message("invalid type: string \"my, \"secret\"\", expected u64"),
            "got a text, takes a whole number from 0"
        );
        assert_eq!(
            plain_message("invalid value: integer `-1`, expected u64"),
            "got integer `-1`, takes a whole number from 0"
        );
    }

    #[test]
    fn only_the_key_of_a_line_is_shown() {
        assert_eq!(
            key("webhook = [\"http://u:secret@h/?k=v\""),
            Some("webhook")
        );
        for line in ["  \"http://u:secret@h/?k=v\", x", "", "[table]", "secret"] {
            assert_eq!(key(line), None, "{line}");
        }
    }

    #[test]
    fn unknown_variables_are_reported() {
        let names = [
            "SORAMODED_MODE",
            "SORAMODED_CONFIG",
            "SORAMODE_SOCKET",
            "SORAMODED_NODE",
            "SORAMODED_ZZZ",
            "HOME",
        ];
        let told = unknown_variables(names.into_iter().map(OsString::from));
        assert_eq!(
            told,
            [
                "environment variable SORAMODED_NODE is ignored: no such setting. Did you mean SORAMODED_NODE_NAME?",
                "environment variable SORAMODED_ZZZ is ignored: no such setting. soramoded(8) lists all settings"
            ]
        );
    }
}
