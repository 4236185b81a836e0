//! Versions of the program and of the protocol.

/// The protocol's version. It goes up when an older peer could misread a newer one; new fields, methods and events do not count.
pub const PROTOCOL: u32 = 1;

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
