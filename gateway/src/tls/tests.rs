//! Over real sockets: who gets in, who is kept out, and what each end is told.

use super::*;
use crate::errors::from_status;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};
use veilgate_federated::run::RunId;
use veilgate_proto::analyst::v1 as wire;
use wire::analyst_client::AnalystClient;
use wire::analyst_server::{Analyst as AnalystApi, AnalystServer};

const RUN: RunId = RunId([0x5a; 32]);

/// Answers Explain with the caller.
struct Echo;

#[tonic::async_trait]
impl AnalystApi for Echo {
    type WatchStream = tokio_stream::Empty<std::result::Result<wire::WatchEvent, Status>>;
    type FetchStream = tokio_stream::Empty<std::result::Result<wire::FetchReply, Status>>;

    async fn login(
        &self,
        _: Request<wire::LoginRequest>,
    ) -> std::result::Result<Response<wire::LoginReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn submit(
        &self,
        _: Request<wire::SubmitRequest>,
    ) -> std::result::Result<Response<wire::SubmitReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel(
        &self,
        _: Request<wire::CancelRequest>,
    ) -> std::result::Result<Response<wire::CancelReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> std::result::Result<Response<wire::ExplainReply>, Status> {
        let caller = request.extensions().get::<Connection>();
        let caller = caller.map(|connection| &connection.caller);
        Ok(Response::new(wire::ExplainReply {
            entries: Vec::new(),
            text: format!("{:?}", caller.unwrap()),
            plan_digest: vec![0; 3 << 20],
        }))
    }

    async fn watch(
        &self,
        _: Request<wire::WatchRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn fetch(
        &self,
        _: Request<wire::FetchRequest>,
    ) -> std::result::Result<Response<Self::FetchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn catalog(
        &self,
        _: Request<wire::CatalogRequest>,
    ) -> std::result::Result<Response<wire::CatalogReply>, Status> {
        std::future::pending().await
    }
}

/// Gateways `civil` and `tax` with one analyst of `tax`, the latter listening.
struct World {
    address: SocketAddr,
    civil: Transport,
    tax: Arc<Transport>,
    registry: Arc<DataRegistry>,
    analyst: Identity,
    keys: Vec<(&'static str, PublicKey)>,
    runtime: tokio::runtime::Runtime,
}

fn federation(gateways: &[(&str, PublicKey)], address: SocketAddr) -> Arc<Federation> {
    let gateways = gateways
        .iter()
        .map(|(department, public_key)| crate::config::Gateway {
            department: (*department).to_owned(),
            address: match *department {
                "tax" => address.to_string(),
                // Port 1 of loopback: nobody listens there.
                other => format!("127.0.0.1:{}", other.len() - 3),
            },
            public_key: *public_key,
            operator: (*department).to_owned(),
            host: (*department).to_owned(),
            neutral: false,
            data_over_grpc: false,
        });
    Arc::new(Federation::new(gateways.collect()).unwrap())
}

fn world() -> World {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let tax = Arc::new(Identity::generate("tax").unwrap());
    let civil = Arc::new(Identity::generate("civil").unwrap());
    let analyst = Identity::generate("zhang.wei").unwrap();
    let keys = vec![("civil", civil.public_key()), ("tax", tax.public_key())];
    let federation = federation(&keys, address);
    let analysts = [Analyst {
        name: "zhang.wei".into(),
        public_key: analyst.public_key(),
    }];
    let tax = Arc::new(Transport::new(tax, Arc::clone(&federation), &analysts, None).unwrap());
    let civil = Transport::new(civil, federation, &[], None).unwrap();
    let registry = Arc::new(DataRegistry::new());
    {
        let _context = runtime.enter();
        let incoming = tax.listen(listener, Arc::clone(&registry));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AnalystServer::new(Echo))
                .serve_with_incoming(incoming),
        );
    }
    World {
        address,
        civil,
        tax,
        registry,
        analyst,
        keys,
        runtime,
    }
}

impl World {
    /// Who the listener takes the other end of the channel for.
    fn explain(&self, channel: tonic::transport::Channel) -> Result<String> {
        explain(self, channel, "tax")
    }

