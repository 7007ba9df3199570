//! A line to a server that can go dead: as when a host vanishes, and another takes over its name.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// Passes connections on to a server.
pub struct Line {
    port: u16,
    deaths: watch::Sender<u32>,
}

impl Line {
    /// A line to the server of a URL.
    pub async fn to(url: &str) -> Self {
        let server = Url::parse(url).expect("a URL");
        let server = (server.host_str().expect("a host").to_owned(), server.port().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let (deaths, _) = watch::channel(0);
        let died = deaths.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut died) = (server.clone(), died.subscribe());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.expect("the server is there");
                    tokio::select! {
                        biased;
                        // Both ends stay open, and nothing passes.
                        _ = died.changed() => std::future::pending().await,
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { port, deaths }
    }

    /// A URL of the server, over this line.
    pub fn url(&self, url: &str) -> String {
        let mut url = Url::parse(url).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL with a host");
        url.to_string()
    }

    /// The connections that are open go dead without being closed. New ones work.
    pub fn die(&self) {
        self.deaths.send_modify(|deaths| *deaths += 1);
    }
}
