//! Daemons that misbehave.

use crate::support::{Fake, Reply};

#[test]
fn a_daemon_that_dies_over_a_request_cannot_be_reached() {
    let ended = Fake::start(|_| Reply::Close).run(&["get"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("it closed the connection without an answer"),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_is_not_soramoded_is_named() {
    let ended = Fake::start(|_| Reply::Line("HTTP/1.1 400 Bad Request".to_owned())).run(&["get"]);
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(ended.stderr.contains("is not soramoded"), "{ended:?}");
}

#[test]
fn errors_that_are_not_known_fail() {
    let ended = Fake::start(|_| Reply::Error(-32_099, "FromTheFuture")).run(&["get"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (70, "soramode: no\n"));
}

#[test]
fn too_many_clients_is_a_daemon_that_cannot_be_reached() {
    let line = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32017,"message":"1024 clients","data":{"error_type":"TooManyClients"}}}"#;
    assert_eq!(
        Fake::start(|_| Reply::Line(line.to_owned()))
            .run(&["get"])
            .code,
        3
    );
}

#[test]
fn a_daemon_that_hangs_is_not_waited_for_without_end() {
    let ended = Fake::start(|_| Reply::Nothing).run(&["get"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("no answer within 10 s\nhint: Look at its log"),
        "{ended:?}"
    );
}
