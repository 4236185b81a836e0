//! `soramode doctor`

mod checks;
mod cluster;
mod verdict;

use serde::Serialize;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::{HostAnswer, raw_json};
use crate::node::Node;
use crate::output::color::Emphasis;
use crate::output::escape::escape;
use crate::output::{Cell, Column, Format, Output, cells, counted};
use verdict::{Check, Verdict};

/// Check the setup and say what to fix
///
/// Exit code 1 if something is wrong; notes do not count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct DoctorView<'a> {
    checks: &'a [Check],
    is_well: bool,
}

impl<'a> DoctorView<'a> {
    fn of(checks: &'a [Check]) -> Self {
        Self {
            checks,
            is_well: count_bad(checks) == 0,
        }
    }
}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (_, checks) = checks::check(context.node, &context.output).await?;
    let view = DoctorView::of(&checks);
    show(&view, &mut context.output)?;
    match count_bad(&checks) {
        0 => Ok(Exit::Done),
        bad => Err(Failure::new(
            Exit::False,
            format!("doctor found {}", counted(bad, "problem")),
        )),
    }
}

fn count_bad(checks: &[Check]) -> u64 {
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad);
    bad.count() as u64
}

/// The columns on several hosts.
pub(super) const HOST_COLUMNS: [Column; 3] = [
    Column::word("VERDICT").answer(),
    Column::word("CHECK"),
    Column::text("HOW"),
];

/// Checks one of several hosts. The table has the checks that are not ok.
pub(super) async fn ask_host(node: Node<'_>, output: &Output) -> Result<HostAnswer, Failure> {
    let (node_name, checks) = checks::check(node, output).await?;
    let row = |check: &Check| {
        let (word, emphasis) = check.verdict.shown();
        let hint = check.advice.as_deref().map(|it| format!(". {it}"));
        let how = format!("{}{}", check.how, hint.unwrap_or_default());
        vec![
            Cell::from(word).colored(Some(emphasis)),
            check.what.into(),
            how.into(),
        ]
    };
    let not_ok = checks.iter().filter(|check| check.verdict != Verdict::Ok);
    let mut rows: Vec<Vec<Cell<'static>>> = not_ok.map(row).collect();
    let ok = (checks.len() - rows.len()) as u64;
    rows.push(vec![
        Cell::from("ok").colored(Some(Emphasis::Good)),
        "".into(),
        format!("{} ok", counted(ok, "check")).into(),
    ]);
    let exit = match count_bad(&checks) {
        0 => Exit::Done,
        _ => Exit::False,
    };
    Ok(HostAnswer {
        node_name: node_name.to_string(),
        exit,
        result: raw_json(&DoctorView::of(&checks))?,
        rows,
        note: None,
    })
}

/// Indent of a check's text.
const INDENT: usize = 18;

/// Indent of a remedy's text: below "hint: ".
const ADVICE_INDENT: usize = INDENT + 2;

fn show(view: &DoctorView<'_>, output: &mut Output) -> Result<(), Failure> {
    if matches!(output.format(), Format::Json | Format::Jsonl) {
        return output.json(view);
    }
    for Check {
        what,
        verdict,
        how,
        advice,
    } in view.checks
    {
        let (word, paint) = verdict.shown();
        let advice = advice.as_deref();
        if output.format() == Format::Plain {
            output.record(&[word, what, how, advice.unwrap_or_default()])?;
            continue;
        }
        let width = output.width().unwrap_or(usize::MAX);
        for (number, line) in cells::wrap(&escape(how), width.saturating_sub(INDENT))
            .iter()
            .enumerate()
        {
            let head = if number == 0 {
                format!(
                    "{}  {what:<10}  ",
                    output.colored(paint, &format!("{word:<4}"))
                )
            } else {
                " ".repeat(INDENT)
            };
            output.text(&format!("{head}{line}"))?;
        }
        let advice = advice.map(|advice| {
            cells::fit(
                &format!("hint: {}", escape(advice)),
                width.saturating_sub(ADVICE_INDENT),
            )
        });
        advice
            .iter()
            .flatten()
            .try_for_each(|line| output.text(&format!("{:ADVICE_INDENT$}{line}", "")))?;
    }
    Ok(())
}
