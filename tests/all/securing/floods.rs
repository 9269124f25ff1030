//! Callers that mean harm, over raw sockets and frames: each is thrown out, and its neighbours do not notice.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use harbinger::edge::{
    health::{Answer, Pages},
    receive_grpc::{Settings, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
    time::Instant,
};

use super::certificates::{Authority, Files};
use crate::otlp::{Client, Recorder, Serving, logs};

/// Preface and SETTINGS.
pub const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Types of frames, flags and errors (RFC 9113).
const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn written(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    written(HEADERS, flags, stream, block)
}

fn literal(name: &str, value: &str) -> Vec<u8> {
    [
        &[0, name.len() as u8],
        name.as_bytes(),
        &[value.len() as u8],
        value.as_bytes(),
    ]
    .concat()
}

/// The headers of a call of `Export`, in HPACK without its tables but for `POST` and `http`.
pub fn export_call() -> Vec<u8> {
    [
        vec![0x83, 0x86],
        literal(":path", crate::otlp::EXPORT),
        literal(":authority", "x"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

/// The next frame: its type, its stream and its payload.
pub async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    ))
}

fn error_code(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload[at..at + 4].try_into().unwrap())
}

/// Reads to the end; the error of the last GOAWAY.
async fn farewell(mut stream: OwnedReadHalf) -> Option<u32> {
    let mut last = None;
    while let Some((kind, _, payload)) = frame(&mut stream).await {
        if kind == GOAWAY {
            last = Some(error_code(&payload, 4));
        }
    }
    last
}

