//! Commands of the documents, pasted into a shell on a machine with a real daemon and stand-ins for
//! other programs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ended, PROGRAM, Run, Running, program};

/// Folders that the documents name, and that are the machine's.
const FOLDERS: [&str; 3] = ["/etc/soramode", "/var/lib/soramode", "/opt/sora/etc"];

/// A document of this project.
pub(crate) fn document(path: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join(path),
    )
    .unwrap()
}

/// The blocks of code in this language under a heading, or in the whole document.
pub(crate) fn blocks(text: &str, heading: Option<&str>, language: &str) -> Vec<String> {
    let (begin, mut blocks, mut block) = (format!("```{language}"), Vec::new(), None::<String>);
    let mut is_there = heading.is_none();
    for line in text.lines() {
        match &mut block {
            Some(_) if line == "```" => blocks.extend(block.take()),
            Some(block) => block.extend([line, "\n"]),
            None if line == begin && is_there => block = Some(String::new()),
            None if line.starts_with("## ") && heading.is_some() => {
                is_there = line.strip_prefix("## ") == heading;
            }
            None => {}
        }
    }
    assert!(
        !blocks.is_empty(),
        "nothing under {heading:?} is {language}"
    );
    blocks
}

/// A machine: what `sudo`, `systemctl`, `apt-get` and `journalctl` stand for, and its folders.
pub(crate) struct Machine {
    folder: TempDir,
    socket: PathBuf,
    asked: mpsc::Receiver<Order>,
}

/// A call of `systemctl` or `apt-get`, which returns once the test has acted on it.
struct Order {
    words: String,
    stream: UnixStream,
}

impl Machine {
    /// Creates a machine with this socket.
    pub(crate) fn new(socket: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("systemd")).unwrap();
        let (ask, asked) = mpsc::channel();
        thread::spawn(move || listen(&listener, &ask));
        let machine = Self {
            folder,
            socket: socket.to_owned(),
            asked,
        };
        for made in FOLDERS {
            fs::create_dir_all(machine.path(made)).unwrap();
        }
        machine.command("sudo", r#"[ "$1" = -u ] && shift 2; exec "$@""#);
        let systemd = machine.folder.path().join("systemd");
        let ask = format!(
            r#"[ "$1" = status ] && exit 3; echo "${{0##*/}} $*" | socat -t 90 - UNIX-CONNECT:{}"#,
            systemd.display()
        );
        machine.command("systemctl", &ask);
        machine.command("apt-get", &ask);
        machine.command("journalctl", "echo '-- No entries --'");
        machine
    }

    /// Returns the path on the machine of a path in the documents.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder
            .path()
            .join("root")
            .join(path.trim_start_matches('/'))
    }

    fn command(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_script(&path, script);
    }

    fn shell(&self, line: &str) -> Command {
        let line = FOLDERS.iter().fold(line.to_owned(), |line, there| {
            line.replace(there, self.path(there).to_str().unwrap())
        });
        let (ours, own) = (
            self.folder.path().join("bin"),
            Path::new(PROGRAM).parent().unwrap(),
        );
        let path = format!(
            "{}:{}:{}",
            ours.display(),
            own.display(),
            std::env::var("PATH").unwrap()
        );
        let mut shell = program(&self.socket);
        let (words, program) = (["-c", &line], "sh");
        let variables: Vec<(std::ffi::OsString, std::ffi::OsString)> = shell
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        shell = Command::new(program);
        shell
            .env_clear()
            .envs(variables)
            .env("PATH", path)
            .args(words)
            .stdin(std::process::Stdio::null());
        shell
    }

    /// Pastes a line and waits until it is over.
    pub(crate) fn paste(&self, line: &str) -> Ended {
        self.shell(line).ended()
    }

    /// Pastes a line that goes on.
    pub(crate) fn begin(&self, line: &str) -> Running {
        self.shell(line).running()
    }

    /// Pastes a block line by line; each must end with its code.
    pub(crate) fn all(&self, block: &str, codes: &[i32]) -> Vec<Ended> {
        let ended: Vec<Ended> = block.lines().map(|line| self.paste(line)).collect();
        assert_eq!(
            ended.iter().map(|ended| ended.code).collect::<Vec<_>>(),
            codes,
            "{block}{ended:#?}"
        );
        ended
    }

    /// Pastes a line that asks systemctl, which answers once this has been done.
    pub(crate) fn with_systemctl(&self, line: &str, words: &str, done: impl FnOnce()) -> Ended {
        self.with(line, &format!("systemctl {words}"), done)
    }

    /// Runs a line, and acts on a call of a stand-in.
    pub(crate) fn with(&self, line: &str, words: &str, done: impl FnOnce()) -> Ended {
        let running = self.begin(line);
        let mut order = self.asked.recv().unwrap();
        assert_eq!(order.words, words);
        done();
        // Closing it is the answer.
        order.stream.flush().unwrap();
        drop(order);
        running.ended()
    }
}

/// Writes a program of a shell. Another process does it: a thread that forks while this one has the file open would keep it busy.
pub(crate) fn write_script(path: &Path, script: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$2"; chmod 755 "$2""#;
    assert!(
        Command::new("sh")
            .args(["-c", write, "sh", script])
            .arg(path)
            .status()
            .unwrap()
            .success()
    );
}

fn listen(listener: &UnixListener, ask: &mpsc::Sender<Order>) {
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        let mut words = String::new();
        BufReader::new(&stream).read_line(&mut words).unwrap();
        if ask
            .send(Order {
                words: words.trim_end().to_owned(),
                stream,
            })
            .is_err()
        {
            return;
        }
    }
}

/// A signalling server that admits these connections and ends sessions on request.
pub(crate) fn signalling_server(socket: &Path, connections: &'static [(&str, &str)]) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = move |method: &str, params: Value| {
        writeln!(
            stream,
            "{}",
            json!({"id": 1, "method": method, "params": params})
        )
        .unwrap();
    };
    for (channel, connection) in connections {
        ask(
            "Connect",
            json!({"channel_id": channel, "connection_id": connection}),
        );
        assert!(lines.next().unwrap().unwrap().contains("offer"));
    }
    ask("Subscribe", json!({"ends": true, "announcements": true}));
    assert!(lines.next().unwrap().unwrap().contains("log_id"));
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["method"] == "End" {
                let of_channel = connections
                    .iter()
                    .filter(|(channel, _)| message["params"]["channel_id"] == *channel);
                of_channel.for_each(|(_, connection)| {
                    ask("Disconnect", json!({"connection_id": connection}));
                });
            }
        }
    });
}
