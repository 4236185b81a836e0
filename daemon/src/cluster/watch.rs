//! A watch over members, modes and purged nodes: a hint that it is worth looking now. Nothing rests on it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::WatchOptions;
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::text::shorten;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::etcd::Etcd;
use super::pool::TRY_TIME;
use super::revision::{number, revision};

/// Pause before a watch is opened again.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(etcd: Arc<Etcd>, wanted: Arc<Notify>, stop: CancellationToken) {
    let mut next: u64 = 0;
    loop {
        tokio::select! {
            why = watch(&etcd, &wanted, &mut next) => tracing::debug!(why, "the watch ended"),
            () = stop.cancelled() => return,
        }
        // Changes during the pause need a read too.
        wanted.notify_one();
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Watches from the revision `next`, and returns the reason for its end.
async fn watch(etcd: &Etcd, wanted: &Notify, next: &mut u64) -> String {
    let (member, mut client) = match etcd.pool.any().await {
        Ok(any) => any,
        Err(why) => return why,
    };
    let (from, to) = etcd.keys.watched();
    let options = WatchOptions::new()
        .with_range(to)
        .with_start_revision(revision(*next));
    let mut stream = match timeout(TRY_TIME, client.watch(from, Some(options))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return member.fails(&error),
        Err(_) => return member.is_silent(),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return "etcd ended it".to_owned(),
            Err(error) => return member.fails(&error),
        };
        if message.canceled() {
            // Earlier revisions are compacted: the read lists everything, and the watch starts with
            // later changes.
            *next = 0;
            return shorten(message.cancel_reason(), PEER_TEXT_BYTES_MAX);
        }
        if let Some(header) = message.header() {
            *next = number(header.revision()) + 1;
        }
        if !message.events().is_empty() {
            wanted.notify_one();
        }
    }
}
