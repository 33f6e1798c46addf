//! `tidegate explain`: says whether a client may use a subject, and which rule of which role decides.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use serde_json::json;
use tidegate_document::quote::plain;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::class::Class;
use tidegate_protocol::permissions::Decision;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::Permissions;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::explanation::Effect;
use tidegate_protocol::permissions::explanation::RenderedRule;
use tidegate_protocol::subject::Pattern;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::claims::Claims;
use crate::auth::roles::placeholder_value;
use crate::auth::unverified_token::UnverifiedToken;
use crate::auth::user::User;
use crate::auth::user::UserEncoding;
use crate::cli::claims;
use crate::cli::common::Common;
use crate::cli::common::USAGE;
use crate::cli::common::block_on_code;
use crate::cli::output::print_line;
use crate::cli::token::check::fetch_keys;
use crate::cli::token_input;
use crate::config::Config;

/// The arguments of `tidegate explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    common: Common,
    operation: OperationArg,
    /// The subject or, to subscribe, a pattern: 'prices.*'.
    subject: String,
    /// The client's token or API key [default: standard input, unless you name a role].
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["user", "roles", "claims"])]
    token: Option<String>,
    /// A client with this role, in place of a token. May be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The user with that role.
    #[arg(long, requires = "roles", default_value = "someone")]
    user: String,
    /// A claim of that user. VALUE is JSON, or else a text. NAME may be a path with dots. May be repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claims::claim, requires = "roles")]
    claims: Vec<(String, Value)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OperationArg {
    Subscribe,
    Publish,
    Request,
}

impl From<OperationArg> for Operation {
    fn from(operation: OperationArg) -> Self {
        match operation {
            OperationArg::Subscribe => Self::Subscribe,
            OperationArg::Publish => Self::Publish,
            OperationArg::Request => Self::Request,
        }
    }
}

/// Who the client is: what its roles are filled with.
struct ExplainedClient {
    user: User,
    roles: Vec<Arc<str>>,
    claims: Claims,
}

/// Why there is no answer.
enum NoAnswer {
    /// The credential is refused.
    Refused(String),
    Usage(String),
}

impl From<String> for NoAnswer {
    fn from(error: String) -> Self {
        Self::Usage(error)
    }
}

/// Runs the command.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let config = match args.common.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    block_on_code(async {
        Ok(match explain(&config, args).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(NoAnswer::Refused(reason)) => {
                print_line!("refused: the credential itself is refused: {reason}");
                ExitCode::FAILURE
            }
            Err(NoAnswer::Usage(error)) => {
                eprintln!("error: {error}");
                ExitCode::from(USAGE)
            }
        })
    })
}

/// Prints the answer. Returns whether the client may use the subject.
async fn explain(config: &Config, args: &ExplainArgs) -> Result<bool, NoAnswer> {
    let operation = args.operation.into();
    let requested = Pattern::parse(&args.subject)
        .map_err(|error| format!("{} is not a subject: {error}", plain(&args.subject)))?;
    let client = if args.roles.is_empty() {
        client_of_token(config, args.token.as_deref()).await?
    } else {
        named_client(config, args)?
    };
    let (permissions, rules) = rules_of(&client, &config.roles, operation)?;
    let decision = permissions.decide(operation, &requested);
    print_decision(&decision, &rules);
    print_line!("  user          {}", plain(&client.user.name));
    if let Some(encoded) = &client.user.encoded {
        print_line!("  in subjects   {encoded}");
    }
    print_line!("  roles         {}", client.roles.join(", "));
    if decision.rule(&rules).is_none() {
        print_rules(&rules);
    }
    print_line!("  class         {}", class_of(&config.classes, &requested));
    Ok(decision.is_allowed())
}

