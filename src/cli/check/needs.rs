//! What a configuration needs: claims in tokens, and permissions on NATS.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::is_user;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::template::Template;

use crate::auth::revocation::message::SUBJECT as REVOCATIONS;
use crate::auth::service::ClientFacts;
use crate::auth::service::ConnectService;
use crate::auth::service::subscribe::SubscribeQuestion;
use crate::config::Config;
use crate::nats::micro::Verb;
use crate::nats::probe::Needs;

/// How long a service may take for the question of the check.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The `endpoint` in that question.
const ENDPOINT: &str = "check";
/// The NATS subject of queries between nodes.
const NODES: &str = "tidegate.nodes";

/// For each role that needs claims besides `sub`: a sentence that lists them.
pub(super) fn claims(roles: &[Role]) -> impl Iterator<Item = String> {
    roles.iter().filter_map(|role| {
        let mut claims: Vec<&str> = Vec::new();
        for placeholder in role.required_placeholders().filter(|placeholder| !is_user(placeholder)) {
            let claim = placeholder.strip_prefix("claims.").unwrap_or(placeholder);
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
        let (name, listed) = (&role.name, claims.join(", "));
        (!claims.is_empty()).then(|| {
            format!(
                "tokens with the role \"{name}\" must have the claims {listed}; others are refused with 401"
            )
        })
    })
}

/// The subjects that the node subscribes to and publishes on. Patterns that begin with a wildcard are left out: clients
/// cannot subscribe to them.
pub(super) fn of_nats(config: &Config) -> Needs {
    let may_publish =
        config.roles.iter().any(|role| !role.publish.allow.is_empty() || !role.request.allow.is_empty());
    let max_message_bytes = if may_publish { config.limits.publish_max_bytes } else { 0 };
    let tickets = !config.auth.ticket.is_zero();
    let mut needs = Needs { max_message_bytes, tickets, ..Needs::default() };
    for role in &config.roles {
        let who = format!("role \"{}\"", role.name);
        for pattern in literal_first(&role.subscribe) {
            add(&mut needs.subscribe, pattern, &who);
        }
        for rules in [&role.publish, &role.request] {
            literal_first(rules).for_each(|pattern| add(&mut needs.publish, pattern, &who));
        }
    }
    for class in config.classes.iter().filter(|class| class.feed != FeedBy::Subject) {
        let who = match class.feed {
            FeedBy::Always => "class with snapshot = \"always\"",
            FeedBy::Pattern | FeedBy::Subject => "class with feed = \"pattern\"",
        };
        add(&mut needs.subscribe, class.pattern.clone(), who);
    }
    for class in &config.classes {
        let Some(stream) = &class.stream else { continue };
        let who = "class with stream";
        add(&mut needs.subscribe, class.nats_pattern(&class.pattern).into_owned(), who);
        let requests = ["STREAM.INFO", "DIRECT.GET", "STREAM.MSG.GET"];
        let requests = requests.map(|request| Pattern::parse(&format!("$JS.API.{request}.{stream}")));
        requests.into_iter().flatten().for_each(|request| add(&mut needs.publish, request, who));
    }
    let service = config.auth.service.as_ref().map(|service| (&service.subject, "auth.service"));
    let decide =
        config.classes.iter().filter_map(|class| Some((class.authorize.as_ref()?, "class with authorize")));
    for (subject, who) in service.into_iter().chain(decide) {
        add(&mut needs.publish, subject.clone().into(), who);
        if !needs.services.contains(subject) {
            needs.services.push(subject.clone());
        }
    }
    (needs.questions, needs.answer_limit) = (questions(config), ANSWER_LIMIT);
    if let Ok(revocations) = Pattern::parse(REVOCATIONS) {
        add(&mut needs.subscribe, revocations, "revocations");
    }
    if let Some(feed) =
        config.audit.subject.as_ref().and_then(|subject| Pattern::parse(subject.as_str()).ok())
    {
        add(&mut needs.publish, feed, "the audit feed (audit.subject)");
    }
    if let Ok(nodes) = Pattern::parse(NODES)
        && config.endpoints.iter().any(|endpoint| {
            endpoint.replace_connections
                || endpoint.file.as_ref().is_some_and(|file| file.0.needs_other_nodes())
        })
    {
        let who = "queries between nodes";
        add(&mut needs.subscribe, nodes.clone(), who);
        add(&mut needs.publish, nodes, who);
    }
    let discovery = Verb::ALL.into_iter().flat_map(|verb| verb.subjects("check"));
    needs.discovery_subscribe = discovery.filter_map(|subject| Pattern::parse(&subject).ok()).collect();
    needs.discovery_publish = Pattern::parse(&Verb::Stats.subject_of_all()).into_iter().collect();
    needs
}

/// A question to each service, as a node asks them, but about no one.
fn questions(config: &Config) -> Vec<(Subject, Bytes)> {
    let connect = config.auth.service.clone().map(|service| {
        let subject = service.subject.clone();
        let question = ConnectService::new(service).question(None, ENDPOINT, &ClientFacts::default());
        (subject, question.json().clone())
    });
    let no_one = Identity { anonymous: true, ..Identity::default() };
    let subscribe = config.classes.iter().filter_map(|class| {
        let about = SubscribeQuestion {
            identity: &no_one,
            channel: &class.pattern,
            endpoint: ENDPOINT,
            address: None,
        };
        let subject = class.authorize.clone()?;
        let question = about.to(&subject);
        Some((subject, question.json().clone()))
    });
    let mut questions: Vec<(Subject, Bytes)> = Vec::new();
    for (subject, question) in connect.into_iter().chain(subscribe) {
        if !questions.iter().any(|(known, _)| *known == subject) {
            questions.push((subject, question));
        }
    }
    questions
}

/// For each service whose subject is among the channels of clients: which class and role that concerns.
pub(super) fn services_among_channels(config: &Config) -> Vec<String> {
    let service = config.auth.service.as_ref().map(|service| (&service.subject, "auth.service.subject"));
    let decide = config.classes.iter().filter_map(|class| Some((class.authorize.as_ref()?, "authorize")));
    let mut warnings = Vec::new();
    for (subject, key) in service.into_iter().chain(decide) {
        let own = Pattern::from(subject.clone());
        let Some(class) = config.classes.iter().find(|class| class.pattern.covers(&own)) else { continue };
        let reaches = |rules: &RuleTemplates| {
            rules.allow.iter().any(|template| template.covering_pattern().overlaps(&class.pattern))
        };
        let role = config
            .roles
            .iter()
            .find(|role| [&role.subscribe, &role.publish, &role.request].into_iter().any(reaches));
        if let Some(role) = role {
            let warning = format!(
                "the service at \"{subject}\" ({key}) is among the channels of the class \"{}\", which the role \"{}\" may \
                 use: clients cannot reach it, and no client may subscribe to a pattern that matches it; give the service \
                 a subject outside your channels",
                class.pattern, role.name
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}

fn literal_first(rules: &RuleTemplates) -> impl Iterator<Item = Pattern> {
    let widest = rules.allow.iter().map(Template::covering_pattern);
    widest.filter(|pattern| pattern.tokens().next().is_some_and(|first| !matches!(first, "*" | ">")))
}

fn add(to: &mut Vec<(Pattern, String)>, pattern: Pattern, who: &str) {
    if !to.iter().any(|(known, _)| *known == pattern) {
        to.push((pattern, who.to_owned()));
    }
}
