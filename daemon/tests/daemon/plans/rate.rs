//! Sessions are ended at a rate while another client connects and disconnects all the time. Prints the times of its answers before and
//! meanwhile. `SORAMODE_SESSIONS=20000 SORAMODE_ENDS_PER_MINUTE=1000` set the numbers, `SORAMODE_DAEMON=PATH` another soramoded.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::*;

const SESSIONS: usize = 1_000;

const ENDS_PER_MINUTE: usize = 12_000;

/// Calls that may be in flight when a second begins.
const CALLS_MAX: usize = 8;

/// Pause of the other client after it has left.
const PAUSE: Duration = Duration::from_millis(2);

/// Number of times that the other client comes before sessions end.
const TIMES_BEFORE: usize = 500;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// A client that is in its channel for a moment, again and again.
struct OtherClient {
    client: TestClient,
    /// Times of the answers.
    times: Vec<Duration>,
    _sender: mpsc::Sender<()>,
    never: mpsc::Receiver<()>,
}

impl OtherClient {
    fn new(process: &Process) -> Self {
        let (sender, never) = mpsc::channel();
        Self {
            client: process.client(),
            times: Vec::new(),
            _sender: sender,
            never,
        }
    }

    fn come_and_go(&mut self) {
        let began = Instant::now();
        let offer = self.client.connect("other", "other");
        assert_eq!(offer["type"], "offer", "{offer}");
        let came = Instant::now();
        self.client.disconnect("other");
        self.times.extend([came - began, came.elapsed()]);
        let paused = self.never.recv_timeout(PAUSE);
        assert_eq!(paused, Err(RecvTimeoutError::Timeout));
    }

    /// Median and 99th percentile since the last call, for people.
    fn percentiles(&mut self) -> String {
        let mut times = std::mem::take(&mut self.times);
        times.sort();
        let percentile = |percent: usize| times[times.len() * percent / 100];
        format!(
            "{} answers, 50 % within {:?}, 99 % within {:?}",
            times.len(),
            percentile(50),
            percentile(99)
        )
    }
}

#[test]
fn sessions_end_at_a_rate_while_another_client_comes_and_goes() {
    let sessions = number("SORAMODE_SESSIONS", SESSIONS);
    let per_minute = number("SORAMODE_ENDS_PER_MINUTE", ENDS_PER_MINUTE);
    let mut beside = Beside::new(Returns::Never);
    let process = beside.start(&[]);
    beside.fill(sessions, 1);
    let (mut client, mut other) = (process.client(), OtherClient::new(&process));
    for _ in 0..TIMES_BEFORE {
        other.come_and_go();
    }
    eprintln!("before: {}", other.percentiles());

    let end = json!({"all": true, "per_minute": per_minute});
    client.send_request("End", &end);
    let planned = Duration::from_mins(1) * u32::try_from(sessions / per_minute + 1).unwrap();
    let began = Instant::now();
    while beside.sora.channels() > 0 {
        other.come_and_go();
        assert!(began.elapsed() < 2 * planned + PATIENCE, "it does not end");
    }
    eprintln!("meanwhile: {}", other.percentiles());
    let ended = client.recv();
    assert_eq!(ended["result"]["sessions"], sessions, "{ended}");

    let log = beside.sora.client_log();
    let cuts = cuts(&log);
    assert_eq!(cuts.len(), sessions);
    // Each second has no more than the rate, and the calls that were in flight at its begin.
    let per_second = per_minute.div_ceil(60) + CALLS_MAX;
    for (number, first) in cuts.iter().enumerate() {
        let within = cuts[number..]
            .iter()
            .take_while(|cut| cut.boot < first.boot + Duration::from_secs(1))
            .count();
        assert!(within <= per_second, "{within} cuts in one second");
    }
}
