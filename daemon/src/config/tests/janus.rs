//! Tests of Janus's settings: valid combinations, and refusals.

use super::*;

/// The flags that have their own test here, since they do not go with Sora's.
pub(super) const FLAGS: &[&str] = &[
    "janus-admin",
    "janus-way",
    "janus-admin-secret-file",
    "janus-admin-key-file",
    "janus-listen",
    "janus-room-secrets-file",
    "janus-end",
    "janus-refuse-sessions",
];

#[test]
fn every_setting_of_janus_is_a_flag_and_a_key_of_the_file() {
    let (secret, key, rooms) = (
        secret_file("secret\n"),
        secret_file("key"),
        secret_file("1 a\n"),
    );
    let in_place = |text: &str| {
        let text = text.replace("SECRET", secret.path().to_str().unwrap());
        let text = text.replace("KEY", key.path().to_str().unwrap());
        text.replace("ROOMS", rooms.path().to_str().unwrap())
    };
    let flags = in_place(
        "--janus-admin http://127.0.0.1:7088/admin --janus-way lock --janus-admin-secret-file SECRET --janus-admin-key-file KEY \
         --janus-listen 127.0.0.1:3200 --janus-room-secrets-file ROOMS --janus-end destroy --janus-refuse-sessions=true ",
    );
    let file = in_place(
        "janus-admin = 'http://127.0.0.1:7088/admin'\njanus-way = 'lock'\njanus-admin-secret-file = 'SECRET'\njanus-admin-key-file = 'KEY'\n\
         janus-listen = '127.0.0.1:3200'\njanus-room-secrets-file = 'ROOMS'\njanus-end = 'destroy'\njanus-refuse-sessions = true\n",
    );
    let config = load(&flags, "").unwrap();
    assert_eq!(load("", &file).unwrap().http, config.http);
    let janus = config.http.janus.unwrap();
    assert_eq!(janus.admin_secret.expose(), "secret");
    assert_eq!(janus.admin_key.unwrap().expose(), "key");
    assert!(
        !config.assume_complete,
        "Janus may have been running before"
    );
    for flag in FLAGS {
        assert!(flags.contains(&format!("--{flag}")) && file.contains(&format!("{flag} = ")));
    }
}

#[test]
fn settings_of_janus_that_do_not_go_together_are_refused() {
    let secret = secret_file("secret\n");
    let given = |flags: &str| flags.replace("SECRET", secret.path().to_str().unwrap());
    for (flags, expected) in [
        ("--janus-way ask", "janus-way needs janus-admin"),
        ("--janus-end kick", "janus-end needs janus-admin"),
        (
            "--janus-refuse-sessions",
            "janus-refuse-sessions needs janus-admin",
        ),
        (
            "--janus-admin http://j/admin --janus-way ask --janus-refuse-sessions",
            "janus-refuse-sessions needs janus-way = lock",
        ),
        (
            "--janus-admin http://j/admin",
            "janus-admin needs janus-way",
        ),
        (
            "--janus-admin http://j/admin --janus-way ask",
            "janus-admin needs janus-admin-secret-file",
        ),
        (
            "--janus-admin http://j/admin --janus-way ask --sora-listen 127.0.0.1:1",
            "janus-admin cannot go with sora-listen",
        ),
        (
            "--janus-admin http://j/admin --janus-way lock --max-connections 5",
            "janus-way = lock cannot go with max-connections",
        ),
        (
            "--janus-admin http://127.0.0.1:5/admin --janus-way ask --janus-admin-secret-file SECRET --janus-listen 127.0.0.1:5",
            "janus-admin: http://127.0.0.1:5/admin is soramoded's own janus-listen; set it to the URL of the server behind soramoded",
        ),
    ] {
        assert_eq!(refusal(&given(flags), ""), expected);
    }
}
