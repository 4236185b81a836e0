//! Servers to measure: soramoded, and the common alternatives.

use std::path::{Path, PathBuf};
use std::process::Command;

use soramode_benches::program;

use super::dialect::{Dialect, JANUS_SECRET, resp};
use super::load::{self, Client};
use super::server::Server;

/// Admits a connection like soramode: by the mode, by present connections, with counts per channel.
const REDIS_CONNECT: &str = "\
local mode = redis.call('GET', 'mode')
if mode == 'block_new_connection' then return redis.status_reply('reject') end
if redis.call('HEXISTS', 'connections', ARGV[2]) == 1 then return redis.status_reply('offer') end
if mode == 'block_new_session' and redis.call('HEXISTS', 'channels', ARGV[1]) == 0 then return redis.status_reply('reject') end
redis.call('HSET', 'connections', ARGV[2], ARGV[1])
redis.call('HINCRBY', 'channels', ARGV[1], 1)
return redis.status_reply('offer')";

const REDIS_DISCONNECT: &str = "\
local channel = redis.call('HGET', 'connections', ARGV[1])
if not channel then return redis.status_reply('unknown') end
redis.call('HDEL', 'connections', ARGV[1])
if redis.call('HINCRBY', 'channels', channel, -1) == 0 then redis.call('HDEL', 'channels', channel) end
return redis.status_reply('gone')";

/// Durability of Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aof {
    None,
    Always,
    Everysec,
}

/// Starts soramoded like its unit.
pub(crate) fn soramoded(flags: &[&str]) -> Command {
    let mut command = Command::new(program("soramoded"));
    command
        .args(["--log-level", "warn"])
        .args(flags)
        .env("MALLOC_MMAP_THRESHOLD_", "65536");
    command
}

/// soramoded without a memory.
pub(crate) fn volatile(path: PathBuf, flags: &[&str]) -> Server {
    Server::start(
        soramoded(&["--ephemeral"])
            .args(flags)
            .arg("--socket")
            .arg(&path),
        path,
    )
}

/// soramoded with its journal in this folder.
pub(crate) fn durable(path: PathBuf, state: &Path, flags: &[&str]) -> Server {
    Server::start(
        soramoded(flags)
            .arg("--state-dir")
            .arg(state)
            .arg("--socket")
            .arg(&path),
        path,
    )
}

/// Answers with as many bytes as soramoded does.
pub(crate) fn echo(path: PathBuf, like: &Server) -> Server {
    let mut client = Client::to(&like.path, &Dialect::soramode());
    let [come, go] = Dialect::soramode().turns(0, 1);
    let bytes = client.ask(&come.message, 1);
    client.ask(&go.message, 1);
    Server::start(
        Command::new(std::env::current_exe().unwrap())
            .arg("serve-echo")
            .arg(&path)
            .arg(bytes.to_string()),
        path,
    )
}

/// Reads and answers the same JSON.
pub(crate) fn json_echo(path: PathBuf) -> Server {
    Server::start(
        Command::new(std::env::current_exe().unwrap())
            .arg("serve-json-echo")
            .arg(&path),
        path,
    )
}

/// Redis with its socket in `folder`, and its files as well.
pub(crate) fn redis(folder: &Path, aof: Aof) -> (Server, Dialect) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("redis.sock");
    let _ = std::fs::remove_file(&path);
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--daemonize",
            "no",
            "--unixsocket",
        ])
        .arg(&path)
        .arg("--dir")
        .arg(folder);
    match aof {
        Aof::None => command.args(["--appendonly", "no"]),
        Aof::Always => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        Aof::Everysec => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
    };
    let server = Server::start(&mut command, path);
    let dialect = Dialect::redis(
        script(&server, REDIS_CONNECT),
        script(&server, REDIS_DISCONNECT),
    );
    Client::to(&server.path, &dialect).text(resp(&["SET", "mode", "normal"]).as_bytes(), "OK");
    (server, dialect)
}

/// The digest by which the script is called. While Redis reads its file back it says so, and is asked again.
fn script(server: &Server, text: &str) -> String {
    let mut client = Client::to(&server.path, &Dialect::soramode());
    loop {
        client.ask(resp(&["SCRIPT", "LOAD", text]).as_bytes(), 1);
        if let Some(digest) = client.said().strip_prefix("$40\r\n") {
            return digest.trim_end().to_owned();
        }
        assert!(client.said().contains("LOADING"), "{}", client.said());
    }
}

/// Starts `HAProxy` with one thread and one server with a settable state.
pub(crate) fn haproxy(folder: &Path) -> Server {
    let (path, config) = (folder.join("haproxy.sock"), folder.join("haproxy.cfg"));
    let text = format!(
        "global\n  nbthread 1\n  stats socket {} level admin\n  stats maxconn 100\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n\
         backend sfu\n  server node 127.0.0.1:9\n",
        path.display()
    );
    std::fs::write(&config, text).unwrap();
    Server::start(
        Command::new("haproxy").arg("-db").arg("-f").arg(&config),
        path,
    )
}

/// Janus without plugins, asked through packets on its admin socket. It does not start without a socket for its other API.
pub(crate) fn janus(folder: &Path) -> Server {
    let folder = folder.join("janus");
    let nothing = folder.join("nothing");
    std::fs::create_dir_all(&nothing).unwrap();
    let path = folder.join("admin.sock");
    let (nothing, at) = (nothing.display(), folder.display());
    let others = ["http", "websockets", "mqtt", "rabbitmq", "nanomsg"]
        .map(|transport| format!("libjanus_{transport}.so"));
    let general = format!(
        "general: {{
           configs_folder = \"{at}\"; plugins_folder = \"{nothing}\"; events_folder = \"{nothing}\"; loggers_folder = \"{nothing}\";
           debug_level = 1; admin_secret = \"{JANUS_SECRET}\";
         }};
         transports: {{ disable = \"{}\"; }};\n",
        others.join(",")
    );
    let sockets = format!(
        "general: {{ enabled = true; path = \"{at}/api.sock\"; json = \"compact\"; }};
         admin: {{ admin_enabled = true; admin_path = \"{}\"; }};\n",
        path.display()
    );
    std::fs::write(folder.join("janus.jcfg"), general).unwrap();
    std::fs::write(folder.join("janus.transport.pfunix.jcfg"), sockets).unwrap();
    let mut command = Command::new("janus");
    Server::start_when(command.arg("-F").arg(&folder), path, |path| {
        load::connect(path, &Dialect::janus()).is_ok()
    })
}
