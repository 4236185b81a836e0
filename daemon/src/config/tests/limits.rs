//! Limits of the settings.

use super::*;

use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;

#[test]
fn limits_are_kept_from_both_sides() {
    assert_eq!(load("--max-connections 1", "").unwrap().max_connections, 1);
    assert_eq!(
        load("--keep-events 10000000", "").unwrap().keep_events,
        KEEP_EVENTS_MAX
    );
    assert_eq!(
        load("--reconnect-grace 366d", "").unwrap().reconnect_grace,
        DURATION_MAX
    );
    let longest = format!("/{}", "s".repeat(SOCKET_PATH_BYTES_MAX - 1));
    assert_eq!(
        load(&format!("--socket {longest}"), "").unwrap().socket,
        Path::new(&longest)
    );

    assert_eq!(
        refusal("--max-connections 0", ""),
        "max-connections: got 0, takes 1 to 10000000"
    );
    assert_eq!(
        refusal("", "max-connections = 10000001"),
        "max-connections: got 10000001, takes 1 to 10000000"
    );
    assert_eq!(
        refusal("--keep-events 0", ""),
        "keep-events: got 0, takes 1 to 10000000"
    );
    assert_eq!(
        refusal("--socket-grace 367d", ""),
        "socket-grace: got 1year 1day 18h, takes 0s to 366 days"
    );
    assert_eq!(
        refusal("", "reconnect-grace = '367d'"),
        "reconnect-grace: got 1year 1day 18h, takes 0s to 366 days"
    );
    assert_eq!(
        refusal("--stall-after 999ms", ""),
        "stall-after: got 999ms, takes 1s to 366 days"
    );
    assert!(
        refusal(&format!("--socket {longest}s"), "")
            .ends_with("(108 bytes), takes a path of 1 to 107 bytes")
    );
    assert!(refusal("", "socket = ''").ends_with("(0 bytes), takes a path of 1 to 107 bytes"));
    assert!(
        try_said(&format!("--node-name {}", "n".repeat(256)))
            .unwrap_err()
            .to_string()
            .contains("has 256 bytes")
    );
}
