//! Sessions and connections on the page: their numbers, and the chart of the last hour with its axes.

use std::time::Duration;

use maud::{Markup, html};
use soramode_protocol::node::Status;
use soramode_protocol::time::Time;

use super::super::load_history::{CHART_HEIGHT, CHART_WIDTH, Chart};
use super::language::Texts;

/// Time that the chart covers.
const CHART_TIME: Duration = Duration::from_hours(1);

/// Number of parts into which the axis of times is divided.
const TIME_PARTS: u32 = 4;

/// Lines of the axes: the top, the middle and the bottom, and each quarter of an hour.
const GRID: &str = "M0 0H360M0 50H360M0 100H360M0 0V100M90 0V100M180 0V100M270 0V100M360 0V100";

pub(super) fn load(status: &Status, chart: &Chart, now: Time, texts: &Texts) -> Markup {
    html! {
        section {
            h2 { (texts.load) }
            dl.numbers {
                div { dt { (texts.sessions) } dd { (status.sessions) } }
                div { dt { (texts.connections) } dd { (status.connections) } }
                @if status.pending > 0 {
                    div { dt { (texts.pending) } dd { (status.pending) } }
                }
            }
            (drawn(status, chart, now, texts))
        }
    }
}

/// Shows the chart: the latest sample is on the right. The present load may be higher than that of each sample.
fn drawn(status: &Status, chart: &Chart, now: Time, texts: &Texts) -> Markup {
    let highest = |samples: u64, present: u64| {
        format!("{}{}{}", texts.highest, texts.colon, samples.max(present))
    };
    let sessions = highest(chart.highest.sessions, status.sessions);
    let connections = highest(chart.highest.connections, status.connections);
    let times = (0..=TIME_PARTS)
        .rev()
        .map(|part| clock(before(now, CHART_TIME * part / TIME_PARTS)));
    let times: Vec<String> = times.collect();
    let spoken = format!(
        "{} {}-{} UTC: {} {sessions}; {} {connections}",
        texts.last_hour,
        times.first().map_or("", String::as_str),
        times.last().map_or("", String::as_str),
        texts.sessions,
        texts.connections,
    );
    html! {
        figure {
            // The label of the picture has the same in words.
            div.counts aria-hidden="true" { span { (chart.top) } span { (chart.top / 2) } span { "0" } }
            svg viewBox={ "0 -2 " (CHART_WIDTH) " " (CHART_HEIGHT + 4) } preserveAspectRatio="none" role="img" aria-label=(spoken) {
                path d=(GRID) {}
                polyline.connections-line points=(chart.connections) {}
                polyline.sessions-line points=(chart.sessions) {}
            }
            div.times aria-hidden="true" { @for time in &times { span { (time) } } }
            figcaption.key {
                span { i {} (texts.sessions) " (" (sessions) ")" }
                span { i.dashed {} (texts.connections) " (" (connections) ")" }
                span { (texts.last_hour) " (UTC)" }
            }
        }
    }
}

fn before(now: Time, span: Duration) -> Time {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Time::from_micros(now.as_micros().saturating_sub(micros))
}

/// `02:40`
fn clock(time: Time) -> String {
    let text = time.to_string();
    let clock = text.split_once('T').map_or("", |(_, clock)| clock);
    clock.chars().take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_that_of_the_chart() {
        let ends = format!("M{CHART_WIDTH} 0V{CHART_HEIGHT}");
        assert!(GRID.ends_with(&ends), "{ends}");
    }
}
