//! The reason of a change of the mode, which soramoded's API takes beside Sora's field.

use serde_json::{Value, json};

use crate::wire::Node;

#[test]
fn a_change_of_the_mode_takes_a_reason() {
    let node = Node::start();
    let longest = "a".repeat(1_024);
    let change = |reason: Value| {
        let body = json!({"mode": "block_new_session", "reason": reason});
        node.ask("Sora_20211215.ChangeMode", &body.to_string())
    };
    assert_eq!(
        change(json!(longest)).text(),
        r#"{"mode":"block_new_session"}"#
    );
    assert_eq!(
        node.ask("Soramode_20261201.GetStatus", "").json()["reason"],
        json!(longest)
    );
    for wrong in [json!(format!("{longest}a")), json!(1), json!(null)] {
        let said = change(wrong.clone());
        assert_eq!(said.status, 400, "{wrong}");
        assert_eq!(said.json()["error_type"], "InvalidParams", "{wrong}");
    }
}
