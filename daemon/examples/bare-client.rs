//! The least that a client of the control socket can be: what `soramode get` is measured beside.
//!
//! ```console
//! $ cargo run --release -p soramoded --example bare-client -- --socket /run/soramode/soramode.sock get
//! ```

#![expect(clippy::print_stdout, reason = "it prints the mode")]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde::Deserialize;

/// The least that a client of the control socket can be
#[derive(Parser)]
struct Args {
    /// The daemon's socket
    #[arg(long)]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the mode, one word
    Get,
}

#[derive(Deserialize)]
struct Answer {
    result: State,
}

#[derive(Deserialize)]
struct State {
    mode: String,
}

fn main() -> io::Result<()> {
    let Args {
        socket,
        command: Command::Get,
    } = Args::parse();
    let mut stream = BufReader::new(UnixStream::connect(socket)?);
    stream
        .get_ref()
        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"GetMode\"}\n")?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let answer: Answer = serde_json::from_str(&line)?;
    println!("{}", answer.result.mode);
    Ok(())
}
