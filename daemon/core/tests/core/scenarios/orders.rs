//! Every order of some actions, each played from the same point of a story.

use super::read::Problem;
use super::story::Story;

impl Story {
    /// Plays each order of the actions from here; a line each: the order, the answers, the events, how it ends.
    pub(super) fn orders(&self, actions: &[&str]) -> Result<Vec<String>, Problem> {
        let actions: Vec<(&str, &str)> = actions
            .iter()
            .map(|line| line.split_once(" = ").ok_or("takes `name = input`"))
            .collect::<Result<_, _>>()?;
        let mut rows = Vec::new();
        for order in permutations(actions.len()) {
            let mut story = Self::start(&self.settings)?;
            for line in &self.played {
                story.play(line)?;
            }
            let (mut names, mut answers, mut events) = (Vec::new(), Vec::new(), Vec::new());
            for (name, action) in order.into_iter().map(|at| actions[at]) {
                names.push(name);
                let mut lines = Vec::new();
                for input in action.split("; ") {
                    lines.extend(story.play(input)?.into_iter().map(untimed));
                }
                answers.extend(
                    lines
                        .iter()
                        .filter_map(|line| line.strip_prefix("-> "))
                        .filter(|line| !line.starts_with("etcd: "))
                        .map(brief),
                );
                events.extend(
                    lines
                        .iter()
                        .filter_map(|line| line.strip_prefix("event "))
                        .filter_map(event_type),
                );
            }
            let end = story.play("end: GetStatus")?.concat();
            let counts = end.split("; ").nth(2).unwrap_or_default().to_owned();
            rows.push([
                names.join(" "),
                answers.join(", "),
                events.join(" "),
                counts,
            ]);
        }
        Ok(table(&rows))
    }
}

/// An effect of a deadline, without its time.
fn untimed(line: String) -> String {
    match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
        Some((_, effect)) => effect.to_owned(),
        None => line,
    }
}

/// An answer's first words, which distinguish it from the others.
fn brief(answer: &str) -> String {
    let answer = answer.split_once(": ").map_or(answer, |(_, answer)| answer);
    let words = answer.split([',', ';']).next().unwrap_or_default();
    words
        .split(" in ")
        .next()
        .unwrap_or_default()
        .split(':')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Returns the type of an event.
fn event_type(event: &str) -> Option<String> {
    event.split([' ', ':']).nth(1).map(str::to_owned)
}

fn table(rows: &[[String; 4]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    rows.iter()
        .map(|[order, answers, events, end]| {
            format!("{order:first$} | {answers:second$} | {events:third$} | {end}")
        })
        .collect()
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(of - 1) {
        for at in 0..of {
            let mut longer = shorter.clone();
            longer.insert(at, of - 1);
            all.push(longer);
        }
    }
    all.sort();
    all
}
