//! HTTP listeners: Sora's API, a real Sora's webhooks, and the endpoints for load balancers and
//! monitoring. Each is thin: it turns a call into one request to the gate, and formats the answer.

mod absent;
mod address;
pub mod api;
pub(crate) mod body;
mod connection_limit;
pub(crate) mod headers;
pub(crate) mod listen;
mod observe;
pub(crate) mod response;
mod serve;
mod stall;
pub(crate) mod state;

use std::io;
use std::sync::Arc;

use hyper::header::{HeaderValue, SERVER};
use hyper::{Request, StatusCode};
use soramode_protocol::http_client::Outgoing;
use soramode_protocol::sora_api::{LOOP_DETECTED, SoraApi};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use absent::Absent;
pub use body::{BODY_BYTES_MAX, BODY_TIME, LARGE_BODIES_KIB_MAX, LARGE_BODY_BYTES_MAX};
pub(crate) use headers::mark;
pub use listen::ListenError;
pub use serve::{
    DRAIN_TIMEOUT, HEAD_BYTES_MAX, HEAD_TIME, HTTP_CLIENTS_MAX, REFUSALS_MAX, STOP_TIME,
};
pub use stall::WRITE_TIME;

use crate::args::http::HttpUrl;
use crate::args::janus::JanusWay;
use crate::config::Config;
use crate::control::Operators;
use crate::descriptors;
use crate::engine::Engine;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::sfu::janus::events::{self as janus, EVENTS_PATH};
use crate::sfu::janus::{AdminApi, DueLists, JanusSource, RoomLocker};
use crate::sfu::sora::Poller;
use crate::sfu::sora::webhooks::{self, SoraWebhooks, UpstreamClients};
use crate::socket_activation::InheritedSockets;
use crate::socket_file::FileHandle;
use api::methods::MethodCall;
use api::proxy::SoraProxy;
use body::{BodyMemory, RequestBody};
use listen::{Caller, Listener, Listeners, Routes};
use observe::page_state::StatusPageState;
use response::HttpResponse;
use serve::{ListenerContext, Service, serve};
use state::HttpState;

/// Dependencies of the HTTP listeners.
#[derive(Debug)]
pub(crate) struct HttpDeps {
    pub(crate) engine: Engine,
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    /// Notified when the gate wants a poll of the SFU's API.
    pub(crate) poll_wanted: Arc<Notify>,
    /// The way to Sora's own API.
    pub(crate) api: Option<SoraApi>,
    /// The way to Janus's Admin API.
    pub(crate) janus: Option<AdminApi>,
    /// Locks of Janus's rooms.
    pub(crate) locker: Option<RoomLocker>,
    /// Settings that all requests to other servers share.
    pub(crate) outgoing: Outgoing,
    pub(crate) stop: CancellationToken,
    /// The users that may operate, over a Unix socket.
    pub(crate) operators: watch::Receiver<Operators>,
    /// Sockets that were passed to this process.
    pub(crate) inherited: InheritedSockets,
}

/// Open listeners, not serving yet.
#[derive(Debug)]
pub(crate) struct Http {
    listeners: Vec<Listener>,
    webhooks: SoraWebhooks,
    proxy: Option<SoraProxy>,
    page: Option<StatusPageState>,
    config: Config,
    deps: HttpDeps,
}

/// Problem of opening the HTTP listeners.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A listener cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Creating the HTTP client for upstreams failed.
    #[error("cannot ask upstreams: {0}")]
    Client(#[from] reqwest::Error),
}

impl HttpError {
    /// Returns the remedy for the operator, if there is one in addition to the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Listen(error) => error.hint(),
            Self::Client(_) => None,
        }
    }
}

impl Http {
    /// Opens the configured listeners. Needs a tokio runtime.
    pub(crate) fn open(config: &Config, mut deps: HttpDeps) -> Result<Self, HttpError> {
        let webhooks = SoraWebhooks::new(&config.http.sora, deps.outgoing.clone(), &deps.health)?;
        let timeout = config.http.sora.upstream_timeout;
        let proxy = |url: &HttpUrl| {
            SoraProxy::new(
                url.0.clone(),
                timeout,
                &deps.outgoing,
                Arc::clone(&deps.health),
            )
        };
        let proxy = config.http.sora.api.as_ref().map(proxy).transpose()?;
        let page = StatusPageState::new(&config.http, &deps.outgoing)?;
        let Listeners { listeners, absents } = listen::listeners(config, &mut deps.inherited)?;
        deps.health.note_absent(absents);
        Ok(Self {
            listeners,
            webhooks,
            proxy,
            page,
            config: config.clone(),
            deps,
        })
    }

    /// Returns the clients of the application's own webhooks.
    pub(crate) fn upstream_clients(&self) -> Arc<UpstreamClients> {
        self.webhooks.upstream_clients()
    }

    /// The files of Unix sockets that are ours.
    pub(crate) fn files(&self) -> io::Result<Vec<FileHandle>> {
        let files: io::Result<Vec<_>> = self.listeners.iter().map(Listener::file).collect();
        Ok(files?.into_iter().flatten().collect())
    }

