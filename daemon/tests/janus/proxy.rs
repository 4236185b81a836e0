//! A proxy before Janus's Admin API, which may act before and after each request.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use soramode_testkit::janus::client::http_message;

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
    hook: Arc<Mutex<Option<Hook>>>,
}

impl AdminProxy {
    pub(crate) fn to(janus: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            hook: Arc::default(),
        };
        let hook = Arc::clone(&proxy.hook);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let hook = Arc::clone(&hook);
                // A connection that breaks is part of the tests.
                std::thread::spawn(move || pass(&client.ok()?, janus, &hook));
            }
        });
        proxy
    }

    /// Sets the action from the next request on.
    pub(crate) fn at_requests(&self, hook: impl FnMut(Side, &Value) -> bool + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }
}

fn pass(client: &TcpStream, janus: SocketAddr, hook: &Mutex<Option<Hook>>) -> Option<()> {
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
        (&server).write_all(&whole).ok()?;
        let (whole, _) = http_message(&mut from_server)?;
        act(Side::After, &request)?;
        (&*client).write_all(&whole).ok()?;
    }
}
