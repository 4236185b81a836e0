//! The decision table as man/protocol.md prints it, held against the gate; and what shadow mode does not take back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use soramode_core::cluster::claim::{Claim, ClaimReply, Conflict};
use soramode_core::cluster::history::{Configuration, ObservedEtcd};
use soramode_core::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};
use soramode_core::commit_failure::retract;
use soramode_core::effect::{Action, Effects};
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::member::etcd::{
    EtcdRequest, EtcdResponse, Joined, Load, MembersRead, NodeRecord,
};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{
    ClusterSettings, FenceMeans, Settings, SfuAdmission, SfuFeed, SfuSettings,
};
use soramode_core::stored::Stored;
use soramode_protocol::decision::{Connect, Decision, Explain, Lifetime};
use soramode_protocol::error::Error;
use soramode_protocol::id::{ClusterId, HistoryId, NodeName};
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{ConnectionState, ListConnections, ListRequest, Page};
use soramode_protocol::time::Time;

use crate::plain_settings::plain_settings;

const NOW: Timestamp = Timestamp {
    wall: Time::from_micros(1_795_377_600_000_000),
    boot: Duration::from_secs(1_000),
};

const CLIENT: ReplyHandle = ReplyHandle {
    socket: SocketId(1),
    serial: 1,
};

fn start(change: impl FnOnce(&mut Settings)) -> Gate {
    let mut settings = Settings {
        node_name: NodeName::new("n0").unwrap(),
        max_connections: 2,
        ..plain_settings()
    };
    change(&mut settings);
    let params = StartParams {
        settings,
        started: NOW,
        stored: Stored::default(),
    };
    let mut gate = Gate::restore(params, Seed([7; 32]));
    drop(gate.step(NOW, Input::Started(HostState::Running)));
    gate
}

fn ask(gate: &mut Gate, request: GateRequest) -> Effects {
    let input = Input::Request {
        reply_to: CLIENT,
        actor: "uid:0(ops)".into(),
        request,
    };
    gate.step(NOW, input)
}

fn connect(gate: &mut Gate, channel: &str, connection: &str) -> Effects {
    let connect = Connect {
        channel_id: channel.parse().unwrap(),
        connection_id: Some(connection.parse().unwrap()),
        client_id: None,
        lifetime: Lifetime::Explicit,
        hops: 0,
    };
    ask(gate, GateRequest::Connect(connect))
}

fn close(gate: &mut Gate, mode: SettableMode) {
    let change = ChangeMode::to(mode);
    drop(ask(gate, GateRequest::ChangeMode(Box::new(change))));
}

/// The last answer, in the words of the table.
fn answer(effects: &Effects) -> String {
    let answer = effects
        .actions
        .iter()
        .rev()
        .find_map(|action| match action {
            Action::Answer(_, answer) => Some(answer),
            _ => None,
        });
    match answer {
        Some(Ok(Reply::Decision(Decision::Offer { created: false, .. }))) => {
            "the same offer".to_owned()
        }
        Some(Ok(Reply::Decision(Decision::Offer { .. }))) => "offer".to_owned(),
        Some(Ok(Reply::Decision(Decision::Reject { reason, .. }))) => {
            format!("reject `{}`", reason.name())
        }
        Some(Ok(Reply::Decision(Decision::Redirect { .. }))) => "redirect".to_owned(),
        Some(Err(error)) => format!("error `{:?}`", error.data.error_type),
        other => panic!("{other:?}"),
    }
}

/// The number of the rule that `Explain` names.
fn rule(gate: &mut Gate, channel: &str) -> u8 {
    let channel_id = channel.parse().unwrap();
    let effects = ask(gate, GateRequest::Explain(Explain { channel_id }));
    let [Action::Answer(_, Ok(Reply::Explanation(explanation)))] = effects.actions.as_slice()
    else {
        panic!("{effects:?}")
    };
    explanation.now.rule
}

fn in_cluster(settings: &mut Settings) {
    settings.cluster = Some(ClusterSettings {
        name: "default".to_owned(),
        endpoints: Vec::new(),
        terms: LeaseTerms {
            isolated_after: Duration::from_secs(6),
            fence_after: FenceAfter::After(Duration::from_secs(30)),
            fence_budget: Duration::from_secs(5),
        },
        no_takeover_reason: None,
        on_fence: FenceMeans::Socket,
        dead_man: "grant".to_owned(),
        signaling_url: None,
        api_url: None,
        page_url: None,
        fault: PlantedFault::NONE,
        registration_ttl: Duration::from_secs(10),
    });
}

fn view(own: Option<Incarnation>) -> Box<MembersRead> {
    let node = |name, incarnation| NodeRecord {
        node_name: NodeName::new(name).unwrap(),
        incarnation,
        mode: Some(Mode::Normal),
        load: Load::default(),
        signaling_url: None,
        api_url: None,
        page_url: None,
        version: None,
        since: None,
    };
    let own_record = own.map(|own| node("n0", own));
    Box::new(MembersRead {
        sent: NOW.boot,
        received: NOW.boot,
        etcd: ObservedEtcd {
            configuration: Some(Configuration {
                cluster_id: ClusterId::new("c").unwrap(),
                history_id: HistoryId::new("h").unwrap(),
                epoch: 1,
                etcd_cluster_id: 7,
                set_back: None,
            }),
            etcd_cluster_id: 7,
            revision: 20,
            revision_before: 0,
            rollback: None,
        },
        own,
        nodes: own_record
            .into_iter()
            .chain([node("n1", Incarnation(9))])
            .collect(),
        ..MembersRead::default()
    })
}