    /// Serves until the daemon stops; returns when the last client is answered.
    pub(crate) async fn serve(self) {
        let Self {
            listeners,
            webhooks,
            proxy,
            page,
            config,
            deps,
        } = self;
        let HttpDeps {
            engine,
            event_log,
            metrics,
            health,
            poll_wanted,
            api,
            janus,
            locker,
            outgoing,
            operators,
            stop,
            ..
        } = deps;
        let tracker = TaskTracker::new();
        let due_lists = Arc::new(DueLists::default());
        tracker.spawn(address::look_for_absent(Arc::clone(&health), stop.clone()));
        if let Some(api) = api {
            let (engine, metrics) = (engine.clone(), Arc::clone(&metrics));
            tracker.spawn(
                Poller {
                    api,
                    engine,
                    health,
                    metrics,
                    wanted: poll_wanted,
                }
                .run(stop.clone()),
            );
        } else if let Some(api) = janus {
            let settings = config.http.janus.as_ref();
            let has_events = settings.is_some_and(|janus| janus.listen.is_some());
            let source = JanusSource {
                way: settings.map_or(JanusWay::Ask, |janus| janus.way),
                room_secrets: settings.and_then(|janus| janus.room_secrets.clone()),
                secret_check: std::sync::Mutex::default(),
                api,
                engine: engine.clone(),
                health,
                metrics: Arc::clone(&metrics),
                wanted: poll_wanted,
                due_lists: Arc::clone(&due_lists),
                event_check: has_events.then(std::sync::Mutex::default),
                relist_at: std::sync::Mutex::default(),
                locker,
            };
            tracker.spawn(source.run(stop.clone()));
        }
        if let Some(page) = &page {
            let history = Arc::clone(&page.history);
            let (engine, stop) = (engine.clone(), stop.clone());
            tracker.spawn(async move { history.record(engine, stop).await });
        }
        let (config, node_name) = (config.http, config.node_name);
        let (webhooks, body_memory, nameless) =
            (Arc::new(webhooks), BodyMemory::new(), Arc::from("http"));
        let state = Arc::new(HttpState {
            engine,
            tracker: tracker.clone(),
            config,
            node_name,
            event_log,
            metrics,
            webhooks,
            due_lists,
            proxy,
            outgoing,
            page,
            body_memory,
            report_turn: Arc::default(),
            nameless,
        });
        let common = ListenerContext {
            operators,
            stop: stop.clone(),
        };
        let clients_max = descriptors::http_clients_max(listeners.len());
        for listener in listeners {
            tracker.spawn(serve(
                listener,
                clients_max,
                Arc::clone(&state),
                common.clone(),
            ));
        }
        drop(state);
        tracker.close();
        stop.cancelled().await;
        tracker.wait().await;
    }
}

impl Service for HttpState {
    fn answer(
        &self,
        caller: &Caller,
        request: Request<RequestBody>,
    ) -> impl Future<Output = HttpResponse> + Send {
        let route = Route::of(self, caller, request);
        async move {
            // Rare or slow routes are boxed: a future is moved as a whole.
            let mut answer = match route {
                Route::Api(head, body) => api::answer(self, head, body).await,
                Route::Method(head, body) => Box::pin(api::methods::answer(self, head, body)).await,
                Route::Sora(request) => Box::pin(webhooks::answer(self, caller, request)).await,
                Route::Janus(request) => Box::pin(janus::answer(self, caller, request)).await,
                Route::Observe(request) => Box::pin(observe::answer(self, caller, request)).await,
                Route::Loop => response::error(StatusCode::LOOP_DETECTED, LOOP_DETECTED),
                Route::NotFound => response::error(StatusCode::NOT_FOUND, "NotFound"),
            };
            answer
                .headers_mut()
                .insert(SERVER, HeaderValue::from_static("soramode"));
            answer
        }
    }
}

/// Route of a request.
enum Route {
    Api(api::Head<api::ParsedHead>, RequestBody),
    /// Method of the control socket.
    Method(api::Head<MethodCall>, RequestBody),
    Sora(Request<RequestBody>),
    Janus(Request<RequestBody>),
    Observe(Request<RequestBody>),
    /// The request was sent by this process: a URL that it is to ask leads back to it.
    Loop,
    NotFound,
}

impl Route {
    fn of(state: &HttpState, caller: &Caller, request: Request<RequestBody>) -> Self {
        let (path, routes) = (request.uri().path(), caller.routes);
        if headers::has_come_back(request.headers(), &state.outgoing) {
            Self::Loop
        } else if path.starts_with("/sora/") && routes.contains(Routes::SORA) {
            Self::Sora(request)
        } else if path == EVENTS_PATH && routes.contains(Routes::JANUS) {
            Self::Janus(request)
        } else if routes.contains(Routes::OBSERVE) && observe::is_route(state, &request) {
            Self::Observe(request)
        } else if path == "/" && routes.contains(Routes::API) {
            let (head, body) = request.into_parts();
            Self::Api(api::read_head(state, caller, head), body)
        } else if let Some(method) = api::methods::of(path)
            && routes.contains(Routes::API)
        {
            let (head, body) = request.into_parts();
            Self::Method(api::methods::read_head(state, caller, method, head), body)
        } else {
            Self::NotFound
        }
    }
}
