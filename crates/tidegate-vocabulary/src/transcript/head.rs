//! The head of a transcript: personas, classes, limits and switches.

use std::sync::Arc;
use std::time::Duration;

use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::class::KeyScope;
use tidegate_protocol::class::Kind;
use tidegate_protocol::class::Priority;
use tidegate_protocol::class::fields::PayloadFields;
use tidegate_protocol::class::fields::parse_key;
use tidegate_protocol::class::fields::parse_path;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Rules;
use tidegate_protocol::permissions::StatsAccess;
use tidegate_protocol::session::settings::Settings;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::template::is_token_value;
use tidegate_protocol::user_token;

use crate::transcript::Credential;
use crate::transcript::LineError;
use crate::transcript::Persona;
use crate::transcript::Transcript;
use crate::transcript::TranscriptError;
use crate::transcript::line::duration;
use crate::transcript::line::number;
use crate::transcript::line::pattern;
use crate::transcript::line::word;

/// Declarations that are applied when the whole head is known.
#[derive(Default)]
pub(super) struct Head {
    classes: Vec<Class>,
    connect_at: usize,
}

impl Head {
    /// Parses one declaration.
    pub(super) fn declare(
        &mut self,
        line: usize,
        text: &str,
        transcript: &mut Transcript,
    ) -> Result<(), LineError> {
        let (what, clauses) = match text.strip_suffix(':') {
            Some(what) => (what, ""),
            None => text.split_once(": ").ok_or(LineError::Declaration)?,
        };
        let clauses = clauses.split(';').map(str::trim).filter(|clause| !clause.is_empty());
        match word(what) {
            ("path", "") => transcript.target = clauses.into_iter().next().unwrap_or_default().to_owned(),
            ("connect", "") => {
                self.connect_at = line;
                transcript.connect = clauses.into_iter().next().map(str::to_owned);
            }
            ("identity", name) if !name.is_empty() => {
                transcript.personas.push(persona(name, clauses)?);
            }
            ("class", of) => {
                let mut class = Class::plain(pattern(of)?);
                clauses.into_iter().try_for_each(|clause| class_clause(&mut class, clause))?;
                self.classes.push(class);
            }
            ("limits", "") => {
                clauses.into_iter().try_for_each(|clause| limit(&mut transcript.settings, clause))?;
            }
            ("switches", "") => {
                let names = clauses.into_iter().flat_map(str::split_whitespace);
                transcript.switches.extend(names.map(str::to_owned));
            }
            _ => return Err(LineError::Declaration),
        }
        Ok(())
    }

