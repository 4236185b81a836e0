//! Tests of the socket's file: each thing that may be in its place, and its permission bits.

use super::*;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::socket_activation::InheritedSockets;

/// A folder with room for a socket.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("s")
    }

    fn config(&self) -> Config {
        Config::on_socket(self.socket())
    }

    fn refusal(&self) -> String {
        SocketFile::open(&self.config())
            .unwrap_err()
            .to_string()
            .replace(self.0.path().to_str().unwrap(), "")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn bits(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn listens_with_its_bits_and_leaves_nothing_behind() {
    let home = Home::new();
    let file = SocketFile::open(&home.config()).unwrap();
    assert_eq!(bits(&home.socket()), 0o660);
    assert_eq!(home.names(), ["s", "s.lock"]);
    assert_eq!(
        fs::read_to_string(home.0.path().join("s.lock")).unwrap(),
        format!("{}\n", std::process::id())
    );
    let _client = UnixStream::connect(home.socket()).unwrap();
    file.listener().accept().await.unwrap();
    file.close();
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn the_mode_bits_are_as_configured_with_any_umask() {
    for wanted in [0o600, 0o660, 0o666, 0o777] {
        let home = Home::new();
        let _file = SocketFile::open(&Config {
            socket_mode: wanted,
            ..home.config()
        })
        .unwrap();
        assert_eq!(bits(&home.socket()), wanted);
    }
}

#[test]
fn no_client_connects_before_the_socket_belongs_to_its_group() {
    let home = Home::new();
    let path = home.socket();
    let refused =
        || UnixStream::connect(&path).unwrap_err().kind() == io::ErrorKind::ConnectionRefused;
    let own_gid = rustix::process::getegid().as_raw();

    let bound = Bound::to(&path).unwrap();
    assert!(bits(&path) == 0o600 && refused());
    bound.set_access(Some(own_gid), 0o666).unwrap();
    assert!(bits(&path) == 0o666 && refused());
    assert_eq!(fs::symlink_metadata(&path).unwrap().gid(), own_gid);
    let (_socket, _placed) = bound.listen().unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn mode_bits_are_set_on_the_new_socket_and_not_on_a_file_in_its_place() {
    let home = Home::new();
    let victim = home.0.path().join("victim");
    fs::write(&victim, "").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();

    let bound = Bound::to(&home.socket()).unwrap();
    fs::remove_file(home.socket()).unwrap();
    symlink(&victim, home.socket()).unwrap();
    bound
        .set_access(Some(rustix::process::getegid().as_raw()), 0o666)
        .unwrap();
    assert_eq!(bits(&victim), 0o600);
    drop(bound);
    assert_eq!(
        home.names(),
        ["s", "victim"],
        "what is not ours is not removed"
    );
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let home = Home::new();
    let first = SocketFile::open(&home.config()).unwrap();
    let refusal = format!(
        "/s is in use by a running soramoded (pid {})",
        std::process::id()
    );
    assert_eq!(home.refusal(), refusal);
    // Even without its lock file, a live daemon is found by its socket.
    fs::remove_file(home.0.path().join("s.lock")).unwrap();
    assert_eq!(home.refusal(), refusal);
    assert!(
        UnixStream::connect(home.socket()).is_ok(),
        "the first goes on"
    );
    drop(first);
    SocketFile::open(&home.config()).unwrap();
}

#[tokio::test]
async fn a_daemon_too_busy_to_answer_is_alive() {
    let home = Home::new();
    let bound = Bound::to(&home.socket()).unwrap();
    rustix::net::listen(&bound.socket, 0).unwrap();
    let mut clients = vec![];
    loop {
        let client = stream_socket(&home.socket()).unwrap();
        let full =
            rustix::net::connect(&client, &address(&home.socket()).unwrap()) == Err(Errno::AGAIN);
        clients.push(client);
        if full {
            break;
        }
    }
    assert_eq!(home.refusal(), "/s is in use by a running soramoded");
}

#[tokio::test]
async fn a_dead_socket_and_a_dead_lock_are_taken_over() {
    let home = Home::new();
    drop(StdListener::bind(home.socket()).unwrap());
    fs::write(
        home.0.path().join("s.lock"),
        "4194304 and more than a pid\n",
    )
    .unwrap();
    let file = SocketFile::open(&home.config()).unwrap();
    assert_eq!(
        fs::read_to_string(home.0.path().join("s.lock")).unwrap(),
        format!("{}\n", std::process::id())
    );
    UnixStream::connect(home.socket()).unwrap();
    drop(file);
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_stays_and_is_refused() {
    let home = Home::new();
    let dead = home.0.path().join("dead");
    drop(StdListener::bind(&dead).unwrap());
    symlink(&dead, home.socket()).unwrap();
    assert_eq!(
        home.refusal(),
        "/s is a symbolic link: it must be a socket or not there"
    );
    fs::remove_file(home.socket()).unwrap();
    fs::write(home.socket(), "precious").unwrap();
    assert_eq!(
        home.refusal(),
        "/s is not a socket: it must be a socket or not there"
    );
    assert_eq!(fs::read_to_string(home.socket()).unwrap(), "precious");
    fs::remove_file(home.socket()).unwrap();
    fs::create_dir(home.socket()).unwrap();
    assert_eq!(
        home.refusal(),
        "/s is a folder: it must be a socket or not there"
    );
    assert_eq!(home.names(), ["dead", "s"], "the lock is given back");
}

#[tokio::test]
async fn a_lock_file_that_leads_elsewhere_is_not_written_to() {
    let home = Home::new();
    let (victim, lock) = (home.0.path().join("victim"), home.0.path().join("s.lock"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &lock).unwrap();
    assert_eq!(
        home.refusal(),
        "/s.lock is not a plain file with one name: it must be a lock file or not there"
    );
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&victim, &lock).unwrap();
    assert_eq!(
        home.refusal(),
        "/s.lock is not a plain file with one name: it must be a lock file or not there"
    );
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[tokio::test]
async fn a_lock_is_free_again_after_its_holder_and_never_held_twice() {
    let home = Home::new();
    // The holder of the lock may take the socket's name too, and no other process finds it in use.
    let take_often = |path: PathBuf| {
        for _lock in (0..200).filter_map(|_| Lock::take(&path).ok()) {
            File::create_new(&path).unwrap();
            fs::remove_file(&path).unwrap();
        }
    };
    let threads = [(); 4].map(|()| {
        let path = home.socket();
        std::thread::spawn(move || take_often(path))
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_and_not_cut() {
    let home = Home::new();
    let room = SOCKET_PATH_BYTES_MAX - home.0.path().as_os_str().len() - 1;
    let longest = home.0.path().join("s".repeat(room));
    SocketFile::open(&Config::on_socket(&longest)).unwrap();
    let longer = home.0.path().join("s".repeat(room + 1));
    let refusal = SocketFile::open(&Config::on_socket(&longer))
        .unwrap_err()
        .to_string();
    assert!(
        refusal.ends_with("has 108 bytes, takes at most 107"),
        "{refusal}"
    );
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn a_missing_group_is_refused_before_anything_is_made() {
    let home = Home::new();
    let config = Config {
        operator_group: Some("no-such-group".to_owned()),
        ..home.config()
    };
    let refusal = SocketFile::open(&config).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "there is no group \"no-such-group\" for --operator-group"
    );
    assert!(home.names().is_empty());
}

#[tokio::test]
async fn the_operator_group_gets_the_socket() {
    let home = Home::new();
    let own = Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
    let file = SocketFile::open(&Config {
        operator_group: Some(own.name),
        ..home.config()
    })
    .unwrap();
    assert_eq!(file.operator_gid(), Some(own.gid.as_raw()));
    assert_eq!(
        fs::symlink_metadata(home.socket()).unwrap().gid(),
        own.gid.as_raw()
    );
}

#[tokio::test]
async fn another_file_in_our_place_is_not_removed_at_a_stop() {
    let home = Home::new();
    let file = SocketFile::open(&home.config()).unwrap();
    fs::remove_file(home.socket()).unwrap();
    fs::write(home.socket(), "another's").unwrap();
    file.close();
    assert_eq!(home.names(), ["s"]);
}

/// Runs the test `child` of this program with the socket as its standard input and as descriptor 3.
fn run_with_passed(socket: impl Into<Stdio>, names: &str, config: &Config) -> bool {
    let child = "socket_file::tests::child_with_a_passed_socket";
    let script = format!(
        r#"exec 3<&0; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES={names} exec "$0" --exact {child} --ignored"#
    );
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap());
    shell
        .env("SOCKET_PATH_FOR_CHILD", &config.socket)
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell.status().unwrap().success()
}

#[tokio::test]
#[ignore = "started by the tests of passed sockets"]
async fn child_with_a_passed_socket() {
    let path = PathBuf::from(std::env::var_os("SOCKET_PATH_FOR_CHILD").unwrap());
    let config = Config {
        socket_mode: 0o777,
        ..Config::on_socket(path)
    };
    let file = SocketFile::inherited(
        InheritedSockets::take(&config).unwrap().control().unwrap(),
        &config,
    )
    .unwrap();
    let (stream, _) = file.listener().accept().await.unwrap();
    stream.writable().await.unwrap();
    assert_eq!(stream.try_write(b"!").unwrap(), 1);
}

#[test]
fn a_passed_socket_is_taken_as_it_is() {
    for names in ["", "other", "control"] {
        let home = Home::new();
        let listener = StdListener::bind(home.socket()).unwrap();
        let before = bits(&home.socket());
        let mut client = UnixStream::connect(home.socket()).unwrap();
        assert!(run_with_passed(
            OwnedFd::from(listener),
            names,
            &home.config()
        ));
        let mut answer = [0];
        io::Read::read_exact(&mut client, &mut answer).unwrap();
        assert_eq!(home.names(), ["s"], "neither locked nor removed");
        assert_eq!(bits(&home.socket()), before);
    }
}

#[test]
fn passed_sockets_of_another_kind_are_refused() {
    let home = Home::new();
    let (stream, _other) = UnixStream::pair().unwrap();
    assert!(!run_with_passed(
        OwnedFd::from(stream),
        "control",
        &home.config()
    ));
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(!run_with_passed(
        OwnedFd::from(tcp),
        "control",
        &home.config()
    ));
    assert!(home.names().is_empty());
}
