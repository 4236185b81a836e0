//! How it is drawn: legible in 80 columns and 24 rows, and without a colour.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Paragraph, Sparkline, Wrap};
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Status, StorageState};
use soramode_protocol::session::Session;

use super::model::{History, Line, Model};
use crate::commands::event_fields;
use crate::output::escape::{escape, quoted};
use crate::output::times;

/// The least that anything can be read on.
const ROWS_MIN: u16 = 12;
const COLUMNS_MIN: u16 = 40;

/// Columns that a history's name and its count take.
const LABEL_COLUMNS: u16 = 24;

/// What of an event would only push the rest out of sight; soramode tail shows it.
const LEFT_OUT: [&str; 6] = ["session_id", "created_time", "destroyed_time", "max_connections", "total_connections", "event_id"];

/// Bars of characters that every terminal has.
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

/// What the terminal can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) paints: bool,
    pub(super) speaks_utf8: bool,
}

impl Look {
    fn in_colour(self, colour: Color) -> Style {
        if self.paints { Style::new().fg(colour) } else { Style::new() }
    }

    /// What must not be overlooked, without a colour too.
    fn alarm(self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    fn mode(self, mode: Mode) -> Style {
        match mode {
            Mode::Normal => self.in_colour(Color::Green).add_modifier(Modifier::BOLD),
            Mode::BlockNewSession | Mode::BlockNewConnection => {
                self.in_colour(Color::Yellow).add_modifier(Modifier::BOLD | Modifier::REVERSED)
            }
            Mode::Initial => self.alarm(),
        }
    }
}

/// A name of a part.
fn heading(text: impl Into<String>) -> TextLine<'static> {
    TextLine::styled(text.into(), Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED))
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, look: Look) {
    let area = frame.area();
    let Some(status) = model.status.as_deref() else { return };
    if area.height < ROWS_MIN || area.width < COLUMNS_MIN {
        let words = format!("{}: {}, {} sessions (the window is too small for more)", status.node_name, status.mode.mode, status.sessions);
        return frame.render_widget(Paragraph::new(escape(&words).into_owned()).wrap(Wrap { trim: true }), area);
    }
    let alarms = alarms(model, status);
    let shown = u16::try_from(alarms.len()).unwrap_or(u16::MAX).min(area.height / 4);
    let parts = [
        Constraint::Length(2),
        Constraint::Length(shown),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [top, alarm, sessions, connections, facts, oldest, events, bottom] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(head(model, status, look)), top);
    let alarms: Vec<TextLine<'_>> = alarms.into_iter().map(|words| TextLine::styled(words, look.alarm())).collect();
    frame.render_widget(Paragraph::new(alarms), alarm);
    draw_history(frame, sessions, (&counted(status.sessions, "sessions"), &model.sessions), look);
    draw_history(frame, connections, (&counted(status.connections, "connections"), &model.connections), look);
    frame.render_widget(Paragraph::new(fact_lines(status)), facts);
    frame.render_widget(Paragraph::new(session_lines(&model.oldest, oldest)), oldest);
    frame.render_widget(Paragraph::new(event_lines(model, events.height)), events);
    let keys = format!(" q quit   p {}   f events: {}", if model.is_paused { "go on" } else { "pause" }, model.filter.name());
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), bottom);
}

fn counted(count: u64, name: &str) -> String {
    format!("{count:>10} {name}")
}

