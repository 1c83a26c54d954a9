//! The content of a pod's `/etc/resolv.conf`.
//!
//! Format: resolv.conf(5). A pod with its own network cannot reach a name server on the host's loopback addresses. So where the host's
//! file names only such servers (a local stub: systemd-resolved on 127.0.0.53, dnsmasq, unbound), the file in which the stub's
//! manager keeps the real upstreams is taken instead. [`resolv_conf`] is pure; [`HostResolvFiles::load`] does the reading.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

/// No more of a host's file is read than this; real files have a few hundred bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// glibc reads three name servers (`MAXNS`); more would only mislead.
const MAX_SERVERS: usize = 3;
/// A bound on search domains and options; the resolver's own limits are 6 before glibc 2.26, and none since.
const MAX_WORDS: usize = 32;

/// The host's files that tell its name servers; `None`: there is no such file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostResolvFiles {
    /// `/etc/resolv.conf`.
    pub main: Option<String>,
    /// `/run/systemd/resolve/resolv.conf`: the upstreams behind systemd-resolved's stub.
    pub systemd_resolved: Option<String>,
    /// `/run/NetworkManager/no-stub-resolv.conf`: the upstreams behind NetworkManager's dnsmasq or unbound.
    pub network_manager: Option<String>,
}

impl HostResolvFiles {
    /// Reads the files. A file that is absent or unreadable counts as absent; one that is too long is cut at 64 KiB.
    pub fn load() -> Self {
        Self {
            main: load(Path::new("/etc/resolv.conf")),
            systemd_resolved: load(Path::new("/run/systemd/resolve/resolv.conf")),
            network_manager: load(Path::new("/run/NetworkManager/no-stub-resolv.conf")),
        }
    }
}

fn load(path: &Path) -> Option<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Some(String::from_utf8_lossy(&read().ok()?).into_owned())
}

/// What the user asked for in place of the host's settings; an empty list leaves the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsOverride {
    /// Name servers; these may be loopback addresses: the user's word counts.
    pub servers: Vec<IpAddr>,
    /// Search domains; the single domain `.` means none.
    pub searches: Vec<String>,
    /// Options, such as `ndots:5`.
    pub options: Vec<String>,
}

/// The file's text, and what a person should be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The text of `/etc/resolv.conf`.
    pub text: String,
    /// Warnings, for the log.
    pub notes: Vec<ResolvNote>,
}

/// A warning about name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvNote {
    /// A name server of the host was left out because a pod cannot reach the host's loopback addresses.
    LoopbackDropped {
        /// Its address.
        server: IpAddr,
    },
    /// No name server remains: names do not resolve in the pod.
    NoServer {
        /// Those of the host, which are out of a pod's reach.
        host: Vec<IpAddr>,
    },
    /// More name servers than a resolver reads; the rest was left out.
    ServersCut {
        /// How many were left out.
        dropped: usize,
    },
    /// A search domain or an option has characters that cannot stand in the file; it was left out.
    WordDropped {
        /// The word, shortened to 64 characters.
        word: String,
    },
}

impl fmt::Display for ResolvNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopbackDropped { server } => write!(f, "name server {server} of the host is out of a pod's reach"),
            Self::NoServer { host } => {
                let named: Vec<String> = host.iter().map(IpAddr::to_string).collect();
                let named = match &named[..] {
                    [] => "no name server".to_owned(),
                    named => format!("only {}, which a container cannot reach", named.join(" and ")),
                };
                write!(
                    f,
                    "names will not resolve: the host's /etc/resolv.conf names {named}; name servers in reach there, or use the \
                     host's network (--network host)"
                )
            }
            Self::ServersCut { dropped } => write!(f, "{dropped} name servers left out: resolvers read {MAX_SERVERS}"),
            Self::WordDropped { word } => write!(f, "invalid word {word:?} left out of resolv.conf"),
        }
    }
}

