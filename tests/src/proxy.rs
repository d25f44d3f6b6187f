//! A network between a gateway and its store that can be cut, and that counts what passes.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    /// It works.
    Up,
    /// Connections are closed at once.
    Refusing,
    /// Connections are taken, and nothing ever comes back.
    BlackHole,
}

/// Takes connections for a server and passes them on.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    network: AtomicU8,
    /// Bytes that clients have sent, and servers have answered.
    up: AtomicU64,
    down: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
    /// What came from the gateway: when, and how many bytes.
    sent: Mutex<Vec<(Instant, usize)>>,
    /// The bytes themselves, by connection, if they are kept.
    kept: Mutex<Option<BTreeMap<u64, Vec<u8>>>>,
}

impl State {
    fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::SeqCst) == network as u8
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<u64, Vec<u8>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// A network to the server at `server`.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn to(server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            network: AtomicU8::new(Network::Up as u8),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            sockets: Mutex::default(),
            sent: Mutex::default(),
            kept: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                take(client, server, &shared);
            }
        });
        Ok(Self { address, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came from the gateway so far: when each piece did, and how many bytes it was.
    #[must_use]
    pub fn sent(&self) -> Vec<(Instant, usize)> {
        self.state.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that went up so far, heads of requests and all.
    #[must_use]
    pub fn bytes_up(&self) -> u64 {
        self.state.up.load(Ordering::SeqCst)
    }

    /// Keeps all bytes that go up from here on.
    pub fn keep(&self) {
        *self.state.kept() = Some(BTreeMap::new());
    }

    /// Whether `bytes` went up since [`Proxy::keep`].
    #[must_use]
    pub fn has_seen(&self, bytes: &[u8]) -> bool {
        let kept = self.state.kept();
        let mut connections = kept.iter().flat_map(BTreeMap::values);
        connections.any(|sent| sent.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Bytes that came down so far.
    #[must_use]
    pub fn bytes_down(&self) -> u64 {
        self.state.down.load(Ordering::SeqCst)
    }

    /// Sets how the network is from now on. Connections live on only in a black hole.
    pub fn set(&self, network: Network) {
        self.state.network.store(network as u8, Ordering::SeqCst);
        if network != Network::BlackHole {
            for socket in self.state.sockets().drain(..) {
                // It may be closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }
}

fn take(client: TcpStream, server: SocketAddr, state: &Arc<State>) {
    if state.is(Network::Refusing) {
        return;
    }
    let Ok(upstream) = TcpStream::connect(server) else { return };
    let ends =
        [(client.try_clone(), upstream.try_clone(), true), (Ok(upstream), Ok(client), false)];
    for (from, to, is_up) in ends {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        if let Ok(held) = from.try_clone() {
            state.sockets().push(held);
        }
        let state = state.clone();
        std::thread::spawn(move || pass(from, to, &state, is_up));
    }
}

#[expect(clippy::disallowed_methods, reason = "a proxy keeps its own time: it is what measures")]
fn pass(mut from: TcpStream, mut to: TcpStream, state: &State, is_up: bool) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let number = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if is_up {
            let mut sent = state.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push((Instant::now(), count));
            if let Some(kept) = &mut *state.kept() {
                kept.entry(number).or_default().extend(&buffer[..count]);
            }
        }
        while state.is(Network::BlackHole) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let counter = if is_up { &state.up } else { &state.down };
        counter.fetch_add(count as u64, Ordering::SeqCst);
    }
    // The other end may have done it first.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
