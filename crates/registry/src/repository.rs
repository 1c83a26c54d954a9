//! One repository of a registry: requests with login, redirects and patience.
//!
//! ```text
//! ask ── retries: broken connections, 5xx, 429
//!  └─ ask_once ── https, then plain http on loopback
//!      └─ logged_in ── 401 → challenge → token or Basic → again, once
//!          └─ redirected ── 3xx; Authorization stays behind when the host changes
//!              └─ Transport::send
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use carrack_words::ImageRef;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, StatusCode, body::Bytes};
use tokio::sync::OnceCell;
use tokio::time::sleep;
use url::Url;

use crate::back_off::{Patience, jitter, parse_retry_after};
use crate::challenge::{Challenge, parse_challenges};
use crate::credentials::{CredentialError, CredentialSource, Credentials};
use crate::dial::Dialer;
use crate::docker_config::{self, Source};
use crate::endpoint::{Endpoint, RedirectError, Scheme, redirect_target, same_origin};
use crate::error::said_by;
use crate::tls::Trust;
use crate::token::{self, TokenError, Wanted};
use crate::transport::{Answer, Outgoing, Transport, TransportError};
use crate::{RegistryError, Settings, helper};

/// Redirects in a row; registries need one or two.
const MOST_REDIRECTS: usize = 5;
/// An error's or a token server's answer is not read any further.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Logins that are remembered; when there are more, all are forgotten, which only costs new ones.
const MOST_LOGINS: usize = 512;

/// Talks to registries. Cheap to clone; clones share connections and logins.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Transport,
    patience: Patience,
    docker_config: Option<std::path::PathBuf>,
    logins: Mutex<HashMap<LoginKey, Login>>,
}

/// Registry, repository, and whose credentials: a token that was got with one caller's is never used for another's.
type LoginKey = (String, String, [u8; 32]);

#[derive(Clone, PartialEq)]
struct Login {
    header: HeaderValue,
    /// None: as long as it works.
    until: Option<Instant>,
}

impl Login {
    fn is_basic(&self) -> bool {
        self.header.as_bytes().starts_with(b"Basic ")
    }
}

/// The settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the user agent {text:?} does not fit into a header")]
pub struct UserAgentError {
    /// What was given.
    pub text: String,
}

impl Registry {
    /// A client with these settings. It needs a tokio runtime with I/O and time when it is used.
    pub fn new(settings: Settings) -> Result<Self, UserAgentError> {
        let user_agent = HeaderValue::from_str(&settings.user_agent)
            .map_err(|_| UserAgentError { text: settings.user_agent.chars().take(100).collect() })?;
        let patience = settings.patience;
        let dialer =
            Dialer { proxies: settings.proxies, trust: Trust::new(settings.certificates), patience: patience.connect };
        let transport = Transport::new(dialer, patience.progress, user_agent);
        let shared = Shared { transport, patience, docker_config: settings.docker_config, logins: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The repository that `image` names. Nothing is sent yet.
    pub fn repository(&self, image: &ImageRef, credentials: CredentialSource) -> Result<Repository, RegistryError> {
        let endpoint = Endpoint::new(image.registry())
            .map_err(|source| RegistryError::Endpoint { registry: image.registry().to_owned(), source })?;
        Ok(Repository {
            shared: self.shared.clone(),
            endpoint,
            name: image.repository().to_owned(),
            source: credentials,
            credentials: OnceCell::new(),
            scheme: Mutex::new(None),
        })
    }
}

/// One repository of a registry, with the credentials for it.
pub struct Repository {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    name: String,
    source: CredentialSource,
    credentials: OnceCell<Credentials>,
    /// The scheme that worked.
    scheme: Mutex<Option<Scheme>>,
}

/// What is asked for.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    /// Below the repository: `manifests/latest`. Its parts are checked types, so it needs no escaping.
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
    /// For errors: `manifest latest of library/alpine`.
    pub(crate) what: &'a str,
}

impl Repository {
    /// The registry's name.
    pub fn registry(&self) -> &str {
        self.endpoint.name()
    }

    /// The repository's name in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.shared.patience
    }

