//! `GET /explain`: whether a client may use a subject at an endpoint, and which rule of which role decides.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Decision;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::explanation::Effect;
use tidegate_protocol::permissions::explanation::RenderedRule;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::timestamp::Timestamp;
use tidegate_vocabulary::Vocabulary;
use warp::http::HeaderMap;
use warp::http::Method;
use warp::http::StatusCode;
use warp::http::Uri;
use warp::http::Version;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::auth::claim_argument;
use crate::auth::error::AuthError;
use crate::auth::explanation::ExplainedClient;
use crate::auth::explanation::ExplanationError;
use crate::auth::policy::Policy;
use crate::auth::policy::Via;
use crate::auth::service::ClientFacts;
use crate::config::auth::service::ServiceConfig;
use crate::config::secret::Secret;
use crate::http::admin::access::Admin;
use crate::http::admin::class::class_object;
use crate::http::admin::parameters::bad;
use crate::http::admin::parameters::parameters;
use crate::http::admin::parameters::unknown;
use crate::http::admin::view::AdminView;
use crate::http::connection_info::ConnectionInfo;
use crate::http::endpoint;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::HandshakeRequest;
use crate::http::problem::Problem;

/// The header with the credential of the client in question. `Authorization` has that of the operator, and a URL is no
/// place for either.
const CREDENTIAL: &str = "Explain-Token";

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct Question {
    operation: Operation,
    subject: Pattern,
    /// Where the client connects: path and query. `None`: anywhere.
    target: Option<Uri>,
    via: Via,
    /// A client that is named in place of a credential.
    user: Option<String>,
    roles: Vec<String>,
    claims: Vec<(String, Value)>,
}

/// Where the client connects.
struct Place<'v> {
    endpoint: &'v Endpoint,
    vocabulary: Vocabulary,
}

/// The client in question, or why it has no identity.
enum AskedClient {
    Identified { client: ExplainedClient, identity: Arc<Identity> },
    Refused { reason: &'static str, detail: String },
}

/// The answer to a question.
pub(super) async fn answer(
    admin: &Admin,
    headers: &HeaderMap,
    query: Option<&str>,
    connection: &ConnectionInfo,
) -> Result<Response, Problem> {
    let question = Question::parse(query.unwrap_or_default())?;
    let credential = credential(headers)?;
    if credential.is_some() && (question.user.is_some() || !question.roles.is_empty()) {
        return Err(bad(format!(
            "the header `{CREDENTIAL}` says who the client is: leave out `user` and `role`"
        )));
    }
    let view = admin.view.get();
    let place = question.target.as_ref().map(|target| Place::find(&view, target, connection)).transpose()?;
    let client = question.client(admin, place.as_ref(), credential.as_ref()).await?;
    let mut body = json!({
        "node": &*admin.node.name,
        "operation": name_of(question.operation),
        "subject": question.subject.as_str(),
        "endpoint": place.as_ref().map(|place| &*place.endpoint.policy.endpoint),
        "class": class_object(&view.classes, &question.subject),
        "services": services(&view.classes, &question),
    });
    let answer = match &client {
        AskedClient::Refused { reason, detail } => {
            json!({ "allowed": false, "detail": detail, "refused": reason })
        }
        AskedClient::Identified { client, identity } => {
            explain(admin, &question, place.as_ref(), (client, identity))?
        }
    };
    if let (Value::Object(body), Value::Object(answer)) = (&mut body, answer) {
        body.extend(answer);
    }
    Ok(warp::reply::json(&body).into_response())
}

/// The subjects of the services that decide too, if roles allow it: they are not asked.
fn services(classes: &[Class], question: &Question) -> Vec<String> {
    match question.operation {
        Operation::Publish | Operation::Request => Vec::new(),
        Operation::Subscribe => {
            let classes = Classes::new(classes.to_vec());
            classes.authorizers(&question.subject).into_iter().map(ToString::to_string).collect()
        }
    }
}

/// What is decided about a client that has an identity.
fn explain(
    admin: &Admin,
    question: &Question,
    place: Option<&Place<'_>>,
    (client, identity): (&ExplainedClient, &Identity),
) -> Result<Value, Problem> {
    let authenticator = admin.node.authenticator();
    let explanation = authenticator
        .explain(client, &identity.permissions, question.operation, &question.subject)
        .map_err(|error| unexplained(&error))?;
    let is_withdrawn = explanation.is_withdrawn();
    let may_connect = place.is_none_or(|place| endpoint::permits(&place.vocabulary, identity));
    let detail = match &explanation.decision {
        _ if !may_connect => Some("this path belongs to another user".to_owned()),
        Decision::Allowed { .. } => None,
        Decision::Denied(denial) if is_withdrawn => Some(format!("a revocation denies it: {denial}")),
        Decision::Denied(denial) => Some(denial.to_string()),
    };
    let expires = identity.expires.map(|time| Timestamp::new(time).as_str().to_owned());
    Ok(json!({
        "allowed": detail.is_none(),
        "detail": detail,
        "rule": explanation.rule().map(rule),
        "withdrawn": is_withdrawn,
        "rules": explanation.rules.iter().map(rule).collect::<Vec<_>>(),
        "user": &*identity.user,
        "in_subjects": identity.user_token(),
        "anonymous": identity.anonymous,
        "roles": client.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
        "issuer": identity.issuer.as_deref(),
        "expires_at": expires,
    }))
}

fn rule(rule: &RenderedRule<'_>) -> Value {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    json!({
        "role": rule.role,
        "effect": effect,
        "rule": rule.template.as_str(),
        "patterns": rule.patterns.iter().map(Pattern::as_str).collect::<Vec<_>>(),
    })
}

fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Subscribe => "subscribe",
        Operation::Publish => "publish",
        Operation::Request => "request",
    }
}

/// The credential of the client in question. `Bearer` before it is ignored.
fn credential(headers: &HeaderMap) -> Result<Option<Secret>, Problem> {
    let wrong = |detail: &str| {
        let detail = format!("the header `{CREDENTIAL}` {detail}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_credential", detail)
    };
    let mut values = headers.get_all(CREDENTIAL).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("occurs twice: send one credential"));
    }
    let text =
        value.to_str().map_err(|_| wrong("has characters that no credential has: use visible ASCII"))?;
    let text = text.trim();
    let text = match text.strip_prefix("Bearer") {
        Some(rest) if rest.is_empty() || rest.starts_with(' ') => rest.trim_start(),
        Some(_) | None => text,
    };
    if text.is_empty() {
        return Err(wrong("is empty: send a token or an API key, or leave it out"));
    }
    Ok(Some(Secret::new(text)))
}

impl<'v> Place<'v> {
    /// The endpoint that serves a path, with its vocabulary for it.
    fn find(view: &'v AdminView, target: &Uri, connection: &ConnectionInfo) -> Result<Self, Problem> {
        let headers = HeaderMap::new();
        let found = view.gates.iter().find_map(|gate| gate.endpoint(target.path(), &headers));
        let endpoint = found.ok_or_else(|| {
            let detail = "this node serves no endpoint at the path in `path`: check it";
            Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
        })?;
        let vocabulary = endpoint.bind(&HandshakeRequest {
            method: &Method::GET,
            version: Version::HTTP_11,
            path: target.path(),
            query: target.query(),
            headers: &headers,
            peer: connection.peer,
            is_first: false,
        })?;
        Ok(Self { endpoint, vocabulary })
    }

    fn policy(&self, via: Via) -> &Policy {
        match via {
            Via::Socket => self.endpoint.policy_for(&self.vocabulary),
            Via::Http => &self.endpoint.policy,
        }
    }

