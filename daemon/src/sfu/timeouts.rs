//! Timeouts of calls to the SFU.

use std::time::Duration;

/// Timeout of a call of the SFU about one session.
pub(super) const CALL_TIME: Duration = Duration::from_secs(8);
