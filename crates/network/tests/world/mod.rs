//! A host of its own for each test: a thread in new network and mount namespaces, with an empty `/run`, and an "outside" behind an uplink.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use carrack_network::{
    AttachRequest, Attached, InterfaceName, Network, NetworkConfig, NetworkError, PortMapping, Protocol,
};
use carrack_network::{create_netns, remove_netns};
use carrack_sys::namespace::{self, Namespaces};
use carrack_sys::rustix::event::{PollFd, PollFlags, Timespec, poll};
use carrack_sys::rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use carrack_words::PodId;

/// How long a packet that must arrive may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a packet that must not arrive is waited for.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Runs the test's body on a host of its own, in a thread of its own; what it made is gone when its thread and children are.
pub fn on_a_host<T: Send + 'static>(body: impl FnOnce(&Host) -> T + Send + 'static) -> T {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let run = PathBuf::from(format!("/run/carrack-{}-{number}", std::process::id()));
    let host = thread::spawn(move || {
        namespace::unshare(Namespaces::NETWORK.with(Namespaces::MOUNT)).expect("new namespaces (are you root?)");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        while unmount("/run/netns", UnmountFlags::DETACH).is_ok() {}
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
        std::fs::create_dir(&run).unwrap();
        // The first network's values are inherited.
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(Path::new("/proc/sys/net").join(forwarding), "0").unwrap();
        }
        ip("link set lo up");
        body(&Host { run })
    });
    host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A host.
pub struct Host {
    /// Its engine's run directory.
    pub run: PathBuf,
}

impl Host {
    /// Its network.
    pub fn network(&self) -> Network {
        Network::open(&self.run, NetworkConfig::default()).unwrap()
    }

    /// Adds an uplink `name`, behind which there is a namespace with the addresses 198.51.`n`.2 and 2001:db8:`n`::2.
    pub fn uplink(&self, name: &str, n: u8) -> PathBuf {
        let outside = create_netns(&format!("outside-{n}")).unwrap();
        ip(&format!("link add {name} index {} type veth peer name out{n} netns outside-{n}", 100 + u32::from(n)));
        // Or the first packet waits a second: for the link-local addresses' duplicate address detection, and for the kernel's word that the
        // link works, which comes late if both ends have the same index (`linkwatch_urgent_event`).
        let usable_at_once =
            |end: &str| std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/accept_dad"), "0").unwrap();
        usable_at_once(name);
        inside(&outside, || usable_at_once(&format!("out{n}")));
        ip(&format!("addr add 198.51.{n}.1/24 dev {name}"));
        ip(&format!("-6 addr add 2001:db8:{n}::1/64 dev {name} nodad"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n outside-{n} addr add 198.51.{n}.2/24 dev out{n}"));
        ip(&format!("-n outside-{n} -6 addr add 2001:db8:{n}::2/64 dev out{n} nodad"));
        ip(&format!("-n outside-{n} link set out{n} up"));
        let deadline = Instant::now() + PATIENCE;
        while !ip(&format!("link show {name}")).contains("state UP")
            || !ip(&format!("-n outside-{n} link show out{n}")).contains("state UP")
        {
            assert!(Instant::now() < deadline, "the uplink does not come up");
        }
        outside
    }

    /// Makes and attaches a pod.
    pub fn pod(&self, network: &Network, name: &str, ports: &[PortMapping]) -> Pod {
        let netns = create_netns(name).unwrap();
        let Attached { attachment, .. } = network.attach(&request(name, &netns, ports)).unwrap();
        let ips = attachment.addresses.iter().map(|address| address.ip).collect();
        Pod { name: name.to_owned(), netns, ips }
    }
}

/// A request with the usual interface name.
pub fn request(name: &str, netns: &Path, ports: &[PortMapping]) -> AttachRequest {
    let interface = InterfaceName::new("eth0").unwrap();
    AttachRequest { id: PodId::new(name).unwrap(), netns: netns.to_owned(), interface, ports: ports.to_vec() }
}

/// An attached pod.
pub struct Pod {
    pub name: String,
    pub netns: PathBuf,
    pub ips: Vec<IpAddr>,
}

impl Pod {
    pub fn id(&self) -> PodId {
        PodId::new(self.name.as_str()).unwrap()
    }

    pub fn remove(self, network: &Network) -> Result<(), NetworkError> {
        network.detach(&self.id())?;
        remove_netns(&self.name).unwrap();
        Ok(())
    }
}

pub fn mapping(protocol: Protocol, host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol, container_port, host_port, host_ip: host_ip.map(|ip| ip.parse().unwrap()) }
}

/// Runs `ip` with words split at spaces; it must succeed.
pub fn ip(words: &str) -> String {
    run("ip", words)
}

pub fn run(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split(' ')).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in a network namespace.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let file = std::fs::File::open(netns).unwrap();
            namespace::join(file.as_fd(), Namespaces::NETWORK).unwrap();
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A server, as long as this lives. Its sockets keep its namespace alive.
pub struct Server {
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// How often a server looks whether it shall stop.
const ROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

fn serve<S: AsFd + Send + 'static>(sockets: Vec<S>, answer: impl Fn(&S) + Copy + Send + 'static) -> Server {
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let spawn = |socket: S| {
        let stop = stop.clone();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&ROUND)) == Ok(1) {
                    answer(&socket);
                }
            }
        })
    };
    let threads = sockets.into_iter().map(spawn).collect();
    Server { stop, threads }
}

