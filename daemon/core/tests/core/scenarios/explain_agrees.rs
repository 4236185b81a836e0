//! `Explain` says what `Connect` would: in every situation of a channel in its cluster, now and under each mode.

use super::story;

/// A channel's claim in etcd: its owner, and whether the newest read of the members shows that node.
const CLAIMS: [&str; 9] = [
    "",
    "owner=node-02@18:19:30s/5s",
    "owner=node-03@17:19:30s/5s",
    "owner=node-03@17:19:0s/0s",
    "owner=node-03@17:19:never/5s",
    "owner=node-03@9:19:never/5s",
    "owner=node-01@7:19:never/5s",
    "owner=node-01@21:40:30s/5s",
    "owner=node-04@1500:1501:30s/5s",
];

/// The nodes that are there beside this one.
const OTHERS: [&str; 4] = [
    "",
    "node-02@18:normal:0/100",
    "node-02@18:normal:90/100",
    "node-02@18:block_new_session:0/100",
];

const MODES: [&str; 3] = ["normal", "block_new_session", "block_new_connection"];

/// Content of etcd.
#[derive(Clone, Copy, Debug)]
struct Etcd {
    claim: &'static str,
    member: &'static str,
    published: &'static str,
    others: &'static str,
    answers: bool,
}

impl Etcd {
    fn refused(&self) -> String {
        let mode = format!("mode={}", self.published);
        if self.answers {
            ["refused", self.claim, self.member, &mode].join(" ")
        } else {
            "failed=\"no etcd answers\"".to_owned()
        }
    }

    /// Returns etcd's response to a request, as the next line of the story.
    fn respond(&mut self, request: &str) -> Option<String> {
        if request == "read members" {
            return Some(format!(
                "etcd: read own=21 rev=2000 {} node-04@1500:normal:99/100",
                self.others
            ));
        }
        if request.starts_with("read claim spam") {
            return Some(format!("etcd: found spam {}", self.refused()));
        }
        let (op, _) = request.split_once(" spam, by 21")?;
        let writes = self.answers && self.member == "member=21" && self.published == "normal";
        let wins = match op.rsplit(' ').next()? {
            "claim" => writes && self.claim.is_empty(),
            "over" | "rewrite" => writes,
            "release" => {
                self.claim = "";
                false
            }
            _ => false,
        };
        let outcome = if wins {
            "won=50".to_owned()
        } else {
            self.refused()
        };
        Some(format!("etcd: replied spam by=21 {outcome}"))
    }
}

/// Goes on with the story until the last request in it is answered, as etcd has it; gives the answer's lines.
fn until_answered(story: &mut String, mut etcd: Etcd) -> Vec<String> {
    for _ in 0..12 {
        let replayed = story::replay(story).unwrap_or_else(|problem| panic!("{problem}\n{story}"));
        let lines: Vec<&str> = replayed.lines().collect();
        let last = lines
            .iter()
            .rposition(|line| !line.starts_with("  "))
            .unwrap();
        let answer = lines[last..]
            .iter()
            .position(|line| line.starts_with("  -> a: ") && !line.ends_with("later"));
        if let Some(at) = answer {
            return lines[last + at..]
                .iter()
                .map(|line| line.trim_start().trim_start_matches("-> a: ").to_owned())
                .collect();
        }
        let response = lines[last..]
            .iter()
            .filter_map(|line| line.strip_prefix("  -> etcd: "))
            .find_map(|request| etcd.respond(request));
        story.push_str(&response.unwrap_or_else(|| panic!("nothing comes\n{replayed}")));
        story.push('\n');
    }
    panic!("never answered\n{story}");
}

/// Returns the part of the answer that both of them have.
fn brief(answer: &str) -> String {
    let answer = answer.to_lowercase();
    let kind = answer.split([' ', ':', ',']).next().unwrap_or_default();
    let kind = if kind == "error" { "unavailable" } else { kind };
    let words: Vec<&str> = answer.split([' ', ',', ':']).collect();
    let after = |word: &str| {
        words
            .iter()
            .position(|it| *it == word)
            .and_then(|at| words.get(at + 1))
            .copied()
            .unwrap_or_default()
    };
    let why = answer
        .split_once("cannot be asked: ")
        .map(|(_, why)| why.split(". ").next().unwrap_or_default())
        .unwrap_or_default();
    let detail = match kind {
        "redirect" => after("to").to_owned(),
        "reject" => format!("{} {}", after("reject"), after("ms")),
        "unavailable" => why.to_owned(),
        _ => String::new(),
    };
    format!("{kind} {detail}").trim().to_owned()
}

/// A node that is joined, and then set to a mode that the others may know of or not.
fn joined(settings: &str, mode: &str, etcd: Etcd) -> String {
    let mut story = format!(
        "start cluster {settings}\netcd: read rev=20\netcd: joined 21\netcd: read own=21 node-03@17:normal:0/100 {0}\n\
         @1s etcd: read own=21 {0}\n",
        etcd.others
    );
    if mode != "normal" {
        story.push_str(&changed_to(mode));
    }
    story
}

fn changed_to(mode: &str) -> String {
    format!("ops: ChangeMode {mode}\netcd: published {mode}\n")
}

fn agrees(settings: &str, from: &str, etcd: Etcd) -> usize {
    let mut explained = joined(settings, from, etcd);
    explained.push_str("a: Explain spam\n");
    let explained = until_answered(&mut explained, etcd);
    let line = |begins: &str| {
        explained
            .iter()
            .find_map(|line| line.strip_prefix(begins))
            .unwrap_or_else(|| panic!("{explained:?}"))
    };
    let mut compared = 0;
    for to in MODES {
        let (said, published) = if to == from {
            (line(&format!("now, in {to}: ")), etcd.published)
        } else {
            (line(&format!("in {to}: ")), to)
        };
        let mut connects = joined(settings, from, etcd);
        if to != from {
            connects.push_str(&changed_to(to));
        }
        connects.push_str("a: Connect spam one\n");
        let answer = until_answered(&mut connects, Etcd { published, ..etcd }).remove(0);
        assert_eq!(
            brief(said),
            brief(&answer),
            "{etcd:?}, explained in {from}, connected in {to}:\n{said}\n{connects}"
        );
        compared += 1;
    }
    compared
}

/// In one mode: as it is, full, not published yet, without its key in etcd, without etcd.
fn agrees_in(from: &'static str, (claim, others): (&'static str, &'static str)) -> usize {
    let etcd = Etcd {
        claim,
        member: "member=21",
        published: from,
        others,
        answers: true,
    };
    let situations = [
        ("", etcd),
        ("max=0", etcd),
        (
            "",
            Etcd {
                published: "block_new_connection",
                ..etcd
            },
        ),
        ("", Etcd { member: "", ..etcd }),
        (
            "",
            Etcd {
                answers: false,
                ..etcd
            },
        ),
    ];
    situations
        .into_iter()
        .map(|(settings, etcd)| agrees(settings, from, etcd))
        .sum()
}

#[test]
fn explain_agrees_with_connect_in_every_situation_of_a_cluster() {
    let worlds = CLAIMS
        .into_iter()
        .flat_map(|claim| OTHERS.map(|others| (claim, others)));
    let compared: usize = worlds
        .flat_map(|world| MODES.map(|from| agrees_in(from, world)))
        .sum();
    assert_eq!(
        compared,
        CLAIMS.len() * OTHERS.len() * MODES.len() * MODES.len() * 5
    );
}
