//! Tests of the configuration: precedence of its sources, and each refusal.

mod cluster;
mod janus;
mod limits;
mod listeners;
mod outgoing;

use super::*;

use std::ffi::OsString;
use std::io;

use clap::error::ErrorKind;

use crate::args;
use crate::args::http::SoraMode;
use soramode_protocol::certificates::Authorities;
use soramode_protocol::event::EventType;
use soramode_protocol::webhook::Secrets;

/// Parses the arguments of `soramoded`, with all variables that clap reads unset.
fn said(arguments: &str) -> Args {
    try_said(arguments).unwrap()
}

fn try_said(arguments: &str) -> Result<Args, clap::Error> {
    Args::read_from(
        std::iter::once("soramoded")
            .chain(arguments.split_whitespace())
            .map(OsString::from),
    )
}

fn load(arguments: &str, file: &str) -> Result<Config, ConfigError> {
    load_in(
        arguments,
        file,
        &SocketEnv {
            uid: 1000,
            ..SocketEnv::default()
        },
    )
}

fn load_in(arguments: &str, file: &str, around: &SocketEnv) -> Result<Config, ConfigError> {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut path, file.as_bytes()).unwrap();
    let mut args = said(arguments);
    args.config = Some(path.path().to_owned());
    let state = StateEnv {
        uid: around.uid,
        home: Some("/home/ops".into()),
        ..StateEnv::default()
    };
    Config::load_in(args, around, &state)
}

/// The message without the folder in which the test's file was.
fn refusal(arguments: &str, file: &str) -> String {
    let message = load(arguments, file).unwrap_err().to_string();
    message
        .split_once(':')
        .filter(|(path, _)| path.starts_with('/'))
        .map_or(message.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn a_check_reads_the_default_file_if_no_other_is_named_and_it_is_there() {
    let there = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(
        said("--check-config")
            .with_default_file(there.path())
            .config
            .as_deref(),
        Some(there.path())
    );
    assert_eq!(
        said("--check-config")
            .with_default_file(Path::new("/nonexistent"))
            .config,
        None
    );
    assert_eq!(
        said("--config /named")
            .with_default_file(there.path())
            .config
            .as_deref(),
        Some(Path::new("/named"))
    );
}

#[test]
fn a_file_that_any_user_could_have_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let told = Config::load(Args {
        config: Some(file.path().to_owned()),
        ..Args::default()
    })
    .unwrap_err()
    .to_string();
    assert!(
        told.contains("permissions too open (0666); run: chmod 0664"),
        "{told}"
    );
    std::fs::write(
        file.path(),
        "webhook = \"http://u:p@h/\"\nephemeral = true\n",
    )
    .unwrap();
    let warnings = |bits: u32| {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(bits)).unwrap();
        Config::load_with_warnings(Args {
            config: Some(file.path().to_owned()),
            ..Args::default()
        })
        .unwrap()
        .warnings
        .concat()
    };
    assert!(
        warnings(0o644).contains("every user can read the passwords"),
        "{}",
        warnings(0o644)
    );
    assert_eq!(warnings(0o640), "");
}

#[test]
fn the_flags_are_well_formed() {
    args::command().debug_assert();
}

#[test]
fn every_setting_has_a_variable_and_a_word_of_help() {
    for flag in args::command().get_arguments().filter(|flag| {
        !["help", "version", "check-config", "check-state"]
            .contains(&flag.get_long().unwrap_or("help"))
    }) {
        let name = flag.get_long().unwrap();
        let variable = format!("SORAMODED_{}", name.replace('-', "_").to_uppercase());
        assert_eq!(
            flag.get_env().and_then(|name| name.to_str()),
            Some(&*variable)
        );
        assert!(flag.get_help().is_some(), "{name}");
    }
}