/// The `/etc/resolv.conf` of a pod with its own network. (A pod on the host's network gets the host's file as it is:
/// `files.main`.)
pub fn resolv_conf(files: &HostResolvFiles, wanted: &DnsOverride) -> ResolvConf {
    let mut notes = Vec::new();
    let host = choose(files, wanted.servers.is_empty(), &mut notes);
    let mut servers =
        if wanted.servers.is_empty() { host.servers } else { wanted.servers.iter().map(IpAddr::to_string).collect() };
    if servers.len() > MAX_SERVERS {
        notes.push(ResolvNote::ServersCut { dropped: servers.len() - MAX_SERVERS });
        servers.truncate(MAX_SERVERS);
    }
    if servers.is_empty() {
        let dropped = |note: &ResolvNote| match note {
            ResolvNote::LoopbackDropped { server } => Some(*server),
            ResolvNote::NoServer { .. } | ResolvNote::ServersCut { .. } | ResolvNote::WordDropped { .. } => None,
        };
        notes.push(ResolvNote::NoServer { host: notes.iter().filter_map(dropped).collect() });
    }
    let searches = words(&wanted.searches, host.searches, &mut notes);
    let options = words(&wanted.options, host.options, &mut notes);
    let mut text = String::new();
    if !searches.is_empty() && searches != ["."] {
        text += &format!("search {}\n", searches.join(" "));
    }
    for server in &servers {
        text += &format!("nameserver {server}\n");
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    ResolvConf { text, notes }
}

/// The wanted words, or else the host's; a word must not end the line or begin a comment.
fn words(wanted: &[String], host: Vec<String>, notes: &mut Vec<ResolvNote>) -> Vec<String> {
    let fits = |word: &String| {
        !word.is_empty() && word.len() <= 255 && word.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b';')
    };
    let (good, bad): (Vec<String>, Vec<String>) =
        if wanted.is_empty() { host } else { wanted.to_vec() }.into_iter().partition(fits);
    notes.extend(bad.into_iter().map(|word| ResolvNote::WordDropped { word: word.chars().take(64).collect() }));
    good.into_iter().take(MAX_WORDS).collect()
}

/// What a file in the format of resolv.conf(5) says. Servers keep their spelling, which may name a zone (`fe80::1%eth0`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            Some("nameserver") => {
                parsed.servers.extend(fields.next().filter(|word| address(word).is_some()).map(str::to_owned))
            }
            // The last of `search` and `domain` counts.
            Some("search") => parsed.searches = fields.take(MAX_WORDS).map(str::to_owned).collect(),
            Some("domain") => parsed.searches = fields.take(1).map(str::to_owned).collect(),
            Some("options") => parsed.options.extend(fields.take(MAX_WORDS).map(str::to_owned)),
            _ => {}
        }
    }
    parsed.servers.truncate(MAX_WORDS);
    parsed.options.truncate(MAX_WORDS);
    parsed
}

fn address(server: &str) -> Option<IpAddr> {
    server.split('%').next()?.parse().ok()
}

