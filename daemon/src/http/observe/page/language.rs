//! Language of the page, and its texts.

use std::borrow::Cow;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::ACCEPT_LANGUAGE;
use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::{Membership, Status};
use soramode_protocol::plan::{PlanHold, PlanOutcome, PlanState, PlanStep, StallCause};

/// Languages of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Japanese,
}

impl Language {
    /// Chooses the language of `Accept-Language` with the highest weight; English without one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lists = headers.get_all(ACCEPT_LANGUAGE).iter();
        let mut best = (Self::English, 0.0);
        for range in lists
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
        {
            let (tag, weight) = range.split_once(';').unwrap_or((range, ""));
            let weight: f32 = match weight.trim().strip_prefix("q=") {
                Some(weight) => weight.parse().unwrap_or(0.0),
                None => 1.0,
            };
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let language = if primary.eq_ignore_ascii_case("ja") {
                Self::Japanese
            } else if primary.eq_ignore_ascii_case("en") {
                Self::English
            } else {
                continue;
            };
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }

    /// Returns the texts of the page.
    pub(super) const fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Japanese => &JAPANESE,
        }
    }
}

/// Texts of the page in one language.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) language: &'static str,
    pub(super) warnings: &'static str,
    pub(super) node: &'static str,
    pub(super) mode: &'static str,
    pub(super) by: &'static str,
    pub(super) reason: &'static str,
    /// Cause of a plan's end, where soramoded has ended it.
    pub(super) cause: &'static str,
    pub(super) since: &'static str,
    pub(super) until: &'static str,
    pub(super) expected_end: &'static str,
    pub(super) overdue: &'static str,
    pub(super) plan: &'static str,
    pub(super) state: &'static str,
    pub(super) next_step: &'static str,
    pub(super) sessions_end: &'static str,
    pub(super) ended: &'static str,
    pub(super) delay: &'static str,
    pub(super) held: &'static str,
    pub(super) load: &'static str,
    pub(super) sessions: &'static str,
    pub(super) connections: &'static str,
    pub(super) pending: &'static str,
    pub(super) last_hour: &'static str,
    pub(super) highest: &'static str,
    pub(super) oldest_sessions: &'static str,
    pub(super) channel: &'static str,
    pub(super) age: &'static str,
    /// Words before the time that is left.
    pub(super) ahead: &'static str,
    pub(super) rejections: &'static str,
    pub(super) shadow_rejections: &'static str,
    pub(super) members: &'static str,
    pub(super) last_known_members: &'static str,
    pub(super) peers: &'static str,
    pub(super) deliveries: &'static str,
    pub(super) pending_deliveries: &'static str,
    pub(super) failed: &'static str,
    pub(super) none: &'static str,
    pub(super) more: &'static str,
    pub(super) updated: &'static str,
    pub(super) stop_refresh: &'static str,
    pub(super) refresh: &'static str,
    /// Punctuation between two parts.
    pub(super) comma: &'static str,
    pub(super) colon: &'static str,
    pub(super) shadow: &'static str,
    pub(super) isolated: (&'static str, &'static str),
    pub(super) fenced: (&'static str, &'static str),
    pub(super) not_joined: (&'static str, &'static str),
    pub(super) not_in_force: &'static str,
    pub(super) not_in_force_remedy: &'static str,
    pub(super) stalled: &'static str,
    pub(super) stalled_remedy: &'static str,
    modes: ModeTexts,
}

/// Words and sentences of the modes.
#[derive(Debug)]
struct ModeTexts {
    open: (&'static str, &'static str),
    draining: (&'static str, &'static str),
    closed: (&'static str, &'static str),
    drained: (&'static str, &'static str),
    initial: (&'static str, &'static str),
    /// Sentence of a closed node in shadow mode.
    shadow: &'static str,
}

/// Mode as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headline {
    /// Class of the style sheet.
    pub(super) class: &'static str,
    pub(super) word: &'static str,
    pub(super) sentence: &'static str,
}