/// Says hello and `first`, then `part` after `part`, until it is thrown out; the error that it is told.
async fn thrown_out(
    address: SocketAddr,
    first: Vec<u8>,
    part: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> Option<u32> {
    const MOST_PARTS: u32 = 3000;
    let stream = TcpStream::connect(address).await.unwrap();
    let (read, mut write) = stream.into_split();
    let reading = tokio::spawn(farewell(read));
    write.write_all(&[HELLO, &first].concat()).await.unwrap();
    let mut ended = false;
    for number in 0..MOST_PARTS {
        if reading.is_finished() || write.write_all(&part(number)).await.is_err() {
            ended = true;
            break;
        }
    }
    assert!(ended || reading.is_finished(), "nothing was said of {MOST_PARTS} parts");
    reading.await.unwrap()
}

async fn serving(settings: Settings) -> Serving {
    Serving::start(settings, Arc::new(Recorder::default())).await
}

async fn a_neighbour_is_unharmed(serving: &Serving) {
    Client::to(serving.address).await.export(logs("x")).await.unwrap();
}

/// CVE-2023-44487: streams that are reset as soon as they are opened.
#[tokio::test]
async fn known_loss_rapid_reset_is_thrown_out() {
    let serving = serving(Settings::default()).await;
    let told = thrown_out(serving.address, vec![], |number| {
        let pairs = (0..500).flat_map(|pair| {
            let stream = (number * 500 + pair) * 2 + 1;
            [
                headers(stream, END_HEADERS, &export_call()),
                written(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
        });
        pairs.flatten().collect()
    });
    assert!(matches!(told.await, None | Some(ENHANCE_YOUR_CALM)));
    a_neighbour_is_unharmed(&serving).await;
}

/// RUSTSEC-2024-0332: a block of headers that never ends.
#[tokio::test]
async fn known_loss_continuation_floods_are_thrown_out() {
    let serving = serving(Settings::default()).await;
    for size in [0, 1, 8000] {
        let told = thrown_out(serving.address, headers(1, 0, &export_call()), move |_| {
            let fill: Vec<u8> = if size < 100 {
                vec![0; size]
            } else {
                literal("x", &"y".repeat(120)).repeat(size / 124)
            };
            (0..50).flat_map(|_| written(CONTINUATION, 0, 1, &fill)).collect()
        });
        _ = told.await;
    }
    a_neighbour_is_unharmed(&serving).await;
}

/// RUSTSEC-2026-0258: frames of a body that bring nothing.
#[tokio::test]
async fn known_loss_empty_data_floods_are_thrown_out() {
    let serving = serving(Settings::default()).await;
    let told = thrown_out(serving.address, headers(1, END_HEADERS, &export_call()), |_| {
        (0..500).flat_map(|_| written(DATA, 0, 1, &[])).collect()
    });
    assert!(matches!(told.await, None | Some(ENHANCE_YOUR_CALM)));
    a_neighbour_is_unharmed(&serving).await;
}

/// How long a server bears with somebody who says this and no more.
async fn patience(address: SocketAddr, said: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(said).await.unwrap();
    _ = stream.read_to_end(&mut Vec::new()).await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn known_loss_slow_headers_and_greetings_are_thrown_out() {
    let serving = serving(Settings::default()).await;
    let half = headers(1, 0, &export_call());
    for said in [
        &b""[..],
        &HELLO[..10],
        &HELLO[..24],
        &[HELLO, &half].concat(),
        &[HELLO, &half[..12]].concat(),
    ] {
        let waited = patience(serving.address, said).await.as_secs();
        assert!((20..25).contains(&waited), "{waited} s after {said:?}");
    }
    let pages = Pages::bind("127.0.0.1:0").await.unwrap();
    let address = pages.address();
    tokio::spawn(pages.serve(vec![]));
    let waited = patience(address, b"GET / HTTP/1.1\r\nHost: ").await.as_secs();
    assert!((30..35).contains(&waited), "{waited} s");
}

#[tokio::test(start_paused = true)]
async fn known_loss_handshakes_that_stall_are_thrown_out() {
    let (authority, files) = (Authority::new(), Files::new());
    let (cert_file, key_file) = files.certified(&authority.certify("localhost"));
    let tls = TlsSettings {
        cert_file,
        key_file,
        ..TlsSettings::default()
    };
    let settings = Settings {
        tls: Some(tls),
        ..Settings::default()
    };
    let serving = serving(settings).await;
    let waited = patience(serving.address, b"\x16\x03\x01").await.as_secs();
    assert!((10..15).contains(&waited), "{waited} s");
}

#[tokio::test]
async fn known_loss_headers_without_end_are_refused() {
    let (recorder, serving) = {
        let recorder = Arc::new(Recorder::default());
        (recorder.clone(), Serving::start(Settings::default(), recorder).await)
    };
    let client = Client::to(serving.address).await;
    let long = "y".repeat(20_000);
    let response = client
        .http(&[("content-type", "application/grpc"), ("x-long", &long)], vec![0; 5])
        .await;
    assert_eq!(response.status(), 431);
    assert!(recorder.bodies().is_empty());
    a_neighbour_is_unharmed(&serving).await;
}

#[tokio::test]
async fn known_loss_streams_beyond_the_bound_are_refused() {
    let settings = Settings {
        max_concurrent_streams: 2,
        ..Settings::default()
    };
    let serving = serving(settings).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let calls: Vec<u8> = [1, 3, 5]
        .into_iter()
        .flat_map(|id| headers(id, END_HEADERS, &export_call()))
        .collect();
    stream.write_all(&[HELLO, &calls].concat()).await.unwrap();
    loop {
        let (kind, id, payload) = frame(&mut stream).await.expect("the connection stays");
        if kind == RST_STREAM {
            assert_eq!((id, error_code(&payload, 0)), (5, REFUSED_STREAM));
            break;
        }
    }
    stream.write_all(&written(DATA, END_STREAM, 1, &[0; 5])).await.unwrap();
    while frame(&mut stream).await.expect("the first call is answered").1 != 1 {}
}

#[tokio::test]
async fn known_loss_connections_beyond_the_bound_are_closed_and_counted() {
    let settings = Settings {
        max_connections: 2,
        ..Settings::default()
    };
    let serving = serving(settings).await;
    let held = TcpStream::connect(serving.address).await.unwrap();
    let mut client = Client::to(serving.address).await;
    client.export(logs("x")).await.unwrap(); // so both are accepted
    let mut third = TcpStream::connect(serving.address).await.unwrap();
    assert!(
        matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)),
        "closed at once"
    );
    assert_eq!(serving.entrance.turned_away(), 1);
    client.export(logs("who is in stays in")).await.unwrap();
    drop(held);
    loop {
        // The place is free once the server has seen that the connection is gone.
        let mut next = TcpStream::connect(serving.address).await.unwrap();
        _ = next.write_all(HELLO).await;
        if frame(&mut next).await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn known_loss_connections_to_a_status_page_are_bounded() {
    let pages = Pages::bind("127.0.0.1:0").await.unwrap();
    let address = pages.address();
    let page = || Answer::metrics("all well".into());
    tokio::spawn(pages.serve(vec![("/", Arc::new(page))]));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        _ = stream.read_to_string(&mut answer).await;
        answer
    };
    assert!(ask("/").await.ends_with("all well") && ask("/none").await.starts_with("HTTP/1.1 404"));
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(ask("/").await, "");
    drop(held);
    while !ask("/").await.ends_with("all well") {}
}
