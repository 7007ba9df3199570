//! What a program's `/metrics` and `/healthz` say.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An address for `metrics.listen` that nobody uses at the moment.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").to_string()
}

/// Status and body of a path.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    get_as(address, path, "*/*").await
}

/// The same in a form that is asked for.
pub async fn get_as(address: &str, path: &str, accept: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("the program serves its metrics");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

/// The value of a series, such as `actions_errors_total{code="killed"}`; 0 where it is not there.
pub async fn value(address: &str, series: &str) -> f64 {
    let (_, text) = get(address, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}
