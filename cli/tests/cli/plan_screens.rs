//! Screens of plans on a terminal of 80 columns, with a channel of which each character takes two cells.

use std::path::Path;

use serde_json::json;

use crate::support::{Daemon, Fake, PROGRAM, Reply};
use crate::terminal::Terminal;

const RISK: &str = "--accept-risk=cuts-clients";

/// A node with one session, and a plan that ends it.
fn daemon() -> Daemon {
    let daemon = Daemon::with_subscriber();
    daemon.connect("第一会議室・営業本部・週次定例ミーティング", "c1");
    daemon.ok(&[
        "drain",
        "--tighten-after",
        "15m30s",
        "--end-after",
        "40m40s",
        "--announce",
        "10m,1m",
        "--announce-text",
        "第一会議室: このミーティングはあと{minutes}分で終了します。お早めに退出してください",
        RISK,
        "-m",
        "CHG-1 カーネル更新",
        "--no-wait",
        "-q",
    ]);
    daemon
}

/// Opens a terminal of 80 columns, and returns its screen once the command has ended.
fn shown(socket: &Path, words: &str) -> String {
    let script = format!(
        "cd {}; TZ=UTC {PROGRAM} --socket {} {words}; echo ended; exec sleep 600",
        socket.parent().unwrap().display(),
        socket.file_name().unwrap().display()
    );
    let terminal = Terminal::open(&script, (80, 60));
    let screen = terminal.until_shown("ended");
    assert!(!terminal.has_wrapped(), "{words}:\n{screen}");
    screen
}

/// The screen's lines without times, ids and users: each digit is 0.
fn lines(screen: &str, daemon: &Daemon) -> Vec<String> {
    let id = daemon.json(&["plan"]).1["plan"]["id"].clone();
    let actor = daemon.json(&["plan"]).1["plan"]["owner"].clone();
    let text = screen
        .replace(id.as_str().unwrap(), "PLAN-ID-")
        .replace(actor.as_str().unwrap(), "USER");
    text.lines()
        .take_while(|line| *line != "ended")
        .map(|line| {
            line.chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn a_plan_is_shown_with_its_steps() {
    let daemon = daemon();
    let screen = shown(&daemon.socket(), "plan");
    assert_eq!(
        lines(&screen, &daemon),
        [
            "PLAN",
            "  plan       PLAN-ID-",
            "  state      closed",
            "  next       tighten in 00 min 00 s",
            "  node       node-00: block_new_session, 0 session, 0 connection",
            "  by         USER",
            "  reason     CHG-0 カーネル更新",
            "  started    0000-00-00 00:00:00 +00:00 (0 s ago)",
            "  to cancel  soramode --socket soramode.sock plan cancel PLAN-ID-",
            "STEPS",
            "  close      done 0000-00-00 00:00:00 +00:00 (0 s ago): block_new_session",
            "  tighten    0000-00-00 00:00:00 +00:00 (in 00 min 00 s): block_new_connection",
            "  announce   0000-00-00 00:00:00 +00:00 (in 00 min 00 s): 第一会議室:",
            "             このミーティングはあと{minutes}分で終了します。お早めに退出してくだ",
            "             さい",
            "  announce   0000-00-00 00:00:00 +00:00 (in 00 min 00 s): 第一会議室:",
            "             このミーティングはあと{minutes}分で終了します。お早めに退出してくだ",
            "             さい",
            "  end        0000-00-00 00:00:00 +00:00 (in 00 min 00 s): 00/min",
        ],
        "{screen}"
    );
}

#[test]
fn a_status_names_the_plan() {
    let daemon = daemon();
    let screen = shown(&daemon.socket(), "status");
    let lines = lines(&screen, &daemon);
    let of_plan: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .skip_while(|line| *line != "PLAN")
        .take_while(|line| *line != "SESSIONS")
        .collect();
    assert_eq!(
        of_plan,
        [
            "PLAN",
            "  plan         PLAN-ID-, closed",
            "  next         tighten in 00 min 00 s",
            "  ends         0000-00-00 00:00:00 +00:00 (in 00 min 00 s)",
            "  to cancel    soramode --socket soramode.sock plan cancel PLAN-ID-",
        ],
        "{screen}"
    );
}

#[test]
fn a_wait_shows_the_next_step_on_its_line() {
    let daemon = daemon();
    let script = format!(
        "{PROGRAM} --socket {} drain; exec sleep 600",
        daemon.socket().display()
    );
    let terminal = Terminal::open(&script, (80, 40));
    let screen = terminal.until_shown("1 of 1 session left");
    assert!(
        screen.contains("1 of 1 session left; tightens in 1"),
        "{screen}"
    );
    assert!(!terminal.has_wrapped(), "{screen}");
}

#[test]
fn an_announcement_that_failed_fits_the_terminal() {
    let daemon = Fake::start(|method| match method {
        "Announce" => Reply::Result(json!({
            "id": "J8486AV8KN7H92SBDFZ2NPKWPM",
            "channels": 2,
            "by": {"sora_api": {"told": 1, "failed": 1}, "subscribers": 0, "webhooks": 0},
            "problems": [{
                "channel_id": "第一会議室・営業本部・週次定例ミーティング・その一",
                "problem": "no answer in time",
            }],
        })),
        _ => Reply::Error(-32_601, "MethodNotFound"),
    });
    let screen = shown(&daemon.socket(), "announce お知らせ");
    assert_eq!(
        screen.lines().take(4).collect::<Vec<_>>(),
        [
            "announced to 1 of 2 channels, by Sora's API to 1 channel",
            "soramode: the announcement failed for 1 of 2 channels",
            "  \"第一会議室・営業本部・週次定例ミーティング・その一\": no answer in time",
            "ended",
        ],
        "{screen}"
    );
}
