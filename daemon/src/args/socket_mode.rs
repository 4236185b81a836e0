//! Permission bits of the control socket, as people write them.

use std::fmt;
use std::str::FromStr;

/// The permission bits a socket can be given.
const SOCKET_MODE_BITS: u32 = 0o777;

/// The bits without which the daemon's own user could not use the socket.
const SOCKET_MODE_BITS_NEEDED: u32 = 0o600;

/// Permission bits of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8)
            .ok()
            .filter(|bits| {
                bits & !SOCKET_MODE_BITS == 0
                    && bits & SOCKET_MODE_BITS_NEEDED == SOCKET_MODE_BITS_NEEDED
            })
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "got {text:?}, takes octal permission bits from 0600 to 0777, such as \"0660\""
                )
            })
    }
}
