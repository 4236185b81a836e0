//! Tokens of a listener: read from a file that no other user may read, compared in constant time,
//! never shown.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::error::ConfigError;
use super::secret_file::read_secret;

/// The largest token file, in bytes.
pub const TOKEN_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The shortest token, in bytes: a shorter one could be guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// The longest token, and the longest name of one, in bytes.
pub const TOKEN_BYTES_MAX: usize = 512;

/// The tokens, each with the name that changes are recorded under.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens(Arc<[Token]>);

#[derive(PartialEq, Eq)]
struct Token {
    name: Option<String>,
    secret: String,
}

/// Token that a request presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The token's name, if it has one.
    pub name: Option<&'a str>,
}

impl Tokens {
    /// Reads a file: one token per line, as `TOKEN` or `NAME TOKEN`; empty lines and those that
    /// begin with `#` are ignored. `name` is the setting that names the file.
    pub fn read(name: &'static str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |problem: String| ConfigError::SecretFile {
            name,
            path: path.to_owned(),
            problem,
        };
        let text = read_secret(path, TOKEN_FILE_BYTES_MAX).map_err(wrong)?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let tokens: Vec<Token> = lines
            .map(|(index, line)| parse_line(index + 1, line))
            .collect::<Result<_, _>>()?;
        if tokens.is_empty() {
            return Err("has no token".to_owned());
        }
        Ok(Self(tokens.into()))
    }

    /// Returns the holder of a token, if it is one of these. The time does not depend on the
    /// contents of a token, only on its length.
    pub fn find(&self, shown: &[u8]) -> Option<Holder<'_>> {
        let mut found = None;
        for token in self.0.iter() {
            if bool::from(token.secret.as_bytes().ct_eq(shown)) {
                found = Some(Holder {
                    name: token.name.as_deref(),
                });
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

fn parse_line(number: usize, line: &str) -> Result<Token, String> {
    let mut words = line.split_whitespace();
    let (name, secret) = match (words.next(), words.next(), words.next()) {
        (Some(secret), None, _) => (None, secret),
        (Some(name), Some(secret), None) => (Some(name.to_owned()), secret),
        _ => return Err(format!("line {number}: takes TOKEN or NAME TOKEN")),
    };
    // The message does not repeat the line: it may be the secret.
    let is_plain = secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&secret.len()) {
        return Err(format!(
            "line {number}: a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} printable ASCII characters"
        ));
    }
    if name
        .as_ref()
        .is_some_and(|name| name.len() > TOKEN_BYTES_MAX)
    {
        return Err(format!(
            "line {number}: a name has at most {TOKEN_BYTES_MAX} bytes"
        ));
    }
    Ok(Token {
        name,
        secret: secret.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const SECRET: &str = "0123456789abcdef";

    fn file(text: &str, bits: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(bits)).unwrap();
        file
    }

    fn refusal(text: &str, bits: u32) -> String {
        Tokens::read("http-token-file", file(text, bits).path())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_token_is_found_by_all_of_it_and_gives_its_name() {
        let file = file(&format!("# ours\n\n{SECRET}\nci {SECRET}X\n"), 0o600);
        let tokens = Tokens::read("http-token-file", file.path()).unwrap();
        assert_eq!(tokens.find(SECRET.as_bytes()), Some(Holder { name: None }));
        assert_eq!(
            tokens.find(format!("{SECRET}X").as_bytes()),
            Some(Holder { name: Some("ci") })
        );
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "ci"] {
            assert_eq!(tokens.find(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        assert!(
            refusal(SECRET, 0o640).contains("permissions too open (0640)"),
            "{}",
            refusal(SECRET, 0o640)
        );
        assert!(refusal(SECRET, 0o602).contains("chmod 0600"));
    }

    #[test]
    fn invalid_tokens_are_refused_without_repeating_them() {
        assert!(refusal("# nothing\n", 0o600).contains("has no token"));
        let short = refusal("ci short-secret\n", 0o600);
        assert!(
            short.contains("line 1: a token has 16 to 512") && !short.contains("short-secret"),
            "{short}"
        );
        assert!(
            refusal(&format!("a b {SECRET}\n"), 0o600)
                .contains("line 1: takes TOKEN or NAME TOKEN")
        );
        assert!(refusal(&"x".repeat(TOKEN_BYTES_MAX + 1), 0o600).contains("line 1"));
        let large = format!("{SECRET}\n").repeat(4_096);
        assert!(refusal(&large, 0o600).contains("has more than 65536 bytes"));
    }
}
