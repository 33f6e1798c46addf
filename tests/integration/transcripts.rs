//! Replays the transcripts over real sockets and a real nats-server.
//!
//! Client messages, server messages and publications are replayed. The node itself produces the other lines: the
//! actions of the session and their results. Transcripts in which time passes or something fails run only in
//! `tidegate-vocabulary`, because these events cannot be timed exactly here.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use tidegate::config::Config;
use tidegate::config::auth::api_key::ApiKeyConfig;
use tidegate::config::auth::api_key::KeyDigest;
use tidegate::config::endpoint::EndpointConfig;
use tidegate::config::endpoint::VocabularyFile;
use tidegate::config::endpoint::access::AccessConfig;
use tidegate::config::endpoint::access::HintSource;
use tidegate::config::endpoint::access::IdentityHint;
use tidegate::config::endpoint::access::TrustClientIdentityConfig;
use tidegate_protocol::class::FeedBy;
use tidegate_protocol::client_message::ClientMessage;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::permissions::Rules;
use tidegate_protocol::subject::Pattern;
use tidegate_protocol::subject::Subject;
use tidegate_protocol::template::Template;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::transcript::Action;
use tidegate_vocabulary::transcript::Credential;
use tidegate_vocabulary::transcript::HttpRequest;
use tidegate_vocabulary::transcript::Persona;
use tidegate_vocabulary::transcript::Published;
use tidegate_vocabulary::transcript::ShellInput;
use tidegate_vocabulary::transcript::Transcript;
use tokio::net::TcpStream;

use crate::shipped::shipped;
use crate::support::client::Client;
use crate::support::edge::TestEdge;
use crate::support::edge::token_with;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::raw;
use crate::support::raw::RawClient;
use crate::support::raw::RawFrame;

const WATCHER: &str = "watcher";

/// The API key of every persona that has one.
const API_KEY: &str = "the-key-of-a-program";
const API_KEY_SHA256: &str = "1ed728ca6e5daf8156b929775834c3b42fe794f99990fc49906a44cb88678900";

#[tokio::test]
async fn native_transcripts_pass_over_real_sockets() {
    let mut replayed = 0;
    for (name, transcript) in transcripts("native") {
        if let Some(why) = skip_reason(&transcript) {
            println!("{name}: skipped: {why}");
            continue;
        }
        for (hold, feed) in [(false, FeedBy::Subject), (true, FeedBy::Subject), (false, FeedBy::Pattern)] {
            replay(&name, &transcript, None, hold, feed).await;
        }
        replayed += 1;
    }
    assert!(replayed >= 8, "only {replayed} transcripts were replayed");
}

/// The shipped vocabularies, with real HTTP calls and handshakes.
#[tokio::test]
async fn transcripts_of_shipped_vocabularies_pass_over_real_sockets() {
    let replayed = replay_all(shipped(Path::new(env!("CARGO_MANIFEST_DIR")))).await;
    assert!(replayed >= 40, "only {replayed} transcripts were replayed");
}

/// The vocabularies that are for tests only.
#[tokio::test]
async fn transcripts_of_test_vocabularies_pass_over_real_sockets() {
    let replayed = replay_all(for_tests()).await;
    assert!(replayed >= 10, "only {replayed} transcripts were replayed");
}

/// Replays the transcripts of these vocabularies, except those that need the pure runner. Returns their number.
#[expect(clippy::print_stdout, reason = "the log of the test shows what was not replayed")]
async fn replay_all(vocabularies: Vec<(String, String)>) -> usize {
    let mut replayed = 0;
    for (vocabulary, text) in vocabularies {
        for (name, transcript) in transcripts(&vocabulary) {
            let name = format!("{vocabulary}/{name}");
            if let Some(why) = skip_reason(&transcript) {
                println!("{name}: skipped: {why}");
                continue;
            }
            println!("{name}");
            let vocabulary = transcript.vocabulary(&text, &[]).unwrap();
            for hold in [false, true] {
                replay(&name, &transcript, Some(&vocabulary), hold, FeedBy::Subject).await;
            }
            replayed += 1;
        }
    }
    replayed
}