fn head(model: &Model, status: &Status, look: Look) -> Vec<TextLine<'static>> {
    let mode = &status.mode;
    let mut first = vec![
        Span::styled(escape(status.node_name.as_str()).into_owned(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(format!(" {} ", mode.mode), look.mode(mode.mode)),
        Span::raw(format!("  {}  {}", status.standing, times::local(times::now()))),
    ];
    if model.is_paused {
        first.push(Span::styled("  PAUSED", Style::new().add_modifier(Modifier::BOLD)));
    }
    let reason = mode.reason.as_deref().map(|reason| format!(", {}", quoted(reason))).unwrap_or_default();
    let until = mode.expires_at.map(|time| format!(", until {} (in {})", times::local(time), times::ahead(time))).unwrap_or_default();
    let second = format!("since {} by {}{reason}{until}, generation {}", times::age(mode.since), escape(&mode.actor), mode.generation);
    vec![TextLine::from(first), TextLine::raw(second)]
}

/// What is not as it should be, most urgent first.
fn alarms(model: &Model, status: &Status) -> Vec<String> {
    let mut alarms = Vec::new();
    if let Some((since, why)) = &model.lost {
        alarms.push(format!("NO DAEMON for {}: what is below is old. {}", times::span(since.elapsed()), escape(why)));
    }
    alarms.extend(status.warnings.iter().map(|warning| escape(warning).into_owned()));
    if !status.sessions_known {
        let missing = status.sources.iter().filter(|source| !source.known).map(|source| source.missing.as_deref().unwrap_or(&source.name));
        alarms.push(format!("the sessions are not known: {}", escape(&missing.collect::<Vec<&str>>().join("; "))));
    }
    if status.shadow {
        alarms.push("shadow: a Sora's clients get in whatever is decided".to_owned());
    }
    let failing = status.upstreams.iter().filter_map(|upstream| Some((upstream, upstream.problem.as_ref()?)));
    alarms.extend(failing.map(|(upstream, problem)| format!("{}: {}", escape(&upstream.name), escape(problem))));
    alarms
}

fn draw_history(frame: &mut Frame<'_>, area: Rect, named: (&str, &History), look: Look) {
    let (name, history) = named;
    let [label, bars] = Layout::horizontal([Constraint::Length(LABEL_COLUMNS), Constraint::Fill(1)]).areas(area);
    let columns = history.last(usize::from(bars.width));
    let (least, most) = (columns.iter().min().copied().unwrap_or(0), columns.iter().max().copied().unwrap_or(0));
    let range = format!("{least:>10} to {most}");
    let dim = Style::new().add_modifier(Modifier::DIM);
    let words = vec![TextLine::styled(name.to_owned(), Style::new().add_modifier(Modifier::BOLD)), TextLine::styled(range, dim)];
    frame.render_widget(Paragraph::new(words), label);
    let set = if look.speaks_utf8 { bar::NINE_LEVELS } else { ASCII_BARS };
    let sparkline = Sparkline::default().data(&columns).max(most.max(1)).bar_set(set).style(look.in_colour(Color::Cyan));
    frame.render_widget(sparkline, bars);
}

fn fact_lines(status: &Status) -> Vec<TextLine<'static>> {
    let state = match status.storage.state {
        StorageState::Memory => "in memory",
        StorageState::Ok => "on disk",
        StorageState::Failed => "CANNOT BE WRITTEN",
    };
    let owed = status.deliveries;
    let rejected: Vec<String> = status.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let rejected = if rejected.is_empty() { "nobody".to_owned() } else { rejected.join(", ") };
    vec![
        TextLine::raw(format!(
            "deliveries {} owed, {} failed   pending {}   state {state}   up {}",
            owed.pending,
            owed.failed,
            status.pending,
            times::span(std::time::Duration::from_secs(status.uptime_seconds))
        )),
        TextLine::raw(format!("rejected: {rejected}")),
    ]
}

fn session_lines(oldest: &[Session], area: Rect) -> Vec<TextLine<'static>> {
    // What is left of a row beside its numbers.
    let width = usize::from(area.width).saturating_sub(44).max(8);
    let head = format!("{:<width$} {:>12} {:>9} {:>9} {:>9}", "OLDEST SESSIONS", "AGE", "NOW", "MOST", "IN ALL");
    let row = |session: &Session| {
        let channel = cut(&escape(session.channel_id.as_str()), width);
        let Session { connections, max_connections, total_connections, created_at, .. } = session;
        TextLine::raw(format!(
            "{channel:<width$} {:>12} {connections:>9} {max_connections:>9} {total_connections:>9}",
            times::age(*created_at)
        ))
    };
    let rows = usize::from(area.height).saturating_sub(1);
    std::iter::once(heading(head)).chain(oldest.iter().take(rows).map(row)).collect()
}

/// At most so many characters; where some were cut off, that is seen.
fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        text.to_owned()
    } else {
        text.chars().take(characters.saturating_sub(1)).chain(['~']).collect()
    }
}

fn event_lines(model: &Model, height: u16) -> Vec<TextLine<'static>> {
    let rows = usize::from(height).saturating_sub(1);
    let newest_first = model.events.iter().rev().take(rows).map(|line| match line {
        Line::Event(event) => event_line(event),
        Line::Skipped => TextLine::styled("  more than can be read: some are left out here", Style::new().add_modifier(Modifier::DIM)),
    });
    std::iter::once(heading("EVENTS, newest first")).chain(newest_first).collect()
}

fn event_line(event: &Event) -> TextLine<'static> {
    let name = event.kind.event_type().map_or("unknown", EventType::name);
    let time = times::local(event.timestamp);
    // Today's date is no news.
    let time = time.split_once(' ').map_or(time.as_str(), |(_, time)| time);
    let is_left_out = |field: &String| LEFT_OUT.iter().any(|name| field.split('=').next() == Some(*name));
    let fields: Vec<String> = event_fields(event).iter().filter(|it| !is_left_out(it)).map(|it| escape(it).into_owned()).collect();
    TextLine::raw(format!("{time} {name:<20} {}", fields.join(" ")))
}
