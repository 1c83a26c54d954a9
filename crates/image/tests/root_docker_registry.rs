//! Pulls from Debian's docker-registry on loopback, plain and with TLS and a login, of images made by Debian's tools.
//!
//! Needs docker-registry, skopeo, umoci, busybox, openssl and htpasswd; without them a test says that it is skipped.

#[path = "../../registry/tests/server/mod.rs"]
mod server;

mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use carrack_image::{Images, PullOptions};
use carrack_registry::{CredentialSource, Credentials, Proxies, Registry, Secret, Settings};
use carrack_words::{ImageRef, Kind};
use fake::{TempDir, anonymous, chain, images, open, settings};

const TOOLS: &[&str] = &["docker-registry", "skopeo", "umoci", "busybox", "openssl", "htpasswd"];

/// Whether all tools are here; says so if not.
fn has_tools(test: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |tool: &&&str| path.split(':').any(|directory| Path::new(directory).join(tool).exists());
    match TOOLS.iter().find(|tool| !is_there(tool)) {
        Some(tool) => {
            eprintln!("SKIPPED: {test}: there is no {tool}");
            false
        }
        None => true,
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI layout with one image, `app:1`, of the machine's busybox.
fn busybox_layout(home: &Path) -> PathBuf {
    let layout = home.join("layout");
    let image = format!("{}:1", layout.display());
    let tree = home.join("tree");
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", tree.join("bin/sh")).unwrap();
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    run(Command::new("umoci").args(["new", "--image", &image]));
    run(Command::new("umoci").args(["insert", "--image", &image]).arg(tree.join("bin")).arg("/bin"));
    run(Command::new("umoci").args([
        "config",
        "--image",
        &image,
        "--config.cmd",
        "/bin/sh",
        "--config.user",
        "1000:1000",
    ]));
    layout
}

/// A docker-registry process; ends with it.
struct DockerRegistry {
    process: Child,
    port: u16,
    home: PathBuf,
}

impl DockerRegistry {
    /// `http` is what the configuration has below `http:` and beside it, indented.
    fn start(home: &Path, http: &str, auth: &str) -> Self {
        // A port that was free a moment ago; taken meanwhile, the registry fails and another is tried.
        loop {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let storage = home.join("storage");
            let config = format!(
                "version: 0.1\nlog:\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: 127.0.0.1:{port}\n{http}{auth}",
                storage.display()
            );
            std::fs::write(home.join("registry.yml"), config).unwrap();
            let log = std::fs::File::create(home.join("registry.log")).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(home.join("registry.yml"))
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, port, home: home.to_owned() };
                }
                assert!(Instant::now() < deadline, "docker-registry does not come up");
                std::thread::yield_now();
            }
        }
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn push(&self, layout: &Path, more: &[&str]) -> ImageRef {
        let name = format!("{}/team/busybox:1", self.host());
        run(Command::new("skopeo")
            .args(["copy", "--dest-tls-verify=false", "--insecure-policy"])
            .args(more)
            .arg(format!("oci:{}:1", layout.display()))
            .arg(format!("docker://{name}")));
        name.parse().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("registry.log")).unwrap()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn assert_is_busybox(images: &Images, image: &carrack_image::Image) {
    let stack = images.rootfs(image).unwrap();
    assert_eq!(std::fs::read(stack.lowers[0].join("bin/busybox")).unwrap(), std::fs::read("/bin/busybox").unwrap());
    assert_eq!(std::fs::read_link(stack.lowers[0].join("bin/sh")).unwrap(), Path::new("busybox"));
    assert_eq!(
        (&image.run_defaults().cmd[..], image.run_defaults().user.as_str()),
        (&["/bin/sh".to_owned()][..], "1000:1000")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_busybox_image_comes_from_a_plain_registry_on_loopback() {
    if !has_tools("root_a_busybox_image_comes_from_a_plain_registry_on_loopback") {
        return;
    }
    let home = TempDir::new();
    let registry = DockerRegistry::start(&home.0, "", "");
    let name = registry.push(&busybox_layout(&home.0), &[]);
    let before = registry.log().len();
    let store = open(&home.0);
    let images = images(&store);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (images, name) = (images.clone(), name.clone());
        callers.spawn(async move { images.pull(&name, anonymous(), Arc::new(())).await });
    }
    let mut pulled = Vec::new();
    while let Some(ended) = callers.join_next().await {
        pulled.push(ended.unwrap().unwrap());
    }
    assert!(pulled.windows(2).all(|pair| pair[0] == pair[1]));
    assert_is_busybox(&images, &pulled[0]);
    let layer = format!("GET /v2/team/busybox/blobs/{}", pulled[0].layers[0].blob.digest);
    assert_eq!(registry.log()[before..].matches(&layer).count(), 1, "{}", &registry.log()[before..]);

    let unknown: ImageRef = format!("{}/team/busybox:2", registry.host()).parse().unwrap();
    let error = images.pull(&unknown, anonymous(), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        chain(&error),
        format!("pull {unknown}: registry {} has no manifest 2 of team/busybox", registry.host())
    );
}

/// A certificate authority and a certificate for `registry.test` and 127.0.0.1, made by openssl.
fn make_certificates(home: &Path) {
    let path = |name: &str| home.join(name);
    std::fs::write(path("extensions"), "subjectAltName=DNS:registry.test,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    let openssl = |arguments: &[&str]| run(Command::new("openssl").current_dir(home).args(arguments));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[
            &["req", "-x509", "-days", "2", "-subj", "/CN=carrack test", "-keyout", "ca.key", "-out", "ca.crt"][..],
            &key,
        ]
        .concat(),
    );
    openssl(
        &[&["req", "-subj", "/CN=registry.test", "-keyout", "registry.key", "-out", "registry.csr"][..], &key].concat(),
    );
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "registry.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "extensions",
        "-out",
        "registry.crt",
    ]);
}

