//! The remedy where no soramoded runs.

use std::path::{Path, PathBuf};

use crate::output::escape::escape;
use crate::trust::SocketOrigin;

/// Exists where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

/// The manual's section for it.
const RUNBOOK: &str = "See the runbook (man soramode-runbook): soramoded is down";

/// Returns how to start soramoded, after the paths that were tried.
pub(crate) fn how_to_start(place: SocketOrigin, tried: &[PathBuf]) -> String {
    hint(place, tried, Path::new(SYSTEMD))
}

/// Suggests systemd's unit for the system's socket only.
fn hint(place: SocketOrigin, tried: &[PathBuf], systemd: &Path) -> String {
    let shown: Vec<String> = tried
        .iter()
        .map(|path| escape(&path.to_string_lossy()).into_owned())
        .collect();
    let tried = if shown.len() > 1 {
        format!("Tried {}. ", shown.join(" and "))
    } else {
        String::new()
    };
    if matches!(place, SocketOrigin::System) && systemd.is_dir() {
        format!(
            "{tried}See why it does not run: systemctl status soramoded. Start it: sudo systemctl start soramoded. {RUNBOOK}"
        )
    } else {
        format!(
            "{tried}Start soramoded, or name its socket with --socket or SORAMODE_SOCKET. {RUNBOOK}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_named_for_its_own_socket_alone() {
        const NAME_IT: &str = "Start soramoded, or name its socket with --socket or SORAMODE_SOCKET. See the runbook (man soramode-runbook): soramoded is down";
        let there = Path::new("/");
        let absent = Path::new("/absent");
        assert_eq!(
            hint(SocketOrigin::System, &[], there),
            "See why it does not run: systemctl status soramoded. Start it: sudo systemctl start soramoded. See the runbook (man soramode-runbook): soramoded is down"
        );
        assert_eq!(hint(SocketOrigin::System, &[], absent), NAME_IT);
        assert_eq!(hint(SocketOrigin::ApiSource, &[], there), NAME_IT);
        let tried = [
            "/run/soramode/soramode.sock".into(),
            "/tmp/soramode-1000/soramode.sock".into(),
        ];
        let words = format!(
            "Tried /run/soramode/soramode.sock and /tmp/soramode-1000/soramode.sock. {NAME_IT}"
        );
        assert_eq!(hint(SocketOrigin::System, &tried, absent), words);
    }
}
