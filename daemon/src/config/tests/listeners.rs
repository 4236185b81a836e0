//! Addresses of the listeners.

use super::*;

#[test]
fn a_wrong_address_is_refused_with_an_example_of_this_listener() {
    for (listener, example) in [
        ("api-listen", "127.0.0.1:3000"),
        ("sora-listen", "127.0.0.1:3100"),
        ("observe-listen", "127.0.0.1:9400"),
        ("janus-listen", "127.0.0.1:3200"),
    ] {
        let flag = try_said(&format!("--{listener} foo")).unwrap_err();
        let list = if listener == "api-listen" {
            "['foo']"
        } else {
            "'foo'"
        };
        let setting = refusal("", &format!("{listener} = {list}"));
        for error in [flag.to_string(), setting] {
            assert!(
                error.contains("got \"foo\", takes ADDRESS:PORT") && error.contains(example),
                "{listener}: {error}"
            );
        }
    }
}