#[test]
fn every_flag_is_a_key_of_the_file() {
    let values = "socket = '/s'\nsocket-mode = '0600'\noperator-group = 'ops'\nstate-dir = '/d'\nephemeral = false\nmode = 'normal'\nnode-name = 'n'\n\
        reconnect-grace = '5m'\nstall-after = '7m'\nmax-connections = 5\nkeep-events = 6\nsocket-grace = '1s'\nassume-incomplete = true\n\
        api-listen = ['127.0.0.1:3000', 'unix:/a']\nsora-listen = '127.0.0.1:3100'\nobserve-listen = '127.0.0.1:9400'\npeer = 'http://p/'\nno-status-page = false\n\
        cors-origin = 'http://127.0.0.1:5000'\nhttp-host = ['Sfu.example']\nhttp-token-file = 'TOKENS'\nsora-peer = ['10.0.0.1']\nsora-token-file = 'TOKENS'\n\
        sora-api = 'http://127.0.0.1:3001'\nsora-mode = 'mirror'\nshadow = true\npending-timeout = '2s'\n\
        session-max-linger = '3s'\nauth-upstream = 'http://a/'\nsession-upstream = 'http://s/'\nevent-upstream = 'http://e/'\n\
        upstream-timeout = '4s'\nwebhook = 'http://w/?key'\nwebhook-format = ['teams']\npage-url = 'http://page/'\nwebhook-events = ['session.*', 'mode.changed']\n\
        webhook-secret-file = 'SECRETS'\nca-file = 'CERTIFICATES'\nlabel = 'rack'\nshutdown-grace = '6s'\n\
        log-format = 'json'\nlog-level = 'debug'\n";
    let (tokens, secrets, certificates) = (
        secret_file("0123456789abcdef\n"),
        secret_file(SECRET),
        secret_file(IDENTITY),
    );
    let in_place = |text: &str| {
        let text = text.replace("TOKENS", tokens.path().to_str().unwrap());
        let text = text.replace("CERTIFICATES", certificates.path().to_str().unwrap());
        text.replace("SECRETS", secrets.path().to_str().unwrap())
    };
    let values = &in_place(values);
    let expected = Config {
        node_name: NodeName::new("n").unwrap(),
        socket: "/s".into(),
        socket_mode: 0o600,
        operator_group: Some("ops".to_owned()),
        mode: Some(SettableMode::Normal),
        reconnect_grace: Duration::from_mins(5),
        stall_after: Duration::from_mins(7),
        max_connections: 5,
        keep_events: 6,
        socket_grace: Duration::from_secs(1),
        assume_complete: false,
        state_dir: Some("/d".into()),
        http: http_expected(&tokens),
        cluster: None,
        webhooks: outgoing::webhooks_expected(),
        authorities: Authorities::from_pem(IDENTITY.as_bytes()).unwrap(),
        log_format: LogFormat::Json,
        log_level: LogLevel::Debug,
    };
    assert_eq!(load("", values).unwrap(), expected);
    for flag in args::command()
        .get_arguments()
        .filter_map(clap::Arg::get_long)
    {
        if cluster::FLAGS.contains(&flag) || janus::FLAGS.contains(&flag) {
            continue;
        }
        let is_setting = ![
            "config",
            "check-config",
            "check-state",
            "help",
            "version",
            "assume-complete",
        ]
        .contains(&flag);
        assert_eq!(values.contains(&format!("{flag} =")), is_setting, "{flag}");
    }
    let flags = "--socket /s --socket-mode 600 --operator-group ops --state-dir /d --ephemeral=no --mode normal --node-name n --reconnect-grace 5m --stall-after 7m \
        --max-connections 5 --keep-events 6 --socket-grace 1s --assume-incomplete --log-format json --log-level debug \
        --api-listen 127.0.0.1:3000 --api-listen unix:/a --sora-listen 127.0.0.1:3100 --observe-listen 127.0.0.1:9400 --peer http://p/ --no-status-page=no \
        --cors-origin http://127.0.0.1:5000 --http-host Sfu.example --http-token-file TOKENS --sora-peer 10.0.0.1 \
        --sora-token-file TOKENS --sora-api http://127.0.0.1:3001 --sora-mode mirror --shadow --pending-timeout 2s --session-max-linger 3s \
        --auth-upstream http://a/ --session-upstream http://s/ --event-upstream http://e/ --upstream-timeout 4s \
        --webhook http://w/?key --webhook-format teams --page-url http://page/ --webhook-events session.* --webhook-events mode.changed --webhook-secret-file SECRETS \
        --ca-file CERTIFICATES --label rack --shutdown-grace 6s";
    assert_eq!(load(&in_place(flags), "").unwrap(), expected);
}

