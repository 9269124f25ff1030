//! Certificates made for a test, servers and clients that use them. None of it is Harbinger's.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
};
use tonic::{body::Body, transport::Endpoint};
use tower_service::Service;

use crate::otlp::{Client, Hop};

/// An authority, which says who others are.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // As in life, two authorities have two names.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {:016x}", fastrand::u64(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn certify(&self, name: &str) -> Certified {
        self.certify_until(name, 2100)
    }

    pub fn certify_until(&self, name: &str, year: i32) -> Certified {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        Certified {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        Arc::new(roots)
    }
}

impl Certified {
    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        (
            vec![certificate],
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap(),
        )
    }
}

/// A directory with the files of one side.
pub struct Files(pub tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn certified(&self, certified: &Certified) -> (Option<PathBuf>, Option<PathBuf>) {
        (
            Some(self.write("cert.pem", &certified.certificate)),
            Some(self.write("key.pem", &certified.key)),
        )
    }

    pub fn authority(&self, authority: &Authority) -> Option<PathBuf> {
        Some(self.write("ca.pem", &authority.pem))
    }
}

/// How a client greets.
pub struct Greeting<'a> {
    pub trusts: &'a Authority,
    pub shows: Option<&'a Certified>,
    pub version: &'static SupportedProtocolVersion,
    pub name: &'static str,
}

impl<'a> Greeting<'a> {
    pub fn trusting(trusts: &'a Authority) -> Self {
        Self {
            trusts,
            shows: None,
            version: &TLS13,
            name: "localhost",
        }
    }

    pub fn showing(self, certified: &'a Certified) -> Self {
        Self {
            shows: Some(certified),
            ..self
        }
    }

    pub fn by_tls_1_2(self) -> Self {
        Self {
            version: &TLS12,
            ..self
        }
    }

    pub fn naming(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn config(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(self.trusts.roots());
        let mut config = match self.shows {
            Some(certified) => {
                let (chain, key) = certified.parts();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A gRPC client, after a handshake and a first call. In TLS 1.3 a server's refusal comes after the handshake.
    pub async fn connect(&self, address: SocketAddr) -> Result<Client, String> {
        let mut client = self.over_tls(address).await?;
        client
            .export(crate::otlp::logs("greeting"))
            .await
            .map_err(|status| format!("{status:?}"))?;
        Ok(client)
    }

    /// A gRPC client after a handshake.
    pub async fn over_tls(&self, address: SocketAddr) -> Result<Client, String> {
        let connector = Connector {
            tls: TlsConnector::from(Arc::new(self.config())),
            address,
            name: ServerName::try_from(self.name).unwrap(),
        };
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connector).await;
        Ok(Client::over(channel.map_err(|error| format!("{error:?}"))?))
    }
}

#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
    address: SocketAddr,
    name: ServerName<'static>,
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(this.address).await?;
            Ok(TokioIo::new(this.tls.connect(this.name, stream).await?))
        })
    }
}

fn acceptor(shows: &Certified, asks_for: Option<&Authority>, protocol: &[u8]) -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks_for {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (chain, key) = shows.parts();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Serves a next hop by TLS until the test ends.
pub async fn serve_hop(hop: &Hop, shows: &Certified, asks_for: Option<&Authority>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (acceptor, hop) = (acceptor(shows, asks_for, b"h2"), hop.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, hop) = (acceptor.clone(), hop.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    hop.clone().call(request.map(Body::new))
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Serves a URL that takes every POST, by TLS, and counts them.
pub async fn serve_posts(shows: &Certified) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor(shows, None, b"http/1.1");
    let posts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = posts.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let counted = counted.clone();
            let service = hyper::service::service_fn(move |_| {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())))
            });
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, posts)
}