/// The files of the vocabularies for tests, each in the folder of its transcripts.
fn for_tests() -> Vec<(String, String)> {
    let folders = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")).unwrap();
    let mut files: Vec<(String, String)> = folders
        .filter_map(|entry| {
            let folder = entry.unwrap();
            let text = std::fs::read_to_string(folder.path().join("vocabulary.toml")).ok()?;
            Some((folder.file_name().into_string().unwrap(), text))
        })
        .collect();
    files.sort();
    files
}

fn transcripts(vocabulary: &str) -> Vec<(String, Transcript)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(vocabulary);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let transcript = Transcript::parse(&std::fs::read_to_string(&path).unwrap());
        (name.clone(), transcript.unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    files.into_iter().map(read).collect()
}

/// Why a transcript cannot be replayed here, or `None` if it can.
fn skip_reason(transcript: &Transcript) -> Option<&'static str> {
    let (mut waiting, mut credentials) = (0, 0);
    for step in &transcript.steps {
        let action = &step.action;
        let waits = |verb| matches!(action, Action::Output(words) if words.starts_with(verb));
        credentials += i32::from(waits("authenticate "));
        if matches!(action, Action::Input(ShellInput::Authenticated { .. })) {
            credentials -= 1;
            if credentials < 0 {
                return Some("no message has the credential");
            }
        }
        if ["join ", "authenticate ", "request "].into_iter().any(waits) {
            waiting += 1;
        } else if matches!(
            action,
            Action::Input(
                ShellInput::Joined { .. }
                    | ShellInput::Authenticated { .. }
                    | ShellInput::Unauthenticated
                    | ShellInput::Replied { .. }
                    | ShellInput::Unreplied { .. }
            )
        ) {
            waiting -= 1;
        } else if matches!(action, Action::Client(_)) && waiting > 0 {
            return Some("the client does not wait for a reply");
        }
    }
    transcript.steps.iter().find_map(|step| match &step.action {
        Action::After(_) => Some("time passes"),
        Action::Input(
            ShellInput::Unjoined { .. }
            | ShellInput::Lost { .. }
            | ShellInput::Stale { .. }
            | ShellInput::Joined { stale_for: Some(_), .. },
        ) => Some("something fails between the node and NATS"),
        Action::Input(
            ShellInput::Unpublished { .. }
            | ShellInput::Failed(_)
            | ShellInput::Drain { .. }
            | ShellInput::Narrowed { .. }
            | ShellInput::Alive,
        ) => Some("something fails in the node"),
        Action::Input(ShellInput::Unreplied { code, .. }) if code.name() != "no_responders" => {
            Some("a reply is late")
        }
        Action::Input(_)
        | Action::Client(_)
        | Action::Server(_)
        | Action::Output(_)
        | Action::HttpRequest(_)
        | Action::HttpResponse { .. }
        | Action::Publication(_) => None,
    })
}

