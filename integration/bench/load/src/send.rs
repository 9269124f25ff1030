//! The sender: some connections, some calls under way on each, for some seconds.
//!
//! Enters: a target and the shape of requests. Leaves: calls of OTLP's `LogsService/Export`, and what became of them: records and
//! requests acknowledged, seconds, CPU, and the time from when a call was due to its answer. Promises: with `--rate` calls are due at
//! fixed times whatever the answers take, and their time counts from then (no coordinated omission); an answer that is no success ends
//! the run. Compressed requests are compressed before the run, all but a last record that makes each another one.

use std::{io::Write, time::Duration};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use flate2::{Crc, write::DeflateEncoder};
use h2::client::SendRequest;
use serde::Serialize;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::{
    cpu_s,
    requests::{self, Made, Shape, Stamps, now_unix_nano},
};

/// Level of gzip and zstd, as most senders have it.
const LEVEL: u32 = 1;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    shape: Shape,
    /// Where to: `host:port`, plain text.
    #[arg(long)]
    to: String,
    /// Seconds of sending.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Calls under way on each connection.
    #[arg(long, default_value_t = 2)]
    calls: usize,
    /// Records a second over all connections; left out, as many as are taken.
    #[arg(long)]
    rate: Option<f64>,
    /// Compression of requests.
    #[arg(long, default_value = "none")]
    compression: Compression,
    /// Ends after this many requests, whatever the seconds.
    #[arg(long)]
    requests: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

#[derive(Default, Serialize)]
pub struct Told {
    requests: u64,
    records: u64,
    bytes: u64,
    wire_bytes: u64,
    wall_s: f64,
    cpu_s: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

/// What one lane has seen.
#[derive(Default)]
struct Seen {
    requests: u64,
    records: u64,
    bytes: u64,
    wire_bytes: u64,
    took_us: Vec<u64>,
}

/// A request that is ready to be stamped and sent.
struct Ready {
    made: Made,
    /// The message but for its last record, compressed, and what is needed to go on from there.
    compressed: Option<Compressed>,
}

struct Compressed {
    start: Vec<u8>,
    crc: Crc,
}

/// Sends as the arguments say.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Told> {
    let pool = requests::make(&arguments.shape)?;
    let tail = Shape {
        records: 1,
        pool: 1,
        new_share: 0.0,
        ..arguments.shape.clone()
    };
    let tail = requests::make(&tail)?.into_iter().next().context("a pool of nothing")?;
    let pool: Vec<Ready> = pool
        .into_iter()
        .map(|made| prepare(made, arguments.compression))
        .collect::<Result<_, _>>()?;
    let (pool, tail): (&'static [Ready], &'static Made) = (Vec::leak(pool), Box::leak(Box::new(tail)));

    let lanes = arguments.connections * arguments.calls;
    let interval = arguments
        .rate
        .map(|rate| Duration::from_secs_f64(arguments.shape.records as f64 * lanes as f64 / rate));
    let mut connections = Vec::new();
    for _ in 0..arguments.connections {
        connections.push(connect(&arguments.to).await.with_context(|| arguments.to.clone())?);
    }
    let (began, cpu_before) = (Instant::now(), cpu_s());
    let ends = began + Duration::from_secs_f64(arguments.seconds);
    let mut sending = JoinSet::new();
    for number in 0..lanes {
        let connection = connections
            .get(number % arguments.connections)
            .context("no connection")?
            .clone();
        let lane = Lane {
            connection,
            to: arguments.to.clone(),
            compression: arguments.compression,
            pool,
            tail,
            stamps: Stamps::of(number as u64),
            next: number * pool.len() / lanes,
        };
        let first = interval.map(|interval| Instant::now() + interval.mul_f64(number as f64 / lanes as f64));
        let limit = arguments
            .requests
            .map(|requests| requests / lanes as u64 + u64::from(number < (requests % lanes as u64) as usize));
        sending.spawn(lane.send(first.zip(interval), ends, limit));
    }
    let mut told = Told::default();
    let mut took_us = Vec::new();
    while let Some(seen) = sending.join_next().await {
        let seen = seen??;
        told.requests += seen.requests;
        told.records += seen.records;
        told.bytes += seen.bytes;
        told.wire_bytes += seen.wire_bytes;
        took_us.extend(seen.took_us);
    }
    told.wall_s = began.elapsed().as_secs_f64();
    told.cpu_s = cpu_s() - cpu_before;
    took_us.sort_unstable();
    let at = |share: f64| {
        took_us
            .get(((took_us.len() as f64 * share) as usize).min(took_us.len().saturating_sub(1)))
            .copied()
    };
    told.p50_us = at(0.5).unwrap_or(0);
    told.p99_us = at(0.99).unwrap_or(0);
    told.max_us = at(1.0).unwrap_or(0);
    Ok(told)
}

async fn connect(to: &str) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut client = h2::client::Builder::new();
    client
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22);
    client.max_send_buffer_size(1 << 26);
    let (sender, connection) = client.handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One call after the other.
