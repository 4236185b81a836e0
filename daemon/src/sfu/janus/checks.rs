//! Checks of Janus's setup, for `status` and `doctor`: settings with which locks or lists do less than they seem to.

use soramode_protocol::text::shorten;

use super::admin::AdminApi;
use super::admin_error::AdminError;
use crate::config::DEFAULT_ADMIN_SECRET;

/// Plugin with the rooms that soramoded lists and locks.
const VIDEOROOM: &str = "janus.plugin.videoroom";

/// Other plugins that a finding names: all that Janus comes with.
const PLUGINS_NAMED: usize = 12;

/// Length of a plugin's name that is shown, in bytes.
const PLUGIN_BYTES_SHOWN: usize = 64;

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
        findings.push(describe_others(&others));
    }
    Ok(findings)
}

/// `Janus has other plugins than VideoRoom (echolua, sip and 9 more), and their users are neither counted nor locked`, and how to disable them.
fn describe_others(others: &[String]) -> String {
    let names: Vec<String> = others.iter().map(|plugin| short_name(plugin)).collect();
    let plugins = if others.len() == 1 {
        "another plugin"
    } else {
        "other plugins"
    };
    let (listed, rest) = names.split_at(names.len().min(PLUGINS_NAMED));
    let more = match rest.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let libraries: Vec<String> = listed.iter().map(|name| library(name)).collect();
    format!(
        "Janus has {plugins} than VideoRoom ({}{more}), and their users are neither counted nor locked. Disable those that you do not use, in \
         janus.jcfg: plugins: {{ disable = \"{}\" }}",
        listed.join(", "),
        libraries.join(",")
    )
}

/// `sip` of `janus.plugin.sip`
fn short_name(plugin: &str) -> String {
    let name = plugin.rsplit('.').next().unwrap_or_default();
    shorten(name, PLUGIN_BYTES_SHOWN)
}

/// Returns the file of a plugin. Those that execute a script have the name of the script; Janus's own examples are known.
fn library(name: &str) -> String {
    let file = match name {
        "echojs" => "duktape",
        "echolua" => "lua",
        name => name,
    };
    format!("libjanus_{file}.so")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_other_plugins_are_named() {
        let of = |names: &[&str]| {
            let others: Vec<String> = names
                .iter()
                .map(|it| format!("janus.plugin.{it}"))
                .collect();
            describe_others(&others)
        };
        assert!(of(&["sip"]).starts_with("Janus has another plugin than VideoRoom (sip), and"));
        let two = of(&["sip", "echolua"]);
        assert!(
            two.starts_with("Janus has other plugins than VideoRoom (sip, echolua), and"),
            "{two}"
        );
        assert!(
            two.ends_with("disable = \"libjanus_sip.so,libjanus_lua.so\" }"),
            "{two}"
        );
        let many = ["x"; PLUGINS_NAMED + 2].map(|name| name.repeat(1_000));
        let many = of(&many.each_ref().map(String::as_str));
        assert!(many.contains(" and 2 more), and"), "{many}");
        assert!(many.len() < 3_000);
    }
}