impl Texts {
    /// Returns the mode in one word, and what the node admits in it.
    pub(super) fn headline(&self, status: &Status) -> Headline {
        let (class, (word, sentence)) = match status.mode.mode {
            _ if status.is_drained() => ("drained", self.modes.drained),
            Mode::Normal => ("open", self.modes.open),
            Mode::BlockNewSession => ("draining", self.modes.draining),
            Mode::BlockNewConnection => ("closed", self.modes.closed),
            Mode::Initial => ("initial", self.modes.initial),
        };
        let sentence = match status.mode.mode {
            Mode::BlockNewSession | Mode::BlockNewConnection if status.shadow => self.modes.shadow,
            _ => sentence,
        };
        Headline {
            class,
            word,
            sentence,
        }
    }

    /// Returns the class and the word of another node's mode.
    pub(super) const fn word(&self, mode: Mode) -> (&'static str, &'static str) {
        match mode {
            Mode::Normal => ("open", self.modes.open.0),
            Mode::BlockNewSession => ("draining", self.modes.draining.0),
            Mode::BlockNewConnection => ("closed", self.modes.closed.0),
            Mode::Initial => ("initial", self.modes.initial.0),
        }
    }

    /// Returns the membership as a warning with its remedy, if it is one.
    pub(super) fn membership_warning(
        &self,
        status: &Status,
    ) -> Option<(&'static str, &'static str)> {
        match status.membership {
            Membership::Isolated => Some(self.isolated),
            Membership::Fenced if status.has_not_joined() => Some(self.not_joined),
            Membership::Fenced => Some(self.fenced),
            Membership::Standalone | Membership::Joined => None,
        }
    }
}

impl Language {
    /// Describes a plan's state, or its outcome if it is over.
    pub(super) const fn plan_state(
        self,
        state: PlanState,
        outcome: Option<PlanOutcome>,
    ) -> &'static str {
        let (english, japanese) = match (outcome, state) {
            (Some(PlanOutcome::Done), _) => ("done: the node is drained", "完了 (ドレイン完了)"),
            (Some(PlanOutcome::Cancelled), _) => ("cancelled", "取り消し"),
            (Some(PlanOutcome::Replaced), _) => {
                ("replaced by another plan", "別のプランに置き換え")
            }
            (Some(PlanOutcome::Missed), _) => ("missed: a step was too late", "期限切れ"),
            (Some(PlanOutcome::Failed), _) => ("failed", "失敗"),
            (None, PlanState::Scheduled) => ("scheduled", "予定"),
            (None, PlanState::Lead) => ("about to close the node", "ブロックの準備中"),
            (None, PlanState::Closed) => ("the node is closed", "ブロック中"),
            (None, PlanState::Ending) => ("sessions are being ended", "セッションを終了中"),
            (None, PlanState::Over) => ("over", "終了"),
        };
        self.either(english, japanese)
    }

    /// Describes the step of a plan.
    pub(super) const fn step(self, step: &PlanStep) -> &'static str {
        let (english, japanese) = match step {
            PlanStep::Unready { .. } => ("become unready", "ロードバランサーから外す"),
            PlanStep::Mode {
                mode: SettableMode::BlockNewConnection,
                ..
            } => ("reject new connections", "新規コネクションを拒否する"),
            PlanStep::Mode { .. } => ("reject new sessions", "新規セッションを拒否する"),
            PlanStep::Announce { .. } => ("announce to clients", "クライアントに通知する"),
            PlanStep::End { .. } => ("end the sessions", "セッションを終了させる"),
            PlanStep::Unknown => ("a step of a newer version", "新しいバージョンのステップ"),
        };
        self.either(english, japanese)
    }

    /// Describes why a drain does not progress.
    pub(super) const fn cause(self, cause: StallCause) -> &'static str {
        let (english, japanese) = match cause {
            StallCause::NoDepartures => (
                "no session has ended by itself",
                "自然に終了したセッションがありません",
            ),
            StallCause::SessionsIncomplete => (
                "the session list may lack sessions of the SFU",
                "セッションの一覧に漏れがある可能性があります",
            ),
            StallCause::EndFailing => (
                "the SFU does not end the sessions that it was asked to",
                "終了を要求したセッションを SFU が終了しません",
            ),
            StallCause::NoMeans => (
                "there are no means to end sessions",
                "セッションを終了させる手段がありません",
            ),
            StallCause::StorageFailed => ("the state cannot be written", "状態を書き込めません"),
        };
        self.either(english, japanese)
    }

    /// Describes why a step does not run yet.
    pub(super) const fn held(self, hold: PlanHold) -> &'static str {
        let (english, japanese) = match hold {
            PlanHold::StorageFailed => ("the state cannot be written", "状態を書き込めない"),
            PlanHold::SessionsIncomplete => {
                ("the session list is incomplete", "セッションの一覧が不完全")
            }
            PlanHold::KeepOpen => (
                "too few other nodes are open",
                "受け付け中のほかのノードが不足",
            ),
            PlanHold::Announcing => ("announcing", "通知中"),
            PlanHold::Reservation => ("its reservation is not in force", "予約が有効でない"),
            PlanHold::AnnouncedEnd => ("the announced time has not come", "通知した時刻より前"),
            PlanHold::NoMeans => ("no means to announce or to end", "通知や終了の手段がない"),
            PlanHold::NotInForce => ("rooms are still to be locked", "ルームのロック待ち"),
        };
        self.either(english, japanese)
    }

    /// Describes an actor: a part of soramoded, or as the client is known.
    pub(super) fn actor(self, actor: &str) -> Cow<'_, str> {
        let Some(system) = SystemActor::from_name(actor) else {
            return actor.into();
        };
        let japanese = match system {
            SystemActor::Start => "soramoded (起動時)",
            SystemActor::Plan => "soramoded (メンテナンスのプラン)",
            SystemActor::Expired => "--for のタイマー",
            SystemActor::Reservation => "soramoded (ノードの予約の終了)",
            SystemActor::Storage => "soramoded (状態を書き込めない)",
            SystemActor::Joined => "soramoded (クラスターに参加)",
            SystemActor::Isolated => "soramoded (クラスターとの通信が途絶)",
            SystemActor::Fenced => "soramoded (クラスターからの切り離し)",
        };
        self.either(system.describe(), japanese).into()
    }

    /// Writes a span of time, in whole minutes from an hour on.
    pub(super) fn span(self, span: Duration) -> String {
        let seconds = span.as_secs();
        let whole = if seconds < 3600 {
            seconds
        } else {
            seconds - seconds % 60
        };
        let english = humantime::format_duration(Duration::from_secs(whole)).to_string();
        match self {
            Self::English => english,
            Self::Japanese => english
                .split(' ')
                .map(in_japanese_units)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    const fn either(self, english: &'static str, japanese: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::Japanese => japanese,
        }
    }
}