    /// The user that a client without a credential names, if the endpoint trusts it.
    fn claimed_user(&self, via: Via) -> Option<String> {
        let Vocabulary::Described(binding) = &self.vocabulary else { return None };
        self.endpoint.claimed_user(via, binding)
    }
}

impl Question {
    fn parse(query: &str) -> Result<Self, Problem> {
        let (mut operation, mut subject, mut target, mut user) = (None, None, None, None);
        let (mut via, mut roles, mut claims) = (Via::Socket, Vec::new(), Vec::new());
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match name.as_str() {
                "operation" => operation = Some(operation_named(&value)?),
                "subject" => {
                    let parsed = Pattern::parse(&value);
                    subject = Some(parsed.map_err(|error| bad(format!("`subject`: {error}")))?);
                }
                "path" => target = Some(target_of(&value)?),
                "via" => {
                    via = match value.as_str() {
                        "socket" => Via::Socket,
                        "http" => Via::Http,
                        _ => return Err(bad("`via` is neither socket nor http")),
                    }
                }
                "user" => user = Some(value),
                "role" => roles.push(value),
                "claim" => {
                    let claim = claim_argument::parse(&value);
                    claims.push(claim.map_err(|error| bad(format!("`claim`: {error}")))?);
                }
                "token" | "credential" => {
                    let detail = format!(
                        "a credential does not belong in a URL: send it in the header `{CREDENTIAL}`"
                    );
                    return Err(bad(detail));
                }
                _ => return Err(unknown(&name, "operation, subject, path, via, user, role, claim")),
            }
        }
        if roles.is_empty() && (user.is_some() || !claims.is_empty()) {
            return Err(bad(
                "`user` and `claim` are those of a client that is named by its roles: add `role`",
            ));
        }
        Ok(Self {
            operation: operation.ok_or_else(|| bad("add `operation`: subscribe, publish or request"))?,
            subject: subject.ok_or_else(|| bad("add `subject`: a subject, or a pattern such as prices.*"))?,
            target,
            via,
            user,
            roles,
            claims,
        })
    }

    /// The client: that of the credential, or that which is named, or one without a credential.
    async fn client(
        &self,
        admin: &Admin,
        place: Option<&Place<'_>>,
        credential: Option<&Secret>,
    ) -> Result<AskedClient, Problem> {
        let (node, now) = (&admin.node, SystemTime::now());
        // Without a path, tokens and API keys are accepted.
        let (policy, via) = match place {
            Some(place) => (place.policy(self.via), self.via),
            None => (&admin.policy, Via::Http),
        };
        let identity = if let Some(credential) = credential {
            let facts = |_: &ServiceConfig| ClientFacts::default();
            node.verify(policy, via, credential.expose(), facts, now).await
        } else if !self.roles.is_empty() {
            let authenticator = node.authenticator();
            let user = self.user.as_deref().unwrap_or("someone");
            let client = authenticator.named_client(user, &self.roles, &self.claims);
            let client = client.map_err(|error| unexplained(&error))?;
            let identity = authenticator.identity_of(&client).map_err(|error| unexplained(&error))?;
            return Ok(match node.revocations.apply(Arc::new(identity), now) {
                Ok(identity) => AskedClient::Identified { client, identity },
                Err(error) => AskedClient::refused(&error),
            });
        } else if let Some(place) = place {
            match place.claimed_user(self.via) {
                Some(user) => {
                    let identity = node.authenticator().trust_client_identity(policy, &user);
                    identity.and_then(|identity| node.revocations.apply(identity, now))
                }
                None => match policy.anonymous(via) {
                    Some(identity) => Ok(identity),
                    None => {
                        let detail = "this endpoint needs a credential".to_owned();
                        return Ok(AskedClient::Refused { reason: "unauthorized", detail });
                    }
                },
            }
        } else {
            return Err(bad(format!(
                "say who the client is: the header `{CREDENTIAL}`, or `role` and `user`, or `path` for one without a \
                 credential"
            )));
        };
        Ok(match identity {
            Ok(identity) => {
                let client = ExplainedClient::of_identity(&identity, credential.map(Secret::expose));
                AskedClient::Identified { client: client.map_err(|error| unexplained(&error))?, identity }
            }
            Err(error) => AskedClient::refused(&error),
        })
    }
}

