//! Connections of a server, HTTP/2 or both versions on one port: accepting, keeping alive, ageing and leaving.
//!
//! What enters: bound sockets and a handler. What leaves: calls of the handler, one task each.
//! Promise: after `shutdown` no connection is accepted and every call under way gets its answer; a connection past its
//! age or idle time is told so (GOAWAY, in HTTP/2) before it is closed; running out of file descriptors slows, never spins; a
//! peer that begins something and does not go on is let go of (in HTTP/2 by `punctual`, in HTTP/1 by hyper).
//! Absent on purpose: TLS and the number of connections (`entrance`), and time limits on bodies, which are the handler's. It stands in for tonic's server loop (0.14.9), which has no idle limit and, with
//! a grace period set, closes aged connections without telling them.
//! Limits on headers (16 KiB in HTTP/2, 64 KiB in HTTP/1), on resets and on CONTINUATION and empty frames are those of hyper
//! and h2 (≥ 0.4.16), held to them by `tests/all/securing/floods.rs`.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    MIB,
    entrance::{ConnectionPlace, Entrance},
    punctual::Punctual,
    warnings::Throttle,
};

/// The section `keepalive`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// The server's side.
    pub server_parameters: ServerParameters,
}

/// The section `keepalive.server_parameters`; names, meaning and defaults are gRPC's. 0 s means without limit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerParameters {
    /// A connection without a call for this long is closed.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_connection_idle: Duration,
    /// A connection of this age (± 10 %) takes no new calls: clients connect anew, and balance again.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_connection_age: Duration,
    /// What an aged connection gets to finish its calls.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub max_connection_age_grace: Duration,
    /// A connection that says nothing for this long is pinged.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub time: Duration,
    /// A ping unanswered for this long closes the connection.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub timeout: Duration,
}

impl Default for ServerParameters {
    fn default() -> Self {
        Self {
            max_connection_idle: Duration::ZERO,
            max_connection_age: Duration::ZERO,
            max_connection_age_grace: Duration::ZERO,
            time: Duration::from_secs(2 * 60 * 60),
            timeout: Duration::from_secs(20),
        }
    }
}

/// A connection that never says anything is not kept longer than this.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(20);
/// What a peer has begun in HTTP/2 (its greeting, a frame, a block of headers) it finishes within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// After `shutdown`, or when it has never made a call, a connection without calls has this long to take its leave.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// Pause after an accept that failed (no file descriptor left, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Largest header of an HTTP/1 request.
const MAX_HTTP1_HEADER_BYTES: usize = 64 * 1024;

/// What connections are held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// HTTP/1 is served beside HTTP/2.
    pub http1: Option<Http1>,
    /// Idle time, age and pings.
    pub parameters: ServerParameters,
    /// Calls at a time on one connection of HTTP/2.
    pub max_concurrent_streams: u32,
}

/// What connections are held to where HTTP/1 is served.
#[derive(Clone, Copy, Debug)]
pub struct Http1 {
    /// How long the header of a request, and the first call of any connection, may take to arrive.
    pub read_header_timeout: Duration,
}