/// A certificate and its key, made for tests.
const IDENTITY: &str = include_str!("tests/identity.pem");

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

fn secret_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file
}

fn http_expected(tokens: &tempfile::NamedTempFile) -> HttpConfig {
    let url = |text: &str| Some(text.parse().unwrap());
    HttpConfig {
        api: ApiConfig {
            listen: vec![
                "127.0.0.1:3000".parse().unwrap(),
                "unix:/a".parse().unwrap(),
            ],
            cors_origins: vec!["http://127.0.0.1:5000".parse().unwrap()],
            hosts: vec!["sfu.example".parse().unwrap()],
            tokens: Some(Tokens::read("http-token-file", tokens.path()).unwrap()),
        },
        sora: SoraConfig {
            listen: "127.0.0.1:3100".parse().ok(),
            peers: vec!["10.0.0.1".parse().unwrap()],
            tokens: Some(Tokens::read("sora-token-file", tokens.path()).unwrap()),
            api: url("http://127.0.0.1:3001"),
            mode: SoraMode::Mirror,
            admission: Admission::Shadow,
            upstreams: Upstreams {
                auth: url("http://a/"),
                session: url("http://s/"),
                event: url("http://e/"),
            },
            upstream_timeout: Duration::from_secs(4),
            pending_timeout: Duration::from_secs(2),
            session_max_linger: Duration::from_secs(3),
        },
        janus: None,
        observe_listen: "127.0.0.1:9400".parse().ok(),
        status_page: StatusPage::Served(vec!["http://p/".parse().unwrap()]),
    }
}

#[test]
fn a_setting_without_the_one_that_it_needs_is_refused() {
    for (flags, needed) in [
        (
            "--auth-upstream http://a/",
            "auth-upstream needs sora-listen",
        ),
        (
            "--session-upstream http://a/",
            "session-upstream needs sora-listen",
        ),
        (
            "--event-upstream http://a/",
            "event-upstream needs sora-listen",
        ),
        ("--sora-peer 10.0.0.1", "sora-peer needs sora-listen"),
        ("--shadow", "shadow needs sora-listen"),
        ("--sora-mode mirror", "sora-mode = mirror needs sora-api"),
        (
            "--api-listen 0.0.0.0:3000",
            "api-listen on an address other than the loopback needs http-token-file",
        ),
    ] {
        assert_eq!(refusal(flags, ""), needed);
    }
    load("--api-listen 127.0.0.2:1 --api-listen [::1]:1", "").unwrap();
}

#[test]
fn a_sora_may_have_been_running_before_the_daemon() {
    assert!(load("", "").unwrap().assume_complete);
    assert!(
        !load("--sora-listen 127.0.0.1:1", "")
            .unwrap()
            .assume_complete
    );
    assert!(
        !load("--sora-api http://127.0.0.1:1", "")
            .unwrap()
            .assume_complete
    );
    assert!(
        load("--sora-listen 127.0.0.1:1 --assume-complete", "")
            .unwrap()
            .assume_complete
    );
}

#[test]
fn contradictory_settings_of_the_http_listeners_are_refused() {
    for (flags, said) in [
        ("--api-listen 3000", "takes ADDRESS:PORT"),
        ("--api-listen unix:", "takes unix:PATH"),
        ("--sora-api 127.0.0.1:3001", "takes an absolute URL"),
        ("--sora-api ftp://a/", "takes an absolute URL"),
        (
            "--cors-origin http://a.example/",
            "did you mean http://a.example?",
        ),
        ("--cors-origin *", "takes an origin"),
        ("--http-host a:80", "without a port"),
    ] {
        assert!(
            try_said(flags).unwrap_err().to_string().contains(said),
            "{flags}"
        );
    }
    for (flags, said) in [
        ("--upstream-timeout 0s", "got 0s, takes 1ms to 5m"),
        ("--upstream-timeout 301s", "got 5m 1s, takes 1ms to 5m"),
    ] {
        assert_eq!(
            refusal(&format!("--sora-listen 127.0.0.1:1 {flags}"), ""),
            format!("upstream-timeout: {said}")
        );
    }
}

