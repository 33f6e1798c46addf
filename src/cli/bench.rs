//! `tidegate bench`: runs the load generator, and stops it on Ctrl-C. `tidegate_bench` defines its arguments.
#![expect(clippy::print_stderr, reason = "commands print for people")]

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use anyhow::bail;
use tidegate_bench::command::BenchArgs;
use tokio::sync::oneshot;

use crate::cli::common::block_on;
use crate::cli::signals::Signals;
use crate::config;

pub fn run(args: &BenchArgs) -> ExitCode {
    block_on(async {
        // Dropping the folder removes it, even after Ctrl-C. The servers end with this process.
        let (job, _folder) = args.job(config::nats_server_program().map(PathBuf::from))?;
        let (done, outcome) = oneshot::channel();
        let mut signals = Signals::new()?;
        tidegate_bench::in_background(move || drop(done.send(job.measure())))?;
        tokio::select! {
            outcome = outcome => outcome.context("the load generator ended without a result")?,
            () = signals.end() => bail!("interrupted"),
        }
    })
}

/// Runs the baseline server.
pub fn baseline(threads: usize, ports: &Path) -> ExitCode {
    exit_code(tidegate_bench::run_baseline(threads, ports))
}

/// Runs clients in a process apart from the load generator.
pub fn clients() -> ExitCode {
    exit_code(tidegate_bench::client_processes::run())
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::path::Path;

    use tidegate_bench::servers::settings;
    use tidegate_bench::servers::settings::Settings;
    use tidegate_bench::servers::vocabulary::Vocabulary;
    use tidegate_bench::workloads::abuse::attack;

    use crate::cli::tests::shipped::shipped;
    use crate::config::load::load;
    use crate::config::source::Sources;
    use tidegate_vocabulary::compile::compile;

    #[test]
    fn the_vocabulary_of_stock_agent_is_the_shipped_one_elsewhere() {
        let text = settings::stock_agent();
        let vocabulary = compile(&text).unwrap().vocabulary;
        assert_eq!(&*vocabulary.name, "stock-agent");
        assert!(text.contains("bench.market.{item|dotted}") && text.contains("{subject.2..}"));
    }

    #[test]
    fn the_vocabulary_of_attacks_is_one() {
        assert!(compile(&attack::vocabulary()).is_ok());
    }

    #[test]
    fn every_shipped_vocabulary_can_be_measured_by_its_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (name, _) in shipped(root) {
            let file = root.join(format!("vocabularies/{name}.toml"));
            let vocabulary = Vocabulary::read(&file).unwrap();
            assert_eq!(vocabulary.name, name);
            let compiled = compile(&vocabulary.text);
            assert!(compiled.is_ok(), "{name}: {:?}", compiled.err());
        }
    }

    #[test]
    fn tidegate_takes_the_configuration_of_the_bench() {
        let address: SocketAddr = ([127, 0, 0, 1], 1234).into();
        let settings = Settings {
            max_rate_ms: 100,
            extra_toml: "[limits]\nwrite_timeout_s = 8\n".to_owned(),
            ..Settings::default()
        };
        let key = "0123456789abcdef0123456789abcdef";
        let text = settings::tidegate(address, address, key, &settings);
        assert!(!text.contains("feed ="), "only when asked for");
        let file = std::env::temp_dir().join(format!("tidegate-bench-settings-{}.toml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let loaded = load(&Sources { file: Some(file.clone()), ..Sources::default() });
        std::fs::remove_file(file).unwrap();
        let loaded = loaded.unwrap();
        assert_eq!(loaded.config.http.listen, address.into());
        assert_eq!(loaded.config.classes.len(), 2);
        let feed = Settings { feed: "pattern".to_owned(), extra_pattern: "quotes.*".to_owned(), ..settings };
        let text = settings::tidegate(address, address, key, &feed);
        assert!(
            text.contains("feed = \"pattern\"") && text.contains("[\"bench.>\", \"quotes.*\"]"),
            "{text}"
        );
    }
}
