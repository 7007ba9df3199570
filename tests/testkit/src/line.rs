//! A line to a server that can go dead, as when a host vanishes, become slow, or lead to another, as
//! when a name or an address moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// Passes connections on to a server.
pub struct Line {
    port: u16,
    server: watch::Sender<(String, u16)>,
    count: Arc<AtomicUsize>,
    orders: watch::Sender<Order>,
    delay: watch::Sender<Duration>,
}

/// What happens to the connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Pass,
    /// Both ends stay open, and nothing passes.
    Die,
    /// Both ends are closed without a word.
    Reset,
    /// What the server says next is lost, and the connection with it.
    Swallow,
}

impl Line {
    /// A line to the server of a URL.
    pub async fn to(url: &str) -> Self {
        let (server, leads_to) = watch::channel(place(url));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let (orders, _) = watch::channel(Order::Pass);
        let ordered = orders.clone();
        let (delay, _) = watch::channel(Duration::ZERO);
        let delayed = delay.clone();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, orders, counter) = (leads_to.borrow().clone(), ordered.subscribe(), Arc::clone(&counter));
                let delay = delayed.subscribe();
                tokio::spawn(async move {
                    // Where there is no server, whoever came is sent away.
                    if let Ok(far) = TcpStream::connect(server).await {
                        counter.fetch_add(1, Ordering::SeqCst);
                        pass(near, far, orders, delay).await;
                    }
                });
            }
        });
        Self { port, server, count, orders, delay }
    }

    /// New connections reach the server of another URL. Those that are open stay where they are.
    pub fn lead_to(&self, url: &str) {
        self.server.send_replace(place(url));
    }

    /// A URL of the server, over this line.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        url.to_string()
    }

    /// How many connections reached a server.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The connections that are open go dead without being closed. New ones work.
    pub fn die(&self) {
        self.orders.send_replace(Order::Die);
    }

    /// The connections that are open are closed. New ones work.
    pub fn reset(&self) {
        self.orders.send_replace(Order::Reset);
    }

    /// From now on everything takes so much longer, each way.
    pub fn slow_down(&self, by: Duration) {
        self.delay.send_replace(by);
    }

    /// The next answer of the server is lost, and its connection with it. Others and new ones work.
    pub fn swallow_next_answer(&self) {
        self.orders.send_replace(Order::Swallow);
    }
}

fn place(url: &str) -> (String, u16) {
    let url = Url::parse(url).expect("a URL");
    (url.host_str().expect("a host").to_owned(), url.port().expect("a port"))
}

async fn pass(mut near: TcpStream, mut far: TcpStream, mut orders: watch::Receiver<Order>, delay: watch::Receiver<Duration>) {
    let order = {
        let ((mut near_reads, mut near_writes), (mut far_reads, mut far_writes)) = (near.split(), far.split());
        tokio::select! {
            biased;
            _ = orders.changed() => {}
            // Whoever closes his end closes both: nobody here speaks to somebody who listens no more.
            _ = carry(&mut near_reads, &mut far_writes, &delay) => return,
            _ = carry(&mut far_reads, &mut near_writes, &delay) => return,
        }
        *orders.borrow()
    };
    match order {
        Order::Die => std::future::pending().await,
        Order::Pass | Order::Reset => {}
        Order::Swallow => {
            let (mut near_reads, _near_writes) = near.split();
            let (mut far_reads, mut far_writes) = far.split();
            tokio::select! {
                _ = tokio::io::copy(&mut near_reads, &mut far_writes) => {}
                _ = far_reads.read_u8() => {}
            }
        }
    }
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    delay: &watch::Receiver<Duration>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let delay = *delay.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        to.write_all(&bytes[..count]).await?;
    }
}