    /// Asks until there is an answer of the 2xx class, or an error that repeating does not help against.
    pub(crate) async fn ask(&self, question: &Question<'_>) -> Result<Answer, RegistryError> {
        let mut attempt = 1;
        loop {
            let (error, asked) = match self.ask_once(question).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => {
                    let wait = answer.header(RETRY_AFTER).and_then(|value| parse_retry_after(value, SystemTime::now()));
                    (self.refusal(question.what, answer).await, wait)
                }
                Err(error) => (error, None),
            };
            let pause = self.patience().pause_after(attempt, asked, jitter());
            match pause.filter(|_| is_transient(&error)) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
            attempt += 1;
        }
    }

    async fn ask_once(&self, question: &Question<'_>) -> Result<Answer, RegistryError> {
        let known = *self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        let schemes = known.as_ref().map_or(self.endpoint.schemes(), std::slice::from_ref);
        let mut last = None;
        for (at, scheme) in schemes.iter().enumerate() {
            let url = self.endpoint.url(*scheme, &format!("{}/{}", self.name, question.path));
            match self.logged_in(question, &url).await {
                Err(RegistryError::Unreachable { source, .. })
                    if source.may_be_plain_http() && at + 1 < schemes.len() =>
                {
                    last = Some(*source);
                }
                Err(error) => return Err(prefer_tls_error(error, last)),
                Ok(answer) => {
                    *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(*scheme);
                    return Ok(answer);
                }
            }
        }
        unreachable!("the last scheme's outcome is returned, and there is at least one")
    }

    async fn logged_in(&self, question: &Question<'_>, url: &Url) -> Result<Answer, RegistryError> {
        let mut login = self.remembered_login().await?;
        let mut is_fresh = false;
        loop {
            let (answer, at_registry) = self.redirected(question, url, login.as_ref()).await?;
            // A server to which we were redirected gets no credentials, whatever it asks for.
            if answer.status != StatusCode::UNAUTHORIZED || !at_registry {
                return Ok(answer);
            }
            if is_fresh {
                // A token says that its server knows us; what is refused then is the repository.
                let with_password = login.as_ref().is_some_and(Login::is_basic);
                return if with_password { Err(self.wrong_password(answer).await) } else { Ok(answer) };
            }
            let challenges: Vec<Challenge> = answer
                .headers
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(parse_challenges)
                .collect();
            let Some(new) = self.log_in(&challenges, url).await? else { return Ok(answer) };
            // Read to its end, so that the connection can be used again; what it says does not matter any more.
            let _ = answer.body.collect(LONGEST_ANSWER).await;
            login = Some(new);
            is_fresh = true;
        }
    }

    /// Sends and follows redirects. Tells too whether the answer comes from the registry itself.
    async fn redirected(
        &self,
        question: &Question<'_>,
        url: &Url,
        login: Option<&Login>,
    ) -> Result<(Answer, bool), RegistryError> {
        let mut outgoing = Outgoing {
            method: question.method.clone(),
            url: url.clone(),
            headers: question.headers.clone(),
            body: Bytes::new(),
        };
        if let Some(login) = login {
            outgoing.headers.insert(AUTHORIZATION, login.header.clone());
        }
        let mut at_registry = true;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.shared.transport.send(&outgoing).await;
            let answer = answer.map_err(|source| RegistryError::no_answer(&self.endpoint, source))?;
            let Some(location) = redirect_location(&answer) else { return Ok((answer, at_registry)) };
            let target =
                redirect_target(&outgoing.url, &location).map_err(|source| self.bad_redirect(question, source))?;
            // Once it has left, it stays away: a chain may lead back here with a path that somebody else chose.
            if !same_origin(&target, url) {
                outgoing.headers.remove(AUTHORIZATION);
                at_registry = false;
            }
            let _ = answer.body.collect(LONGEST_ANSWER).await;
            outgoing.url = target;
        }
        Err(self.bad_redirect(question, RedirectError::TooMany { limit: MOST_REDIRECTS }))
    }

    fn bad_redirect(&self, question: &Question<'_>, source: RedirectError) -> RegistryError {
        RegistryError::Redirect { registry: self.endpoint.to_string(), what: question.what.to_owned(), source }
    }

    /// What worked last time; a token for the registry itself is sent from the start.
    async fn remembered_login(&self) -> Result<Option<Login>, RegistryError> {
        if let CredentialSource::Explicit(Credentials::RegistryToken(token)) = &self.source {
            return self.registry_token(token).map(Some);
        }
        // Before the first challenge nobody has asked for credentials; then no helper is run for them.
        let Some(key) = self.login_key() else { return Ok(None) };
        let logins = self.shared.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |login: &&Login| login.until.is_none_or(|until| until > Instant::now());
        Ok(logins.get(&key).filter(is_alive).cloned())
    }

    fn login_key(&self) -> Option<LoginKey> {
        let credentials = match (&self.source, self.credentials.get()) {
            (CredentialSource::Explicit(credentials), _) | (_, Some(credentials)) => credentials,
            (CredentialSource::DockerConfig, None) => return None,
        };
        Some((self.endpoint.to_string(), self.name.clone(), credentials.fingerprint()))
    }

    fn remember(&self, login: &Login) {
        let Some(key) = self.login_key() else { return };
        let mut logins = self.shared.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if logins.len() >= MOST_LOGINS {
            logins.clear();
        }
        logins.insert(key, login.clone());
    }

    /// Answers the registry's challenges; none if we have nothing that answers them.
    async fn log_in(&self, challenges: &[Challenge], registry: &Url) -> Result<Option<Login>, RegistryError> {
        if challenges.is_empty() {
            return Err(RegistryError::UnknownChallenge { registry: self.endpoint.to_string() });
        }
        let credentials = self.credentials().await?;
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope, .. } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let login = match (bearer, credentials) {
            (_, Credentials::RegistryToken(token)) => Some(self.registry_token(token)?),
            (Some((realm, service, scope)), _) => {
                let own_scope = format!("repository:{}:pull", self.name);
                let scope = scope.as_deref().filter(|scope| !scope.is_empty()).unwrap_or(&own_scope);
                Some(
                    self.fetch_token(realm, &Wanted { service: service.as_deref(), scope }, credentials, registry)
                        .await?,
                )
            }
            (None, Credentials::Basic { user, password }) => {
                let header = token::basic(user, password).ok_or_else(|| self.bad_token(TokenError::Unsendable))?;
                Some(Login { header, until: None })
            }
            (None, Credentials::Anonymous | Credentials::IdentityToken(_)) => None,
        };
        if let Some(login) = &login {
            self.remember(login);
        }
        Ok(login)
    }

    fn registry_token(&self, token: &crate::Secret) -> Result<Login, RegistryError> {
        let header = token::bearer(token).ok_or_else(|| self.bad_token(TokenError::Unsendable))?;
        Ok(Login { header, until: None })
    }

    fn bad_token(&self, source: TokenError) -> RegistryError {
        RegistryError::Token { registry: self.endpoint.to_string(), source }
    }

    async fn fetch_token(
        &self,
        realm: &str,
        wanted: &Wanted<'_>,
        credentials: &Credentials,
        registry: &Url,
    ) -> Result<Login, RegistryError> {
        let realm = token::check_realm(realm, registry).map_err(|source| self.bad_token(source))?;
        let request = token::token_request(&realm, wanted, credentials).map_err(|source| self.bad_token(source))?;
        // A token server that redirects gets an error: nobody's credentials follow.
        let answer = self.send_patiently(&request).await?;
        let status = answer.status;
        let body = answer.body.collect(LONGEST_ANSWER).await;
        let body = body
            .map_err(|source| RegistryError::TokenUnreachable {
                registry: self.endpoint.to_string(),
                source: Box::new(source),
            })?
            .ok_or_else(|| self.bad_token(TokenError::NoToken))?;
        if !status.is_success() {
            let (registry, said) = (self.endpoint.to_string(), said_by(&body));
            return Err(match (status, credentials) {
                (StatusCode::UNAUTHORIZED, Credentials::Basic { .. }) => {
                    RegistryError::WrongPassword { by: format!("the token server of registry {registry}"), said }
                }
                _ => RegistryError::TokenRefused { registry, status: status.as_u16(), said },
            });
        }
        let token = token::parse_token(&body).map_err(|source| self.bad_token(source))?;
        let header = token::bearer(&token.token).ok_or_else(|| self.bad_token(TokenError::NoToken))?;
        Ok(Login { header, until: Some(Instant::now() + token.life) })
    }

    async fn send_patiently(&self, request: &Outgoing) -> Result<Answer, RegistryError> {
        let mut attempt = 1;
        loop {
            let sent = self.shared.transport.send(request).await;
            let (is_transient, asked) = match &sent {
                Ok(answer) => {
                    let asked =
                        answer.header(RETRY_AFTER).and_then(|value| parse_retry_after(value, SystemTime::now()));
                    (is_transient_status(answer.status.as_u16()), asked)
                }
                Err(error) => (error.is_transient(), None),
            };
            match self.patience().pause_after(attempt, asked, jitter()).filter(|_| is_transient) {
                Some(pause) => sleep(pause).await,
                None => {
                    let registry = self.endpoint.to_string();
                    return sent
                        .map_err(|source| RegistryError::TokenUnreachable { registry, source: Box::new(source) });
                }
            }
            attempt += 1;
        }
    }

    async fn credentials(&self) -> Result<&Credentials, RegistryError> {
        let failed = |source| RegistryError::Credentials { registry: self.endpoint.to_string(), source };
        self.credentials.get_or_try_init(|| self.find_credentials()).await.map_err(failed)
    }

    async fn find_credentials(&self) -> Result<Credentials, CredentialError> {
        let path = match (&self.source, &self.shared.docker_config) {
            (CredentialSource::Explicit(credentials), _) => return Ok(credentials.clone()),
            (CredentialSource::DockerConfig, None) => return Ok(Credentials::Anonymous),
            (CredentialSource::DockerConfig, Some(path)) => path,
        };
        let registry = || self.endpoint.to_string();
        let sources = docker_config::load_sources(path, &self.endpoint)
            .map_err(|source| CredentialError::DockerConfig { registry: registry(), source })?;
        for source in sources {
            match source {
                Source::Known(credentials) => return Ok(credentials),
                Source::Helper { suffix, server } => {
                    let found = helper::ask(&suffix, &server).await;
                    let found = found.map_err(|source| CredentialError::Helper { registry: registry(), source })?;
                    if let Some(credentials) = found {
                        return Ok(credentials);
                    }
                }
            }
        }
        Ok(Credentials::Anonymous)
    }

    async fn wrong_password(&self, answer: Answer) -> RegistryError {
        let body = answer.body.collect(LONGEST_ANSWER).await.ok().flatten().unwrap_or_default();
        RegistryError::WrongPassword { by: format!("registry {}", self.endpoint), said: said_by(&body) }
    }

    /// The error that an answer outside the 2xx class is.
    async fn refusal(&self, what: &str, answer: Answer) -> RegistryError {
        let status = answer.status.as_u16();
        // The reason is a courtesy; without it the status must do.
        let body = answer.body.collect(LONGEST_ANSWER).await.ok().flatten().unwrap_or_default();
        let (registry, what, said) = (self.endpoint.to_string(), what.to_owned(), said_by(&body));
        match status {
            401 | 403 => RegistryError::Unauthorized { registry, what, said },
            404 => RegistryError::NotFound { registry, what, said },
            429 => RegistryError::Throttled { registry, said },
            _ => RegistryError::Status { registry, what, status, said },
        }
    }
}

/// If plain HTTP was tried only because TLS failed, and failed as well in a way that says less, TLS' error is the one to show.
fn prefer_tls_error(error: RegistryError, tls: Option<TransportError>) -> RegistryError {
    match (error, tls) {
        (RegistryError::Unreachable { registry, source }, Some(tls))
            if matches!(*source, TransportError::Dial { .. }) =>
        {
            RegistryError::Unreachable { registry, source: Box::new(tls) }
        }
        (error, _) => error,
    }
}

fn redirect_location(answer: &Answer) -> Option<String> {
    let redirects = [301, 302, 303, 307, 308];
    redirects.contains(&answer.status.as_u16()).then(|| answer.header(LOCATION).map(str::to_owned)).flatten()
}

fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn is_transient(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { source, .. } | RegistryError::Interrupted { source, .. } => source.is_transient(),
        RegistryError::Throttled { .. } => true,
        RegistryError::Status { status, .. } => is_transient_status(*status),
        _ => false,
    }
}