struct Lane {
    connection: SendRequest<Bytes>,
    to: String,
    compression: Compression,
    pool: &'static [Ready],
    tail: &'static Made,
    stamps: Stamps,
    next: usize,
}

impl Lane {
    async fn send(
        mut self,
        pace: Option<(Instant, Duration)>,
        ends: Instant,
        limit: Option<u64>,
    ) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        let mut due = pace.map(|(first, _)| first);
        loop {
            let since = match due {
                Some(at) => {
                    tokio::time::sleep_until(at).await;
                    at
                }
                None => Instant::now(),
            };
            if since >= ends || limit.is_some_and(|limit| seen.requests >= limit) {
                return Ok(seen);
            }
            due = due.zip(pace).map(|(at, (_, interval))| at + interval);
            let (records, bytes, message) = self.message()?;
            let wire_bytes = message.len() as u64;
            self.call(message).await?;
            seen.requests += 1;
            seen.records += records as u64;
            seen.bytes += bytes as u64;
            seen.wire_bytes += wire_bytes;
            seen.took_us.push(since.elapsed().as_micros() as u64);
        }
    }

    /// The next request, framed: records, bytes before compression, and what goes over the wire.
    fn message(&mut self) -> anyhow::Result<(usize, usize, Bytes)> {
        let ready = self.pool.get(self.next % self.pool.len()).context("an empty pool")?;
        self.next += 1;
        let now = now_unix_nano();
        let Some(compressed) = &ready.compressed else {
            let mut message = ready.made.stamped(&[0; 5], now, &mut self.stamps);
            frame(&mut message, 0);
            return Ok((ready.made.records, ready.made.bytes.len(), message.into()));
        };
        let tail = self.tail.stamped(&[], now, &mut self.stamps);
        let mut message = Vec::with_capacity(compressed.start.len() + tail.len() + 64);
        message.extend_from_slice(&compressed.start);
        match self.compression {
            // A last block that is stored as it is, then the checksum and the length of all: still one member.
            Compression::Gzip => {
                let length = u16::try_from(tail.len()).context("the last record is too long for one block")?;
                message.push(1);
                message.extend_from_slice(&length.to_le_bytes());
                message.extend_from_slice(&(!length).to_le_bytes());
                message.extend_from_slice(&tail);
                let (mut crc, mut last) = (Crc::new(), Crc::new());
                crc.combine(&compressed.crc);
                last.update(&tail);
                crc.combine(&last);
                message.extend_from_slice(&crc.sum().to_le_bytes());
                message.extend_from_slice(&crc.amount().to_le_bytes());
            }
            // One frame after the other is one message, too.
            Compression::Zstd => message.extend(zstd::bulk::compress(&tail, LEVEL as i32)?),
            Compression::None => {}
        }
        frame(&mut message, 1);
        Ok((
            ready.made.records + 1,
            ready.made.bytes.len() + tail.len(),
            message.into(),
        ))
    }

    async fn call(&mut self, message: Bytes) -> anyhow::Result<()> {
        let mut request = http::Request::post(format!(
            "http://{}/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            self.to
        ))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
        let encoding = match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let mut connection = self.connection.clone().ready().await?;
        let (response, mut body) = connection.send_request(request.body(())?, false)?;
        body.send_data(message, true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "HTTP {}", response.status());
        if let Some(status) = response.headers().get("grpc-status") {
            bail!("status {status:?} {:?}", response.headers().get("grpc-message"));
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        let trailers = body.trailers().await?.context("an answer without a status")?;
        let status = trailers.get("grpc-status").context("an answer without a status")?;
        ensure!(status == "0", "status {status:?} {:?}", trailers.get("grpc-message"));
        Ok(())
    }
}

fn frame(message: &mut [u8], flag: u8) {
    let length = (message.len() as u32).wrapping_sub(5).to_be_bytes();
    for (place, byte) in message.iter_mut().zip([flag].into_iter().chain(length)) {
        *place = byte;
    }
}

fn prepare(made: Made, compression: Compression) -> anyhow::Result<Ready> {
    let mut stamps = Stamps::of(u64::from(u32::MAX));
    let bytes = made.stamped(&[], now_unix_nano(), &mut stamps);
    let mut crc = Crc::new();
    crc.update(&bytes);
    let start = match compression {
        Compression::None => return Ok(Ready { made, compressed: None }),
        Compression::Gzip => {
            // RFC 1952: a header without a name; deflate blocks up to a byte boundary.
            let header = vec![0, 0, 0, 0, 0, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            let mut encoder = DeflateEncoder::new(header, flate2::Compression::new(LEVEL));
            encoder.write_all(&bytes)?;
            encoder.flush()?;
            encoder.get_ref().clone()
        }
        Compression::Zstd => {
            let mut start = vec![0; 5];
            start.extend(zstd::bulk::compress(&bytes, LEVEL as i32)?);
            start
        }
    };
    Ok(Ready {
        made,
        compressed: Some(Compressed { start, crc }),
    })
}