struct Secured {
    registry: DockerRegistry,
    name: ImageRef,
}

impl Secured {
    fn start(home: &Path) -> Self {
        make_certificates(home);
        let users = run(Command::new("htpasswd").args(["-Bbn", "me", "hunter2"]));
        std::fs::write(home.join("htpasswd"), users).unwrap();
        let path = |name: &str| home.join(name).display().to_string();
        let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", path("registry.crt"), path("registry.key"));
        let auth = format!("auth:\n  htpasswd:\n    realm: here\n    path: {}\n", path("htpasswd"));
        let registry = DockerRegistry::start(home, &tls, &auth);
        let name = registry.push(&busybox_layout(home), &["--dest-creds", "me:hunter2"]);
        Self { registry, name }
    }
}

fn with_login(password: &str) -> PullOptions {
    let credentials = Credentials::Basic { user: "me".into(), password: Secret::new(password) };
    PullOptions { platform: None, credentials: CredentialSource::Explicit(credentials) }
}

fn images_with(home: &Path, settings: Settings) -> Images {
    Images::new(open(home), Registry::new(settings).unwrap())
}

/// Trusts the test's authority for the registry of this name.
fn trusting(home: &Path, host: &str) -> Settings {
    let directory = home.join("certs.d").join(host);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(home.join("ca.crt"), directory.join("ca.crt")).unwrap();
    let mut settings = settings();
    settings.certificates.per_host = vec![home.join("certs.d")];
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_registry_with_tls_and_a_login_wants_both_to_be_right() {
    if !has_tools("root_a_registry_with_tls_and_a_login_wants_both_to_be_right") {
        return;
    }
    let home = TempDir::new();
    let secured = Secured::start(&home.0);
    let (host, name) = (secured.registry.host(), &secured.name);

    let images = images_with(&home.0, settings());
    let error = images.pull(name, with_login("hunter2"), Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        chain(&error).ends_with("set up TLS with 127.0.0.1: invalid peer certificate: UnknownIssuer"),
        "{}",
        chain(&error)
    );

    let images = images_with(&home.0, trusting(&home.0, &host));
    for options in [with_login("wrong"), anonymous()] {
        let error = images.pull(name, options, Arc::new(())).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{}", chain(&error));
        assert!(!format!("{} {error:?}", chain(&error)).contains("wrong"), "{error:?}");
    }
    let image = images.pull(name, with_login("hunter2"), Arc::new(())).await.unwrap();
    assert_is_busybox(&images, &image);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_environment_and_dockers_config_are_enough() {
    if !has_tools("root_the_environment_and_dockers_config_are_enough") {
        return;
    }
    let home = TempDir::new();
    let secured = Secured::start(&home.0);
    // me:hunter2
    let config = format!(r#"{{"auths":{{"https://{}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#, secured.registry.host());
    std::fs::write(home.0.join("config.json"), config).unwrap();
    let settings = Settings::from_variables(|name| match name {
        "DOCKER_CONFIG" => Some(home.0.display().to_string()),
        "SSL_CERT_FILE" => Some(home.0.join("ca.crt").display().to_string()),
        _ => None,
    });
    let images = images_with(&home.0, settings.unwrap());
    let image = images.pull(&secured.name, PullOptions::default(), Arc::new(())).await.unwrap();
    assert_is_busybox(&images, &image);
}

/// A proxy that knows CONNECT, wants a login, and connects `registry.test` to a port of this machine.
fn start_proxy(to: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, connected) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = connected.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || serve_connect(client, to, &count));
        }
    });
    (port, connected)
}

