//! `man/janus.md`: its settings of Janus and of soramoded work together, in both languages.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use soramode_testkit::daemon::Daemon;
use soramoded::args::Args;
use soramoded::config::Config;

use crate::server::{Janus, free_address};
use crate::watch::Watch;

/// Returns the blocks of code of a language, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mark = format!("```{language}\n");
    let rest = text.split(mark.as_str()).skip(1);
    rest.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Addresses in place of those of the guide.
struct Addresses {
    admin: SocketAddr,
    events: SocketAddr,
}

impl Addresses {
    fn put_into(&self, text: &str) -> String {
        text.replace("127.0.0.1:7088", &self.admin.to_string())
            .replace(
                "admin_port = 7088",
                &format!("admin_port = {}", self.admin.port()),
            )
            .replace("127.0.0.1:3200", &self.events.to_string())
    }
}

fn write_secret(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_guides_settings_of_janus_and_of_soramoded_work_together() {
    for guide in ["janus.md", "janus.ja.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../man")
            .join(guide);
        let text = fs::read_to_string(path).unwrap();
        let addresses = Addresses {
            admin: free_address(),
            events: free_address(),
        };
        let [core, http, videoroom, events] = blocks(&text, "text")[..] else {
            panic!("{guide}: takes four files of Janus");
        };
        let janus = Janus::with_guide(
            addresses.admin,
            [
                ("janus.jcfg", core),
                ("janus.transport.http.jcfg", http),
                ("janus.plugin.videoroom.jcfg", videoroom),
                ("janus.eventhandler.sampleevh.jcfg", events),
            ]
            .map(|(name, text)| (name, addresses.put_into(text))),
        );
        let folder = tempfile::tempdir().unwrap();
        write_secret(&folder.path().join("janus-admin-secret"), "SECRET-1\n");
        write_secret(&folder.path().join("janus-admin-key"), "SECRET-2\n");
        let [settings] = blocks(&text, "toml")[..] else {
            panic!("{guide}: takes one file of soramoded");
        };
        let settings = addresses
            .put_into(settings)
            .replace("/etc/soramode", folder.path().to_str().unwrap());
        let file = folder.path().join("soramoded.toml");
        fs::write(&file, format!("ephemeral = true\n{settings}")).unwrap();
        let loaded = Config::load(Args {
            config: Some(file),
            ..Args::default()
        })
        .unwrap();
        let daemon = Daemon::with(|config| {
            config.http.janus = loaded.http.janus;
            config.assume_complete = loaded.assume_complete;
        });
        let mut watch = Watch::of(&daemon);
        watch.synced();
        janus.client().must_join(&json!({"room": 1, "id": 1}));
        watch.came("1/1");
    }
}
