//! Drawing the view: legible in 80 columns and 24 rows, and without colours.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Paragraph, Sparkline, Wrap};
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Status, StorageState};
use soramode_protocol::plan::Plan;
use soramode_protocol::session::Session;

use super::model::{History, Line, Model};
use crate::last_status::SHADOW;
use crate::mode_info::closed_by;
use crate::output::escape::{escape, quoted};
use crate::output::{cells, event, times};
use crate::plan::describe::{describe_plan_state, describe_stalled, progress_parts};

/// Least size of the terminal.
const ROWS_MIN: u16 = 12;
const COLUMNS_MIN: u16 = 40;

/// Columns for the name and count of a history.
const LABEL_COLUMNS: u16 = 24;

/// Fields of events that are left out; soramode tail shows them.
const LEFT_OUT: [&str; 6] = [
    "session_id",
    "created_time",
    "destroyed_time",
    "max_connections",
    "total_connections",
    "event_id",
];

/// Bars for terminals without UTF-8.
const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "=",
    five_eighths: "=",
    half: "-",
    three_eighths: "-",
    one_quarter: ".",
    one_eighth: ".",
    empty: " ",
};

/// Capabilities of the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) paints: bool,
    pub(super) speaks_utf8: bool,
}

impl Theme {
    fn in_colour(self, colour: Color) -> Style {
        if self.paints {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// Returns the style of alarms, visible without colours too.
    fn alarm(self) -> Style {
        self.in_colour(Color::Red)
            .add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    fn mode(self, mode: Mode) -> Style {
        match mode {
            Mode::Normal => self.in_colour(Color::Green).add_modifier(Modifier::BOLD),
            Mode::BlockNewSession | Mode::BlockNewConnection => self
                .in_colour(Color::Yellow)
                .add_modifier(Modifier::BOLD | Modifier::REVERSED),
            Mode::Initial => self.alarm(),
        }
    }
}

/// Returns the heading of a part.
fn heading(text: impl Into<String>) -> TextLine<'static> {
    TextLine::styled(
        text.into(),
        Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
    )
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    let Some(status) = model.status.as_deref() else {
        return;
    };
    if area.height < ROWS_MIN || area.width < COLUMNS_MIN {
        let words = format!(
            "{}: {}, {} sessions (the window is too small for more)",
            status.node_name, status.mode.mode, status.sessions
        );
        return frame.render_widget(
            Paragraph::new(escape(&words).into_owned()).wrap(Wrap { trim: true }),
            area,
        );
    }
    let head = head(model, status, theme, area.width);
    let alarms = alarm_lines(&alarms(model, status), area);
    let facts = fact_lines(status, area.width);
    let length = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let parts = [
        length(head.len()),
        length(alarms.len()),
        Constraint::Length(2),
        Constraint::Length(2),
        length(facts.len()),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [
        top,
        alarm,
        sessions,
        connections,
        below,
        oldest,
        events,
        bottom,
    ] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(head), top);
    let alarms: Vec<TextLine<'_>> = alarms
        .into_iter()
        .map(|words| TextLine::styled(words, theme.alarm()))
        .collect();
    frame.render_widget(Paragraph::new(alarms), alarm);
    draw_history(
        frame,
        sessions,
        &counted(status.sessions, "session"),
        &model.sessions,
        theme,
    );
    let name = counted(status.connections, "connection");
    draw_history(frame, connections, &name, &model.connections, theme);
    frame.render_widget(Paragraph::new(facts), below);
    frame.render_widget(
        Paragraph::new(session_lines(&model.oldest, status.sessions, oldest)),
        oldest,
    );
    frame.render_widget(Paragraph::new(event_lines(model, events)), events);
    let keys = format!(
        " q quit   p {}   f events: {}",
        if model.is_paused { "continue" } else { "pause" },
        model.filter.name()
    );
    frame.render_widget(
        Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)),
        bottom,
    );
}

fn counted(count: u64, name: &str) -> String {
    format!("{count:>10} {name}{}", if count == 1 { "" } else { "s" })
}

