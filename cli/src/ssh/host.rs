//! The name of a host as it is typed: `[USER@]NAME[:PORT]`.

use std::fmt;
use std::str::FromStr;

/// Limit of a host's name, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// A host to reach over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) user: Option<String>,
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
    /// The host as it was typed.
    typed: String,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        if typed.len() > HOST_BYTES_MAX {
            return Err(format!("is longer than {HOST_BYTES_MAX} bytes"));
        }
        // A user's name may have an @, a host's may not.
        let (user, address) = match typed.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, typed),
        };
        let (name, port) = split_port(address)?;
        for (what, word) in [("user", user.unwrap_or("-")), ("host", name)] {
            if user.is_none() && what == "user" {
                continue;
            }
            check_word(what, word)?;
        }
        let port = port.map(|port| match port.parse() {
            Ok(0) | Err(_) => Err(format!("{port:?} is not a port")),
            Ok(port) => Ok(port),
        });
        Ok(Self {
            user: user.map(str::to_owned),
            name: name.to_owned(),
            port: port.transpose()?,
            typed: typed.to_owned(),
        })
    }
}

/// Splits `NAME:PORT` and `[ADDRESS]:PORT`.
fn split_port(address: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = address.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((name, "")) => Ok((name, None)),
            Some((name, rest)) if rest.starts_with(':') => Ok((name, rest.strip_prefix(':'))),
            Some(_) | None => {
                Err("takes an IPv6 address as [ADDRESS] or [ADDRESS]:PORT".to_owned())
            }
        };
    }
    match address.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            Err(format!("takes an IPv6 address in brackets: [{address}]"))
        }
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((address, None)),
    }
}

/// Refuses a word that ssh would take for an option, or that no host or user has.
fn check_word(what: &str, word: &str) -> Result<(), String> {
    if word.is_empty() {
        return Err(format!("has no {what}"));
    }
    if word.starts_with('-') {
        return Err(format!("has a {what} that begins with -"));
    }
    if word.chars().any(|it| it.is_whitespace() || it.is_control()) {
        return Err(format!("has a {what} with a space or a control character"));
    }
    Ok(())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_name_and_port_are_split() {
        for (typed, user, name, port) in [
            ("sfu-02", None, "sfu-02", None),
            ("ops@sfu-02", Some("ops"), "sfu-02", None),
            ("ops@sfu-02:2222", Some("ops"), "sfu-02", Some(2_222)),
            ("a@b@sfu-02", Some("a@b"), "sfu-02", None),
            ("[fd00::1]", None, "fd00::1", None),
            (
                "ops@[fe80::1%eth0]:22",
                Some("ops"),
                "fe80::1%eth0",
                Some(22),
            ),
            ("10.0.0.1:65535", None, "10.0.0.1", Some(65_535)),
        ] {
            let host: Host = typed.parse().unwrap();
            assert_eq!(
                (host.user.as_deref(), host.name.as_str(), host.port),
                (user, name, port),
                "{typed}"
            );
            assert_eq!(host.to_string(), typed);
        }
    }

    #[test]
    fn names_that_ssh_would_misread_are_refused() {
        for wrong in [
            "",
            "@sfu-02",
            "ops@",
            "-oProxyCommand=reboot",
            "ops@-sfu",
            "-l@sfu-02",
            "sfu-02:",
            "sfu-02:0",
            "sfu-02:65536",
            "sfu-02:ssh",
            "fd00::1",
            "[fd00::1",
            "[fd00::1]22",
            "[]",
            "sfu 02",
            "sfu\n02",
        ] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong:?}");
        }
        assert!("a".repeat(256).parse::<Host>().is_err());
    }
}
