//! Limit of 1,024 clients: a surplus client is rejected with an error, and connected clients are
//! not affected.

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;
use soramoded::control::CLIENTS_MAX;

/// Both ends of every socket are in this process, most of them twice.
const DESCRIPTORS: u64 = 6 * CLIENTS_MAX as u64;

#[test]
fn surplus_clients_are_rejected_and_a_free_slot_is_reused() {
    if getrlimit(Resource::Nofile)
        .maximum
        .is_some_and(|limit| limit < DESCRIPTORS)
    {
        eprintln!("skipped: needs {DESCRIPTORS} open files");
        return;
    }
    let daemon = Daemon::start();
    let mut clients: Vec<TestClient> = (0..CLIENTS_MAX).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("GetMode", &json!({}))["generation"], 1);
    }
    for _ in 0..76 {
        let mut surplus = daemon.client();
        let error = surplus.recv_error(Value::Null, "TooManyClients");
        assert_eq!(error["code"], -32017);
        surplus.recv_end();
    }
    clients[0].get("ChangeMode", &json!({"mode": "block_new_session"}));
    for client in &mut clients {
        assert_eq!(client.get("GetMode", &json!({}))["generation"], 2);
    }
    // Half of them only listen from now on: that takes another descriptor each.
    for client in clients.iter_mut().step_by(2) {
        client.send_request("Wait", &json!({"for": "mode", "mode": "normal"}));
        client.half_close();
    }
    clients[1].get("ChangeMode", &json!({"mode": "normal"}));
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.recv()["result"]["outcome"], "reached");
        client.recv_end();
    }
    for _ in 0..CLIENTS_MAX / 2 {
        assert_eq!(daemon.client().get("GetMode", &json!({}))["generation"], 3);
    }
}
