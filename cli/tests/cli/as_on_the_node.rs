//! Verbs over ssh print the same as on the node itself, but for the flag of their suggested commands.

use crate::fleet::Fleet;

/// Commands that change nothing.
const COMMANDS: &[&[&str]] = &[
    &["get"],
    &["status"],
    &["info"],
    &["sessions"],
    &["session", "spam"],
    &["session", "no-such"],
    &["connections"],
    &["disconnect", "no-such"],
    &["history"],
    &["plan"],
    &["plan", "cancel"],
    &["deliveries"],
    &["doctor"],
    &["explain", "eggs"],
    &["is", "mode=normal"],
    &["is", "drained"],
    &["nodes"],
    &["wait", "mode=block_new_session"],
    &["tail", "--since", "all", "--no-follow"],
    &["end", "--all"],
];

/// Leaves out the times that have passed since something, which are numbers and units: "3 min 2 s ago".
fn without_ages(text: &str) -> String {
    let is_digit = |letter: char| letter.is_ascii_digit();
    let without_age = |part: &str| {
        let mut words: Vec<&str> = part.split(' ').collect();
        while let [.., number, "s" | "min" | "h" | "d"] = words[..]
            && number.ends_with(is_digit)
        {
            words.truncate(words.len() - 2);
            let before = number.trim_end_matches(is_digit);
            if !before.is_empty() {
                words.push(before);
            }
        }
        words.join(" ")
    };
    let parts: Vec<String> = text.split(" ago").map(without_age).collect();
    parts.join(" ago")
}

#[test]
fn verbs_over_ssh_print_the_same_as_on_the_node() {
    let fleet = Fleet::start(1);
    let node = &fleet.daemons[0];
    node.connect("spam", "c1");
    node.ok(&["set", "block_new_session", "-m", "CHG-1"]);
    for format in ["table", "plain"] {
        for command in COMMANDS {
            let args = [&["-o", format], *command].concat();
            let mut there = node.run(&args);
            let mut here = fleet.run(&[&["-H", "sfu-01"], &args[..]].concat());
            for text in [&mut here.stdout, &mut here.stderr] {
                *text = without_ages(&text.replace("soramode -H sfu-01 ", "soramode "));
            }
            for text in [&mut there.stdout, &mut there.stderr] {
                *text = without_ages(text);
            }
            assert_eq!(here.code, there.code, "{args:?}: {here:?} {there:?}");
            assert_eq!(here.stdout, there.stdout, "{args:?}");
            assert_eq!(here.stderr, there.stderr, "{args:?}");
        }
    }
}