async fn replay(
    name: &str,
    transcript: &Transcript,
    vocabulary: Option<&Arc<CompiledVocabulary>>,
    hold: bool,
    feed: FeedBy,
) {
    let change = |config: &mut Config| {
        configure(config, transcript, vocabulary);
        for class in config.classes.iter_mut().filter(|class| class.feed != FeedBy::Always) {
            class.feed = feed;
        }
    };
    // They name any subject, which `nats/server.conf` leaves to the operator to list.
    let edge = TestEdge::with_nats(NatsServer::open().await, change, hold).await;
    let mut watcher = watch(&edge, transcript).await;
    serve(&edge, transcript).await;
    let nats = edge.nats.client().await;
    let joined_before = edge.hooks.joined.load(Ordering::SeqCst);
    let mut client = connect(&edge, transcript, vocabulary).await;
    let (mut joins, mut call, mut outgoing, mut echoes) = (0, None, VecDeque::new(), Vec::new());
    for step in &transcript.steps {
        let at = format!("{name}:{} (hold: {hold}, {feed:?})", step.line);
        match &step.action {
            Action::Client(event) => {
                client.send(&frame_of(event, transcript)).await;
                if vocabulary.is_some() {
                    until_processed(&mut client, &mut outgoing).await;
                }
            }
            Action::Publication(published) => {
                let is_kept = is_kept(transcript, published.subject.as_str());
                publish_once(&edge, &nats, published, &mut echoes, is_kept).await;
                delivered_to(watcher.as_mut(), transcript, &published.subject).await;
            }
            Action::Server(expected) => {
                let message = match outgoing.pop_front() {
                    Some(frame) => String::from_utf8(frame.message()).unwrap(),
                    None => client.message().await.to_string(),
                };
                if let Err(difference) = expected.check(message.as_bytes()) {
                    panic!("{at}: {difference}; the server sent\n< {message}");
                }
            }
            Action::Input(ShellInput::Published { subject }) if call.is_some() => {
                echoes.push(subject.clone())
            }
            // Otherwise a channel that the client joins later might still receive it.
            Action::Input(ShellInput::Published { subject }) => {
                delivered_to(watcher.as_mut(), transcript, subject).await;
            }
            Action::HttpRequest(outputs) => call = Some(ask(&edge, transcript, outputs).await),
            Action::HttpResponse { status, body } => {
                let answer = call.take().unwrap();
                assert_eq!(answer.status, *status, "{at}: {answer:?}");
                if let Some(Err(difference)) = body.as_ref().map(|body| body.check(answer.body.as_bytes())) {
                    panic!("{at}: {difference}; the answer is\n<< {} {}", answer.status, answer.body);
                }
            }
            // From here on, the subscription misses no message.
            Action::Input(ShellInput::Joined { .. }) => {
                joins += 1;
                let joined = || async { edge.hooks.joined.load(Ordering::SeqCst) >= joined_before + joins };
                eventually(&format!("{at}: joined"), joined).await;
            }
            Action::Output(words) if vocabulary.is_some() && words.starts_with("close ") => {
                let closed = outgoing.pop_front().and_then(|frame| frame.close_code());
                let code = if closed.is_some() { closed } else { client.close_code().await };
                let code = code.map(|code| code.to_string());
                assert_eq!(code.as_deref(), words.strip_prefix("close "), "{at}");
            }
            Action::Output(_) | Action::Input(_) | Action::After(_) => {}
        }
    }
    if vocabulary.is_some() {
        until_processed(&mut client, &mut outgoing).await;
        assert!(outgoing.iter().all(|frame| frame.opcode == 8), "{name}: the server sent more: {outgoing:?}");
    }
}

/// The client of a transcript, connected.
async fn connect(
    edge: &TestEdge,
    transcript: &Transcript,
    vocabulary: Option<&Arc<CompiledVocabulary>>,
) -> RawClient {
    let connect = transcript.connect.as_ref().map(|name| transcript.persona(name).unwrap());
    let in_header = connect.filter(|persona| !transcript.target.contains(&format!("${}", persona.name)));
    let mut headers = in_header.map(authorization).unwrap_or_default();
    if let Some(vocabulary) = vocabulary.filter(|vocabulary| vocabulary.is_subprotocol_required) {
        headers += &format!("Sec-WebSocket-Protocol: {}\r\n", vocabulary.subprotocols[0]);
    }
    let stream = TcpStream::connect(edge.address()).await.unwrap();
    RawClient::upgrade(stream, &with_tokens(&transcript.target, transcript), &headers).await
}

/// Waits until the server has processed all messages: it answers pings in order. Frames before the pong go to
/// `outgoing`.
async fn until_processed(client: &mut RawClient, outgoing: &mut VecDeque<RawFrame>) {
    client.send(&raw::frame(0x89, b"received?")).await;
    while let Some(frame) = client.frame().await {
        match frame.opcode {
            10 => return,
            9 => {}
            _ => outgoing.push_back(frame),
        }
    }
}

/// Sends the HTTP request, and returns the response.
async fn ask(edge: &TestEdge, transcript: &Transcript, call: &HttpRequest) -> raw::Answer {
    let HttpRequest { method, target, persona, headers, body } = call;
    let persona = persona.as_ref().map(|name| transcript.persona(name).unwrap());
    let authorization = persona.map(authorization).unwrap_or_default();
    let target = with_tokens(target, transcript);
    if headers.iter().any(|(name, _)| name == "Upgrade") {
        return raw::ask(&edge.address(), raw::handshake(&target, &authorization)).await;
    }
    let body = body.clone().unwrap_or_default();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}{headers}");
    raw::ask(&edge.address(), format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
}

