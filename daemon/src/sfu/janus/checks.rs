//! Checks of Janus's setup, for `status` and `doctor`: settings with which locks or lists do less than they seem to.

use super::admin::{AdminApi, AdminError};
use crate::config::DEFAULT_ADMIN_SECRET;

/// Plugin that soramoded knows the rooms of.
const VIDEOROOM: &str = "janus.plugin.videoroom";

/// Returns a warning for each finding.
pub(super) async fn findings(
    api: &AdminApi,
    refuses_sessions: bool,
) -> Result<Vec<String>, AdminError> {
    let mut findings = Vec::new();
    if api.secret() == DEFAULT_ADMIN_SECRET {
        findings.push(format!(
            "Janus's admin_secret is {DEFAULT_ADMIN_SECRET}, which everybody knows. Set another in janus.jcfg and in --janus-admin-secret-file"
        ));
    }
    if !api.checks_admin_key().await? {
        findings.push(
            "VideoRoom has no admin_key: private rooms cannot be listed, and any client can create a room. Set one in \
             janus.plugin.videoroom.jcfg and in --janus-admin-key-file"
                .to_owned(),
        );
    }
    let info = api.info().await?;
    if !info.accepts_new_sessions && !refuses_sessions {
        findings.push(
            "Janus refuses all new sessions (accept_new_sessions), and soramoded does not change that without --janus-refuse-sessions"
                .to_owned(),
        );
    }
    let mut others: Vec<String> = info.plugins.into_iter().map(|(name, _)| name).collect();
    others.retain(|plugin| plugin != VIDEOROOM);
    if !others.is_empty() {
        findings.push(format!(
            "Janus has other plugins than VideoRoom, and their users are neither counted nor locked: {}",
            others.join(", ")
        ));
    }
    Ok(findings)
}