#[test]
fn defaults_are_those_of_the_help() {
    let config = load("", "").unwrap();
    assert_eq!(config.socket, Path::new("/tmp/soramode-1000/soramode.sock"));
    assert_eq!(
        config.node_name.as_str(),
        nix::unistd::gethostname().unwrap().to_str().unwrap()
    );
    let tests = Config {
        node_name: config.node_name.clone(),
        ..Config::on_socket(&config.socket)
    };
    let expected = Config {
        max_connections: 1_000_000,
        keep_events: 100_000,
        state_dir: Some("/home/ops/.local/state/soramode".into()),
        ..tests
    };
    assert_eq!(config, expected);
    let help = args::command()
        .render_long_help()
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for default in [
        "[default: 0660]",
        "[default: 0s]",
        "[default: 1000000]",
        "[default: 100000]",
        "[default: 30s]",
        "[default: info]",
    ] {
        assert!(help.contains(default), "{default}");
    }
}

#[test]
fn the_command_line_beats_the_file() {
    let config = load(
        "--reconnect-grace 1s --assume-complete --ephemeral=false",
        "reconnect-grace = '2s'\nsocket-grace = '3s'\nassume-incomplete = true\nephemeral = true",
    );
    let config = config.unwrap();
    assert_eq!(
        (
            config.reconnect_grace.as_secs(),
            config.socket_grace.as_secs()
        ),
        (1, 3)
    );
    assert!(config.assume_complete && config.state_dir.is_some());
}

/// A process's own variables can be set only from outside: this runs the test below with some.
#[test]
fn a_variable_beats_the_file_and_not_the_command_line() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "config::tests::child_with_variables",
        "--ignored",
    ]);
    child
        .env("SORAMODED_RECONNECT_GRACE", "2s")
        .env("SORAMODED_SOCKET_GRACE", "3s")
        .env("SORAMODED_EPHEMERAL", "no");
    child
        .env("SORAMODED_ASSUME_INCOMPLETE", "1")
        .env("SORAMODED_SOCKET", "/variable");
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{told}"
    );
}

#[test]
#[ignore = "started by the test above, with variables"]
fn child_with_variables() {
    let file = "reconnect-grace = '9s'\nsocket-grace = '9s'\nephemeral = true\nassume-complete = true\nsocket = '/file'";
    let config = load("--reconnect-grace 1s", file).unwrap();
    assert_eq!(
        (
            config.reconnect_grace.as_secs(),
            config.socket_grace.as_secs()
        ),
        (1, 3)
    );
    assert_eq!(
        (
            config.state_dir.is_some(),
            config.assume_complete,
            &*config.socket
        ),
        (true, false, Path::new("/variable"))
    );
    assert!(load("--assume-complete", file).unwrap().assume_complete);
}

#[test]
fn the_clients_variable_beats_the_file_and_not_the_flag() {
    let around = SocketEnv {
        uid: 1000,
        socket: Some("/variable".into()),
        ..SocketEnv::default()
    };
    assert_eq!(
        load_in("", "socket = '/file'", &around).unwrap().socket,
        Path::new("/variable")
    );
    assert_eq!(
        load_in("--socket /flag", "", &around).unwrap().socket,
        Path::new("/flag")
    );
    assert_eq!(
        load("", "socket = '/file'").unwrap().socket,
        Path::new("/file")
    );
}

#[test]
fn initial_is_refused_in_words() {
    let error = try_said("--mode initial").unwrap_err().to_string();
    assert!(error.contains("initial cannot be set"), "{error}");
    assert_eq!(
        refusal("", "mode = 'initial'").split(": ").nth(1),
        Some("initial cannot be set")
    );
}

