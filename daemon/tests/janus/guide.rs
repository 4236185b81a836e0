//! `man/janus.md`: its commands set up Debian's Janus and soramoded to work together, in both ways and both languages.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use soramode_testkit::daemon::Daemon;
use soramode_testkit::janus::{Janus, free_address};
use soramoded::args::Args;
use soramoded::config::{Config, JanusConfig};
use tempfile::TempDir;

use crate::watch::Watch;

/// Configuration that Debian's Janus comes with.
const STOCK: &str = "/etc/janus";

/// Returns the blocks of code of a language, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mark = format!("```{language}\n");
    let rest = text.split(mark.as_str()).skip(1);
    rest.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A machine with the folders that the guide names.
struct Machine {
    janus: TempDir,
    soramode: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            janus: tempfile::tempdir().unwrap(),
            soramode: tempfile::tempdir().unwrap(),
        };
        for entry in fs::read_dir(STOCK).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), machine.janus.path().join(entry.file_name())).unwrap();
        }
        machine
    }

    /// Puts its folders in place of those of the guide.
    fn put_into(&self, text: &str) -> String {
        text.replace(STOCK, self.janus.path().to_str().unwrap())
            .replace("/etc/soramode", self.soramode.path().to_str().unwrap())
            .replace("-o soramode ", "")
    }

    fn run(&self, commands: &str) {
        let commands = self.put_into(commands);
        let ended = Command::new("sh")
            .args(["-euc", &commands])
            .output()
            .unwrap();
        assert!(ended.status.success(), "{commands}: {ended:?}");
    }

    /// Loads a configuration of soramoded.
    fn load(&self, settings: &str) -> JanusConfig {
        let file = self.soramode.path().join("soramoded.toml");
        let settings = self.put_into(settings);
        fs::write(&file, format!("ephemeral = true\n{settings}")).unwrap();
        let args = Args {
            config: Some(file),
            ..Args::default()
        };
        Config::load(args).unwrap().http.janus.unwrap()
    }
}

fn start(janus: JanusConfig) -> Daemon {
    Daemon::with(|config| {
        config.http.janus = Some(janus);
        config.assume_complete = false;
    })
}

#[test]
fn the_guides_commands_set_up_janus_and_soramoded() {
    for guide in ["janus.md", "janus.ja.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../man")
            .join(guide);
        let (admin, events) = (free_address(), free_address());
        let text = fs::read_to_string(path)
            .unwrap()
            .replace("127.0.0.1:7088", &admin.to_string())
            .replace("127.0.0.1:3200", &events.to_string());
        let machine = Machine::new();
        for commands in blocks(&text, "sh") {
            machine.run(commands);
        }
        let janus = Janus::of_stock(machine.janus.path(), admin);
        let [settings] = blocks(&text, "toml")[..] else {
            panic!("{guide}: takes one file of soramoded");
        };
        let daemon = start(machine.load(settings));
        let mut watch = Watch::of(&daemon);
        watch.synced();
        let [connect] = blocks(&text, "json")[..] else {
            panic!("{guide}: takes one request");
        };
        let connect: Value = serde_json::from_str(connect).unwrap();
        let decision = watch.client.get("Connect", &connect["params"]);
        assert_eq!(decision["type"], "offer", "{guide}: {decision}");
        let mut user = janus.client();
        user.must_join(&json!({"room": 1234, "id": 1}));
        watch.came("1234/1");
        assert_eq!(watch.client.status()["connections"], 1, "{guide}");
        user.destroy();
        watch.left("1234/1");
        drop((watch, daemon));
        let locking = settings.replace("janus-way = \"ask\"", "janus-way = \"lock\"");
        let daemon = start(machine.load(&locking));
        let changed = daemon
            .client()
            .get("ChangeMode", &json!({"mode": "block_new_session"}));
        assert_eq!(changed["in_force"], "yes", "{guide}: {changed}");
        let opened = daemon
            .client()
            .get("ChangeMode", &json!({"mode": "normal"}));
        assert_eq!(opened["in_force"], "yes", "{guide}: {opened}");
    }
}
