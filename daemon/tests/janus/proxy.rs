//! A proxy before Janus's Admin API, which records requests, and may act before or after one of them.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::client::http_message;

/// Side of a request on which something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Janus has not seen the request.
    Before,
    /// Janus has answered, and the answer is not passed on.
    After,
}

/// An action at a request; `false` drops the request, or its answer, and the connection.
type Hook = Box<dyn FnMut(Side, &Value) -> bool + Send>;

/// A proxy. Its threads end with their connections.
pub(crate) struct AdminProxy {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Value>>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl AdminProxy {
    pub(crate) fn to(janus: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            hook: Arc::default(),
        };
        let (requests, hook) = (Arc::clone(&proxy.requests), Arc::clone(&proxy.hook));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (requests, hook) = (Arc::clone(&requests), Arc::clone(&hook));
                // A connection that breaks is part of the tests.
                std::thread::spawn(move || pass(&client.ok()?, janus, &requests, &hook));
            }
        });
        proxy
    }

    /// Sets the action from the next request on.
    pub(crate) fn at_requests(&self, hook: impl FnMut(Side, &Value) -> bool + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Takes the requests that Janus was sent since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Value> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn pass(
    client: &TcpStream,
    janus: SocketAddr,
    requests: &Mutex<Vec<Value>>,
    hook: &Mutex<Option<Hook>>,
) -> Option<()> {
    let server = TcpStream::connect(janus).ok()?;
    for stream in [client, &server] {
        stream.set_nodelay(true).ok()?;
    }
    let (mut from_client, mut from_server) = (BufReader::new(client), BufReader::new(&server));
    let act = |side, request: &Value| {
        let mut hook = hook.lock().unwrap();
        hook.as_mut()
            .is_none_or(|hook| hook(side, request))
            .then_some(())
    };
    loop {
        let (whole, body) = http_message(&mut from_client)?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        act(Side::Before, &request)?;
        requests.lock().unwrap().push(request.clone());
        (&server).write_all(&whole).ok()?;
        let (whole, _) = http_message(&mut from_server)?;
        act(Side::After, &request)?;
        (&*client).write_all(&whole).ok()?;
    }
}
