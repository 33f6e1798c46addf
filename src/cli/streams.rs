//! `tidegate streams`: shows which JetStream buckets Tidegate needs, and creates or updates them.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::process::ExitCode;

use clap::Args;
use clap::Subcommand;

use crate::cli::common::Common;
use crate::cli::common::block_on_code;
use crate::cli::login;
use crate::cli::output::print_line;
use crate::config::Config;
use crate::config::nats::NatsConfig;
use crate::config::nats::login::NatsLogin;
use crate::nats::buckets::KvBucket;
use crate::nats::buckets::comparison::BucketPlan;
use crate::nats::streams::Streams;
use crate::nats::streams::StreamsError;

/// Where users other than Tidegate receive replies.
const INBOX: &str = "_INBOX";

#[derive(Debug, Subcommand)]
pub enum StreamsCommand {
    /// Show what `apply` would do. Exit codes: 0 nothing, 1 something or NATS cannot be asked, 64 wrong flags or
    /// configuration.
    Plan(StreamsArgs),
    /// Create the buckets that do not exist and update the others. Deletes no data; may be repeated.
    Apply(StreamsArgs),
}

/// The arguments of both commands.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    #[command(flatten)]
    common: Common,
    /// Log in to NATS as this user, who may create streams; @FILE names a file that contains USER:PASSWORD [default: the
    /// login in the configuration].
    #[arg(long, value_name = "USER:PASSWORD", value_parser = login::password)]
    user: Option<NatsLogin>,
    /// Log in to NATS with this credentials file.
    #[arg(long, value_name = "FILE", value_parser = login::creds, conflicts_with = "user")]
    creds: Option<NatsLogin>,
    /// How many servers of a cluster keep a copy of each bucket: 1, 3 or 5 [default: 1 for a new bucket; others keep
    /// what they have].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=5))]
    replicas: Option<u64>,
}

/// Runs the command.
pub fn run(command: &StreamsCommand) -> ExitCode {
    let (StreamsCommand::Plan(args) | StreamsCommand::Apply(args)) = command;
    let config = match args.common.load() {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let is_apply = matches!(command, StreamsCommand::Apply(_));
    block_on_code(async move {
        let mut streams = connect(config, args).await?;
        Ok(if is_apply {
            apply(&mut streams, args.replicas).await?
        } else {
            plan(&mut streams, args.replicas).await?
        })
    })
}

async fn connect(config: Config, args: &StreamsArgs) -> Result<Streams, StreamsError> {
    match args.user.as_ref().or(args.creds.as_ref()) {
        None => Streams::connect(&config.nats, &config.nats.inbox_prefix).await,
        Some(login) => {
            let config = NatsConfig { login: login.clone(), ..config.nats };
            Streams::connect(&config, INBOX).await
        }
    }
}

/// Prints what is to do.
async fn plan(streams: &mut Streams, replicas: Option<u64>) -> Result<ExitCode, StreamsError> {
    let plans = streams.plan(replicas).await?;
    plans.iter().for_each(|(bucket, plan)| print_plan(bucket, plan));
    let is_captured = print_captured(streams).await?;
    if plans.iter().all(|(_, plan)| *plan == BucketPlan::Unchanged) && !is_captured {
        print_line!("nothing to do: the buckets are as Tidegate needs them");
        return Ok(ExitCode::SUCCESS);
    }
    if plans.iter().any(|(_, plan)| matches!(plan, BucketPlan::Create { .. } | BucketPlan::Update { .. })) {
        print_line!("`tidegate streams apply` does what is marked with create and update");
    }
    Ok(ExitCode::FAILURE)
}

/// Does what is to do, and prints it.
async fn apply(streams: &mut Streams, replicas: Option<u64>) -> Result<ExitCode, StreamsError> {
    for (bucket, plan) in streams.plan(replicas).await? {
        // What is printed has happened.
        streams.apply(&bucket, &plan).await?;
        print_plan(&bucket, &plan);
    }
    let is_captured = print_captured(streams).await?;
    // What the server has now counts, not what it was asked to do.
    let left = streams.plan(replicas).await?.into_iter().filter(|(_, plan)| *plan != BucketPlan::Unchanged);
    let left: Vec<&str> = left.map(|(bucket, _)| bucket.name).collect();
    if left.is_empty() && !is_captured {
        print_line!("done: the buckets are as Tidegate needs them");
        return Ok(ExitCode::SUCCESS);
    }
    if !left.is_empty() {
        eprintln!("error: not as Tidegate needs them: {}", left.join(", "));
    }
    Ok(ExitCode::FAILURE)
}

fn print_plan(bucket: &KvBucket, plan: &BucketPlan) {
    let name = bucket.name;
    let (lines, word) = match plan {
        BucketPlan::Unchanged => (&[][..], "ok"),
        BucketPlan::Create { .. } => (&[][..], "create"),
        BucketPlan::Update { changes, .. } => (&changes[..], "update"),
        BucketPlan::Conflict { problems } => (&problems[..], "CONFLICT"),
    };
    print_line!("{word:<8} {name}");
    lines.iter().for_each(|line| print_line!("         {line}"));
}

/// Prints the streams that capture what JetStream republishes. Returns whether there are any.
async fn print_captured(streams: &mut Streams) -> Result<bool, StreamsError> {
    let names = streams.streams_of_live_messages().await?;
    for name in &names {
        print_line!("CONFLICT stream {name}");
        print_line!(
            "         it stores _live.>, which has copies of stored messages: remove these subjects from it"
        );
    }
    Ok(!names.is_empty())
}
