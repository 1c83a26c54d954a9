//! What a registry wants to see before it answers: the `WWW-Authenticate` header (RFC 9110, 11.6.1).
//!
//! Pure. The header is hostile input: what does not follow the grammar ends the parse, and what was read before it counts.

/// One way to authenticate that the registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The token server's URL, as given.
        realm: String,
        /// The name by which the token server knows the registry.
        service: Option<String>,
        /// What the token must allow, like `repository:library/alpine:pull`; several are separated by spaces.
        scope: Option<String>,
        /// Why a token that was sent did not do, like `insufficient_scope`.
        error: Option<String>,
    },
}

/// Reads all challenges out of one header value. Schemes we do not know are left out.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut challenges = Vec::new();
    while let Some((scheme, parameters, after)) = parse_one(rest) {
        rest = after;
        let find = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = find("realm")
        {
            challenges.push(Challenge::Bearer {
                realm,
                service: find("service"),
                scope: find("scope"),
                error: find("error"),
            });
        }
    }
    challenges
}

type Parameters = Vec<(String, String)>;

/// `scheme SP name=value, name="value", …`, up to the next scheme.
fn parse_one(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (scheme, mut rest) = take_token(text)?;
    let mut parameters = Vec::new();
    loop {
        let here = rest.trim_start_matches([' ', '\t', ',']);
        // A token that no `=` follows is the next challenge's scheme.
        let Some((name, after)) = take_token(here) else { break };
        let Some(after) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else { break };
        let Some((value, after)) = take_value(after.trim_start_matches([' ', '\t'])) else { break };
        parameters.push((name.to_owned(), value));
        rest = after;
    }
    Some((scheme, parameters, rest))
}

fn take_token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string with its escapes undone.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers leave the quotes away around a URL, so more than a token is taken.
        let end = text.find([',', ' ', '\t', '"']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>, error: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope), error: own(error) }
    }

    #[test]
    fn headers_seen_in_the_field_are_understood() {
        for (header, want) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/alpine:pull"),
                    None,
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"basic realm="a, b=c", BEARER Realm = "https://t/" , error="insufficient_scope""#,
                vec![Challenge::Basic, bearer("https://t/", None, None, Some("insufficient_scope"))],
            ),
            (
                r#"Negotiate, Digest realm="x", nonce="y", Bearer realm=https://t/x?y=z,scope="repository:a:pull,push""#,
                vec![bearer("https://t/x?y=z", None, Some("repository:a:pull,push"), None)],
            ),
            (r#"Bearer realm="a\"b\\c""#, vec![bearer(r#"a"b\c"#, None, None, None)]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="unfinished"#, vec![]),
            ("", vec![]),
            ("\"\"", vec![]),
        ] {
            assert_eq!(parse_challenges(header), want, "{header}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            challenges in proptest::collection::vec(
                proptest::option::of(("\\PC{0,20}", proptest::option::of("\\PC{0,20}"), proptest::option::of("\\PC{0,20}"))),
                0..4,
            )
        ) {
            let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let printed: Vec<String> = challenges.iter().map(|one| match one {
                None => "Basic realm=\"x\"".to_owned(),
                Some((realm, service, scope)) => {
                    let mut text = format!("Bearer realm={}", quote(realm));
                    if let Some(service) = service { text += &format!(", service={}", quote(service)); }
                    if let Some(scope) = scope { text += &format!(",scope={}", quote(scope)); }
                    text
                }
            }).collect();
            let want: Vec<Challenge> = challenges.into_iter().map(|one| match one {
                None => Challenge::Basic,
                Some((realm, service, scope)) => Challenge::Bearer { realm, service, scope, error: None },
            }).collect();
            prop_assert_eq!(parse_challenges(&printed.join(", ")), want);
        }

        #[test]
        fn no_header_makes_the_parser_panic_or_run_forever(header in "\\PC{0,200}|[a-zA-Z =,\"\\\\]{0,200}") {
            prop_assert!(parse_challenges(&header).len() <= header.len());
        }
    }
}