impl AskedClient {
    fn refused(error: &AuthError) -> Self {
        Self::Refused { reason: error.reason(), detail: error.to_string() }
    }
}

fn operation_named(name: &str) -> Result<Operation, Problem> {
    let all = [Operation::Subscribe, Operation::Publish, Operation::Request];
    let found = all.into_iter().find(|operation| name_of(*operation) == name);
    found.ok_or_else(|| bad("`operation` is none of subscribe, publish and request"))
}

/// A path with or without a query, such as `/ws/alice?v=1`.
fn target_of(text: &str) -> Result<Uri, Problem> {
    let target =
        Uri::try_from(text).ok().filter(|uri| uri.authority().is_none() && uri.path().starts_with('/'));
    target.ok_or_else(|| bad("`path` is not the path of an endpoint, such as /ws"))
}

fn unexplained(error: &ExplanationError) -> Problem {
    bad(error.to_string())
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    #[test]
    fn a_question_names_a_client_an_operation_and_a_subject() {
        let query = "operation=publish&subject=chat.a&path=%2Fws%2Falice%3Fv%3D1&via=http&user=a+b&role=user&role=team\
                     &claim=team%3Dred";
        let expected = Question {
            operation: Operation::Publish,
            subject: Pattern::parse("chat.a").unwrap(),
            target: Some(Uri::from_static("/ws/alice?v=1")),
            via: Via::Http,
            user: Some("a b".to_owned()),
            roles: vec!["user".to_owned(), "team".to_owned()],
            claims: vec![("team".to_owned(), json!("red"))],
        };
        assert_eq!(Question::parse(query).unwrap(), expected);
    }

    #[test]
    fn a_question_with_a_mistake_says_what_is_wrong() {
        for (query, words) in [
            ("subject=a", "add `operation`"),
            ("operation=read&subject=a", "none of subscribe, publish and request"),
            ("operation=publish", "add `subject`"),
            ("operation=publish&subject=a..b", "`subject`: "),
            ("operation=publish&subject=a&path=ws", "`path` is not"),
            ("operation=publish&subject=a&path=http%3A%2F%2Fa%2Fws", "`path` is not"),
            ("operation=publish&subject=a&via=post", "neither socket nor http"),
            ("operation=publish&subject=a&claim=x", "`claim`: "),
            ("operation=publish&subject=a&user=alice", "add `role`"),
            ("operation=publish&subject=a&token=a.b.c", "in the header `Explain-Token`"),
            ("operation=publish&subject=a&rôle=user", "use operation, subject"),
            ("operation=publish&subject=%ff", "UTF-8"),
        ] {
            let problem = Question::parse(query).unwrap_err();
            assert_eq!((problem.status, problem.code), (StatusCode::BAD_REQUEST, "bad_request"));
            assert!(problem.detail.contains(words), "{query}: {}", problem.detail);
        }
    }

    #[test]
    fn a_credential_is_one_header_with_or_without_bearer() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CREDENTIAL, HeaderValue::from_static(value));
            }
            credential(&headers).map(|found| found.map(|secret| secret.expose().to_owned()))
        };
        assert_eq!(read(&[]).unwrap(), None);
        for value in ["a.b.c", "Bearer a.b.c", " Bearer  a.b.c "] {
            assert_eq!(read(&[value]).unwrap().as_deref(), Some("a.b.c"), "{value}");
        }
        for values in [&["a", "b"][..], &[""], &["Bearer "]] {
            assert_eq!(read(values).unwrap_err().code, "bad_credential", "{values:?}");
        }
    }
}