    fn analyst_channel(&self, identity: &Identity, server: PublicKey) -> tonic::transport::Channel {
        let _context = self.runtime.enter();
        analyst_channel(&self.address.to_string(), "tax", identity, server).unwrap()
    }

    fn tax_key(&self) -> PublicKey {
        self.keys[1].1
    }
}

fn explain(world: &World, channel: tonic::transport::Channel, server: &str) -> Result<String> {
    world.runtime.block_on(async {
        let mut client = AnalystClient::new(channel);
        let request = wire::ExplainRequest::default();
        match client.explain(request).await {
            Ok(reply) => Ok(reply.into_inner().text),
            Err(status) => Err(from_status(&status, server)),
        }
    })
}

#[test]
fn callers_are_who_their_keys_say() {
    let world = world();
    let channel = {
        let _context = world.runtime.enter();
        world.civil.peer_channel("tax").unwrap()
    };
    assert_eq!(world.explain(channel).unwrap(), "Gateway(\"civil\")");
    let channel = world.analyst_channel(&world.analyst, world.tax_key());
    // Twice over one channel.
    for _ in 0..2 {
        let caller = world.explain(channel.clone()).unwrap();
        assert_eq!(caller, "Analyst(\"zhang.wei\")");
    }
}

#[test]
fn an_unknown_client_is_refused_and_told_so() {
    let world = world();
    let stranger = Identity::generate("zhang.wei").unwrap();
    let channel = world.analyst_channel(&stranger, world.tax_key());
    let error = world.explain(channel).unwrap_err();
    assert_eq!(error.code, Code::WrongIdentity, "{error}");
    assert_eq!(error.department.as_deref(), Some("tax"));
    // A stranger that claims to be civil, by data connection.
    let impostor = Arc::new(Identity::generate("civil").unwrap());
    let impostor =
        Transport::new(impostor, federation(&world.keys, world.address), &[], None).unwrap();
    let error = impostor.dial_data("tax", RUN, 0).unwrap_err();
    assert_eq!(error.code, Code::WrongIdentity, "{error}");
}

#[test]
fn a_server_with_another_key_is_refused() {
    let world = world();
    let other = Identity::generate("tax").unwrap().public_key();
    let channel = world.analyst_channel(&world.analyst, other);
    let error = world.explain(channel).unwrap_err();
    assert_eq!(error.code, Code::WrongIdentity, "{error}");
    assert_eq!(error.department.as_deref(), Some("tax"));
    let misled = [world.keys[0], ("tax", other)];
    let civil = Arc::new(Identity::generate("civil").unwrap());
    let misled = Transport::new(civil, federation(&misled, world.address), &[], None).unwrap();
    let error = misled.dial_data("tax", RUN, 0).unwrap_err();
    assert_eq!(error.code, Code::WrongIdentity, "{error}");
    assert!(error.message.contains("federation.toml"), "{error}");
}

#[test]
fn nobody_there_is_unavailable_within_seconds() {
    let world = world();
    let started = Instant::now();
    let channel = {
        let _context = world.runtime.enter();
        world.tax.peer_channel("civil").unwrap()
    };
    for error in [
        explain(&world, channel, "civil").unwrap_err(),
        world
            .tax
            .dial_data("civil", RUN, 0)
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert_eq!(error.code, Code::PeerUnavailable, "{error}");
        assert_eq!(error.department.as_deref(), Some("civil"));
    }
    assert!(started.elapsed() < CONNECT + Duration::from_secs(1));
    assert_eq!(
        world.tax.dial_data("health", RUN, 0).unwrap_err().code,
        Code::BadConfig
    );
}