/// A node in a cluster in which the other node owns the requested channel.
fn redirected() -> String {
    let mut gate = start(in_cluster);
    let own = Incarnation(12);
    let mut etcd = |response| gate.step(NOW, Input::Etcd(response));
    drop(etcd(EtcdResponse::MembersRead(view(None))));
    drop(etcd(EtcdResponse::Joined(Ok(Joined {
        incarnation: own,
        owners: BTreeSet::new(),
    }))));
    drop(etcd(EtcdResponse::MembersRead(view(Some(own)))));
    let effects = connect(&mut gate, "spam", "c1");
    let asks = |action: &Action| matches!(action, Action::Etcd(request) if matches!(**request, EtcdRequest::Claim { .. }));
    assert!(effects.actions.iter().any(asks), "{effects:?}");
    let claim = Claim {
        node: NodeName::new("n1").unwrap(),
        incarnation: Incarnation(9),
        fence_after: FenceAfter::Never,
        fence_budget: Duration::ZERO,
        token: Token(15),
    };
    let reply = ClaimReply::Refused(Conflict {
        claim: Some(claim),
        member: Some(own),
        mode: Some(Mode::Normal),
    });
    answer(&gate.step(
        NOW,
        Input::Etcd(EtcdResponse::ClaimReplied {
            channel_id: "spam".parse().unwrap(),
            by: own,
            reply: Ok(reply),
        }),
    ))
}

/// Returns the gate's answer where this rule is the first that applies.
fn answered(number: u8) -> String {
    let mut gate = start(|_| ());
    let mut explained = None;
    let answered = match number {
        1 => {
            drop(connect(&mut gate, "egg", "c1"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
        2 => {
            drop(connect(&mut gate, "spam", "c1"));
            close(&mut gate, SettableMode::BlockNewConnection);
            answer(&connect(&mut gate, "spam", "c1"))
        }
        3 => {
            gate = start(in_cluster);
            explained = Some(rule(&mut gate, "spam"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
        4 => {
            drop(connect(&mut gate, "spam", "c0"));
            close(&mut gate, SettableMode::BlockNewConnection);
            explained = Some(rule(&mut gate, "spam"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
        5 => {
            drop(connect(&mut gate, "egg", "c0"));
            drop(connect(&mut gate, "egg", "c2"));
            close(&mut gate, SettableMode::BlockNewSession);
            explained = Some(rule(&mut gate, "spam"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
        6 => {
            drop(connect(&mut gate, "egg", "c0"));
            drop(connect(&mut gate, "egg", "c2"));
            explained = Some(rule(&mut gate, "spam"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
        7 => redirected(),
        _ => {
            explained = Some(rule(&mut gate, "spam"));
            answer(&connect(&mut gate, "spam", "c1"))
        }
    };
    assert!(explained.is_none_or(|rule| rule == number), "{explained:?}");
    answered
}

#[test]
fn the_printed_table_agrees_with_the_gate() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let number: u8 = cells.next()?.parse().ok()?;
        Some((number, cells.last()?.trim_end_matches(" |").to_owned()))
    });
    let rows: Vec<(u8, String)> = rows.collect();
    let numbers: Vec<u8> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    for (number, printed) in rows {
        let answered = answered(number);
        assert!(
            printed.starts_with(&answered),
            "rule {number}: the page says {printed:?}, the gate {answered:?}"
        );
    }
}

/// In shadow mode a client connects whether it is offered or rejected: a failed commit takes none of that back.
#[test]
fn in_shadow_mode_a_connection_stays_pending_though_its_commit_was_refused() {
    let mut gate = start(|settings| {
        settings.mode = Some(SettableMode::BlockNewConnection);
        settings.sfu = SfuSettings {
            feed: SfuFeed::Webhooks,
            admission: SfuAdmission::Shadow,
            ..SfuSettings::default()
        };
    });
    let admit = SoraInput::Admit {
        reply_to: CLIENT,
        channel_id: "spam".parse().unwrap(),
        connection_id: "c1".parse().unwrap(),
        client_id: None,
    };
    let mut effects = gate.step(NOW, Input::Sora(admit));
    let refusal = Error::storage_unavailable("the disk is full");
    let refused = retract(&mut effects.actions, &effects.records, &refusal);
    assert_eq!(refused.connections, []);
    assert_eq!(answer(&effects), "reject `BLOCK-NEW-CONNECTION`");
    drop(gate.step(NOW, Input::StorageFailed(refused)));
    let list = GateRequest::List(ListRequest::Connections(ListConnections::default()));
    let effects = ask(&mut gate, list);
    let answer: &Answer = match effects.actions.as_slice() {
        [Action::Answer(_, answer)] => answer,
        other => panic!("{other:?}"),
    };
    let Ok(Reply::Page(Page::Connections(page))) = answer else {
        panic!("{answer:?}")
    };
    let states: Vec<ConnectionState> = page.connections.iter().map(|it| it.state).collect();
    assert_eq!(states, [ConnectionState::Pending]);
}
