//! The groups in which `soramoded --help` and its manual page show the settings.

use clap::Command;

/// A group's heading, and the flags in it.
type Group = (&'static str, &'static [&'static str]);

/// Groups of settings, in the order of their first settings.
const GROUPS: [Group; 10] = [
    (
        "Control socket",
        &["socket", "socket-mode", "operator-group", "socket-grace"],
    ),
    (
        "Node and state",
        &[
            "node-name",
            "mode",
            "state-dir",
            "ephemeral",
            "max-connections",
            "keep-events",
        ],
    ),
    (
        "Sessions",
        &[
            "assume-complete",
            "assume-incomplete",
            "reconnect-grace",
            "stall-after",
        ],
    ),
    (
        "HTTP API",
        &["api-listen", "http-token-file", "http-host", "cors-origin"],
    ),
    (
        "Sora",
        &[
            "sora-listen",
            "sora-api",
            "sora-mode",
            "sora-token-file",
            "sora-peer",
            "shadow",
            "pending-timeout",
            "session-max-linger",
            "auth-upstream",
            "session-upstream",
            "event-upstream",
            "upstream-timeout",
        ],
    ),
    (
        "Janus",
        &[
            "janus-admin",
            "janus-way",
            "janus-admin-secret-file",
            "janus-admin-key-file",
            "janus-listen",
            "janus-room-secrets-file",
            "janus-end",
            "janus-refuse-sessions",
        ],
    ),
    (
        "Logs and metrics",
        &[
            "observe-listen",
            "peer",
            "no-status-page",
            "log-format",
            "log-level",
        ],
    ),
    (
        "Webhooks",
        &[
            "webhook",
            "webhook-format",
            "page-url",
            "webhook-events",
            "webhook-secret-file",
            "label",
            "shutdown-grace",
        ],
    ),
    ("Certificates", &["ca-file"]),
    (
        "Cluster",
        &[
            "cluster",
            "cluster-name",
            "signaling-url",
            "api-url",
            "cluster-ttl",
            "cluster-heartbeat",
            "isolated-after",
            "fence-after",
            "fence-budget",
            "on-fence",
            "dead-man",
            "cluster-ca-file",
            "cluster-cert-file",
            "cluster-key-file",
            "cluster-user",
            "cluster-password-file",
        ],
    ),
];

/// Puts each setting in its group, and in the order of the groups. The variables are explained once, after the settings.
pub(super) fn grouped(command: Command) -> Command {
    command.mut_args(|flag| {
        let flags = || {
            GROUPS
                .iter()
                .flat_map(|(heading, flags)| flags.iter().map(move |name| (*heading, *name)))
                .enumerate()
        };
        let place = flags().find(|(_, (_, name))| flag.get_long() == Some(name));
        match place {
            Some((order, (heading, _))) => flag
                .help_heading(heading)
                .display_order(order)
                .hide_env(true),
            None => flag.hide_env(true),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn each_setting_is_in_one_group() {
        let command = crate::args::command();
        let mut settings: Vec<&str> = command
            .get_arguments()
            .filter(|flag| flag.get_env().is_some())
            .filter_map(Arg::get_long)
            .collect();
        let mut grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, flags)| *flags)
            .copied()
            .chain(["config"])
            .collect();
        settings.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, settings);
    }

    #[test]
    fn the_short_help_fits_a_terminal_and_names_the_long_one() {
        let help = crate::args::command()
            .term_width(80)
            .render_help()
            .to_string();
        assert!(
            help.lines().count() <= 36 && help.contains("soramoded --help"),
            "{help}"
        );
    }

    #[test]
    fn the_help_names_each_type_of_event_that_can_be_sent() {
        let help = crate::args::command()
            .term_width(1_000)
            .render_long_help()
            .to_string();
        for event_type in soramode_protocol::event::EventType::ALL {
            assert!(
                !event_type.is_deliverable() || help.contains(event_type.name()),
                "{}",
                event_type.name()
            );
        }
    }

    #[test]
    fn the_help_fits_the_width_of_a_terminal() {
        for text in [
            crate::args::command().term_width(80).render_help(),
            crate::args::command().term_width(80).render_long_help(),
        ] {
            let text = text.to_string();
            let wide: Vec<&str> = text
                .lines()
                .filter(|line| line.chars().count() > 80)
                .collect();
            assert!(wide.is_empty(), "{wide:#?}");
        }
    }
}