#[test]
fn a_wrong_flag_is_refused_with_its_valid_values() {
    for (arguments, words) in [
        (
            "--mode open",
            "normal, block_new_session, block_new_connection",
        ),
        ("--socket-mode 0888", "octal permission bits"),
        ("--socket-mode 01777", "octal permission bits"),
        ("--socket-mode 0060", "from 0600"),
        (
            "--reconnect-grace soon",
            "--reconnect-grace: got \"soon\", takes a duration with units",
        ),
        (
            "--max-connections many",
            "--max-connections: got \"many\", takes a whole number from 0",
        ),
        ("--ephemeral=perhaps", "--ephemeral: takes true or false"),
        (
            "--sora-peer home",
            "--sora-peer: got \"home\", takes an IP address",
        ),
        ("--log-level loud", "debug"),
        ("--node-name=", "is empty, takes 1 to 255 bytes"),
        (
            "--assume-complete --assume-incomplete",
            "exclude each other",
        ),
        ("--colour", "unexpected argument '--colour'"),
        ("drain", "unexpected argument 'drain'"),
    ] {
        let error = try_said(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(
        try_said("--help").unwrap_err().kind(),
        ErrorKind::DisplayHelp
    );
}

#[test]
fn a_wrong_file_is_refused_with_line_and_key() {
    for (file, words) in [
        (
            "\nreconnect_grace = '1s'",
            "2: unknown field `reconnect_grace`: did you mean reconnect-grace? (at reconnect_grace)",
        ),
        (
            "mode = 'open'",
            "1: unknown mode \"open\", takes normal, block_new_session, block_new_connection (at mode)",
        ),
        (
            "socket-mode = 660",
            "1: got integer `660`, takes a text in quotes (at socket-mode)",
        ),
        ("socket-mode = '0o1000'", "octal permission bits"),
        ("ephemeral = 1\n", "takes true or false (at ephemeral)"),
        (
            "reconnect-grace = 'soon'",
            "got \"soon\", takes a duration with units, such as 500ms, 30s or 1h 30m (at reconnect-grace)",
        ),
        (
            "keep-events = -1",
            "got integer `-1`, takes a whole number from 0 (at keep-events)",
        ),
        (
            "keep-events = '7'",
            "got a text, takes a whole number from 0 (at keep-events)",
        ),
        ("sora-peer = ['home']", "got \"home\", takes an IP address"),
        (
            "sora-peer = [1]",
            "takes a text in quotes or an array of them",
        ),
        (
            "node-name = ''",
            "node_name is empty, takes 1 to 255 bytes (at node-name)",
        ),
        (
            "node-name = \"a\\u0000\"",
            "node_name has a NUL character, which no command and no environment variable can carry",
        ),
        (
            "socket-grace = '1s'\nsocket-grace = '1s'",
            "2: duplicate key",
        ),
        ("mode", "1: "),
    ] {
        let refusal = refusal("", file);
        assert!(
            refusal.contains(words) && !refusal.contains('\n'),
            "{refusal}"
        );
    }
    assert_eq!(
        refusal("", "assume-complete = true\nassume-incomplete = true"),
        "assume-complete and assume-incomplete exclude each other"
    );
}

#[test]
fn no_secret_of_a_wrong_url_is_repeated() {
    for flag in [
        "sora-api",
        "auth-upstream",
        "webhook",
        "cluster",
        "signaling-url",
        "api-url",
    ] {
        let told = try_said(&format!("--{flag} htp://u:PASS@h/x?PASS"))
            .unwrap_err()
            .to_string();
        assert!(
            told.contains(&format!("--{flag}: got \"htp://h/x\", takes "))
                && !told.contains("PASS"),
            "{told}"
        );
        let told = refusal("", &format!("{flag} = 'htp://u:PASS@h/x?PASS'"));
        assert!(
            told.contains("got \"htp://h/x\", takes ") && !told.contains("PASS"),
            "{told}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_its_name() {
    let load = |path: &Path| {
        Config::load(Args {
            config: Some(path.to_owned()),
            ..Args::default()
        })
        .unwrap_err()
        .to_string()
    };
    assert!(
        load(Path::new("/no/such/file")).starts_with("/no/such/file: cannot be read: No such file")
    );
    assert!(load(Path::new("/")).starts_with("/: is not a regular file"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let comment = |bytes: u64| {
        std::fs::write(file.path(), "#".repeat(usize::try_from(bytes).unwrap())).unwrap();
    };
    comment(FILE_BYTES_MAX + 1);
    assert!(load(file.path()).ends_with("has more than 1048576 bytes"));
    comment(FILE_BYTES_MAX);
    assert!(
        Config::load(Args {
            config: Some(file.path().to_owned()),
            ..Args::default()
        })
        .is_ok()
    );
}
