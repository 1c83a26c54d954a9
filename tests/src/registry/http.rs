//! As much of an HTTP/1.1 server as a registry for tests needs: one request per connection, a thread for each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET` and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body, for requests that have one.
    pub body: Vec<u8>,
}

/// What it is answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Beside `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Announced instead of the body's length.
    pub claimed_length: Option<usize>,
}

impl Response {
    /// A plain answer.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into(), claimed_length: None }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A server; it stops when dropped.
#[derive(Debug)]
pub struct Server {
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Answers everything that arrives at `listener`.
    pub fn start(
        listener: TcpListener,
        answer: impl Fn(&Request, &mut TcpStream) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_stopped.load(Ordering::Relaxed) {
                    return;
                }
                let answer = Arc::clone(&answer);
                thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { stopped }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The thread ends with its node's network, or at the next connection.
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// `answer` may write to the connection itself and return `None`; then nothing is added.
fn serve(stream: TcpStream, answer: &dyn Fn(&Request, &mut TcpStream) -> Option<Response>) {
    let Ok(writer) = stream.try_clone() else { return };
    let mut writer = writer;
    let Some(request) = read_request(&mut BufReader::new(stream)) else { return };
    if let Some(response) = answer(&request, &mut writer) {
        // A client that goes away is the client's business.
        let _ = write_head(&mut writer, &response)
            .and_then(|()| if request.method == "HEAD" { Ok(()) } else { writer.write_all(&response.body) });
    }
    let _ = writer.shutdown(std::net::Shutdown::Both);
}

/// Writes everything of a response but its body.
pub fn write_head(writer: &mut TcpStream, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Reason\r\nConnection: close\r\n", response.status);
    head.push_str(&format!("Content-Length: {}\r\n", response.claimed_length.unwrap_or(response.body.len())));
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method, target, headers, body })
}
