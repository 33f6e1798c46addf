//! The golden transcripts once more, over real sockets and a real nats-server.
//!
//! What a client says and is told, and what is published, is replayed; what the session asks of its shell and is
//! answered comes about by itself. Transcripts in which time passes or something fails on purpose are left to the
//! pure runner: here they cannot be made to happen at the same place.

use std::collections::VecDeque;
use std::path::Path;

use futures_util::StreamExt;
use serde_json::json;
use tidegate::config::Config;
use tidegate::protocol::class::FeedBy;
use tidegate::protocol::permissions::Role;
use tidegate::protocol::permissions::RuleTemplates;
use tidegate::protocol::permissions::Rules;
use tidegate::protocol::session::transcript::Action;
use tidegate::protocol::session::transcript::Answer;
use tidegate::protocol::session::transcript::Persona;
use tidegate::protocol::session::transcript::Published;
use tidegate::protocol::session::transcript::Transcript;
use tidegate::protocol::subject::Pattern;
use tidegate::protocol::template::Template;
use tidegate::protocol::websocket::Event;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token_with;
use crate::support::raw;
use crate::support::raw::RawClient;

const WATCHER: &str = "watcher";

#[tokio::test]
async fn native_transcripts_hold_over_real_sockets() {
    let mut replayed = 0;
    for (name, transcript) in native() {
        if let Some(why) = unfit(&transcript) {
            println!("{name}: left to the pure runner: {why}");
            continue;
        }
        for (hold, feed) in [(false, FeedBy::Subject), (true, FeedBy::Subject), (false, FeedBy::Pattern)] {
            replay(&name, &transcript, hold, feed).await;
        }
        replayed += 1;
    }
    assert!(replayed >= 8, "only {replayed} transcripts were replayed");
}

fn native() -> Vec<(String, Transcript)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/native");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let transcript = Transcript::parse(&std::fs::read_to_string(&path).unwrap());
        (name.clone(), transcript.unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    files.into_iter().map(read).collect()
}

/// Why a transcript cannot be replayed here.
fn unfit(transcript: &Transcript) -> Option<&'static str> {
    let mut joining = 0;
    for step in &transcript.steps {
        let action = &step.action;
        if joined(action).is_some() {
            joining += 1;
        } else if matches!(action, Action::Answer(Answer::Joined { .. })) {
            joining -= 1;
        } else if matches!(action, Action::Client(_)) && joining > 0 {
            return Some("the client does not wait for an answer");
        }
    }
    transcript.steps.iter().find_map(|step| match &step.action {
        Action::After(_) => Some("time passes"),
        Action::Answer(
            Answer::Unjoined { .. }
            | Answer::Lost { .. }
            | Answer::Stale { .. }
            | Answer::Joined { stale_for: Some(_), .. },
        ) => Some("something fails between the node and NATS"),
        Action::Answer(
            Answer::Unpublished { .. } | Answer::Failed(_) | Answer::Drain { .. } | Answer::Alive,
        ) => Some("something fails in the node"),
        Action::Answer(Answer::Unreplied { code, .. }) if code.name() != "no_responders" => {
            Some("an answer is late")
        }
        Action::Answer(_)
        | Action::Client(_)
        | Action::Server(_)
        | Action::Asked(_)
        | Action::Publication(_) => None,
    })
}

async fn replay(name: &str, transcript: &Transcript, hold: bool, feed: FeedBy) {
    let change = |config: &mut Config| {
        configure(config, transcript);
        config.classes.iter_mut().for_each(|class| class.feed = feed);
    };
    let edge = TestEdge::with_options(change, hold).await;
    let mut watcher = watch(&edge, transcript).await;
    serve(&edge, transcript).await;
    let nats = edge.nats.client().await;
    let credential = transcript.connect.as_ref().map(|name| token(transcript.persona(name).unwrap()));
    let bearer = credential.flatten().map(|token| format!("Authorization: Bearer {token}\r\n"));
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    let mut client = RawClient::upgrade(stream, "/ws", &bearer.unwrap_or_default()).await;
    for step in &transcript.steps {
        match &step.action {
            Action::Client(event) => client.send(&said(event, transcript)).await,
            Action::Publication(published) => {
                publish(&nats, published).await;
                seen(watcher.as_mut(), transcript, published).await;
            }
            Action::Server(expected) => {
                let message = client.message().await.to_string();
                if let Err(difference) = expected.check(message.as_bytes()) {
                    panic!(
                        "{name}:{} (hold: {hold}, {feed:?}): {difference}; the server says\n< {message}",
                        step.line
                    );
                }
            }
            Action::Asked(_) | Action::Answer(_) | Action::After(_) => {}
        }
    }
}