/// A pod reaches neither the host's loopback addresses, nor "this host" (0.0.0.0 and ::, which resolvers take for it), nor a link-local
/// address, whose zone is an interface of the host.
fn out_of_reach(server: &str) -> bool {
    match address(server).map(|ip| ip.to_canonical()) {
        None => true,
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

/// The first of the host's files that names a server within reach; search domains and options go with it.
fn choose(files: &HostResolvFiles, servers_matter: bool, notes: &mut Vec<ResolvNote>) -> Parsed {
    let mut main = parse(files.main.as_deref().unwrap_or(""));
    // Without any server line a resolver asks 127.0.0.1, which is a local stub as well.
    if !servers_matter || main.servers.iter().any(|server| !out_of_reach(server)) {
        drop_unreachable(&mut main, notes);
        return main;
    }
    for behind in [&files.systemd_resolved, &files.network_manager].into_iter().flatten() {
        let mut behind = parse(behind);
        if behind.servers.iter().any(|server| !out_of_reach(server)) {
            drop_unreachable(&mut behind, notes);
            // The stub's own file may know search domains that the manager's does not.
            if behind.searches.is_empty() {
                behind.searches = main.searches;
            }
            return behind;
        }
    }
    drop_unreachable(&mut main, notes);
    main
}

fn drop_unreachable(parsed: &mut Parsed, notes: &mut Vec<ResolvNote>) {
    let (gone, kept): (Vec<String>, Vec<String>) =
        std::mem::take(&mut parsed.servers).into_iter().partition(|s| out_of_reach(s));
    parsed.servers = kept;
    notes.extend(gone.iter().filter_map(|server| address(server)).map(|server| ResolvNote::LoopbackDropped { server }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(main: &str) -> HostResolvFiles {
        HostResolvFiles { main: Some(main.to_owned()), ..Default::default() }
    }

    fn from(files: &HostResolvFiles) -> ResolvConf {
        resolv_conf(files, &DnsOverride::default())
    }

    #[test]
    fn real_upstreams_are_taken_as_they_are() {
        let files = host(
            "# made by hand\nsearch a.example b.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:2 edns0\n",
        );
        let text =
            "search a.example b.example\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:2 edns0\n";
        assert_eq!(from(&files), ResolvConf { text: text.to_owned(), notes: vec![] });
    }

    #[test]
    fn behind_a_local_stub_the_managers_file_counts() {
        let mut files = host("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n");
        files.systemd_resolved = Some("nameserver 192.0.2.1\nsearch home\n".to_owned());
        files.network_manager = Some("nameserver 192.0.2.2\n".to_owned());
        assert_eq!(from(&files), ResolvConf { text: "search home\nnameserver 192.0.2.1\n".to_owned(), notes: vec![] });
        files.systemd_resolved = None;
        assert_eq!(from(&files), ResolvConf { text: "search lan\nnameserver 192.0.2.2\n".to_owned(), notes: vec![] });
        // A manager that only knows another stub is passed over.
        files.systemd_resolved = Some("nameserver 127.0.0.1\n".to_owned());
        assert_eq!(from(&files).text, "search lan\nnameserver 192.0.2.2\n");
    }

    #[test]
    fn a_loopback_server_that_nothing_stands_behind_is_dropped_with_a_word() {
        let loopback = ResolvNote::LoopbackDropped { server: "127.0.0.1".parse().unwrap() };
        assert_eq!(
            from(&host("nameserver 127.0.0.1\nnameserver 192.0.2.1\n")),
            ResolvConf { text: "nameserver 192.0.2.1\n".to_owned(), notes: vec![loopback.clone()] }
        );
        let none = from(&host("nameserver 127.0.0.1\n"));
        let no_server = ResolvNote::NoServer { host: vec!["127.0.0.1".parse().unwrap()] };
        let told = "names will not resolve: the host's /etc/resolv.conf names only 127.0.0.1, which a container cannot reach; name \
                    servers in reach there, or use the host's network (--network host)";
        assert_eq!(no_server.to_string(), told);
        assert_eq!(none, ResolvConf { text: String::new(), notes: vec![loopback, no_server] });
        assert_eq!(from(&HostResolvFiles::default()).notes, [ResolvNote::NoServer { host: vec![] }]);
    }

    #[test]
    fn the_users_word_replaces_the_hosts_part_by_part() {
        let files = host("nameserver 127.0.0.1\nsearch lan\noptions ndots:1\n");
        let wanted = DnsOverride { servers: vec!["127.0.0.9".parse().unwrap()], ..Default::default() };
        let text = "search lan\nnameserver 127.0.0.9\noptions ndots:1\n";
        assert_eq!(resolv_conf(&files, &wanted).text, text);
        let wanted = DnsOverride { searches: vec![".".into()], options: vec!["ndots:5".into()], ..wanted };
        assert_eq!(resolv_conf(&files, &wanted).text, "nameserver 127.0.0.9\noptions ndots:5\n");
    }

    #[test]
    fn a_word_cannot_smuggle_a_line() {
        let wanted = DnsOverride { searches: vec!["a\nnameserver 6.6.6.6".into(), "b".into()], ..Default::default() };
        let made = resolv_conf(&host("nameserver 192.0.2.1\n"), &wanted);
        assert_eq!(made.text, "search b\nnameserver 192.0.2.1\n");
        assert_eq!(made.notes, [ResolvNote::WordDropped { word: "a\nnameserver 6.6.6.6".into() }]);
    }

    #[test]
    fn odd_lines_are_passed_over() {
        let odd = "nameserver\nnameserver not-an-address\n;nameserver 192.0.2.8\nNAMESERVER 192.0.2.9\ndomain x\nsortlist 1.2.3.4\n\
                   \tnameserver\t192.0.2.1 # first\nnameserver fe80::1%eth0\nnameserver ::ffff:127.0.0.1\nnameserver 0.0.0.0\n";
        assert_eq!(from(&host(odd)).text, "search x\nnameserver 192.0.2.1\n");
    }

    #[test]
    fn more_servers_than_a_resolver_reads_are_cut_with_a_word() {
        let many: String = (1..=5).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        let made = from(&host(&many));
        assert_eq!(made.text.lines().count(), 3);
        assert_eq!(made.notes, [ResolvNote::ServersCut { dropped: 2 }]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_host_says_the_result_reads_back_as_itself(text in "((nameserver|search|options|domain|x)[ \t]+[ -~]{0,20}\n){0,12}") {
            let made = from(&host(&text));
            let again = from(&host(&made.text));
            proptest::prop_assert_eq!(&again.text, &made.text);
        }
    }
}
