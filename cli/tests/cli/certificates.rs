//! Servers over TLS with certificates of one's own: what is trusted, what is said of what is not, and the number of connections.

use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::json;
use soramode_protocol::http_client::kept::KEPT_CONNECTIONS_MAX;
use soramode_testkit::control_client::TestClient;

use crate::drill::soramoded;
use crate::support::{Run, program, with_default_signals};

/// Takes POSTs over TLS and keeps connections; prints its port, each connection and each request, and ends when it is killed.
const SERVER: &str = r"
import http.server, os, ssl, sys
def say(word):
    os.write(1, f'{word}\n'.encode())
class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    def setup(self):
        say('connection')
        super().setup()
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        say(self.headers.get('x-sora-target'))
        self.send_response(200)
        self.send_header('content-length', '2')
        self.end_headers()
        self.wfile.write(b'{}')
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
say(server.server_address[1])
server.serve_forever()
";

struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    port: String,
}

impl Server {
    fn start(certificate: &Path, key: &Path) -> Self {
        let mut command = Command::new("python3");
        command
            .args(["-c", SERVER])
            .arg(certificate)
            .arg(key)
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        stdout.read_line(&mut port).unwrap();
        Self {
            process,
            stdout,
            port: port.trim().to_owned(),
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Makes a self-signed certificate for this address, as an operator does.
fn self_signed(folder: &Path, name: &str, more: &[&str]) -> Server {
    let (certificate, key) = (folder.join(name), folder.join(format!("{name}.key")));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl
        .arg("-subj")
        .arg(format!("/CN={name}"))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(more)
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key);
    assert!(openssl.stderr(Stdio::null()).status().unwrap().success());
    Server::start(&certificate, &key)
}

#[test]
fn a_self_signed_certificate_is_trusted_or_the_error_has_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let plain = self_signed(
        folder.path(),
        "plain.pem",
        &["-addext", "basicConstraints=critical,CA:FALSE"],
    );
    let authority = self_signed(folder.path(), "authority.pem", &[]);
    let test = |server: &Server, ca_file: &[&str]| {
        let url = server.url();
        let mut command = program(&folder.path().join("no.sock"));
        command
            .current_dir(folder.path())
            .args(["webhook", "test", &url])
            .args(ca_file)
            .ended()
    };
    assert_eq!(test(&plain, &["--ca-file", "plain.pem"]).code, 0);
    // The variable stands for the system's certificates.
    let mut command = program(&folder.path().join("no.sock"));
    command
        .env("SSL_CERT_FILE", folder.path().join("plain.pem"))
        .args(["webhook", "test", &plain.url()]);
    assert_eq!(command.ended().code, 0);
    for (server, ca_file, problem) in [
        (
            &plain,
            &[][..],
            "its certificate's issuer is not trusted here",
        ),
        (
            &plain,
            &["--ca-file", "authority.pem"][..],
            "its certificate's issuer is not trusted here",
        ),
        (
            &authority,
            &["--ca-file", "authority.pem"][..],
            "-addext basicConstraints=critical,CA:FALSE",
        ),
    ] {
        let refused = test(server, ca_file);
        assert!(
            refused.code == 70 && refused.stderr.contains(problem),
            "{ca_file:?}: {refused:?}"
        );
    }
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    for unfit in ["plain.pem.key", "empty.pem"] {
        let refused = test(&plain, &["--ca-file", unfit]);
        assert!(
            refused.code == 2 && refused.stderr.contains("has no PEM certificate"),
            "{refused:?}"
        );
    }
}

#[test]
fn announcements_over_tls_use_as_many_connections_as_calls_are_in_flight() {
    const CHANNELS: usize = 10 * KEPT_CONNECTIONS_MAX;
    let folder = tempfile::tempdir().unwrap();
    let fit = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let mut sora = self_signed(folder.path(), "sora.pem", &fit);
    let socket = folder.path().join("soramode.sock");
    let mut command = with_default_signals(soramoded());
    command
        .env_clear()
        .current_dir(folder.path())
        .args(["--ephemeral", "--node-name", "node-01", "--socket"])
        .arg(&socket)
        .args(["--ca-file", "sora.pem", "--sora-api", &sora.url()]);
    let mut daemon = command.running();
    daemon.until_said(" ready ");
    let mut client = TestClient::to(&socket);
    for number in 0..CHANNELS {
        client.connect(&format!("channel-{number}"), &format!("client-{number}"));
    }
    let announced = client.get("Announce", &json!({"text": "soon"}));
    assert_eq!(announced["by"]["sora_api"]["told"], CHANNELS, "{announced}");
    daemon.stopped();
    sora.process.kill().unwrap();
    let (mut connections, mut polls, mut calls) = (0, 0, 0);
    for line in sora.stdout.by_ref().lines() {
        match line.unwrap().as_str() {
            "connection" => connections += 1,
            "Sora_20201013.ListConnections" => polls += 1,
            "Sora_20160711.PushChannel" => calls += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(calls, CHANNELS);
    // A poll beside the calls has a connection of its own.
    assert!(
        connections <= KEPT_CONNECTIONS_MAX + polls,
        "{connections} connections, {polls} polls"
    );
}

#[test]
fn janus_is_asked_over_tls_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let fit = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let mut janus = self_signed(folder.path(), "janus.pem", &fit);
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "admin-secret\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let url = format!("{}admin", janus.url());
    let start = |socket: &str, ca_file: &[&str]| {
        let mut command = with_default_signals(soramoded());
        command
            .env_clear()
            .current_dir(folder.path())
            .args(["--ephemeral", "--node-name", "node-01", "--socket"])
            .arg(folder.path().join(socket))
            .args(["--janus-admin", &url, "--janus-way", "ask"])
            .args(["--janus-admin-secret-file", "secret"])
            .args(ca_file);
        command.running()
    };
    let mut refused = start("refused.sock", &[]);
    refused.until_said("its certificate's issuer is not trusted here");
    refused.stopped();
    let daemon = start("trusted.sock", &["--ca-file", "janus.pem"]);
    // A request has no target of Sora's API.
    let mut requests = janus.stdout.by_ref().lines().map(Result::unwrap);
    assert!(requests.any(|line| line == "None"));
    daemon.stopped();
}

/// The environment names a proxy.
#[test]
fn proxies_of_the_environment_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let server = self_signed(
        folder.path(),
        "plain.pem",
        &["-addext", "basicConstraints=critical,CA:FALSE"],
    );
    let mut command = program(&folder.path().join("no.sock"));
    for variable in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env(variable, "http://127.0.0.1:1");
    }
    command.current_dir(folder.path()).args([
        "webhook",
        "test",
        &server.url(),
        "--ca-file",
        "plain.pem",
    ]);
    let ended = command.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}
