//! A line to a server that can go dead: as when a host vanishes, and another takes over its name.

use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// Passes connections on to a server.
pub struct Line {
    port: u16,
    orders: watch::Sender<Order>,
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
        let server = Url::parse(url).expect("a URL");
        let server = (server.host_str().expect("a host").to_owned(), server.port().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let (orders, _) = watch::channel(Order::Pass);
        let ordered = orders.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server.clone()).await.expect("the server is there");
                tokio::spawn(pass(near, far, ordered.subscribe()));
            }
        });
        Self { port, orders }
    }

    /// A URL of the server, over this line.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        url.to_string()
    }

    /// The connections that are open go dead without being closed. New ones work.
    pub fn die(&self) {
        self.orders.send_replace(Order::Die);
    }

    /// The connections that are open are closed. New ones work.
    pub fn reset(&self) {
        self.orders.send_replace(Order::Reset);
    }

    /// The next answer of the server is lost, and its connection with it. Others and new ones work.
    pub fn swallow_next_answer(&self) {
        self.orders.send_replace(Order::Swallow);
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream, mut orders: watch::Receiver<Order>) {
    tokio::select! {
        biased;
        _ = orders.changed() => {}
        _ = copy_bidirectional(&mut near, &mut far) => return,
    }
    let order = *orders.borrow();
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
