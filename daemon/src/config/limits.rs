//! Checks of values against their limits.

use std::path::PathBuf;
use std::time::Duration;

use soramode_core::settings::STALL_AFTER_DEFAULT;
use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;

use super::error::ConfigError;
use crate::args::DurationArg;

/// The longest `--reconnect-grace`, `--stall-after` and `--socket-grace`: 366 days.
pub const DURATION_MAX: Duration = Duration::from_hours(366 * 24);

/// The shortest `--stall-after`.
pub const STALL_AFTER_MIN: Duration = Duration::from_secs(1);

pub(super) fn check_path(path: PathBuf) -> Result<PathBuf, ConfigError> {
    match path.as_os_str().len() {
        1..=SOCKET_PATH_BYTES_MAX => Ok(path),
        bytes => Err(ConfigError::OutOfRange {
            name: "socket",
            got: format!("{} ({bytes} bytes)", path.display()),
            takes: format!("a path of 1 to {SOCKET_PATH_BYTES_MAX} bytes"),
        }),
    }
}

pub(super) fn check_count(name: &'static str, count: u64, max: u64) -> Result<u64, ConfigError> {
    match count {
        1.. if count <= max => Ok(count),
        _ => Err(ConfigError::OutOfRange {
            name,
            got: count.to_string(),
            takes: format!("1 to {max}"),
        }),
    }
}

pub(super) fn check_duration(
    name: &'static str,
    said: Option<DurationArg>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    match said.map_or(default, Into::into) {
        duration if duration <= DURATION_MAX => Ok(duration),
        duration => Err(ConfigError::OutOfRange {
            name,
            got: humantime::format_duration(duration).to_string(),
            takes: format!("0s to {} days", DURATION_MAX.as_secs() / (24 * 60 * 60)),
        }),
    }
}

pub(super) fn check_stall_after(said: Option<DurationArg>) -> Result<Duration, ConfigError> {
    match said.map_or(STALL_AFTER_DEFAULT, Into::into) {
        duration if (STALL_AFTER_MIN..=DURATION_MAX).contains(&duration) => Ok(duration),
        duration => Err(ConfigError::OutOfRange {
            name: "stall-after",
            got: humantime::format_duration(duration).to_string(),
            takes: format!("1s to {} days", DURATION_MAX.as_secs() / (24 * 60 * 60)),
        }),
    }
}