#[test]
fn data_connections_carry_bytes_one_way_to_their_run() {
    let world = world();
    let never = AtomicBool::new(false);
    let payload: Vec<u8> = (0..3_000_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    for thread in [0, 7] {
        let mut sender = world.civil.dial_data("tax", RUN, thread).unwrap();
        let wait = Duration::from_secs(5);
        let mut receiver = world
            .registry
            .expect(RUN, "civil", thread, wait, &never)
            .unwrap();
        assert_eq!(sender.conn.alpn_protocol(), Some(ALPN_DATA));
        assert_eq!(
            receiver.conn.protocol_version(),
            Some(rustls::ProtocolVersion::TLSv1_3)
        );
        std::thread::scope(|scope| {
            let payload = &payload;
            scope.spawn(move || {
                sender.write_all(payload).unwrap();
                sender.conn.send_close_notify();
                sender.flush().unwrap();
            });
            let mut read = Vec::new();
            receiver.read_to_end(&mut read).unwrap();
            assert!(read == *payload);
        });
    }
}

#[test]
fn data_connections_are_ends_of_a_link() {
    use veilgate_mpc::net::stream::{PeerStreams, StreamLink};
    use veilgate_mpc::net::tls::{TlsRead, TlsWrite};
    use veilgate_mpc::net::{Link, LinkProfile, Participant, Step};
    let world = world();
    let never = Arc::new(AtomicBool::new(false));
    let wait = Duration::from_secs(5);
    // Both directions between the same two, by different runs here since only tax listens.
    let mut ends = Vec::new();
    for thread in [0, 1] {
        let sender = world.civil.dial_data("tax", RUN, thread).unwrap();
        let receiver = world
            .registry
            .expect(RUN, "civil", thread, wait, &never)
            .unwrap();
        ends.push((
            TlsWrite::new(sender.conn, sender.sock).unwrap(),
            TlsRead::new(receiver.conn, receiver.sock).unwrap(),
        ));
    }
    let (second_write, second_read) = ends.pop().unwrap();
    let (first_write, first_read) = ends.pop().unwrap();
    let link = |me: u8, write: TlsWrite, read: TlsRead| {
        let streams: PeerStreams = (Participant(1 - me), Box::new(write), Box::new(read));
        StreamLink::new(
            Participant(me),
            vec![streams],
            LinkProfile::LOOPBACK,
            wait,
            Arc::clone(&never),
        )
        .unwrap()
    };
    let mut near = link(0, first_write, second_read);
    let mut far = link(1, second_write, first_read);
    let step = Step::new("test");
    let payload = vec![0xa5; 5 << 20];
    // Large frames both ways at once, then a small one.
    std::thread::scope(|scope| {
        for (me, link) in [(0_u8, &mut near), (1, &mut far)] {
            let (step, payload) = (&step, &payload);
            scope.spawn(move || {
                let peer = Participant(1 - me);
                link.send(peer, step, payload).unwrap();
                let mut read = vec![0; payload.len()];
                link.recv_into(peer, step, &mut read).unwrap();
                assert!(read == *payload);
                link.send(peer, step, &[me]).unwrap();
                let mut read = [9];
                link.recv_into(peer, step, &mut read).unwrap();
                assert_eq!(read, [1 - me]);
            });
        }
    });
}

#[test]
fn a_late_reader_still_finds_the_connection() {
    let world = world();
    let mut sender = world.civil.dial_data("tax", RUN, 0).unwrap();
    sender.write_all(b"early").unwrap();
    sender.flush().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let never = AtomicBool::new(false);
    let wait = Duration::from_secs(5);
    let mut receiver = world
        .registry
        .expect(RUN, "civil", 0, wait, &never)
        .unwrap();
    let mut read = [0; 5];
    receiver.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"early");
}

/// A raw TLS client with these settings; gives its config's error or the first bytes' outcome.
fn raw(address: SocketAddr, config: ClientConfig, send: &[u8]) -> std::io::Result<usize> {
    let name = rustls::pki_types::ServerName::try_from("veilgate").unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = std::net::TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(8)))
        .unwrap();
    let mut stream = rustls::StreamOwned::new(session, socket);
    stream.write_all(send)?;
    stream.flush()?;
    stream.read(&mut [0; 64])
}

