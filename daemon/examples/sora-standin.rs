//! A stand-in for a Sora, to try soramoded without one.
//!
//! ```console
//! $ cargo run -p soramoded --example sora-standin -- --webhooks http://127.0.0.1:3100 --api 127.0.0.1:3001
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool of the test suite"
)]

use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Parser;

use soramode_testkit::fake_sora::{Denied, FakeSora};

/// A stand-in for a Sora: does for each client what a Sora does, webhook by webhook
#[derive(Parser)]
struct Args {
    /// Address at which soramoded takes webhooks (its --sora-listen)
    #[arg(long, default_value = "http://127.0.0.1:3100")]
    webhooks: String,
    /// Serve Sora's API there (soramoded's --sora-api)
    #[arg(long, default_value = "127.0.0.1:3001")]
    api: SocketAddr,
}

/// Interval of checks for channels that must be ended.
const OBEY_EVERY: Duration = Duration::from_millis(100);

const HELP: &str = "connect CHANNEL | disconnect NUMBER | list | quit";

fn main() {
    let args = Args::parse();
    let mut sora = FakeSora::new(&args.webhooks, std::process::id().into());
    let api = sora.listen(args.api);
    println!(
        "webhooks go to {}, the API is at http://{api}. {HELP}",
        args.webhooks
    );
    // Connected clients, by number.
    let mut clients: Vec<(String, String)> = Vec::new();
    let (says, lines) = mpsc::channel();
    thread::spawn(move || {
        std::io::stdin()
            .lock()
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| says.send(line))
    });
    loop {
        sora.end_requested_channels();
        let line = match lines.recv_timeout(OBEY_EVERY) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["connect", channel] => match sora.connect(channel) {
                Ok(connection_id) => {
                    clients.push((channel.to_owned(), connection_id));
                    let (number, (channel, connection_id)) =
                        (clients.len(), clients.last().unwrap());
                    println!("{number}: {connection_id} is in {channel}");
                }
                Err(Denied { reason }) => println!("not let in: 4490 {reason}"),
            },
            ["disconnect", number] => {
                let client = number
                    .parse::<usize>()
                    .ok()
                    .and_then(|number| clients.get(number.wrapping_sub(1)));
                match client {
                    Some((channel, connection_id)) if sora.disconnect(connection_id) => {
                        println!("{connection_id} has left {channel}");
                    }
                    Some(_) | None => println!("nobody of that number is there: see list"),
                }
            }
            ["list"] => {
                for (number, (channel, connection_id)) in clients.iter().enumerate() {
                    let is_there = sora.table().iter().any(|row| row[2] == *connection_id);
                    println!(
                        "{}: {connection_id} in {channel}{}",
                        number + 1,
                        if is_there { "" } else { " (has left)" }
                    );
                }
            }
            ["quit"] => return,
            [] => {}
            _ => println!("{HELP}"),
        }
    }
}
