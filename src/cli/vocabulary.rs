//! `tidegate vocabulary`: a frontend's vocabulary, played against its transcripts or explained in words; the schema of all.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to a person")]

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;
use tidegate_document::diagnostic::Diagnostic;
use tidegate_vocabulary::compile::compile;
use tidegate_vocabulary::explain::explain;
use tidegate_vocabulary::explain::message::ExplainError;
use tidegate_vocabulary::explain::message::Sender;
use tidegate_vocabulary::explain::message::explain_message;
use tidegate_vocabulary::language::schema::schema;
use tidegate_vocabulary::model::CompiledVocabulary;
use tidegate_vocabulary::transcript::Transcript;
use tidegate_vocabulary::transcript::play::Played;
use tidegate_vocabulary::transcript::play::play;

#[derive(Debug, Subcommand)]
pub enum VocabularyCommand {
    /// Play conversations that were written down, without a server, and say where they go another way.
    Test {
        /// The vocabulary's file.
        file: PathBuf,
        /// Transcripts, or folders of them [default: transcripts/NAME next to the file, by the vocabulary's name].
        transcripts: Vec<PathBuf>,
    },
    /// Say in words what a page may send, what comes of it, and what the page is sent.
    Show {
        /// The vocabulary's file.
        file: PathBuf,
    },
    /// Say which rule takes a message, what comes of it, what a role has to allow, and what the page is told.
    Explain {
        /// The vocabulary's file.
        file: PathBuf,
        /// What the page sends: a JSON object between single quotes.
        message: String,
        /// Where the page connects, with the query [default: the first path of the file, with the name of each parameter
        /// as its value].
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
        /// The user whose page it is.
        #[arg(long, default_value = "user")]
        user: String,
        /// More claims of the user's token, as a JSON object between single quotes.
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
    },
    /// Print the JSON Schema of vocabularies: editors complete and check files whose first line is `#:schema FILE`.
    Schema,
}

/// Carries it out. Every mistake, and every transcript that is not repeated, is a failure.
pub fn run(command: &VocabularyCommand) -> ExitCode {
    let done = match command {
        VocabularyCommand::Test { file, transcripts } => test(file, transcripts),
        VocabularyCommand::Show { file } => show(file),
        VocabularyCommand::Explain { file, message, path, user, claims } => {
            let sender = Sender { target: path.as_deref(), user, claims: claims.as_deref() };
            explained(file, &sender, message)
        }
        VocabularyCommand::Schema => {
            print!("{}", schema());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn show(file: &Path) -> Result<ExitCode, String> {
    let text = read(file)?;
    match explain(&text) {
        Ok(words) => {
            print!("{words}");
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => Ok(complain(file, mistakes)),
    }
}

fn explained(file: &Path, sender: &Sender<'_>, message: &str) -> Result<ExitCode, String> {
    let text = read(file)?;
    match explain_message(&text, sender, message) {
        Ok(words) => {
            print!("{words}");
            Ok(ExitCode::SUCCESS)
        }
        Err(ExplainError::File(mistakes)) => Ok(complain(file, mistakes)),
        Err(ExplainError::Sender(words)) => Err(words),
    }
}

fn test(file: &Path, transcripts: &[PathBuf]) -> Result<ExitCode, String> {
    let text = read(file)?;
    let described = match compile(&text) {
        Ok(compiled) => Arc::new(compiled.described),
        Err(mistakes) => return Ok(complain(file, mistakes)),
    };
    let mut files = Vec::new();
    if transcripts.is_empty() {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        files.extend(in_folder(&folder.join("transcripts").join(&*described.name))?);
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
        match played(&file, &described) {
            Ok(Played { seen, said, calls }) => {
                let calls = match calls {
                    0 => String::new(),
                    calls => format!("; HTTP calls passed over: {calls}"),
                };
                println!("ok {name} ({} messages{calls})", seen.len() + said);
            }
            Err(difference) => {
                println!("FAILED {name}:{difference}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// What a transcript showed; or the line where it failed, and why.
fn played(file: &Path, described: &Arc<CompiledVocabulary>) -> Result<Played, String> {
    let text = read(file).map_err(|error| format!("1: {error}"))?;
    let transcript = Transcript::parse(&text).map_err(|error| format!("{}: {}", error.line, error.error))?;
    play(&transcript, Some(described), Instant::now()).map_err(|difference| difference.to_string())
}

/// The transcripts in a folder, by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |what: &str| {
        let cure = "write a conversation there (docs/VOCABULARIES.md shows one), or name files or folders \
                    behind the vocabulary";
        format!("{}: {what}: {cure}", folder.display())
    };
    let entries = std::fs::read_dir(folder).map_err(|error| wrong(&error.to_string()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    if files.is_empty() {
        return Err(wrong("there are no transcripts"));
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn complain(file: &Path, mistakes: Vec<Diagnostic>) -> ExitCode {
    for mistake in mistakes {
        eprintln!("error: {}", mistake.with_origin(&file.display().to_string()));
    }
    ExitCode::FAILURE
}
