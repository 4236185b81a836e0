//! Several nodes at once: one verb on each host, one table, and one exit code.

pub(crate) mod host_answer;
pub(crate) mod hosts;
mod parallel;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::commands::{Command, HostVerb};
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure, Problem};
use crate::live;
use crate::node::Node;
use crate::output::color::Emphasis;
use crate::output::escape::escape;
use crate::output::{Cell, Column, Format, List, Output, relay};
use crate::ssh::SshHost;
use host_answer::HostAnswer;
use parallel::in_parallel;
pub(crate) use parallel::join_all;

/// Number of hosts that are asked at a time.
pub(crate) const HOSTS_AT_ONCE: usize = 8;

/// A host in the JSON.
#[derive(Serialize)]
struct NodeView<'a> {
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

/// A host that answered, or did not.
struct Asked {
    host: String,
    answer: Result<HostAnswer, Failure>,
}

impl Asked {
    fn exit(&self) -> Exit {
        match &self.answer {
            Ok(answer) => answer.exit,
            Err(failure) => failure.exit,
        }
    }
}

/// Runs a verb on each host. The exit code is that of the first failed host in the order of the list.
pub(crate) async fn run(
    command: Command,
    hosts: &[Endpoint],
    output: &mut Output,
) -> Result<Exit, Failure> {
    let verb = command.on_hosts()?;
    verb.check_several()?;
    if verb.is_watch() {
        return live::hosts::run(hosts, output).await;
    }
    let asked = ask(&verb, hosts, output).await;
    show(&verb, &asked, output)?;
    let failed = asked
        .iter()
        .map(Asked::exit)
        .find(|exit| *exit != Exit::Done);
    Ok(failed.unwrap_or(Exit::Done))
}

async fn ask(verb: &HostVerb, endpoints: &[Endpoint], output: &Output) -> Vec<Asked> {
    let asks = endpoints.iter().map(|endpoint| {
        let ask = async move {
            Asked {
                host: endpoint.host().map(SshHost::typed).unwrap_or_default(),
                answer: verb.ask(Node::Daemon(endpoint), output).await,
            }
        };
        Box::pin(ask) as std::pin::Pin<Box<dyn Future<Output = Asked> + '_>>
    });
    in_parallel(asks.collect(), HOSTS_AT_ONCE).await
}

/// Prints the table, and then the failures, a line a host.
fn show(verb: &HostVerb, asked: &[Asked], output: &mut Output) -> Result<(), Failure> {
    let columns: Vec<Column> = std::iter::once(Column::id("HOST"))
        .chain(verb.columns().iter().copied())
        .collect();
    let is_json = matches!(output.format(), Format::Json | Format::Jsonl);
    let mut list = List::begin(output, "nodes", &columns)?;
    for Asked { host, answer } in asked {
        if is_json {
            list.row(&view(host, answer), &[])?;
        } else if let Ok(answer) = answer {
            for row in &answer.rows {
                let cells: Vec<Cell<'_>> = std::iter::once(Cell::from(host.as_str()))
                    .chain(row.iter().cloned())
                    .collect();
                list.row(&(), &cells)?;
            }
        } else if let (Err(failure), Format::Table) = (answer, list.output().format()) {
            list.row(&(), &failed_row(verb, host, failure))?;
        }
    }
    list.finish(verb.describe_none())?;
    let answers = asked.iter().filter_map(|it| it.answer.as_ref().ok());
    if output.format() == Format::Table {
        for note in answers.filter_map(|answer| answer.note.as_deref()) {
            output.confirm(note)?;
        }
    }
    output.flush()?;
    for Asked { host, answer } in asked {
        if let Err(failure) = answer {
            relay(&format!("soramode: {}: {}", escape(host), failure.message));
        }
    }
    Ok(())
}

/// Returns the cells of a host that failed, with the failure in the column of the verb's answer.
fn failed_row<'a>(verb: &HostVerb, host: &'a str, failure: &Failure) -> Vec<Cell<'a>> {
    let cells = verb.columns().iter().map(|column| {
        if column.is_answer() {
            Cell::from(failure.exit.word()).colored(Some(Emphasis::Bad))
        } else {
            Cell::from("")
        }
    });
    std::iter::once(Cell::from(host)).chain(cells).collect()
}

fn view<'a>(host: &'a str, answer: &'a Result<HostAnswer, Failure>) -> NodeView<'a> {
    match answer {
        Ok(answer) => NodeView {
            host,
            node_name: Some(&answer.node_name),
            exit: answer.exit.code(),
            problem: None,
            result: Some(&answer.result),
        },
        Err(failure) => NodeView {
            host,
            node_name: None,
            exit: failure.exit.code(),
            problem: Some(failure.into()),
            result: None,
        },
    }
}