/// One shard, so one lane and one order among channels; the identities as roles, the rest as it is written.
fn configure(config: &mut Config, transcript: &Transcript) {
    let settings = &transcript.settings;
    config.server.shards = 1;
    config.classes = settings.classes.iter().map(|class| class.as_ref().clone()).collect();
    config.limits.max_errors = settings.max_errors as usize;
    config.limits.subscriptions = settings.max_subscriptions;
    config.limits.commands_per_s = settings.commands.per_second as usize;
    config.limits.commands_burst = settings.commands.burst as usize;
    config.limits.publish_max_bytes = settings.publish_max;
    config.limits.requests_in_flight = settings.requests_in_flight;
    config.limits.ping_interval = settings.ping_interval;
    config.roles = transcript.personas.iter().map(role).collect();
    for persona in &transcript.personas {
        if persona.identity.anonymous {
            config.auth.anonymous_role.clone_from(&persona.name);
        }
    }
    let watched: Vec<String> = channels(transcript);
    let watched: Vec<&str> = watched.iter().map(String::as_str).collect();
    let subscribe = RuleTemplates { allow: templates(&watched), deny: Vec::new() };
    config.roles.push(Role { name: WATCHER.to_owned(), subscribe, ..Role::default() });
}

fn role(persona: &Persona) -> Role {
    let permissions = &persona.identity.permissions;
    let rules = |rules: &Rules| {
        let written = |patterns: &[Pattern]| {
            patterns.iter().map(|pattern| Template::parse(pattern.as_str()).unwrap()).collect()
        };
        RuleTemplates { allow: written(&rules.allow), deny: written(&rules.deny) }
    };
    Role {
        name: persona.name.clone(),
        subscribe: rules(&permissions.subscribe),
        publish: rules(&permissions.publish),
        request: rules(&permissions.request),
        stats: permissions.stats,
    }
}

fn templates(patterns: &[&str]) -> Vec<Template> {
    patterns.iter().map(|text| Template::parse(text).unwrap()).collect()
}

/// Every channel that the session joins in the transcript.
fn channels(transcript: &Transcript) -> Vec<String> {
    let mut channels: Vec<String> = transcript.steps.iter().filter_map(|step| joined(&step.action)).collect();
    channels.sort();
    channels.dedup();
    channels
}

/// The channel that the session asks to join.
fn joined(action: &Action) -> Option<String> {
    let Action::Asked(words) = action else { return None };
    words.strip_prefix("join ")?.split(' ').next().map(str::to_owned)
}

/// Somebody who listens already, so that the node knows last values.
async fn watch(edge: &TestEdge, transcript: &Transcript) -> Option<Client> {
    let channels = channels(transcript);
    if channels.is_empty() {
        return None;
    }
    let mut watcher = Client::connect(&edge.address(), &token_with(&json!({ "role": WATCHER }))).await;
    for channel in channels {
        watcher.subscribe(&channel).await;
    }
    Some(watcher)
}

/// Answers requests as the transcript says, one after the other.
async fn serve(edge: &TestEdge, transcript: &Transcript) {
    let mut answers: std::collections::HashMap<String, VecDeque<bytes::Bytes>> =
        std::collections::HashMap::new();
    for step in &transcript.steps {
        if let Action::Answer(Answer::Replied { subject, payload }) = &step.action {
            answers.entry(subject.as_str().to_owned()).or_default().push_back(payload.clone());
        }
    }
    for (subject, mut answers) in answers {
        let nats = edge.nats.client().await;
        let mut requests = nats.subscribe(subject).await.unwrap();
        // A round trip: the server knows the subscription.
        let _ = nats.request("nobody.listens.here", "".into()).await;
        tokio::spawn(async move {
            while let (Some(request), Some(answer)) = (requests.next().await, answers.pop_front()) {
                nats.publish(request.reply.unwrap(), answer).await.unwrap();
            }
        });
    }
}

async fn publish(nats: &async_nats::Client, published: &Published) {
    let (subject, payload) = (published.subject.as_str().to_owned(), published.payload.clone());
    if published.headers.is_empty() {
        nats.publish(subject, payload).await.unwrap();
    } else {
        let mut headers = async_nats::HeaderMap::new();
        for (name, value) in &published.headers {
            headers.append(name.as_str(), value.as_str());
        }
        nats.publish_with_headers(subject, headers, payload).await.unwrap();
    }
}

/// Waits until the node has delivered it to the watcher, and so knows it.
async fn seen(watcher: Option<&mut Client>, transcript: &Transcript, published: &Published) {
    let Some(watcher) = watcher else { return };
    let hears = |channel: &String| Pattern::parse(channel).unwrap().matches(published.subject.as_str());
    for _ in channels(transcript).iter().filter(|channel| hears(channel)) {
        watcher.expect("message").await;
    }
}

/// The frame of what the client says, its tokens put in.
fn said(event: &Event, transcript: &Transcript) -> Vec<u8> {
    match event {
        Event::Text(text) => {
            let mut text = text.clone();
            for persona in &transcript.personas {
                if let Some(token) = token(persona) {
                    text = text.replace(&format!("\"${}\"", persona.name), &format!("\"{token}\""));
                }
            }
            raw::text(&text)
        }
        Event::Binary(bytes) => raw::frame(0x82, bytes),
        Event::Ping(_) | Event::Pong(_) | Event::Close(_) => panic!("no transcript says this"),
    }
}

/// A token that proves the persona; nobody has to prove to be nobody.
fn token(persona: &Persona) -> Option<String> {
    let identity = &persona.identity;
    let mut claims = json!({ "sub": &*identity.user, "role": persona.name });
    if let Some(issuer) = &identity.issuer {
        claims["iss"] = json!(&**issuer);
    }
    (!identity.anonymous).then(|| token_with(&claims))
}