/// Serves `listeners`, through `entrance`, until `shutdown`, then until the last call has its answer.
pub async fn serve<H, F, B>(
    listeners: Vec<TcpListener>,
    entrance: Entrance,
    limits: &Limits,
    handler: H,
    shutdown: impl Future<Output = ()>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (stop, stopping) = watch::channel(());
    let server = Arc::new(Server {
        entrance,
        builder: builder(limits),
        limits: limits.clone(),
        handler,
        stopping,
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(server.clone().accept(listener));
    }
    drop(server);
    tokio::select! {
        () = shutdown => {}
        // Only by a bug. Whoever waits for this to return learns that nobody listens any more.
        Some(ended) = accepting.join_next() => {
            if let Err(problem) = ended {
                tracing::error!(%problem, "a listener ended by a bug");
            }
        }
    }
    accepting.shutdown().await; // closes the sockets
    stop.send_replace(());
    stop.closed().await; // every connection holds a receiver
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        // Wide enough that a batch of a few MiB does not wait for window updates; unread bytes per connection are
        // bounded by the second.
        .initial_stream_window_size(4 * MIB as u32)
        .initial_connection_window_size(8 * MIB as u32)
        // Clients that respect it send a usual batch in one frame, which is then never copied.
        .max_frame_size(MIB as u32)
        .keep_alive_interval(limited(limits.parameters.time))
        .keep_alive_timeout(limits.parameters.timeout);
    let Some(http1) = limits.http1 else {
        return builder.http2_only();
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limited(http1.read_header_timeout))
        .max_buf_size(MAX_HTTP1_HEADER_BYTES);
    builder
}

fn limited(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

struct Server<H> {
    entrance: Entrance,
    builder: Builder<TokioExecutor>,
    limits: Limits,
    handler: H,
    stopping: watch::Receiver<()>,
}

impl<H, F, B> Server<H>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let failed = Throttle::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(place) = self.entrance.place() {
                        let stopping = self.stopping.clone();
                        tokio::spawn(self.clone().connection(stream, place, stopping));
                    }
                }
                Err(error) => {
                    if let Some(left_out) = failed.admit() {
                        tracing::warn!(%error, left_out, "cannot accept a connection: too many open files (ulimit -n)?");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, place: ConnectionPlace, mut stopping: watch::Receiver<()>) {
        let heard = tokio::select! {
            heard = timeout(FIRST_BYTE_TIMEOUT, stream.readable()) => matches!(heard, Ok(Ok(()))),
            _ = stopping.changed() => false,
        };
        if !heard {
            return;
        }
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot turn off delays on a connection");
        }
        let admitted = tokio::select! {
            admitted = self.entrance.admit(stream, place) => admitted,
            _ = stopping.changed() => None,
        };
        let Some(stream) = admitted else {
            return;
        };
        let stream = TokioIo::new(Punctual::new(stream, HEADER_TIMEOUT));
        let calls = Arc::new(Calls::default());
        let (handler, counted) = (self.handler.clone(), calls.clone());
        let service = service_fn(move |request| {
            let (call, answer) = (counted.begin(), handler(request));
            async move {
                let response = answer.await;
                drop(call);
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(self.builder.serve_connection(stream, service));
        let mut stage = Stage::Serving { age: self.age_limit() };
        loop {
            let max_idle = self.max_idle(&calls);
            let next = stage.next_look(&calls, max_idle);
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                    return;
                }
                _ = stopping.changed(), if stage != Stage::Stopping => {
                    connection.as_mut().graceful_shutdown();
                    stage = Stage::Stopping;
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => match stage {
                    Stage::Serving { age } if age.is_some_and(|age| age <= Instant::now()) => {
                        connection.as_mut().graceful_shutdown();
                        let grace = limited(self.limits.parameters.max_connection_age_grace);
                        stage = Stage::Leaving { until: grace.map(|grace| Instant::now() + grace) };
                    }
                    Stage::Serving { .. } if max_idle.is_some_and(|max_idle| calls.idle_for(max_idle)) => {
                        connection.as_mut().graceful_shutdown();
                        stage = Stage::Leaving { until: Some(Instant::now() + calls.leave_time()) };
                    }
                    Stage::Serving { .. } => {}
                    Stage::Leaving { .. } => return,
                    Stage::Stopping if calls.none() => return,
                    Stage::Stopping => {}
                },
            }
        }
    }

    /// How long the connection may be without a call; before its first no longer than a header may take.
    fn max_idle(&self, calls: &Calls) -> Option<Duration> {
        let first = self.limits.http1.filter(|_| !calls.begun.load(Ordering::Relaxed));
        let first = first.and_then(|http1| limited(http1.read_header_timeout));
        let idle = limited(self.limits.parameters.max_connection_idle);
        first.into_iter().chain(idle).min()
    }

    fn age_limit(&self) -> Option<Instant> {
        let age = limited(self.limits.parameters.max_connection_age)?;
        Instant::now().checked_add(age.mul_f64(0.9 + 0.2 * fastrand::f64()))
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving { age: Option<Instant> },
    Leaving { until: Option<Instant> },
    Stopping,
}

impl Stage {
    /// When something may have to change without the connection saying so.
    fn next_look(self, calls: &Calls, max_idle: Option<Duration>) -> Option<Instant> {
        match self {
            Self::Serving { age } => {
                // With calls under way that moment passes without effect: look again an idle time later.
                let idle = max_idle.and_then(|max_idle| {
                    let at = calls.last_change().checked_add(max_idle)?;
                    Some(if calls.none() {
                        at
                    } else {
                        at.max(Instant::now() + max_idle)
                    })
                });
                age.into_iter().chain(idle).min()
            }
            Self::Leaving { until } => until,
            Self::Stopping => Some(Instant::now() + LEAVE_TIME),
        }
    }
}

/// The calls under way on one connection.
#[derive(Debug)]
struct Calls {
    begun: AtomicBool,
    count: AtomicUsize,
    changed: Mutex<Instant>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            begun: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            changed: Mutex::new(Instant::now()),
        }
    }
}

impl Calls {
    fn begin(self: &Arc<Self>) -> Call {
        self.begun.store(true, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::AcqRel);
        Call(self.clone())
    }

    fn none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What an idle connection gets to take its leave.
    fn leave_time(&self) -> Duration {
        if self.begun.load(Ordering::Relaxed) {
            FIRST_BYTE_TIMEOUT
        } else {
            LEAVE_TIME
        }
    }

    fn last_change(&self) -> Instant {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_for(&self, max_idle: Duration) -> bool {
        self.none() && self.last_change().elapsed() >= max_idle
    }
}

/// One call; dropped also when the caller gives up.
struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