#[test]
fn analysts_have_no_data_connections_and_alpn_is_required() {
    let world = world();
    let hello = [7; listener::HELLO];
    // A gateway's data connection is answered, an analyst's is not.
    let gateway = client_config(&world.civil.identity, world.tax_key(), ALPN_DATA).unwrap();
    assert_eq!(raw(world.address, gateway, &hello).unwrap(), 1);
    let analyst = client_config(&world.analyst, world.tax_key(), ALPN_DATA).unwrap();
    assert!(!matches!(raw(world.address, analyst, &hello), Ok(1..)));
    for alpn in [
        Vec::new(),
        vec![b"http/1.1".to_vec()],
        vec![b"veilgate-mpc/2".to_vec()],
    ] {
        let mut config = client_config(&world.civil.identity, world.tax_key(), ALPN_DATA).unwrap();
        config.alpn_protocols = alpn;
        assert!(!matches!(raw(world.address, config, &hello), Ok(1..)));
    }
}

#[test]
fn tls_1_2_and_clients_without_a_certificate_are_refused() {
    let world = world();
    let verifier = || Arc::new(verify::PinnedServer::new(world.tax_key()));
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier())
        .with_client_auth_cert(
            vec![world.civil.identity.certificate()],
            world.civil.identity.tls_key().unwrap(),
        )
        .unwrap();
    let error = raw(world.address, old, b"x").unwrap_err();
    assert_eq!(
        io_error(&error, "tax", "").code,
        Code::WrongVersion,
        "{error}"
    );
    let mut anonymous = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier())
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![ALPN_H2.to_vec()];
    let error = raw(world.address, anonymous, b"x").unwrap_err();
    assert_eq!(
        io_error(&error, "tax", "").code,
        Code::WrongIdentity,
        "{error}"
    );
}

#[test]
fn a_certificate_without_its_private_key_is_refused() {
    // Somebody who saw civil's certificate presents it, but cannot sign for it.
    let world = world();
    let thief = Identity::generate("civil").unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::PinnedServer::new(world.tax_key())))
        .with_client_cert_resolver(Arc::new(Stolen(Arc::new(rustls::sign::CertifiedKey::new(
            vec![world.civil.identity.certificate()],
            rustls::crypto::ring::sign::any_supported_type(&thief.tls_key().unwrap()).unwrap(),
        )))));
    config.alpn_protocols = vec![ALPN_DATA.to_vec()];
    let error = raw(world.address, config, &[7; listener::HELLO]).unwrap_err();
    assert_eq!(
        io_error(&error, "tax", "").code,
        Code::WrongIdentity,
        "{error}"
    );
}

#[derive(Debug)]
struct Stolen(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Stolen {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn silent_and_babbling_clients_do_not_keep_others_out() {
    let world = world();
    let silent: Vec<_> = (0..40)
        .map(|_| std::net::TcpStream::connect(world.address).unwrap())
        .collect();
    let mut babbling = std::net::TcpStream::connect(world.address).unwrap();
    babbling.write_all(&[0xff; 4096]).unwrap();
    let channel = world.analyst_channel(&world.analyst, world.tax_key());
    let started = Instant::now();
    world.explain(channel).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    // Whoever says nothing is shown out.
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)));
    }
    assert!(started.elapsed() < HANDSHAKE + Duration::from_secs(3));
}

#[test]
fn a_gateway_that_dies_in_mid_call_is_unavailable() {
    let world = world();
    let own = tokio::runtime::Runtime::new().unwrap();
    let channel = {
        let _context = own.enter();
        world.civil.peer_channel("tax").unwrap()
    };
    let mut client = AnalystClient::new(channel);
    let call = own.spawn(async move { client.catalog(wire::CatalogRequest {}).await });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!call.is_finished());
    world.runtime.shutdown_background();
    let started = Instant::now();
    let status = own.block_on(call).unwrap().unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    let error = from_status(&status, "tax");
    assert_eq!(error.code, Code::PeerUnavailable, "{status:?}");
}

#[test]
fn one_key_is_one_caller() {
    let identity = Arc::new(Identity::generate("tax").unwrap());
    let key = identity.public_key();
    let federation = federation(&[("tax", key)], "127.0.0.1:9".parse().unwrap());
    let analysts = [Analyst {
        name: "zhang.wei".into(),
        public_key: key,
    }];
    let error = Transport::new(identity, federation, &analysts, None).unwrap_err();
    assert_eq!(error.code, Code::BadConfig, "{error}");
}