/// Serves TCP in a namespace: whoever connects is told where he comes from, and then gets `bulk` bytes.
pub fn serve_tcp(netns: &Path, port: u16, bulk: usize) -> Server {
    let listeners = ["0.0.0.0", "::"].map(|any| inside(netns, || listen(any.parse().unwrap(), port)));
    serve(listeners.into(), move |listener: &TcpListener| {
        let Ok((mut stream, from)) = listener.accept() else { return };
        let text = format!("{:<64}", from.ip());
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(&vec![b'.'; bulk]));
    })
}

/// Binds to one family only, which std does for IPv4 alone.
fn listen(ip: IpAddr, port: u16) -> TcpListener {
    use carrack_sys::rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::STREAM, None).unwrap();
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true).unwrap();
    }
    bind(&fd, &SocketAddr::new(ip, port)).unwrap();
    listen(&fd, 16).unwrap();
    fd.into()
}

/// Serves UDP in a namespace: whoever sends is told where he comes from. One socket for each address, so that the answer leaves from where
/// the question went.
pub fn serve_udp(netns: &Path, ips: &[IpAddr], port: u16) -> Server {
    let bind = |ip: &IpAddr| inside(netns, || UdpSocket::bind((*ip, port)).unwrap());
    serve(ips.iter().map(bind).collect(), |socket: &UdpSocket| {
        let mut buffer = [0; 100];
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    })
}

/// Connects from this thread's namespace and reads to the end: where the server saw us, and how many bytes followed.
pub fn ask_tcp(to: impl Into<SocketAddr>, patience: Duration) -> Result<(String, usize), std::io::Error> {
    let mut stream = TcpStream::connect_timeout(&to.into(), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut text = [0; 64];
    stream.read_exact(&mut text)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    Ok((String::from_utf8_lossy(&text).trim().to_owned(), rest.len()))
}

/// Asks over UDP from a socket that is connected, so that an answer from elsewhere would not count.
pub fn ask_udp(to: SocketAddr) -> Result<String, std::io::Error> {
    let socket = UdpSocket::bind((if to.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
    socket.connect(to)?;
    ask_from(&socket)
}

pub fn ask_from(socket: &UdpSocket) -> Result<String, std::io::Error> {
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 100];
    loop {
        socket.send(b"?")?;
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
}
