//! The client against servers that behave as registries in the field do, and as no registry should.

mod server;

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use carrack_registry::{
    CredentialSource, Credentials, LONGEST_MANIFEST, ManifestReference, Patience, Registry, RegistryError, Repository,
    Secret, Settings, media_type,
};
use carrack_words::{Digest, Kind};
use server::{Asked, Reply, Server};
use sha2::{Digest as _, Sha256};

fn settings() -> Settings {
    let patience =
        Patience { first_pause: Duration::from_millis(5), progress: Duration::from_secs(5), ..Patience::default() };
    Settings { patience, ..Settings::default() }
}

fn repository_with(settings: Settings, host: &str, port: u16, credentials: CredentialSource) -> Repository {
    let image = format!("{host}:{port}/team/app:1").parse().unwrap();
    Registry::new(settings).unwrap().repository(&image, credentials).unwrap()
}

fn repository(server: &Server, credentials: Credentials) -> Repository {
    repository_with(settings(), "localhost", server.port(), CredentialSource::Explicit(credentials))
}

fn anonymous(server: &Server) -> Repository {
    repository(server, Credentials::Anonymous)
}

fn basic() -> Credentials {
    Credentials::Basic { user: "me".into(), password: Secret::new("hunter2") }
}

fn tag() -> ManifestReference {
    ManifestReference::Tag("1".into())
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

async fn read_all(repository: &Repository, digest: &Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
    let mut stream = repository.blob(digest, size);
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The error with all its causes, as an edge prints it.
fn chain(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    assert!(!format!("{text} {error:?}").contains("hunter2"), "a secret shows: {text}");
    text
}

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn manifest() -> Reply {
    Reply::ok(MANIFEST)
        .with("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
        .with("Docker-Content-Digest", digest(MANIFEST).to_string())
}

#[tokio::test]
async fn a_manifest_comes_with_its_type_and_digest_and_the_accept_list_is_complete() {
    let server = Server::start(|_| manifest());
    let repository = anonymous(&server);
    let got = repository.manifest(&tag()).await.unwrap();
    assert_eq!(got.media_type.as_deref(), Some(media_type::OCI_MANIFEST));
    assert_eq!((got.digest, &got.bytes[..]), (digest(MANIFEST), MANIFEST));
    assert_eq!(repository.manifest_digest(&tag()).await.unwrap(), Some(digest(MANIFEST)));
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("GET", "/v2/team/app/manifests/1"));
    assert_eq!(asked[0].header("accept"), Some(media_type::ACCEPT));
    assert_eq!(asked[0].header("host"), Some(format!("localhost:{}", server.port()).as_str()));
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[1].method, "HEAD");
}

/// A registry that wants the token `good`, and a token server that gives it to everybody.
fn with_token_server(token_server: &Server) -> Server {
    let realm = format!("http://127.0.0.1:{}/token?x=1", token_server.port());
    Server::start(move |asked| {
        if asked.header("authorization") == Some("Bearer good") {
            return manifest();
        }
        let scope = "repository:team/app:pull";
        Reply::status(401).with("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="here",scope="{scope}""#))
    })
}

#[tokio::test]
async fn a_challenge_is_answered_with_a_token_which_is_kept() {
    let tokens = Server::start(|_| Reply::ok(r#"{"token":"good","expires_in":300}"#));
    let server = with_token_server(&tokens);
    let repository = repository(&server, basic());
    repository.manifest(&tag()).await.unwrap();
    repository.manifest(&tag()).await.unwrap();
    assert_eq!(tokens.asked().len(), 1);
    assert_eq!(server.asked().len(), 3);
    let asked = &tokens.asked()[0];
    assert_eq!(
        asked.target,
        "/token?x=1&service=here&scope=repository%3Ateam%2Fapp%3Apull&account=me&client_id=carrack"
    );
    // The password goes to the token server, and never to the registry that asked for a token.
    assert_eq!(asked.header("authorization"), Some("Basic bWU6aHVudGVyMg=="));
    let at_registry: Vec<_> =
        server.asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect();
    assert_eq!(at_registry, [None, Some("Bearer good".to_owned()), Some("Bearer good".to_owned())]);
}

#[tokio::test]
async fn one_callers_token_is_not_used_for_another_caller() {
    let tokens = Server::start(|_| Reply::ok(r#"{"token":"good"}"#));
    let server = with_token_server(&tokens);
    let registry = Registry::new(settings()).unwrap();
    let image = format!("localhost:{}/team/app:1", server.port()).parse().unwrap();
    for credentials in [basic(), Credentials::Anonymous, basic()] {
        let repository = registry.repository(&image, CredentialSource::Explicit(credentials)).unwrap();
        repository.manifest(&tag()).await.unwrap();
    }
    assert_eq!(tokens.asked().len(), 2);
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    let count = AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::ok(format!(r#"{{"access_token":"t{number}","expires_in":3000}}"#))
    });
    let realm = format!("http://localhost:{}/", tokens.port());
    let server = Server::start(move |asked| match asked.header("authorization") {
        // The second request is told that its token is no good any more.
        Some("Bearer t0") if asked.target.ends_with("/1") => manifest(),
        Some("Bearer t1") => manifest(),
        _ => Reply::status(401).with("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
    });
    let repository = anonymous(&server);
    repository.manifest(&tag()).await.unwrap();
    repository.manifest(&ManifestReference::Tag("2".into())).await.unwrap();
    assert_eq!(tokens.asked().len(), 2);
}

#[tokio::test]
async fn an_identity_token_is_posted_and_never_stands_in_a_url() {
    let tokens = Server::start(|_| Reply::ok(r#"{"access_token":"good"}"#));
    let server = with_token_server(&tokens);
    repository(&server, Credentials::IdentityToken(Secret::new("hunter2"))).manifest(&tag()).await.unwrap();
    let asked = &tokens.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token?x=1"));
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "grant_type=refresh_token&client_id=carrack&service=here&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=hunter2"
    );
}

#[tokio::test]
async fn basic_is_sent_only_when_it_is_asked_for_and_refused_credentials_are_an_error() {
    let good = |asked: &Asked| asked.header("authorization") == Some("Basic bWU6aHVudGVyMg==");
    let server = Server::start(move |asked| {
        if good(asked) {
            return manifest();
        }
        Reply {
            body: br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}"#.to_vec(),
            ..Reply::status(401)
        }
        .with("WWW-Authenticate", "Basic realm=\"here\"")
    });
    let repository_good = repository(&server, basic());
    repository_good.manifest(&tag()).await.unwrap();
    repository_good.manifest(&tag()).await.unwrap();
    assert_eq!(server.asked().iter().filter(|asked| good(asked)).count(), 2);
    assert_eq!(server.asked().len(), 3);

    let wrong = Credentials::Basic { user: "me".into(), password: Secret::new("wrong") };
    for (credentials, refused) in
        [(wrong, "the user name or password"), (Credentials::Anonymous, "access to manifest 1 of team/app")]
    {
        let error = repository(&server, credentials).manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        let want = format!("registry localhost:{} refuses {refused}: who are you? (UNAUTHORIZED)", server.port());
        assert_eq!(chain(&error), want);
    }
}

#[tokio::test]
async fn a_realm_in_the_clear_elsewhere_gets_nothing() {
    let server = Server::start(|_| {
        Reply::status(401).with("WWW-Authenticate", "Bearer realm=\"http://tokens.example/t?k=v\",service=\"x\"")
    });
    let error = repository(&server, basic()).manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let want = format!(
        "log in to registry localhost:{}: its token server http://tokens.example/t is not https",
        server.port()
    );
    assert_eq!(chain(&error), want);
}

#[tokio::test]
async fn a_token_server_that_redirects_or_refuses_gets_no_second_chance() {
    let elsewhere = Server::start(|_| Reply::ok(r#"{"token":"good"}"#));
    let target = format!("http://127.0.0.1:{}/", elsewhere.port());
    let redirecting = Server::start(move |_| Reply::status(307).with("Location", target.clone()));
    let refusing = Server::start(|_| Reply { body: br#"{"details":"no such user"}"#.to_vec(), ..Reply::status(401) });
    for (tokens, want) in [
        (redirecting, "answers 307: it gives no reason"),
        (refusing, "refuses the user name or password: no such user"),
    ] {
        let server = with_token_server(&tokens);
        let error = repository(&server, basic()).manifest(&tag()).await.unwrap_err();
        assert!(chain(&error).ends_with(want), "{}", chain(&error));
    }
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_neither_credentials_nor_answers_to_its_challenges() {
    let content = b"content".to_vec();
    let blob = digest(&content);
    let cdn = Server::start(move |asked| match asked.header("authorization") {
        None => Reply::ok(content.clone()),
        Some(_) => Reply::status(500),
    });
    let target = format!("http://127.0.0.1:{}/signed?X-Signature=hunter2", cdn.port());
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some(_) => Reply::status(307).with("Location", target.clone()),
        None => Reply::status(401).with("WWW-Authenticate", "Basic realm=\"here\""),
    });
    let repository_good = repository(&server, basic());
    assert_eq!(read_all(&repository_good, &blob, 7).await.unwrap(), b"content");
    assert_eq!(cdn.asked().len(), 1);
    assert_eq!(cdn.asked()[0].header("authorization"), None);

    let greedy = Server::start(|_| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"give\""));
    let target = format!("http://127.0.0.1:{}/x?k=hunter2", greedy.port());
    let server = Server::start(move |_| Reply::status(302).with("Location", target.clone()));
    let error = read_all(&repository(&server, basic()), &blob, 7).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    chain(&error);
    assert_eq!(greedy.asked().len(), 1);
    assert_eq!(greedy.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn bad_redirects_are_refused_by_name() {
    for (location, want) in [
        ("http://192.0.2.1/x?k=hunter2", "it leads to plain http at http://192.0.2.1/x, which is for loopback only"),
        ("ftp://localhost/x", "it leads to a ftp URL"),
        ("/v2/team/app/manifests/1", "more than 5 redirects in a row"),
    ] {
        let server = Server::start(move |_| Reply::status(302).with("Location", location));
        let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(chain(&error).ends_with(want), "{}", chain(&error));
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn range_start(asked: &Asked) -> usize {
    let text = asked.header("range").unwrap_or("bytes=0-");
    text.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
}

#[tokio::test]
async fn a_body_that_breaks_off_is_continued_where_it_broke() {
    let content = pattern(300_000);
    let (blob, served) = (digest(&content), content.clone());
    let server = Server::start(move |asked| {
        let start = range_start(asked);
        let rest = served[start..].to_vec();
        // Each connection yields 100,000 bytes.
        let cut_after = (rest.len() > 100_000).then_some(100_000);
        let status = if start > 0 { 206 } else { 200 };
        let range = format!("bytes {start}-{}/{}", served.len() - 1, served.len());
        Reply { status, cut_after, ..Reply::ok(rest) }.with("Content-Range", range)
    });
    assert_eq!(read_all(&anonymous(&server), &blob, 300_000).await.unwrap(), content);
    let ranges: Vec<_> = server.asked().iter().map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-".to_owned()), Some("bytes=200000-".to_owned())]);
}

#[tokio::test]
async fn a_server_without_ranges_starts_over_and_what_is_known_is_skipped() {
    let content = pattern(300_000);
    let (blob, served, count) = (digest(&content), content.clone(), AtomicUsize::new(0));
    let server = Server::start(move |_| {
        let cut_after = [Some(70_000), Some(150_000), None][count.fetch_add(1, Ordering::SeqCst).min(2)];
        Reply { cut_after, ..Reply::ok(served.clone()) }
    });
    assert_eq!(read_all(&anonymous(&server), &blob, 300_000).await.unwrap(), content);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up_and_taken_up_again() {
    let content = pattern(50_000);
    let (blob, served) = (digest(&content), content.clone());
    let server = Server::start(move |asked| {
        let start = range_start(asked);
        let stall_after = (start == 0).then_some(20_000);
        let range = format!("bytes {start}-{}/{}", served.len() - 1, served.len());
        let status = if start > 0 { 206 } else { 200 };
        Reply { status, stall_after, ..Reply::ok(served[start..].to_vec()) }.with("Content-Range", range)
    });
    let mut settings = settings();
    settings.patience.progress = Duration::from_millis(200);
    let credentials = CredentialSource::Explicit(Credentials::Anonymous);
    let repository = repository_with(settings, "127.0.0.1", server.port(), credentials);
    assert_eq!(read_all(&repository, &blob, 50_000).await.unwrap(), content);
    assert_eq!(server.asked()[1].header("range"), Some("bytes=20000-"));
}

#[tokio::test]
async fn a_blob_that_always_breaks_off_is_an_error_after_some_tries() {
    let server = Server::start(|asked| match range_start(asked) {
        0 => Reply { cut_after: Some(10), ..Reply::ok(pattern(100)) },
        start => Reply { status: 206, cut_after: Some(0), ..Reply::ok(pattern(100)[start..].to_vec()) }
            .with("Content-Range", format!("bytes {start}-99/100")),
    });
    let error = read_all(&anonymous(&server), &digest(b"x"), 100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    // It was reached.
    let start = format!("registry localhost:{} does not answer to the end: GET http", server.port());
    assert!(chain(&error).starts_with(&start), "{}", chain(&error));
    assert_eq!(server.asked().len(), 1 + 4);

    // The same by a proxy in between that ends the body properly.
    let server = Server::start(|_| Reply { unannounced: true, ..Reply::ok(pattern(10)) });
    let error = read_all(&anonymous(&server), &digest(b"x"), 100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss);
    assert!(chain(&error).ends_with("breaks off after 10 of 100 bytes"), "{}", chain(&error));
}

#[tokio::test]
async fn a_size_that_is_not_the_promised_one_is_refused() {
    let announced = Server::start(|_| Reply::ok(pattern(101)));
    let error = read_all(&anonymous(&announced), &digest(b"x"), 100).await.unwrap_err();
    assert!(chain(&error).ends_with("has 101 bytes, and the manifest says 100"), "{}", chain(&error));

    let unannounced = Server::start(|_| Reply { unannounced: true, ..Reply::ok(pattern(101)) });
    let error = read_all(&anonymous(&unannounced), &digest(b"x"), 100).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss);
    assert!(chain(&error).ends_with("has more bytes, and the manifest says 100"), "{}", chain(&error));
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start(|_| Reply::ok(""));
    assert_eq!(read_all(&anonymous(&server), &digest(b""), 0).await.unwrap(), b"");
}

#[tokio::test]
async fn a_small_blob_is_checked_whole() {
    let server = Server::start(|_| Reply::ok("content"));
    let repository = anonymous(&server);
    assert_eq!(repository.blob_bytes(&digest(b"content"), 7, 100).await.unwrap(), b"content");
    let error = repository.blob_bytes(&digest(b"other"), 7, 100).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { want, got, .. }
        if want == digest(b"other") && got == digest(b"content")));
    let error = repository.blob_bytes(&digest(b"content"), 101, 100).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit_bytes: 100, .. }));
}

#[tokio::test]
async fn a_registry_that_limits_the_rate_is_asked_again_when_it_says() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(429).with("Retry-After", "1"),
        _ => manifest(),
    });
    let started = Instant::now();
    anonymous(&server).manifest(&tag()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());

    let server =
        Server::start(|_| Reply { body: b"slow down".to_vec(), ..Reply::status(429) }.with("Retry-After", "3600"));
    let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(chain(&error), format!("registry localhost:{} limits the rate of requests: slow down", server.port()));
}

#[tokio::test]
async fn a_servers_fault_is_retried_and_the_callers_is_not() {
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..2 => Reply::status(503),
        _ => manifest(),
    });
    anonymous(&server).manifest(&tag()).await.unwrap();
    assert_eq!(server.asked().len(), 3);

    let server = Server::start(|_| Reply::status(502));
    let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
    assert_eq!((error.kind(), server.asked().len()), (Kind::Unavailable, 5));

    let server = Server::start(|_| Reply {
        body: br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec(),
        ..Reply::status(404)
    });
    let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
    assert_eq!((error.kind(), server.asked().len()), (Kind::NotFound, 1));
    assert_eq!(chain(&error), format!("registry localhost:{} has no manifest 1 of team/app", server.port()));
}

#[tokio::test]
async fn a_registry_that_is_down_is_named_with_the_reason() {
    let port = Server::start(|_| Reply::status(200)).port();
    let credentials = CredentialSource::Explicit(Credentials::Anonymous);
    let repository = repository_with(settings(), "127.0.0.1", port, credentials);
    let error = repository.manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let want = format!(
        "registry 127.0.0.1:{port} cannot be reached: GET https://127.0.0.1:{port}/v2/team/app/manifests/1: \
         connect to 127.0.0.1:{port}: Connection refused (os error 111)"
    );
    assert_eq!(chain(&error), want);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named() {
    let mut settings = settings();
    settings.patience = Patience { attempts: 1, connect: Duration::from_millis(500), ..settings.patience };
    let credentials = CredentialSource::Explicit(Credentials::Anonymous);
    let repository = repository_with(settings, "registry.invalid", 5000, credentials);
    let error = repository.manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(chain(&error).starts_with("registry registry.invalid:5000 cannot be reached: "), "{}", chain(&error));
}

#[tokio::test]
async fn a_manifest_beyond_the_bound_is_refused_whether_announced_or_not() {
    for unannounced in [false, true] {
        let server = Server::start(move |_| Reply { unannounced, ..Reply::ok(vec![b' '; LONGEST_MANIFEST + 1]) });
        let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let want = format!(
            "manifest 1 of team/app of registry localhost:{} is larger than {LONGEST_MANIFEST} bytes",
            server.port()
        );
        assert_eq!(chain(&error), want);
    }
}

#[tokio::test]
async fn a_manifest_is_held_against_the_digest_in_the_reference_and_in_the_header() {
    let other = digest(b"other");
    let server = Server::start(move |_| Reply::ok(MANIFEST).with("Docker-Content-Digest", other.to_string()));
    let error = anonymous(&server).manifest(&tag()).await.unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { want, got, .. } if want == other && got == digest(MANIFEST)));

    let server = Server::start(|_| Reply::ok(MANIFEST));
    let error = anonymous(&server).manifest(&ManifestReference::Digest(other)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DataLoss);
    anonymous(&server).manifest(&ManifestReference::Digest(digest(MANIFEST))).await.unwrap();

    for (header, want) in [("sha256:../../etc/passwd", Err(())), ("sha512:00", Ok(None))] {
        let server = Server::start(move |_| Reply::ok(MANIFEST).with("Docker-Content-Digest", header));
        let got = anonymous(&server).manifest_digest(&tag()).await.map_err(|_| ());
        assert_eq!(got, want, "{header}");
    }
}

#[tokio::test]
async fn credentials_of_dockers_config_are_asked_for_only_if_the_registry_asks() {
    let directory = std::env::temp_dir().join(format!("carrack-registry-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let config: PathBuf = directory.join("config.json");
    let open = Server::start(|_| manifest());
    let closed = Server::start(|asked| match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => manifest(),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic"),
    });
    // A helper that does not exist fails wherever it is asked.
    let text = format!(
        r#"{{"credHelpers":{{"localhost:{}":"carrack-missing"}},"auths":{{"localhost:{}":{{"auth":"bWU6aHVudGVyMg=="}}}}}}"#,
        open.port(),
        closed.port()
    );
    std::fs::write(&config, text).unwrap();
    let settings = Settings { docker_config: Some(config.clone()), ..settings() };
    for server in [&open, &closed] {
        let repository = repository_with(settings.clone(), "localhost", server.port(), CredentialSource::DockerConfig);
        repository.manifest(&tag()).await.unwrap();
    }
    let text = format!(r#"{{"credHelpers":{{"localhost:{}":"carrack-missing"}}}}"#, closed.port());
    std::fs::write(&config, text).unwrap();
    let repository = repository_with(settings, "localhost", closed.port(), CredentialSource::DockerConfig);
    let error = repository.manifest(&tag()).await.unwrap_err();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(error.kind(), Kind::Precondition);
    let want = format!(
        "log in to registry localhost:{0}: look up credentials for localhost:{0}: run docker-credential-carrack-missing: \
         No such file or directory (os error 2)",
        closed.port()
    );
    assert_eq!(chain(&error), want);
}

#[tokio::test]
async fn a_registry_token_is_sent_from_the_start() {
    let server = Server::start(|asked| match asked.header("authorization") {
        Some("Bearer good") => manifest(),
        _ => Reply::status(401).with("WWW-Authenticate", "Bearer realm=\"http://localhost:1/\""),
    });
    repository(&server, Credentials::RegistryToken(Secret::new("good"))).manifest(&tag()).await.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn one_connection_serves_several_requests() {
    let server = Server::start(|_| manifest());
    let repository = anonymous(&server);
    for _ in 0..5 {
        repository.manifest(&tag()).await.unwrap();
    }
    // The first one asked for TLS.
    assert_eq!((server.asked().len(), server.connections()), (5, 2));
}

/// Not a test of its own: what the next one starts with a helper on its path.
#[tokio::test]
async fn child_with_a_credential_helper() {
    let (Ok(config), Ok(port)) = (std::env::var("CARRACK_TEST_CONFIG"), std::env::var("CARRACK_TEST_PORT")) else {
        return;
    };
    let settings = Settings { docker_config: Some(config.into()), ..settings() };
    let repository = repository_with(settings, "localhost", port.parse().unwrap(), CredentialSource::DockerConfig);
    repository.manifest(&tag()).await.unwrap();
}

#[test]
fn a_credential_helper_is_run_with_the_registrys_name() {
    use std::os::unix::fs::PermissionsExt;
    let directory = std::env::temp_dir().join(format!("carrack-registry-helper-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let server = Server::start(|asked| match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => manifest(),
        _ => Reply::status(401).with("WWW-Authenticate", "Basic"),
    });
    let host = format!("localhost:{}", server.port());
    let script = format!(
        "#!/bin/sh\nread server || [ \"$server\" ]\n[ \"$1 $server\" = \"get {host}\" ] || exit 1\n\
         echo '{{\"ServerURL\":\"{host}\",\"Username\":\"me\",\"Secret\":\"hunter2\"}}'\n"
    );
    let helper = directory.join("docker-credential-carrack-test");
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(directory.join("config.json"), r#"{"credsStore":"carrack-test"}"#).unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_a_credential_helper"])
        .env("PATH", path)
        .env("CARRACK_TEST_CONFIG", directory.join("config.json"))
        .env("CARRACK_TEST_PORT", server.port().to_string())
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(server.count("GET", "/manifests/1"), 2);
}
