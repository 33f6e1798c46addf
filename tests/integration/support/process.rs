//! A node in its own process, as operators run it: `tidegate serve` with a configuration file, signals and logs.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;

use crate::support::edge::SECRET;
use crate::support::eventually;
use crate::support::raw::get;
use crate::support::secrets;
use crate::support::until_stopped;
use crate::support::within;

static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running `tidegate serve`.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// The address that it listens on; empty until it does.
    pub(crate) address: String,
    /// Its log, one JSON object a line.
    logs: watch::Receiver<Vec<String>>,
    pub(crate) folder: PathBuf,
}

impl Process {
    /// A node on this NATS server with these lines added to its configuration. Returns when it listens.
    pub(crate) async fn serve(nats_url: &str, config: &str) -> Self {
        let mut process = Self::spawn("exec \"$0\" \"$@\"", nats_url, config);
        process.listening().await;
        process
    }

    /// The same with a limit on open files.
    pub(crate) async fn serve_with_files(files: u32, nats_url: &str, config: &str) -> Self {
        let mut process = Self::spawn(&format!("ulimit -n {files}; exec \"$0\" \"$@\""), nats_url, config);
        process.listening().await;
        process
    }

    /// A node that a shell starts. It does not listen yet.
    pub(crate) fn spawn(shell: &str, nats_url: &str, config: &str) -> Self {
        let number = STARTED.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("tidegate-process-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.toml");
        let all = Self::config(nats_url, config, SECRET, "chat.>");
        std::fs::write(&file, all).unwrap();
        let mut command = Command::new("sh");
        // Environment variables of the tests are not configuration of the node.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TIDEGATE_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["-c", shell, env!("CARGO_BIN_EXE_tidegate"), "serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (kept, logs) = watch::channel(Vec::new());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.send_modify(|lines| lines.push(line));
            }
        });
        Self { child, address: String::new(), logs, folder }
    }

    /// A configuration with one key, and a role `user` that may subscribe to prices and `channels`.
    pub(crate) fn config(nats_url: &str, more: &str, secret: &str, channels: &str) -> String {
        format!(
            "nats.url = \"{nats_url}\"\nserver.shards = 2\nhttp.listen = \"127.0.0.1:0\"\n\
             {more}\n[[auth.key]]\nkid = \"test\"\nsecret = \"{secret}\"\n[[role]]\nname = \"user\"\n\
             subscribe = {{ allow = [\"prices.>\", \"{channels}\"], deny = [] }}\n\
             publish = {{ allow = [\"chat.>\"], deny = [] }}\n"
        )
    }

    /// Replaces its configuration, and tells it (SIGHUP).
    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(self.folder.join("config.toml"), config).unwrap();
        self.signal("HUP");
    }

    /// Waits until it listens.
    pub(crate) async fn listening(&mut self) {
        let line = self.logged("listening", |_| true).await;
        self.address = line["address"].as_str().unwrap().to_owned();
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        eventually("ready", || async { get(&self.address, "/readyz").await.0 == 200 }).await;
    }

    /// Its log so far.
    pub(crate) fn logs(&self) -> Vec<Value> {
        let lines = self.logs.borrow();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::String(line.clone())))
            .collect()
    }

    /// The lines with this message so far.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        self.logs().into_iter().filter(|line| line["message"] == message).collect()
    }

    /// Waits for a line with this message for which `fits` is true.
    pub(crate) async fn logged(&self, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(&format!("a line {message:?}"), || {
            found = self.lines(message).into_iter().find(&fits);
            let is_found = found.is_some();
            async move { is_found }
        })
        .await;
        found.unwrap()
    }

    /// Waits for a line that fits, and checks that there is no other so far. A line may come later than what a client
    /// gets for the same reason.
    pub(crate) async fn logged_once(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = || self.logs().into_iter().filter(&fits).collect::<Vec<_>>();
        eventually(&format!("a line {what:?}"), || {
            let is_found = !found().is_empty();
            async move { is_found }
        })
        .await;
        let [line] = &found()[..] else { panic!("more than one line {what:?}: {:#?}", found()) };
        line.clone()
    }

    /// Waits until every lane has noticed that NATS is away. `/readyz` answers 503 as soon as one has.
    pub(crate) async fn disconnected(&self) {
        eventually("every lane has noticed", || async {
            let (_, body) = get(&self.address, "/readyz").await;
            let body: Value = serde_json::from_str(&body).unwrap();
            let checks = body["checks"].as_array().unwrap();
            checks.iter().filter(|check| check["check"] == "nats").all(|check| check["ok"] == false)
        })
        .await;
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(
            std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success()
        );
    }

    /// Stops it (SIGSTOP), and waits until all its threads have stopped: its sockets stay open and are silent.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        until_stopped(self.child.id().expect("it runs"));
    }

    /// Waits until it has ended. Returns whether it succeeded.
    pub(crate) async fn ended(&mut self) -> bool {
        within("the end of the process", self.child.wait()).await.unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.logs.borrow().iter().for_each(|line| secrets::assert_none_in(line));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