/// The header with a persona's credential.
fn authorization(persona: &Persona) -> String {
    token(persona).map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// One shard, so that there is one lane and one order of messages. Each persona is a role; the other settings are those
/// of the transcript.
fn configure(config: &mut Config, transcript: &Transcript, vocabulary: Option<&Arc<CompiledVocabulary>>) {
    if let Some(vocabulary) = vocabulary {
        config.endpoints.push(endpoint(vocabulary, transcript));
    }
    let settings = &transcript.settings;
    config.server.shards = 1;
    config.limits.control_frames_burst = 10_000;
    config.classes = settings.classes.iter().map(|class| class.as_ref().clone()).collect();
    config.limits.max_errors = settings.max_errors as usize;
    config.limits.subscriptions = settings.max_subscriptions;
    config.limits.wildcard_subscriptions = settings.max_wildcards;
    config.limits.overlapping_subscriptions = settings.max_overlapping;
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
        if persona.credential == Credential::ApiKey {
            config.auth.api_keys.push(ApiKeyConfig {
                name: persona.name.clone(),
                sha256: KeyDigest(std::array::from_fn(|at| {
                    u8::from_str_radix(&API_KEY_SHA256[2 * at..2 * at + 2], 16).unwrap()
                })),
                user: persona.identity.user.to_string(),
                role: persona.name.clone(),
            });
        }
    }
    if transcript.personas.iter().any(|persona| persona.identity.encoded_user.is_some()) {
        config.auth.user_claim = "sub".to_owned();
    }
    let watched: Vec<String> = channels(transcript);
    let watched: Vec<&str> = watched.iter().map(String::as_str).collect();
    let subscribe = RuleTemplates { allow: templates(&watched), deny: Vec::new() };
    config.roles.push(Role { name: WATCHER.to_owned(), subscribe, ..Role::default() });
}

/// The endpoint of a vocabulary. A persona without a credential is named in the path, or in a message if the handshake
/// has a credential.
fn endpoint(vocabulary: &Arc<CompiledVocabulary>, transcript: &Transcript) -> EndpointConfig {
    let has = |credential| transcript.personas.iter().find(|persona| persona.credential == credential);
    let source = if transcript.connect.is_some() { HintSource::Path } else { HintSource::Message };
    let trust_client_identity = has(Credential::Name).map(|persona| TrustClientIdentityConfig {
        user: IdentityHint { source, name: "user_id".to_owned() },
        http_user: None,
        role: persona.name.clone(),
    });
    EndpointConfig {
        path: String::new(),
        vocabulary: vocabulary.name.to_string(),
        file: Some(VocabularyFile(Arc::clone(vocabulary))),
        access: AccessConfig {
            api_keys: has(Credential::ApiKey).is_some(),
            trust_client_identity,
            ..AccessConfig::default()
        },
        ..EndpointConfig::default()
    }
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
        admin: permissions.admin,
        control: permissions.control,
    }
}

fn templates(patterns: &[&str]) -> Vec<Template> {
    patterns.iter().map(|text| Template::parse(text).unwrap()).collect()
}

/// Whether the node keeps the last values of this channel from its start on.
fn is_kept(transcript: &Transcript, channel: &str) -> bool {
    transcript.settings.classes.of(&Pattern::parse(channel).unwrap()).feed == FeedBy::Always
}

/// Waits until the node keeps the last values of all classes that say so.
async fn until_kept(edge: &TestEdge, transcript: &Transcript) {
    for class in transcript.settings.classes.iter().filter(|class| class.feed == FeedBy::Always) {
        let is_kept = || async { edge.nats.subjects("tidegate/").await.contains(&class.pattern.to_string()) };
        eventually(&format!("{} is kept", class.pattern), is_kept).await;
    }
}

/// Every channel that the session subscribes to in the transcript, and all subjects that HTTP calls may read, except
/// those whose last values the node keeps from its start on.
fn channels(transcript: &Transcript) -> Vec<String> {
    let has_calls = transcript.steps.iter().any(|step| matches!(step.action, Action::HttpRequest(_)));
    let published = transcript.steps.iter().filter_map(|step| {
        let Action::Publication(published) = &step.action else { return None };
        has_calls.then(|| published.subject.as_str().to_owned())
    });
    let mut channels: Vec<String> = transcript.steps.iter().filter_map(|step| joined(&step.action)).collect();
    channels.extend(published);
    channels.retain(|channel| !is_kept(transcript, channel));
    channels.sort();
    channels.dedup();
    channels
}

