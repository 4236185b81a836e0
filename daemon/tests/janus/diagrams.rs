//! The two sequence diagrams of Sora's mode feature, with clients of a real Janus, in both ways. The test prints the answers.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::janus::client::post;
use soramode_testkit::janus::{Janus, Setup};
use soramoded::args::janus::JanusWay;

use crate::locks::set;
use crate::watch::Watch;

/// Way to apply the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ask,
    Lock,
    LockAndRefuseSessions,
}

/// A sequence diagram under way.
struct Diagram {
    way: Way,
    janus: Janus,
    control: TestClient,
    watch: Watch,
    lines: Vec<String>,
}

impl Diagram {
    /// Runs the steps on a new Janus with a new daemon, and returns the lines of the diagram.
    fn run(way: Way, steps: impl FnOnce(&mut Self)) -> Vec<String> {
        let janus = Janus::start(&Setup {
            string_ids: true,
            rooms: vec![("room-spam", ""), ("room-egg", "")],
            ..Setup::with_events()
        });
        let daemon = janus.daemon(|settings| {
            settings.listen = janus.events_to;
            if way != Way::Ask {
                settings.way = JanusWay::Lock;
            }
            settings.refuse_sessions = way == Way::LockAndRefuseSessions;
        });
        let mut watch = Watch::of(&daemon);
        watch.synced();
        let mut diagram = Self {
            way,
            janus,
            control: daemon.client(),
            watch,
            lines: Vec::new(),
        };
        steps(&mut diagram);
        eprintln!("{way:?}\n  {}", diagram.lines.join("\n  "));
        diagram.lines
    }

    fn change_mode(&mut self, mode: &str) {
        set(&mut self.control, mode);
        self.lines.push(format!("ChangeMode {mode}"));
    }

    /// Has a client connect to a channel; its application asks first if that is the way.
    fn connect(&mut self, client: u64, channel_id: &str) {
        let outcome = self.outcome(client, channel_id);
        self.lines
            .push(format!("client {client} -> {channel_id}: {outcome}"));
    }

    fn outcome(&mut self, client: u64, channel_id: &str) -> String {
        if self.way == Way::Ask {
            let connect = json!({"channel_id": channel_id});
            let decision = self.control.get("Connect", &connect);
            if decision["type"] != "offer" {
                return format!("reject {}", decision["reason"].as_str().unwrap());
            }
        }
        let create = json!({"janus": "create", "transaction": "c"});
        let created = post(self.janus.api, "/janus", &create);
        if let Some(code) = created["error"]["code"].as_u64() {
            return format!("{code}");
        }
        let id = format!("client-{client}");
        let mut user = self.janus.client();
        let (_, answer): (_, Value) = user.join(&json!({"room": channel_id, "id": id}));
        if let Some(code) = answer["error_code"].as_u64() {
            return format!("{code}");
        }
        self.watch.came(&format!("{channel_id}/{id}"));
        "joined".to_owned()
    }
}

#[test]
fn block_new_connection_refuses_the_second_client_until_the_mode_is_normal() {
    for (way, refusal) in [
        (Way::Ask, "reject BLOCK-NEW-CONNECTION"),
        (Way::Lock, "433"),
        (Way::LockAndRefuseSessions, "472"),
    ] {
        let lines = Diagram::run(way, |it| {
            it.connect(1, "spam");
            it.change_mode("block_new_connection");
            it.connect(2, "spam");
            it.change_mode("normal");
            it.connect(2, "spam");
        });
        let expected = [
            "client 1 -> spam: joined",
            "ChangeMode block_new_connection",
            &format!("client 2 -> spam: {refusal}"),
            "ChangeMode normal",
            "client 2 -> spam: joined",
        ];
        assert_eq!(lines, expected);
    }
}

#[test]
fn block_new_session_refuses_a_new_channel_and_lets_clients_join_one_with_a_session() {
    for (way, refusal) in [
        (Way::Ask, "reject BLOCK-NEW-SESSION"),
        (Way::Lock, "433"),
        (Way::LockAndRefuseSessions, "433"),
    ] {
        let lines = Diagram::run(way, |it| {
            it.connect(1, "spam");
            it.change_mode("block_new_session");
            it.connect(2, "egg");
            it.connect(3, "spam");
        });
        let expected = [
            "client 1 -> spam: joined",
            "ChangeMode block_new_session",
            &format!("client 2 -> egg: {refusal}"),
            "client 3 -> spam: joined",
        ];
        assert_eq!(lines, expected);
    }
}