    /// Applies the classes, and checks that the connecting persona is declared.
    pub(super) fn finish(self, transcript: &mut Transcript) -> Result<(), TranscriptError> {
        transcript.settings.classes = Classes::new(self.classes);
        if transcript.encodes_users() {
            for Persona { identity, .. } in &mut transcript.personas {
                let encoded = user_token::encode(&identity.user).filter(|token| **token != *identity.user);
                identity.encoded_user = encoded.map(Arc::from);
            }
        }
        match &transcript.connect {
            Some(name) if transcript.persona(name).is_none() => {
                let error = LineError::UnknownIdentity { name: name.clone() };
                Err(TranscriptError { line: self.connect_at, error })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn persona<'t>(name: &str, clauses: impl Iterator<Item = &'t str>) -> Result<Persona, LineError> {
    let mut identity = Identity { user: name.into(), ..Identity::default() };
    let (mut expires_in, mut credential) = (None, Credential::Token);
    for clause in clauses {
        let (key, value) = word(clause);
        let permissions = Arc::make_mut(&mut identity.permissions);
        match key {
            "user" => {
                identity.user = value.into();
                // As nodes with `auth.user_claim` encode it. Then they encode all users.
                let encoded = user_token::encode(value).filter(|_| !is_token_value(value));
                identity.encoded_user = encoded.map(Arc::from);
            }
            "issuer" => identity.issuer = Some(value.into()),
            "anonymous" => identity.anonymous = true,
            "claims" => identity.claims = Some(Arc::new(value.to_owned())),
            "api_key" => credential = Credential::ApiKey,
            "trust_client_identity" => credential = Credential::Name,
            "stats" => {
                permissions.stats =
                    stats(value).ok_or_else(|| LineError::Clause { clause: clause.to_owned() })?
            }
            "expires" => expires_in = Some(duration(value)?),
            "subscribe" => add(&mut permissions.subscribe, HeadRule::Allow, value)?,
            "deny-subscribe" => add(&mut permissions.subscribe, HeadRule::Deny, value)?,
            "publish" => add(&mut permissions.publish, HeadRule::Allow, value)?,
            "deny-publish" => add(&mut permissions.publish, HeadRule::Deny, value)?,
            "request" => add(&mut permissions.request, HeadRule::Allow, value)?,
            "deny-request" => add(&mut permissions.request, HeadRule::Deny, value)?,
            _ => {
                return Err(LineError::Clause { clause: clause.to_owned() });
            }
        }
    }
    if !identity.anonymous && credential == Credential::Token {
        expires_in = expires_in.or(Some(Duration::from_secs(3600)));
    }
    Ok(Persona { name: name.to_owned(), identity, expires_in, credential })
}

fn stats(text: &str) -> Option<StatsAccess> {
    match text {
        "none" => Some(StatsAccess::None),
        "counts" => Some(StatsAccess::Counts),
        "all" => Some(StatsAccess::All),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum HeadRule {
    Allow,
    Deny,
}

fn add(rules: &mut Rules, rule: HeadRule, patterns: &str) -> Result<(), LineError> {
    let patterns: Vec<Pattern> = patterns.split_whitespace().map(pattern).collect::<Result<_, _>>()?;
    match rule {
        HeadRule::Allow => rules.allow.extend(patterns),
        HeadRule::Deny => rules.deny.extend(patterns),
    }
    Ok(())
}

fn class_clause(class: &mut Class, clause: &str) -> Result<(), LineError> {
    let (key, value) = word(clause);
    match (key, value) {
        ("latest", "") => class.kind = Kind::Latest,
        ("buffer", "") => class.kind = Kind::Buffer,
        ("snapshot", "") => class.snapshot = true,
        ("snapshot", "always") => (class.snapshot, class.feed) = (true, FeedBy::Always),
        ("key", path) if path.starts_with("data.") || path.starts_with("data[]") => {
            class.fields = PayloadFields::merged(class.fields.take(), parse_key(path), None);
        }
        ("priority", path) if path.starts_with("data.") => {
            class.fields = PayloadFields::merged(class.fields.take(), None, parse_path(path));
        }
        ("priority", "high") => class.priority = Priority::High,
        ("priority", "normal") => class.priority = Priority::Normal,
        ("priority", "low") => class.priority = Priority::Low,
        ("key_scope", "subject") => class.key_scope = KeyScope::Subject,
        ("key_scope", "channel") => class.key_scope = KeyScope::Channel,
        ("batch", time) => class.batch = duration(time)?,
        ("max_rate", time) => class.max_rate = Some(duration(time)?),
        ("max_age", time) => class.max_age = Some(duration(time)?),
        ("stale_after", time) => class.stale_after = Some(duration(time)?),
        ("headers", names) => class.headers = names.split_whitespace().map(str::to_owned).collect(),
        _ => {
            return Err(LineError::Clause { clause: clause.to_owned() });
        }
    }
    Ok(())
}

/// Parses a limit. Most names are those of `[limits]`; durations have no unit in their name. `request_timeout` is in
/// `[nats]`, and `expiring` is `limits.expiry_warning_s`.
fn limit(settings: &mut Settings, clause: &str) -> Result<(), LineError> {
    let (key, value) = word(clause);
    match key {
        "max_message_bytes" => settings.max_message = number(value)?,
        "subscriptions" => settings.max_subscriptions = number(value)?,
        "wildcard_subscriptions" => settings.max_wildcards = number(value)?,
        "overlapping_subscriptions" => settings.max_overlapping = number(value)?,
        "max_errors" => settings.max_errors = number(value)?,
        "max_subject_bytes" => settings.subjects.max_bytes = number(value)?,
        "max_subject_tokens" => settings.subjects.max_tokens = number(value)?,
        "commands_per_s" => settings.commands.per_second = number(value)?,
        "commands_burst" => settings.commands.burst = number(value)?,
        "requests_in_flight" => settings.requests_in_flight = number(value)?,
        "request_timeout" => settings.request_timeout = duration(value)?,
        "request_timeout_max" => settings.request_timeout_max = duration(value)?,
        "publish_max_bytes" => settings.publish_max = number(value)?,
        "auth_timeout" => settings.auth_timeout = duration(value)?,
        "ping_interval" => settings.ping_interval = duration(value)?,
        "pong_timeout" => settings.pong_timeout = duration(value)?,
        "expiring" => settings.expiring = duration(value)?,
        _ => {
            return Err(LineError::Clause { clause: clause.to_owned() });
        }
    }
    Ok(())
}