/// The channel that the session subscribes to with this action.
fn joined(action: &Action) -> Option<String> {
    let Action::Output(words) = action else { return None };
    words.strip_prefix("join ")?.split(' ').next().map(str::to_owned)
}

/// A client that is subscribed from the start, so that the node has last values. What the node keeps without a client is
/// kept by then.
async fn watch(edge: &TestEdge, transcript: &Transcript) -> Option<Client> {
    until_kept(edge, transcript).await;
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

/// Starts the services of the transcript, which send its replies in order.
async fn serve(edge: &TestEdge, transcript: &Transcript) {
    let mut answers: std::collections::HashMap<String, VecDeque<bytes::Bytes>> =
        std::collections::HashMap::new();
    for step in &transcript.steps {
        if let Action::Input(ShellInput::Replied { subject, payload }) = &step.action {
            answers.entry(subject.as_str().to_owned()).or_default().push_back(payload.clone());
        }
    }
    for (subject, mut answers) in answers {
        let nats = edge.nats.client().await;
        let mut requests = nats.subscribe(subject).await.unwrap();
        // A round trip: the server knows the subscription.
        let _ = nats.request("no.responders", "".into()).await;
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

/// Publishes, unless a call of the transcript has done it already. If the node keeps the value without a watcher, waits
/// until the lane has it.
async fn publish_once(
    edge: &TestEdge,
    nats: &async_nats::Client,
    published: &Published,
    echoes: &mut Vec<Subject>,
    is_kept: bool,
) {
    if let Some(at) = echoes.iter().position(|echo| *echo == published.subject) {
        echoes.remove(at);
        return;
    }
    let before = edge.hooks.taken.load(Ordering::SeqCst);
    publish(nats, published).await;
    if is_kept {
        let is_taken = || async { edge.hooks.taken.load(Ordering::SeqCst) > before };
        eventually(&format!("the lane has {}", published.subject.as_str()), is_taken).await;
    }
}

/// Waits until the node has delivered a publication to the watcher.
async fn delivered_to(watcher: Option<&mut Client>, transcript: &Transcript, subject: &Subject) {
    let Some(watcher) = watcher else { return };
    let receives = |channel: &String| Pattern::parse(channel).unwrap().matches(subject.as_str());
    for _ in channels(transcript).iter().filter(|channel| receives(channel)) {
        watcher.expect("message").await;
    }
}

/// The frame of a client message, with the tokens of its personas.
fn frame_of(event: &ClientMessage, transcript: &Transcript) -> Vec<u8> {
    match event {
        ClientMessage::Text(text) => raw::text(&with_tokens(text, transcript)),
        ClientMessage::Binary(bytes) => raw::frame(0x82, bytes),
    }
}

/// The text with the token of each persona in place of its `$name`.
fn with_tokens(text: &str, transcript: &Transcript) -> String {
    // The longest names first, because one name may be the start of another.
    let mut personas: Vec<_> = transcript.personas.iter().collect();
    personas.sort_by_key(|persona| std::cmp::Reverse(persona.name.len()));
    personas.into_iter().fold(text.to_owned(), |text, persona| match token(persona) {
        Some(token) => text.replace(&format!("${}", persona.name), &token),
        None => text,
    })
}

/// The credential of a persona. The anonymous persona has none.
fn token(persona: &Persona) -> Option<String> {
    let identity = &persona.identity;
    match persona.credential {
        Credential::Name => return None,
        Credential::ApiKey => return Some(API_KEY.to_owned()),
        Credential::Token => {}
    }
    let mut claims = json!({ "sub": &*identity.user, "role": persona.name });
    if let Some(issuer) = &identity.issuer {
        claims["iss"] = json!(&**issuer);
    }
    if let Some(Ok(Value::Object(more))) =
        identity.claims.as_deref().map(|claims| serde_json::from_str(claims))
    {
        more.into_iter().for_each(|(name, value)| claims[name] = value);
    }
    (!identity.anonymous).then(|| token_with(&claims))
}
