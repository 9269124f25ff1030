//! Peers that begin something on an HTTP/2 connection and never finish it.
//!
//! What enters: a connection, and how long a peer may take. What leaves: the same bytes, or an error once the peer has owed
//! the rest of something for too long: of its preface, of its first SETTINGS, of a frame, of a block of headers. Promises:
//! an idle connection owes nothing; nor does a body, whose time is the call's; nothing is copied, and frames are stepped
//! over by their length. Absent on purpose: HTTP/1, which hyper itself has a time limit for, and everything that h2 counts
//! (resets, CONTINUATION, empty frames).

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Types and flags of frames (RFC 9113).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A connection whose peer must finish what it begins.
#[derive(Debug)]
pub struct Punctual<S> {
    inner: S,
    limit: Duration,
    progress: Progress,
    /// Runs while the peer owes something and is silent.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Punctual<S> {
    /// Watches the peer of `inner`, who has `limit` for each thing it begins.
    pub fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            progress: Progress::default(),
            patience: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Punctual<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if let Poll::Ready(outcome) = Pin::new(&mut this.inner).poll_read(cx, buffer) {
            let came = buffer.filled().get(before..).unwrap_or_default();
            if this.progress.take(came) {
                this.patience = None;
            }
            return Poll::Ready(outcome);
        }
        if !this.progress.owes() {
            this.patience = None;
            return Poll::Pending;
        }
        let limit = this.limit;
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        match patience.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer did not finish what it began",
            ))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Punctual<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// For tonic's server.
impl<S> tonic::transport::server::Connected for Punctual<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// How far a peer has come.
#[derive(Debug, Default)]
struct Progress {
    at: At,
    /// Whether a first frame, which is SETTINGS, has come.
    greeted: bool,
    /// Whether a block of headers has begun and not ended.
    in_headers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame are to come.
    Payload { left: usize, is_body: bool },
    /// It speaks something else.
    Foreign,
}

impl Default for At {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl Progress {
    /// Whether the peer has begun something.
    fn owes(&self) -> bool {
        match self.at {
            At::Preface(_) => true,
            At::Foreign => false,
            At::Payload { is_body: true, .. } => !self.greeted || self.in_headers,
            At::Payload { .. } => true,
            At::Head(_, filled) => filled > 0 || !self.greeted || self.in_headers,
        }
    }

    /// Takes note of what came; whether the peer owed nothing at some moment.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut was_even = false;
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                At::Foreign => return true,
                At::Preface(matched) => {
                    bytes = rest;
                    self.at = match PREFACE.get(*matched) {
                        Some(expected) if expected != first => At::Foreign,
                        _ if *matched + 1 == PREFACE.len() => At::Head([0; HEAD_BYTES], 0),
                        _ => At::Preface(*matched + 1),
                    };
                }
                At::Head(head, filled) => {
                    bytes = rest;
                    if let Some(slot) = head.get_mut(*filled) {
                        *slot = *first;
                    }
                    *filled += 1;
                    if *filled == HEAD_BYTES {
                        let head = *head;
                        self.begin(head);
                    }
                }
                At::Payload { left, .. } => {
                    let step = (*left).min(bytes.len());
                    *left -= step;
                    bytes = bytes.get(step..).unwrap_or_default();
                    if *left == 0 {
                        self.end();
                    }
                }
            }
            was_even |= !self.owes();
        }
        was_even
    }

    fn begin(&mut self, head: [u8; HEAD_BYTES]) {
        let [a, b, c, kind, flags, ..] = head;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_headers = flags & END_HEADERS == 0;
        }
        self.at = At::Payload {
            left: u32::from_be_bytes([0, a, b, c]) as usize,
            is_body: kind == DATA,
        };
        if matches!(self.at, At::Payload { left: 0, .. }) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.greeted = true;
        self.at = At::Head([0; HEAD_BYTES], 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1][..], payload].concat()
    }

    fn hello(then: &[u8]) -> Vec<u8> {
        [PREFACE, SETTINGS, then].concat()
    }

    /// How long the peer is waited for after `said`; `None` for ever.
    async fn patience(said: &[u8]) -> Option<Duration> {
        let (mut peer, inner) = duplex(4096);
        let mut watched = Punctual::new(inner, LIMIT);
        let begun = tokio::time::Instant::now();
        peer.write_all(said).await.unwrap();
        let reading = async {
            let mut buffer = [0; 4096];
            loop {
                match watched.read(&mut buffer).await {
                    Ok(_) => {}
                    Err(problem) => return problem.kind(),
                }
            }
        };
        let ended = tokio::time::timeout(LIMIT * 100, reading).await;
        ended.ok().map(|kind| {
            assert_eq!(kind, io::ErrorKind::TimedOut);
            begun.elapsed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn known_loss_slow_headers_end_in_bounded_time() {
        let half_headers = frame(HEADERS, 0, b"half");
        for owing in [
            &PREFACE[..1],
            PREFACE,
            &hello(b"")[..PREFACE.len() + 3],
            &hello(&[0]),
            &hello(&frame(6, 0, b"12345678")[..12]),
            &hello(&frame(HEADERS, END_HEADERS, b"block")[..10]),
            &hello(&half_headers),
            &hello(&[half_headers.clone(), frame(CONTINUATION, 0, b"more")].concat()),
        ] {
            assert_eq!(patience(owing).await, Some(LIMIT), "{owing:?}");
        }
        let whole = frame(HEADERS, END_HEADERS, b"block");
        for even in [
            &b"GET / HTTP/1.1"[..],
            &hello(b""),
            &hello(&whole),
            &hello(&[half_headers, frame(CONTINUATION, END_HEADERS, b"end")].concat()),
            &hello(&[whole, frame(DATA, 0, b"a body that stalls")[..12].to_vec()].concat()),
        ] {
            assert_eq!(patience(even).await, None, "{even:?}");
        }
    }

    /// A byte now and then does not help; a peer that is slow and gets on is waited for.
    #[tokio::test(start_paused = true)]
    async fn known_loss_slow_headers_by_drops_end_in_bounded_time() {
        let (mut peer, inner) = duplex(64);
        let mut watched = Punctual::new(inner, LIMIT);
        let dripping = tokio::spawn(async move {
            for byte in hello(&[frame(HEADERS, 0, &[0; 60]), frame(CONTINUATION, 0, &[0; 200])].concat()) {
                if peer.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            std::future::pending::<()>().await;
        });
        let begun = tokio::time::Instant::now();
        let mut read = 0;
        let mut buffer = [0; 16];
        while let Ok(count) = watched.read(&mut buffer).await {
            read += count;
        }
        dripping.abort();
        assert!(read > PREFACE.len() + SETTINGS.len(), "{read}");
        assert!(begun.elapsed() < LIMIT * 3, "{:?}", begun.elapsed());
    }
}