/// Returns the node and its mode with as many facts as fit, and the time and reason of the mode.
fn head(model: &Model, status: &Status, theme: Theme, width: u16) -> Vec<TextLine<'static>> {
    const NAME_CELLS_MIN: usize = 12;
    let mode = &status.mode;
    let width = usize::from(width);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let shown_mode = format!(" {} ", mode.mode);
    let paused = match (status.sessions_complete, model.is_paused) {
        (true, false) => "",
        (true, true) => "  PAUSED",
        (false, false) => "  INCOMPLETE",
        (false, true) => "  INCOMPLETE  PAUSED",
    };
    let room = width
        .saturating_sub(cells::width(&shown_mode) + paused.len() + 2)
        .max(NAME_CELLS_MIN);
    let name = cells::cut_middle(&escape(status.node_name.as_str()), room).into_owned();
    let mut left = room.saturating_sub(cells::width(&name));
    let mut first = vec![
        Span::styled(name, bold),
        Span::raw("  "),
        Span::styled(shown_mode, theme.mode(mode.mode)),
        Span::styled(paused, bold),
    ];
    for part in [
        format!("  {}", status.membership_words()),
        format!("  {}", times::local(times::now())),
    ] {
        if part.len() <= left {
            left -= part.len();
            first.push(Span::raw(part));
        }
    }
    let reason = mode
        .reason
        .as_deref()
        .map(|reason| format!(", {}", quoted(reason)))
        .unwrap_or_default();
    let until = mode
        .expires_at
        .map(|time| {
            format!(
                ", reopens at {} ({})",
                times::local(time),
                times::until(time)
            )
        })
        .unwrap_or_default();
    let expected = mode
        .expected_end_at
        .map(|time| format!(", expected end {}", times::until(time)))
        .unwrap_or_default();
    let left = match status.sessions {
        _ if !mode.mode.is_block() => String::new(),
        0 if status.is_drained() => "drained; ".to_owned(),
        sessions => format!("{} left; ", counted(sessions, "session").trim_start()),
    };
    let second = format!(
        "{left}set {} ago by {}{reason}{until}{expected} (generation {})",
        times::age(mode.since),
        escape(&closed_by(mode)),
        mode.generation
    );
    let plan = status.plan.as_deref().map(describe_plan);
    let lines = std::iter::once(second)
        .chain(plan)
        .flat_map(|line| cells::wrap(&line, width))
        .map(TextLine::raw);
    std::iter::once(TextLine::from(first))
        .chain(lines)
        .collect()
}

/// `plan 7Q2K9XA0 is closed; announces in 9 min`
fn describe_plan(plan: &Plan) -> String {
    let state = format!("plan {} is {}", plan.id, describe_plan_state(plan));
    std::iter::once(state)
        .chain(progress_parts(plan))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Lists the problems, most urgent first.
fn alarms(model: &Model, status: &Status) -> Vec<String> {
    let mut alarms = Vec::new();
    if let Some((since, why)) = &model.lost {
        // Over ssh the reason says which of both is lost.
        let lost = match &model.host {
            Some(host) => format!("NO CONNECTION to {host}"),
            None => "NO DAEMON".to_owned(),
        };
        alarms.push(format!(
            "{lost} for {}: showing the last known state. {}",
            times::span(since.elapsed()),
            escape(why)
        ));
    }
    alarms.extend(
        status
            .warnings
            .iter()
            .map(|warning| escape(warning).into_owned()),
    );
    if !status.sessions_complete {
        let missing = status
            .sources
            .iter()
            .filter(|source| !source.complete)
            .map(|source| source.incomplete_reason.as_deref().unwrap_or(&source.name));
        alarms.push(format!(
            "session list incomplete: {}",
            escape(&missing.collect::<Vec<&str>>().join("; "))
        ));
    }
    alarms.extend(
        status
            .stalled
            .as_ref()
            .map(|stalled| format!("STALLED {}", describe_stalled(stalled))),
    );
    if status.shadow {
        alarms.push(SHADOW.to_owned());
    }
    let problem = status
        .cluster
        .as_deref()
        .and_then(|cluster| cluster.problem.as_ref());
    alarms.extend(problem.map(|problem| format!("cluster: {}", escape(problem))));
    let failing = status
        .upstreams
        .iter()
        .filter_map(|upstream| Some((upstream, upstream.problem.as_ref()?)));
    alarms.extend(
        failing
            .map(|(upstream, problem)| format!("{}: {}", escape(&upstream.name), escape(problem))),
    );
    alarms
}

/// Wraps the alarms, each whole, since the remedy is at its end; adds a line if not all fit.
fn alarm_lines(alarms: &[String], area: Rect) -> Vec<String> {
    let mut lines: Vec<String> = alarms
        .iter()
        .flat_map(|alarm| cells::fit_flush(alarm, usize::from(area.width)))
        .collect();
    let room = usize::from(area.height / 2);
    if lines.len() > room {
        let left_out = lines.len() - room + 1;
        lines.truncate(room.saturating_sub(1));
        lines.push(
            cells::cut(
                &format!("and {left_out} more lines: soramode status"),
                usize::from(area.width),
            )
            .into_owned(),
        );
    }
    lines
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, name: &str, history: &History, theme: Theme) {
    let [label, bars] =
        Layout::horizontal([Constraint::Length(LABEL_COLUMNS), Constraint::Fill(1)]).areas(area);
    let columns = history.last(usize::from(bars.width));
    let least = columns.iter().min().copied().unwrap_or(0);
    let most = columns.iter().max().copied().unwrap_or(0);
    let range = format!("{least} to {most}");
    let range = format!("{range:>0$}", usize::from(LABEL_COLUMNS - 1));
    let dim = Style::new().add_modifier(Modifier::DIM);
    let words = vec![
        TextLine::styled(name.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
        TextLine::styled(range, dim),
    ];
    frame.render_widget(Paragraph::new(words), label);
    let set = if theme.speaks_utf8 {
        bar::NINE_LEVELS
    } else {
        ASCII_BARS
    };
    let sparkline = Sparkline::default()
        .data(&columns)
        .max(most.max(1))
        .bar_set(set)
        .style(theme.in_colour(Color::Cyan));
    frame.render_widget(sparkline, bars);
}

fn fact_lines(status: &Status, width: u16) -> Vec<TextLine<'static>> {
    let state = match status.storage.state {
        StorageState::Memory => "in memory",
        StorageState::Ok => "on disk",
        StorageState::Failed => "CANNOT BE WRITTEN",
    };
    let deliveries = status.deliveries;
    let rejected: Vec<String> = status
        .rejected
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let rejected = if rejected.is_empty() {
        "0 connections".to_owned()
    } else {
        rejected.join(", ")
    };
    let uptime = times::span(std::time::Duration::from_secs(status.uptime_seconds));
    let width = usize::from(width);
    let facts = [
        format!(
            "deliveries: {} pending, {} failed",
            deliveries.pending, deliveries.failed
        ),
        format!("pending connections: {}", status.pending),
        format!("state {state}"),
        format!("up {uptime}"),
    ];
    let rejected = format!("rejected: {rejected}");
    packed(&facts, width)
        .iter()
        .chain([&rejected])
        .flat_map(|fact| cells::wrap(fact, width))
        .map(TextLine::raw)
        .collect()
}

/// Puts parts into lines, and none of them into two where a line has room for it.
fn packed(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if cells::width(line) + cells::width(part) + "; ".len() <= width => {
                line.extend(["; ", part]);
            }
            Some(_) | None => lines.push(part.clone()),
        }
    }
    lines
}