fn serve_connect(mut client: TcpStream, to: u16, count: &AtomicUsize) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let is_right = head.starts_with("CONNECT registry.test:443 HTTP/1.1\r\n")
        && head.contains("Proxy-Authorization: Basic dXNlcjpwcm94eXB3\r\n");
    if !is_right {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    count.fetch_add(1, Ordering::SeqCst);
    let (from, into) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = std::thread::spawn(move || copy(from, into));
    assert!(reader.buffer().is_empty());
    copy(client, server);
    let _ = back.join();
}

fn copy(mut from: TcpStream, mut into: TcpStream) {
    let mut buffer = [0; 65536];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || into.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Write);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_proxy_is_asked_to_connect_and_knows_the_name() {
    if !has_tools("root_a_proxy_is_asked_to_connect_and_knows_the_name") {
        return;
    }
    let home = TempDir::new();
    let secured = Secured::start(&home.0);
    let (port, connected) = start_proxy(secured.registry.port);
    let name: ImageRef = "registry.test/team/busybox:1".parse().unwrap();
    let through = |login: &str| {
        let mut settings = trusting(&home.0, "registry.test");
        let proxy = format!("http://{login}@127.0.0.1:{port}");
        settings.proxies = Proxies::from_variables(|name| (name == "HTTPS_PROXY").then(|| proxy.clone())).unwrap();
        images_with(&home.0, settings)
    };
    let error = through("user:wrong").pull(&name, with_login("hunter2"), Arc::new(())).await.unwrap_err();
    let want = "proxy 127.0.0.1:PORT does not connect to registry.test: it answers \"HTTP/1.1 407 Proxy Authentication Required\"";
    assert!(chain(&error).ends_with(&want.replace("PORT", &port.to_string())), "{}", chain(&error));

    let images = through("user:proxypw");
    let image = images.pull(&name, with_login("hunter2"), Arc::new(())).await.unwrap();
    assert_is_busybox(&images, &image);
    assert!(connected.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_layout_is_loaded_without_any_registry_and_checked_as_well() {
    if !has_tools("root_a_layout_is_loaded_without_any_registry_and_checked_as_well") {
        return;
    }
    let home = TempDir::new();
    let layout = busybox_layout(&home.0);
    let images = images(&open(&home.0));
    let name: ImageRef = "busybox:1".parse().unwrap();
    let image = images.load_oci_layout(&layout, &name, None, Arc::new(())).await.unwrap();
    assert_eq!((&image.repo_tags, image.repo_digests.len()), (&vec![name.clone()], 0));
    assert_is_busybox(&images, &image);

    let missing = images.load_oci_layout(&home.0, &name, None, Arc::new(())).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    let other = TempDir::new();
    let damaged = other.0.join("layout");
    run(Command::new("cp").arg("-a").arg(&layout).arg(&damaged));
    let blob = damaged.join("blobs/sha256").join(image.layers[0].blob.digest.hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let images = fake::images(&open(&other.0));
    let error = images.load_oci_layout(&damaged, &name, None, Arc::new(())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss);
    let want = format!("blob {}: the content's digest is ", image.layers[0].blob.digest);
    assert!(chain(&error).contains(&want), "{}", chain(&error));
    assert_eq!(fake::leftovers(&other.0), Vec::<PathBuf>::new());
}
