//! `soramode -H HOST,… status --watch`: a line for each host, kept up to date. It only reads.

use std::time::Duration;

use soramode_protocol::node::{GetStatus, Status};
use soramode_protocol::or_pending::or_pending;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use super::keys::{self, Key};
use super::screen::Screen;
use super::{FRAME_PAUSE, cannot_draw, check_terminal};
use crate::commands::status::{HOST_COLUMNS, host_row};
use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::fleet::join_all;
use crate::output::{Cell, Column, Output, table_lines};
use crate::signals::Signals;
use crate::ssh::SshHost;

/// Pause between two reads of a host.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// Limit of the updates that wait to be shown.
const UPDATES_MAX: usize = 64;

/// The last state of a host, and its number in the list.
type Update = (usize, Result<Box<Status>, String>);

/// Shows the hosts until the user quits. A host that does not answer is asked again.
pub(crate) async fn run(endpoints: &[Endpoint], output: &Output) -> Result<Exit, Failure> {
    check_terminal(output)?;
    let mut signals = Signals::listen()?;
    let (updates, incoming) = mpsc::channel(UPDATES_MAX);
    let screen = Screen::open(output).map_err(|problem| cannot_draw(&problem))?;
    let view = HostsView {
        screen,
        output,
        rows: endpoints
            .iter()
            .map(|endpoint| Row {
                host: endpoint.host().map(SshHost::typed).unwrap_or_default(),
                last: None,
                problem: Some("connecting".to_owned()),
            })
            .collect(),
    };
    let polls = endpoints
        .iter()
        .enumerate()
        .map(|(number, endpoint)| poll(number, endpoint, &updates));
    tokio::select! {
        exit = view.run(incoming, &mut signals) => exit,
        _ = join_all(polls, endpoints.len()) => Ok(Exit::Done),
    }
}

/// Reads the status of a host again and again, over one connection as long as it lasts.
async fn poll(number: usize, endpoint: &Endpoint, updates: &Sender<Update>) {
    let mut daemon: Option<Daemon<'_>> = None;
    loop {
        let read = read(endpoint, &mut daemon).await;
        if read.is_err() {
            daemon = None;
        }
        let update = read.map_err(|failure| failure.message);
        if updates.send((number, update)).await.is_err() {
            return;
        }
        sleep(READ_PAUSE).await;
    }
}

async fn read<'a>(
    endpoint: &'a Endpoint,
    daemon: &mut Option<Daemon<'a>>,
) -> Result<Box<Status>, Failure> {
    let daemon = match daemon {
        Some(daemon) => daemon,
        None => daemon.insert(endpoint.connect().await?),
    };
    daemon.call(&GetStatus {}).await.map(Box::new)
}

/// A host on the screen.
struct Row {
    host: String,
    last: Option<Box<Status>>,
    problem: Option<String>,
}

struct HostsView<'a> {
    /// Restores the terminal when it is dropped.
    screen: Screen,
    output: &'a Output,
    rows: Vec<Row>,
}

impl HostsView<'_> {
    async fn run(
        mut self,
        mut incoming: Receiver<Update>,
        signals: &mut Signals,
    ) -> Result<Exit, Failure> {
        let mut keys = keys::read();
        let mut next_frame = Some(Instant::now());
        loop {
            tokio::select! {
                () = or_pending(next_frame.map(sleep_until)) => {
                    next_frame = None;
                    self.draw()?;
                }
                exit = signals.next() => return Ok(exit),
                key = keys.recv() => {
                    match key {
                        None => return Ok(Exit::HungUp),
                        Some(Key::Quit) => return Ok(Exit::Done),
                        Some(Key::Interrupt) => return Ok(Exit::Interrupted),
                        Some(Key::Suspend) => {
                            self.screen.suspend().map_err(|problem| cannot_draw(&problem))?;
                        }
                        Some(Key::Redraw | Key::Pause | Key::Filter) => {}
                    }
                    next_frame = Some(Instant::now());
                }
                Some((number, update)) = incoming.recv() => {
                    if let Some(row) = self.rows.get_mut(number) {
                        row.take(update);
                    }
                    // Updates until then are drawn in the same frame.
                    next_frame = next_frame.or(Some(Instant::now() + FRAME_PAUSE));
                }
            }
        }
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let columns: Vec<Column> = std::iter::once(Column::id("HOST"))
            .chain(HOST_COLUMNS)
            .collect();
        let rows: Vec<Vec<Cell<'_>>> = self.rows.iter().map(|row| row.cells(self.output)).collect();
        let width = self.screen.width();
        let mut lines = table_lines(&columns, &rows, width);
        let problems = self.rows.iter().filter_map(|row| {
            let problem = row.problem.as_deref()?;
            Some(format!("{}: {problem}", row.host))
        });
        lines.push(String::new());
        lines.extend(problems);
        lines.push("q quits".to_owned());
        self.screen
            .draw_lines(&lines)
            .map_err(|problem| cannot_draw(&problem))
    }
}

impl Row {
    fn take(&mut self, update: Result<Box<Status>, String>) {
        match update {
            Ok(status) => {
                self.last = Some(status);
                self.problem = None;
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Returns the cells; those of the last status for a host that does not answer now.
    fn cells(&self, output: &Output) -> Vec<Cell<'_>> {
        let host = Cell::from(self.host.as_str());
        let rest = match &self.last {
            Some(status) => host_row(status, output),
            None => vec![Cell::from(""); HOST_COLUMNS.len()],
        };
        std::iter::once(host).chain(rest).collect()
    }
}
