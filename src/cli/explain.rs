//! `tidegate explain`: says whether a client may use a subject, and which rule of which role decides.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use clap::ValueEnum;
use serde_json::Value;
use tidegate_document::quote::plain;
use tidegate_protocol::class::Class;
use tidegate_protocol::class::Classes;
use tidegate_protocol::identity::Identity;
use tidegate_protocol::permissions::Decision;
use tidegate_protocol::permissions::Operation;
use tidegate_protocol::permissions::explanation::Effect;
use tidegate_protocol::permissions::explanation::RenderedRule;
use tidegate_protocol::subject::Pattern;

use crate::auth::AcceptedCredentials;
use crate::auth::Authenticator;
use crate::auth::claim_argument;
use crate::auth::explanation::ExplainedClient;
use crate::auth::explanation::Explanation;
use crate::auth::explanation::ExplanationError;
use crate::auth::explanation::class_of;
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
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim_argument::parse, requires = "roles")]
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

/// Why there is no answer.
enum NoAnswer {
    /// The credential is refused.
    Refused(String),
    Usage(String),
}

impl From<ExplanationError> for NoAnswer {
    fn from(error: ExplanationError) -> Self {
        Self::Usage(error.to_string())
    }
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
    let authenticator = Authenticator::new(config.auth.clone(), config.closed_roles());
    let authenticator = authenticator.map_err(|error| error.to_string())?;
    let (client, identity) = if args.roles.is_empty() {
        client_of_token(&authenticator, args.token.as_deref()).await?
    } else {
        let client = authenticator.named_client(&args.user, &args.roles, &args.claims)?;
        let identity = authenticator.identity_of(&client)?;
        (client, Arc::new(identity))
    };
    let explanation = authenticator.explain(&client, &identity.permissions, operation, &requested)?;
    print_decision(&explanation);
    print_line!("  user          {}", plain(&identity.user));
    if let Some(encoded) = &identity.encoded_user {
        print_line!("  in subjects   {encoded}");
    }
    print_line!("  roles         {}", client.roles.join(", "));
    if explanation.rule().is_none() {
        print_rules(&explanation.rules);
    }
    print_line!("  class         {}", class_in_words(&config.classes, &requested));
    if operation == Operation::Subscribe {
        for service in Classes::new(config.classes.clone()).authorizers(&requested) {
            print_line!("  service       {service} decides too, and is not asked here");
        }
    }
    Ok(explanation.decision.is_allowed())
}

/// The client with this token or API key, and its identity.
async fn client_of_token(
    authenticator: &Authenticator,
    token: Option<&str>,
) -> Result<(ExplainedClient, Arc<Identity>), NoAnswer> {
    let token = token_input::read(token)?;
    fetch_keys(authenticator).await;
    let identity = authenticator.identify(&token, AcceptedCredentials::TokensAndApiKeys, SystemTime::now());
    let identity = identity.map_err(|error| NoAnswer::Refused(error.to_string()))?;
    Ok((ExplainedClient::of_identity(&identity, Some(&token))?, identity))
}

fn print_decision(explanation: &Explanation<'_>) {
    match &explanation.decision {
        Decision::Allowed { .. } => print_line!("allowed"),
        Decision::Denied(denial) => print_line!("denied: {denial}"),
    }
    if let Some(rule) = explanation.rule() {
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
fn class_in_words(classes: &[Class], requested: &Pattern) -> String {
    let Some(class) = class_of(classes, requested) else {
        return "none: it has the defaults (buffer)".to_owned();
    };
    let kind = class.kind.name();
    format!("{} ({kind}{})", class.pattern, if class.snapshot { ", with last values" } else { "" })
}