/// The client with this token or API key.
async fn client_of_token(config: &Config, token: Option<&str>) -> Result<ExplainedClient, NoAnswer> {
    let token = token_input::read(token)?;
    let authenticator = Authenticator::new(config.auth.clone(), config.closed_roles());
    let authenticator = authenticator.map_err(|error| error.to_string())?;
    fetch_keys(&authenticator).await;
    let identity = authenticator.identify(&token, AcceptedCredentials::TokensAndApiKeys, SystemTime::now());
    let identity = identity.map_err(|error| NoAnswer::Refused(error.to_string()))?;
    // The signature has been verified. An API key has no claims.
    let claims = UnverifiedToken::read(&token).map(|token| token.claims).unwrap_or_default();
    Ok(ExplainedClient {
        user: User { name: Arc::clone(&identity.user), encoded: identity.encoded_user.clone() },
        roles: identity.roles.to_vec(),
        claims: read_claims(&Value::Object(claims))?,
    })
}

/// The client that the flags name.
fn named_client(config: &Config, args: &ExplainArgs) -> Result<ExplainedClient, String> {
    let encoding = if config.auth.encodes_users() { UserEncoding::Encoded } else { UserEncoding::Verbatim };
    let user = User::new(&args.user, encoding)
        .ok_or_else(|| format!("no node accepts the user {}: see docs/TOKENS.md", plain(&args.user)))?;
    for name in &args.roles {
        let known: Vec<&str> = config.roles.iter().map(|role| &*role.name).collect();
        if !known.contains(&name.as_str()) {
            let hint = did_you_mean(name, &known);
            return Err(format!(
                "there is no role {}: {hint}the configuration has {}",
                plain(name),
                known.join(", ")
            ));
        }
    }
    let mut all = json!({ "sub": args.user });
    for (name, value) in &args.claims {
        claims::set(&mut all, name, value.clone());
    }
    let roles = args.roles.iter().map(|role| Arc::from(role.as_str())).collect();
    Ok(ExplainedClient { user, roles, claims: read_claims(&all)? })
}

fn read_claims(claims: &Value) -> Result<Claims, String> {
    Claims::parse(claims.to_string().as_bytes()).map_err(|error| error.to_string())
}

/// The permissions of a client, and the rules of its roles for an operation.
fn rules_of<'r>(
    client: &ExplainedClient,
    roles: &'r [Role],
    operation: Operation,
) -> Result<(Permissions, Vec<RenderedRule<'r>>), String> {
    let (mut permissions, mut rules) = (Permissions::default(), Vec::new());
    let value = |placeholder: &str| placeholder_value(placeholder, &client.claims, &client.user);
    for name in &client.roles {
        let Some(role) = roles.iter().find(|role| role.name == **name) else { continue };
        let failed = |error| format!("role {name}: {error}");
        permissions.merge(role.fill(value).map_err(failed)?);
        rules.extend(role.rules(operation, value).map_err(failed)?);
    }
    Ok((permissions, rules))
}

fn print_decision(decision: &Decision, rules: &[RenderedRule<'_>]) {
    match decision {
        Decision::Allowed { .. } => print_line!("allowed"),
        Decision::Denied(denial) => print_line!("denied: {denial}"),
    }
    if let Some(rule) = decision.rule(rules) {
        print_line!("  rule          {} of role {}", shown(rule), plain(rule.role));
    }
}

/// Prints all rules, because none of them decides.
fn print_rules(rules: &[RenderedRule<'_>]) {
    if rules.is_empty() {
        print_line!("  rules         none");
    }
    for (at, rule) in rules.iter().enumerate() {
        let word = if at == 0 { "rules" } else { "" };
        print_line!("  {word:<13} {} of role {}", shown(rule), plain(rule.role));
    }
}

/// `allow user.{sub}.>, which is user.alice.>`
fn shown(rule: &RenderedRule<'_>) -> String {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    let template = rule.template.as_str();
    let patterns: Vec<&str> = rule.patterns.iter().map(Pattern::as_str).collect();
    match patterns[..] {
        [only] if only == template => format!("{effect} {template}"),
        [] => format!("{effect} {template}, which is nothing, because a claim is an empty list"),
        [..] => format!("{effect} {template}, which is {}", patterns.join(" ")),
    }
}

/// The class of a channel, in words.
fn class_of(classes: &[Class], requested: &Pattern) -> String {
    let Some(class) = classes.iter().find(|class| class.pattern.covers(requested)) else {
        return "none: it has the defaults (buffer)".to_owned();
    };
    let kind = class.kind.name();
    format!("{} ({kind}{})", class.pattern, if class.snapshot { ", with last values" } else { "" })
}
