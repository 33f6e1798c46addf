//! `tidegate vocabulary`: tests a vocabulary with its transcripts, explains it, and prints the JSON Schema of
//! vocabularies.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Subcommand;
use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::ValueError;
use tidegate_vocabulary::compile::Compiled;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::explain::explain;
use tidegate_vocabulary::explain::message::ExplainError;
use tidegate_vocabulary::explain::message::Sender;
use tidegate_vocabulary::explain::message::explain_message;
use tidegate_vocabulary::language::schema::schema;
use tidegate_vocabulary::transcript::Transcript;
use tidegate_vocabulary::transcript::play::Played;
use tidegate_vocabulary::transcript::play::play;

use crate::cli::output::print_line;
use crate::cli::output::print_text;

#[derive(Debug, Subcommand)]
pub enum VocabularyCommand {
    /// Test a vocabulary with transcripts (recorded conversations), and report where it behaves differently. Needs no
    /// server.
    Test {
        /// The vocabulary's file.
        file: PathBuf,
        /// Transcripts, or folders of transcripts [default: transcripts/NAME next to the file; NAME is the vocabulary's
        /// name].
        transcripts: Vec<PathBuf>,
        /// Turn a switch of the file on, besides those that a transcript names. Repeat it for several.
        #[arg(long = "switch", value_name = "NAME")]
        switches: Vec<String>,
    },
    /// Explain a vocabulary in plain words: the messages that a page may send, what they do, and what the page
    /// receives.
    Show {
        /// The vocabulary's file.
        file: PathBuf,
        /// Turn a switch of the file on. Repeat it for several.
        #[arg(long = "switch", value_name = "NAME")]
        switches: Vec<String>,
    },
    /// Explain one message: the rule that matches it, what it does, what a role must allow, and what the page receives.
    Explain {
        /// The vocabulary's file.
        file: PathBuf,
        /// The message: a JSON object, in single quotes.
        message: String,
        /// The path that the page connects to, with its query [default: the first path of the file, with the name of
        /// each parameter as its value].
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// The user of the page.
        #[arg(long, default_value = "user")]
        user: String,
        /// Additional claims of the user's token: a JSON object, in single quotes.
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
        /// Turn a switch of the file on. Repeat it for several.
        #[arg(long = "switch", value_name = "NAME")]
        switches: Vec<String>,
    },
    /// Print the JSON Schema of vocabularies. Editors use it to complete and check files with the first line `#:schema
    /// FILE`.
    Schema,
}

/// Runs the command. Mistakes and failed transcripts make it fail.
pub fn run(command: &VocabularyCommand) -> ExitCode {
    let result = match command {
        VocabularyCommand::Test { file, transcripts, switches } => test(file, transcripts, switches),
        VocabularyCommand::Show { file, switches } => show(file, &names(switches)),
        VocabularyCommand::Explain { file, message, path, user, claims, switches } => {
            let switches = &names(switches)[..];
            let sender = Sender { target: path.as_deref(), user, claims: claims.as_deref(), switches };
            explain_one(file, &sender, message)
        }
        VocabularyCommand::Schema => {
            print_text!("{}", schema());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn names(switches: &[String]) -> Vec<&str> {
    switches.iter().map(String::as_str).collect()
}

/// Checks that a file that compiles declares these switches.
fn check_switches(text: &str, switches: &[&str]) -> Result<(), String> {
    let Ok(Compiled { vocabulary, .. }) = compile(text) else { return Ok(()) };
    switches.iter().try_for_each(|name| {
        let wrong = |ValueError { message, help }| format!("--switch: \"{name}\" {message}\n  help: {help}");
        vocabulary.check_switch(name).map_err(wrong)
    })
}

fn show(file: &Path, switches: &[&str]) -> Result<ExitCode, String> {
    let text = read(file)?;
    check_switches(&text, switches)?;
    match explain(&text, switches) {
        Ok(text) => {
            print_text!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => Ok(print_mistakes(file, mistakes)),
    }
}

fn explain_one(file: &Path, sender: &Sender<'_>, message: &str) -> Result<ExitCode, String> {
    let text = read(file)?;
    check_switches(&text, sender.switches)?;
    match explain_message(&text, sender, message) {
        Ok(text) => {
            print_text!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(ExplainError::File(mistakes)) => Ok(print_mistakes(file, mistakes)),
        Err(ExplainError::Sender(error)) => Err(error),
    }
}

fn test(file: &Path, transcripts: &[PathBuf], switches: &[String]) -> Result<ExitCode, String> {
    let text = read(file)?;
    check_switches(&text, &names(switches))?;
    let vocabulary = match compile(&text) {
        Ok(compiled) => compiled.vocabulary,
        Err(mistakes) => return Ok(print_mistakes(file, mistakes)),
    };
    let mut files = Vec::new();
    if transcripts.is_empty() {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        files.extend(in_folder(&folder.join("transcripts").join(&*vocabulary.name))?);
    }
    for given in transcripts {
        if given.is_dir() {
            files.extend(in_folder(given)?);
        } else {
            files.push(given.clone());
        }
    }
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        match play_file(&file, &text, switches) {
            Ok(Played { received, sent, calls }) => {
                let calls = match calls {
                    0 => String::new(),
                    calls => format!("; {calls} HTTP calls skipped"),
                };
                print_line!("ok {name} ({} messages{calls})", received.len() + sent);
            }
            Err(difference) => {
                print_line!("FAILED {name}:{difference}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Plays a transcript in a vocabulary. The error has the line where it failed, and why.
fn play_file(file: &Path, vocabulary: &str, switches: &[String]) -> Result<Played, String> {
    let text = read(file).map_err(|error| format!("1: {error}"))?;
    let transcript = Transcript::parse(&text).map_err(|error| format!("{}: {}", error.line, error.error))?;
    let vocabulary = transcript.vocabulary(vocabulary, switches).map_err(|mistakes| {
        let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        format!("1: with its switches, {}", mistakes.join("\n"))
    })?;
    play(&transcript, Some(&vocabulary), Instant::now()).map_err(|difference| difference.to_string())
}

/// The transcripts in a folder, sorted by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let error = |problem: &str| {
        let help = "write a transcript there (see docs/VOCABULARIES.md), or name transcripts or folders after the \
                    vocabulary's file";
        format!("{}: {problem}: {help}", folder.display())
    };
    let entries = std::fs::read_dir(folder).map_err(|cause| error(&cause.to_string()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    if files.is_empty() {
        return Err(error("there are no transcripts"));
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn print_mistakes(file: &Path, mistakes: Vec<Diagnostic>) -> ExitCode {
    for error in mistakes {
        eprintln!("error: {}", error.with_origin(&file.display().to_string()));
    }
    ExitCode::FAILURE
}
