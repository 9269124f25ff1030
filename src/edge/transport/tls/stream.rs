//! One type for plain and encrypted connections.
//!
//! What enters: a TCP connection, perhaps after a handshake. What leaves: bytes both ways. Promise: nothing is copied that
//! TLS does not copy. Absent on purpose: handshakes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

use crate::edge::transport::entrance::ConnectionPlace;

/// A connection, and the place at a server's entrance that it has while it lasts.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    #[expect(dead_code, reason = "held, not read")]
    place: Option<ConnectionPlace>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    /// Boxed, as the state of TLS is large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Bytes as they are.
    pub fn plain(stream: TcpStream) -> Self {
        Self {
            io: Io::Plain(stream),
            place: None,
        }
    }

    /// After a handshake.
    pub fn encrypted(stream: impl Into<TlsStream<TcpStream>>) -> Self {
        Self {
            io: Io::Tls(Box::new(stream.into())),
            place: None,
        }
    }

    /// Keeps `place` until the connection ends.
    pub fn holding(self, place: ConnectionPlace) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match &mut $stream.io {
            Io::Plain(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            Io::Tls(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, inner => inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => inner.poll_shutdown(cx))
    }
}

/// For hyper-util's client.
impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match &self.io {
            Io::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(super::HTTP_2) => connected.negotiated_h2(),
            _ => connected,
        }
    }
}