/// `2 時間` for `2h`
fn in_japanese_units(part: &str) -> String {
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = part.split_at(digits);
    let unit = match unit.trim_end_matches('s') {
        "year" => "年",
        "month" => "か月",
        "day" => "日",
        "h" => "時間",
        "m" => "分",
        _ => "秒",
    };
    format!("{number} {unit}")
}

const ENGLISH: Texts = Texts {
    language: "en",
    warnings: "Warnings",
    node: "Node",
    mode: "Mode",
    by: "By",
    reason: "Reason",
    cause: "Cause",
    since: "Since",
    until: "Until",
    expected_end: "Expected end",
    overdue: "overdue by",
    plan: "Maintenance plan",
    state: "State",
    next_step: "Next step",
    sessions_end: "Sessions end from",
    ended: "Ended sessions",
    delay: "Delay",
    held: "Waits because",
    load: "Sessions and connections",
    sessions: "Sessions",
    connections: "Connections",
    pending: "of these pending",
    last_hour: "Last hour",
    highest: "highest",
    oldest_sessions: "Oldest sessions",
    channel: "Channel",
    age: "Age",
    ahead: "in ",
    rejections: "Rejected connections",
    shadow_rejections: "Rejected connections (those of the SFU are admitted)",
    members: "Cluster",
    last_known_members: "Cluster (last known state)",
    peers: "Peers",
    deliveries: "Webhook deliveries",
    pending_deliveries: "Pending",
    failed: "Failed",
    none: "None",
    more: "more",
    updated: "Updated",
    stop_refresh: "Stop the refresh every 5 seconds",
    refresh: "Refresh every 5 seconds",
    comma: ", ",
    colon: ": ",
    shadow: "Shadow mode: decisions are only logged, and clients are admitted",
    isolated: (
        "The node has lost contact with its cluster",
        "Check etcd, and run: soramode doctor",
    ),
    fenced: (
        "The node is fenced: it ends its sessions and admits no client",
        "Check etcd, and run: soramode doctor",
    ),
    not_joined: (
        "The node has not joined its cluster yet: it admits no client",
        "For the cause, run: soramode doctor",
    ),
    not_in_force: "The mode is not in force: rooms are not locked or unlocked as it requires",
    not_in_force_remedy: "Run: soramode doctor",
    stalled: "The drain does not progress",
    stalled_remedy: "Run: soramode sessions. See the runbook (man soramode-runbook): A drain that does not end",
    modes: ModeTexts {
        open: ("Open", "Every connection is admitted"),
        draining: ("Draining", "New sessions are rejected"),
        closed: ("Closed", "New connections are rejected"),
        drained: ("Drained", "The node is closed, and no session is left"),
        initial: (
            "Initial",
            "The node is not in its cluster: no connection is admitted",
        ),
        shadow: "Shadow mode: clients of the SFU are admitted, which this mode would reject",
    },
};

