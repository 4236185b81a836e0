//! `soramode status --watch`: the node's state in the terminal, kept up to date. It only reads.

mod feed;
pub(crate) mod hosts;
mod keys;
mod model;
mod screen;
mod view;

use std::time::Duration;

use soramode_protocol::or_pending::or_pending;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::output::{Format, Output, can_move_cursor};
use crate::signals::Signals;
use crate::ssh::SshHost;
use feed::Feed;
use keys::Key;
use model::Model;
use screen::Screen;

/// Limit of the updates that wait to be shown: beyond it the daemon is not polled.
const UPDATES_MAX: usize = 256;

/// Least time between two frames, except after a key.
const FRAME_PAUSE: Duration = Duration::from_millis(250);

/// Shows the node until the user quits. A daemon that does not answer at the start is an error; one
/// that is lost later is awaited.
pub(crate) async fn run(endpoint: &Endpoint, output: &Output) -> Result<Exit, Failure> {
    check_terminal(output)?;
    let (updates, incoming) = mpsc::channel(UPDATES_MAX);
    let (filters, filter) = watch::channel(model::Filter::default());
    let mut feed = Feed::new(endpoint, updates, filter);
    feed.first().await?;
    let mut signals = Signals::listen()?;
    let screen = Screen::open(output).map_err(|problem| cannot_draw(&problem))?;
    let live = Live {
        model: Model {
            host: endpoint.host().map(SshHost::shown),
            ..Model::default()
        },
        screen,
        keys: keys::read(),
        incoming,
        filters,
        drawn: None,
    };
    tokio::select! {
        exit = live.run(&mut signals) => exit,
        failure = feed.run() => Err(failure),
    }
}

/// Refuses a stdout on which nothing can be drawn.
fn check_terminal(output: &Output) -> Result<(), Failure> {
    if output.format() != Format::Table || !output.is_on_terminal() {
        let failure = Failure::new(Exit::Usage, "--watch needs a terminal");
        return Err(failure.with_hint(
            "In a script, run this repeatedly: soramode -o json status. Or read events: soramode tail",
        ));
    }
    if !can_move_cursor() {
        let failure = Failure::new(
            Exit::Usage,
            "--watch cannot draw on a terminal with this TERM",
        );
        return Err(failure.with_hint("Set TERM to the terminal's type, such as xterm-256color"));
    }
    Ok(())
}

fn cannot_draw(problem: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("cannot draw on the terminal: {problem}"),
    )
}

struct Live {
    model: Model,
    /// Restores the terminal when it is dropped.
    screen: Screen,
    keys: mpsc::UnboundedReceiver<Key>,
    incoming: mpsc::Receiver<model::Update>,
    filters: watch::Sender<model::Filter>,
    /// Time of the last frame.
    drawn: Option<Instant>,
}

impl Live {
    async fn run(mut self, signals: &mut Signals) -> Result<Exit, Failure> {
        let mut next_frame = Some(Instant::now());
        loop {
            tokio::select! {
                () = or_pending(next_frame.map(sleep_until)) => {
                    self.screen.draw(&self.model).map_err(|problem| cannot_draw(&problem))?;
                    next_frame = None;
                    self.drawn = Some(Instant::now());
                    continue;
                }
                exit = signals.next() => return Ok(exit),
                key = self.keys.recv() => match key {
                    // Without a terminal no key can quit the view.
                    None => return Ok(Exit::HungUp),
                    Some(Key::Quit) => return Ok(Exit::Done),
                    Some(Key::Interrupt) => return Ok(Exit::Interrupted),
                    Some(Key::Pause) => {
                        self.model.pause_or_go_on();
                        // Reads the events of the meantime.
                        if !self.model.is_paused {
                            self.filters.send_replace(self.model.filter);
                        }
                    }
                    Some(Key::Suspend) => self.screen.suspend().map_err(|problem| cannot_draw(&problem))?,
                    Some(Key::Filter) => {
                        self.filters.send_replace(self.model.next_filter());
                    }
                    Some(Key::Redraw) => {}
                },
                update = self.incoming.recv() => {
                    let Some(update) = update else { std::future::pending().await };
                    self.model.take(update);
                    // Updates until then are drawn in the same frame.
                    next_frame = next_frame.or(Some(self.drawn.map_or_else(Instant::now, |drawn| drawn + FRAME_PAUSE)));
                    continue;
                }
            }
            next_frame = Some(Instant::now());
        }
    }
}
