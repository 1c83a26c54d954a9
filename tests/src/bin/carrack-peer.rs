//! The other end of a connection, for tests inside containers: static, and without the gaps of the image's own tools.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "carrack-peer say PORT TEXT | echo-udp PORT | ask HOST:PORT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["say", port, text] => say(port, text),
        ["echo-udp", port] => echo_udp(port),
        ["ask", address] => ask(address),
        _ => Err(std::io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carrack-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says the same to everybody, for ever.
fn say(port: &str, text: &str) -> std::io::Result<()> {
    let listener = listen(port)?;
    for stream in listener.incoming() {
        // Who goes away does not want to know.
        let _ = stream?.write_all(format!("{text}\n").as_bytes());
    }
    Ok(())
}

/// On both families, where there are both.
fn listen(port: &str) -> std::io::Result<TcpListener> {
    let number = port.parse().map_err(|_| std::io::Error::other(USAGE))?;
    TcpListener::bind(("::".parse::<std::net::IpAddr>().expect("it is an address"), number))
        .or_else(|_| TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, number)))
}

fn echo_udp(port: &str) -> std::io::Result<()> {
    let number: u16 = port.parse().map_err(|_| std::io::Error::other(USAGE))?;
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, number))?;
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..length], from)?;
    }
}

/// Prints what is said there; fails if it is nothing.
fn ask(address: &str) -> std::io::Result<()> {
    let address = address.parse().map_err(|_| std::io::Error::other(USAGE))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    if answer.is_empty() { Err(std::io::Error::other("nothing was said")) } else { Ok(()) }
}