const JAPANESE: Texts = Texts {
    language: "ja",
    warnings: "警告",
    node: "ノード",
    mode: "モード",
    by: "変更者",
    reason: "理由",
    cause: "原因",
    since: "開始",
    until: "期限",
    expected_end: "終了予定",
    overdue: "超過",
    plan: "メンテナンスのプラン",
    state: "状態",
    next_step: "次のステップ",
    sessions_end: "セッションの終了開始",
    ended: "終了したセッション",
    delay: "遅れ",
    held: "待機の理由",
    load: "セッションとコネクション",
    sessions: "セッション",
    connections: "コネクション",
    pending: "うち接続待ち",
    last_hour: "直近 1 時間",
    highest: "最大",
    oldest_sessions: "最も古いセッション",
    channel: "チャネル",
    age: "経過時間",
    ahead: "あと ",
    rejections: "拒否したコネクション",
    shadow_rejections: "拒否したコネクション (SFU のコネクションは許可)",
    members: "クラスター",
    last_known_members: "クラスター (最後に確認した状態)",
    peers: "ほかのノード",
    deliveries: "ウェブフックの配信",
    pending_deliveries: "配信待ち",
    failed: "失敗",
    none: "なし",
    more: "件を省略",
    updated: "更新",
    stop_refresh: "5 秒ごとの自動更新を停止する",
    refresh: "5 秒ごとに自動更新する",
    comma: "、",
    colon: ": ",
    shadow: "シャドーモード: 判定は記録のみで、クライアントは許可されます",
    isolated: (
        "ノードがクラスターと通信できません",
        "etcd を確認し、soramode doctor を実行してください",
    ),
    fenced: (
        "ノードがクラスターから切り離されました。セッションを終了し、クライアントを受け付けません",
        "etcd を確認し、soramode doctor を実行してください",
    ),
    not_joined: (
        "ノードはまだクラスターに参加していないため、クライアントを受け付けません",
        "原因を確認するには、soramode doctor を実行してください",
    ),
    not_in_force: "モードのとおりにロックまたはロック解除されていないルームがあります",
    not_in_force_remedy: "soramode doctor を実行してください",
    stalled: "ドレインが停滞しています",
    stalled_remedy: "soramode sessions を実行してください。ランブック (man soramode-runbook) の「ドレインが終わらない場合」を参照してください",
    modes: ModeTexts {
        open: ("受付中", "すべてのコネクションを受け付けています"),
        draining: ("ドレイン中", "新規セッションを拒否しています"),
        closed: ("ブロック中", "新規コネクションを拒否しています"),
        drained: (
            "ドレイン完了",
            "ノードはブロック中で、セッションは残っていません",
        ),
        initial: (
            "初期状態",
            "クラスターに参加していないため、コネクションを受け付けません",
        ),
        shadow: "シャドーモードのため、このモードで拒否するはずの SFU のクライアントも許可しています",
    },
};

#[cfg(test)]
mod tests;