/// Cells for a session's age and for each count, with the gap before them.
const AGE_CELLS: usize = 13;
const COUNT_CELLS: usize = 9;

/// Lists the oldest sessions. A narrow terminal leaves out the past counts before it cuts a
/// channel's name.
fn session_lines(oldest: &[Session], total: u64, area: Rect) -> Vec<TextLine<'static>> {
    const CHANNEL_CELLS_MIN: usize = 24;
    let width = usize::from(area.width);
    let room = width.saturating_sub(AGE_CELLS + COUNT_CELLS);
    let past_counts = (room.saturating_sub(CHANNEL_CELLS_MIN) / COUNT_CELLS).min(2);
    let channel_cells = room - past_counts * COUNT_CELLS;
    let line = |channel: &str, age: &str, counts: [&str; 3]| {
        let counts = counts
            .iter()
            .take(1 + past_counts)
            .map(|count| cells::padded_left(count, COUNT_CELLS))
            .collect::<String>();
        format!(
            "{}{}{counts}",
            cells::padded(&cells::cut_middle(channel, channel_cells), channel_cells),
            cells::padded_left(age, AGE_CELLS)
        )
    };
    let row = |session: &Session| {
        let Session {
            connections,
            max_connections,
            total_connections,
            created_at,
            ..
        } = session;
        let counts = [
            connections,
            max_connections.max(connections),
            total_connections.max(connections),
        ]
        .map(ToString::to_string);
        let channel = escape(session.channel_id.as_str());
        TextLine::raw(line(
            &channel,
            &times::age(*created_at),
            counts.each_ref().map(String::as_str),
        ))
    };
    let rows = usize::from(area.height).saturating_sub(1);
    let names = heading(line("OLDEST SESSIONS", "AGE", ["NOW", "MAX", "TOTAL"]));
    let is_cut = total > oldest.len().min(rows) as u64;
    let shown = oldest.len().min(rows.saturating_sub(usize::from(is_cut)));
    let more = (is_cut && rows > 0).then(|| {
        TextLine::raw(format!(
            "and {} more: soramode sessions",
            total.saturating_sub(shown as u64)
        ))
    });
    std::iter::once(names)
        .chain(oldest.iter().take(shown).map(row))
        .chain(more)
        .collect()
}

fn event_lines(model: &Model, area: Rect) -> Vec<TextLine<'static>> {
    let rows = usize::from(area.height).saturating_sub(1);
    let width = usize::from(area.width);
    let newest_first = model.events.iter().rev().take(rows).map(|line| match line {
        Line::Event(event) => TextLine::raw(cells::cut(&event_line(event), width).into_owned()),
        Line::Skipped => TextLine::styled(
            "  too many events to show: some are left out",
            Style::new().add_modifier(Modifier::DIM),
        ),
    });
    std::iter::once(heading("EVENTS, newest first"))
        .chain(newest_first)
        .collect()
}

fn event_line(event: &Event) -> String {
    let name = event.kind.event_type().map_or("unknown", EventType::name);
    let is_left_out = |field: &String| {
        LEFT_OUT
            .iter()
            .any(|name| field.split('=').next() == Some(*name))
    };
    let fields: Vec<String> = event::fields_for_people(event)
        .iter()
        .filter(|it| !is_left_out(it))
        .map(|it| escape(it).into_owned())
        .collect();
    format!(
        "{} {} {}",
        times::clock(event.timestamp),
        cells::padded(name, 20),
        fields.join(" ")
    )
}
