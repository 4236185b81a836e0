//! Receivers over TLS with certificates of one's own: what is trusted, and what is said of what is not.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Run, program};

/// Takes a POST over TLS, says on which port, and ends when it is killed.
const SERVER: &str = r"
import http.server, ssl, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
";

struct Server {
    process: Child,
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
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        Self {
            process,
            port: port.trim().to_owned(),
        }
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
        let url = format!("https://127.0.0.1:{}/", server.port);
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
        .args([
            "webhook",
            "test",
            &format!("https://127.0.0.1:{}/", plain.port),
        ]);
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
        &format!("https://127.0.0.1:{}/", server.port),
        "--ca-file",
        "plain.pem",
    ]);
    let ended = command.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}
