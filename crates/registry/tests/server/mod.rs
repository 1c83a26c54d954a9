//! A tiny HTTP/1.1 server on loopback that answers as a test tells it and remembers what it was asked.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server was asked. Header names are lower case.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// So many bytes of the body are sent, and then the connection is closed.
    pub cut_after: Option<usize>,
    /// So many bytes of the body are sent, and then nothing happens any more.
    pub stall_after: Option<usize>,
    /// Without Content-Length, ended by closing.
    pub unannounced: bool,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    cuts: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let cuts = Arc::new(AtomicBool::new(false));
        let cuts_there = cuts.clone();
        let (answer, connections) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let (asked_there, ends_there, connections_there) = (asked.clone(), ends.clone(), connections.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends_there.load(Ordering::SeqCst) {
                    return;
                }
                connections_there.fetch_add(1, Ordering::SeqCst);
                let (asked, cuts, answer) = (asked_there.clone(), cuts_there.clone(), answer.clone());
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream, &asked, &cuts, &*answer));
                }
            }
        });
        Self { address, asked, connections, ends, cuts, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Closes the connections that stall, now and later.
    pub fn cut(&self) {
        self.cuts.store(true, Ordering::SeqCst);
    }

    /// Connections so far, also those that spoke TLS and were turned away.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often a target that contains `part` was asked for with `method`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.method == method && asked.target.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, asked: &Mutex<Vec<Asked>>, cuts: &AtomicBool, answer: &dyn Fn(&Asked) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(question) = read(&mut reader) {
        asked.lock().unwrap().push(question.clone());
        let reply = answer(&question);
        if !write(&stream, &question, &reply, cuts) {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    // A TLS handshake starts with this byte; this server speaks none.
    if reader.fill_buf().ok()?.first() == Some(&0x16) {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|text: &String| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}

/// Whether the connection can go on.
fn write(mut stream: &TcpStream, question: &Asked, reply: &Reply, cuts: &AtomicBool) -> bool {
    let mut head = format!("HTTP/1.1 {} Test\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.unannounced {
        head += "Connection: close\r\n";
    } else if !reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    head += "\r\n";
    let body: &[u8] = if question.method == "HEAD" { &[] } else { &reply.body };
    let sent = reply.cut_after.or(reply.stall_after).map_or(body, |count| &body[..count.min(body.len())]);
    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent)).is_err() {
        return false;
    }
    while reply.stall_after.is_some() && !cuts.load(Ordering::SeqCst) && is_open(stream) {}
    reply.cut_after.is_none() && reply.stall_after.is_none() && !reply.unannounced
}

fn is_open(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    match stream.peek(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}
