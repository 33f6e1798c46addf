//! One message in words: which rule takes it, what comes of it, what a role has to allow, and what is answered at once.

use std::fmt::Write;
use std::sync::Arc;

use toml::Table;

use crate::protocol::error::Refusal;
use crate::protocol::identity::Identity;
use crate::protocol::message::Asked;
use crate::protocol::message::Command;
use crate::protocol::message::Joining;
use crate::protocol::message::Reply;
use crate::protocol::message::Wanted;
use crate::protocol::vocabulary::Undecodable;
use crate::protocol::vocabulary::Vocabulary;
use crate::protocol::vocabulary::compile::compile;
use crate::protocol::vocabulary::explain::matched;
use crate::protocol::vocabulary::explain::table;
use crate::protocol::vocabulary::explain::tables;
use crate::protocol::vocabulary::explain::text;
use crate::protocol::vocabulary::known::Scene;
use crate::protocol::vocabulary::source::Mistake;
use crate::protocol::websocket::Event;

/// Who sends a message, and where it has come in.
#[derive(Clone, Debug)]
pub struct Sender<'s> {
    /// The path and the query. `None`: the file's first path, each parameter by its own name.
    pub target: Option<&'s str>,
    /// The user.
    pub user: &'s str,
    /// What else its token says, a JSON object.
    pub claims: Option<&'s str>,
}

/// Why a message cannot be explained.
#[derive(Debug)]
pub enum Unexplained {
    /// The file has mistakes.
    File(Vec<Mistake>),
    /// No path of the file is there.
    Elsewhere(String),
}

/// What comes of a message, in words.
pub fn explain_message(file: &str, sender: &Sender<'_>, message: &str) -> Result<String, Unexplained> {
    let described = Arc::new(compile(file).map_err(Unexplained::File)?.described);
    let root: Table = toml::from_str(file).unwrap_or_default();
    let first = || described.paths.first().map(|path| path.template.replace(['{', '}'], ""));
    let target = sender.target.map(str::to_owned).or_else(first).unwrap_or_default();
    let (path, query) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    let elsewhere = |_| {
        let known: Vec<&str> = described.paths.iter().map(|path| &*path.template).collect();
        Unexplained::Elsewhere(format!("nobody comes in at {path}: the paths are {}", known.join(", ")))
    };
    let vocabulary = described.enter(1, path, query, |_| None).map_err(elsewhere)?;
    let vocabulary = Vocabulary::Described(Arc::new(vocabulary));
    let identity =
        Identity { user: sender.user.into(), claims: sender.claims.map(Arc::from), ..Identity::default() };
    let scene = Scene { session: "session", node: "node", identity: Some(&identity), ..Scene::default() };
    let mut out = format!("at {target}, as {}:\n", sender.user);
    let mut teller = Teller { root: &root, vocabulary: &vocabulary, scene, out: &mut out };
    // Writing to a text does not fail.
    teller.tell(vocabulary.decode(scene, &Event::Text(message.to_owned()))).ok();
    Ok(out)
}

struct Teller<'t> {
    root: &'t Table,
    vocabulary: &'t Vocabulary,
    scene: Scene<'t>,
    out: &'t mut String,
}

impl Teller<'_> {
    fn tell(&mut self, decoded: Result<Command, Undecodable>) -> std::fmt::Result {
        match decoded {
            Ok(command) => {
                let asked = command.asked().cloned();
                if asked.is_some() {
                    self.rule(asked.as_ref())?;
                }
                self.command(&command, asked)
            }
            Err(Undecodable { asked, refusal }) => {
                self.rule(asked.as_ref())?;
                self.refused(asked, refusal)
            }
        }
    }

    fn command(&mut self, command: &Command, asked: Option<Asked>) -> std::fmt::Result {
        match command {
            Command::Subscribe { wanted, .. } => self.wanted(asked.as_ref(), wanted),
            Command::Unsubscribe { channels: Some(channels), .. } => {
                self.channels("leaves", asked.as_ref(), channels).map(|_| ())
            }
            Command::Unsubscribe { channels: None, group, .. } => {
                writeln!(self.out, "leaves all of the group \"{group}\"")
            }
            Command::Filter { channel, .. } => {
                writeln!(self.out, "from now on lets only some publications of {channel} pass")
            }
            Command::Publish { channel, data, .. } => {
                writeln!(self.out, "publishes on {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "a role has to allow: publish {channel}")
            }
            Command::Request { channel, data, .. } => {
                writeln!(self.out, "asks the service on {channel}: {}", String::from_utf8_lossy(data))?;
                writeln!(self.out, "a role has to allow: request {channel}")
            }
            Command::Auth { .. } => writeln!(self.out, "shows a credential"),
            Command::Ping { .. } | Command::Say { .. } => self.answer(&Reply::Said { asked }),
            Command::Pong => writeln!(self.out, "it needs no answer, and nothing comes of it"),
            Command::Close { code, reason } => {
                writeln!(self.out, "ends the session with {code} \"{reason}\"")
            }
            #[cfg(feature = "test-hooks")]
            Command::Echo(_) => Ok(()),
        }
    }

    fn wanted(&mut self, asked: Option<&Asked>, wanted: &Wanted) -> std::fmt::Result {
        let verb = if wanted.joining == Joining::Replace { "changes to" } else { "subscribes to" };
        let channels = self.channels(verb, asked, &wanted.channels)?;
        if channels.is_empty() {
            return Ok(());
        }
        if !wanted.group.is_empty() {
            writeln!(self.out, "in the group \"{}\"", wanted.group)?;
        }
        writeln!(self.out, "a role has to allow: subscribe {}", channels.join(", "))
    }

    /// Those that have a name, and why others have none.
    fn channels<'c>(
        &mut self,
        verb: &str,
        asked: Option<&Asked>,
        channels: &'c [Result<String, Refusal>],
    ) -> Result<Vec<&'c str>, std::fmt::Error> {
        for refusal in channels.iter().filter_map(|channel| channel.as_ref().err()) {
            self.refused(asked.cloned(), refusal.clone())?;
        }
        let named: Vec<&str> = channels.iter().flatten().map(String::as_str).collect();
        if !named.is_empty() {
            writeln!(self.out, "{verb} {}", named.join(", "))?;
        }
        Ok(named)
    }

    fn refused(&mut self, asked: Option<Asked>, refusal: Refusal) -> std::fmt::Result {
        writeln!(self.out, "is refused: {}: {}", refusal.code.name(), refusal.message)?;
        self.answer(&Reply::Error { asked, channel: None, refusal })
    }

    /// Which rule has taken the message.
    fn rule(&mut self, asked: Option<&Asked>) -> std::fmt::Result {
        let Some(Asked::Message(question)) = asked else {
            return writeln!(self.out, "no rule takes this");
        };
        let on_connect: usize =
            tables(self.root, "path").map(|path| tables(path, "on_connect").count()).sum();
        let at = question.rule.and_then(|rule| usize::from(rule).checked_sub(on_connect));
        let rule = at.and_then(|at| Some((at, tables(self.root, "receive").nth(at)?)));
        match rule {
            Some((at, rule)) => {
                let when = table(rule, "when").map(matched).unwrap_or_else(|| "any object".to_owned());
                writeln!(self.out, "receive[{at}] takes {when}: do = \"{}\"", text(rule, "do"))
            }
            None => writeln!(self.out, "no rule takes this"),
        }
    }

    fn answer(&mut self, reply: &Reply) -> std::fmt::Result {
        match self.vocabulary.reply(self.scene, reply) {
            Some(frame) => {
                writeln!(self.out, "the page is told {}", String::from_utf8_lossy(frame.message()))
            }
            None => writeln!(self.out, "the page is told nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "board"
[[path]]
name = "station"
path = "/board/{station}"
[[path.on_connect]]
do = "subscribe"
channel = "notices"
[[receive]]
when = { op = "watch", track = true }
do = "subscribe"
group = "{msg.kind|default:all}"
channel = "trains.{path.station}.{msg.track}"
[[receive]]
when = { op = "say" }
do = "publish"
subject = "chat.{user}"
data = { text = "{msg.text}" }
[[receive]]
when = { op = "hello" }
do = "send"
send = { hi = "{user}" }
[[receive]]
when = { op = "quiet" }
do = "ignore"
[[deliver]]
pattern = "trains.*.*"
send = { train = "{data}" }
[[deliver]]
pattern = "notices"
send = "{data}"
[error]
send = { oops = "{message}" }
"#;

    fn told(target: Option<&str>, message: &str) -> String {
        let sender = Sender { target, user: "ann", claims: None };
        explain_message(FILE, &sender, message).unwrap()
    }

    #[test]
    fn a_message_is_explained_by_its_rule_what_comes_of_it_and_who_may() {
        assert_eq!(
            told(Some("/board/lyon"), r#"{"op":"watch","track":7}"#),
            "at /board/lyon, as ann:\nreceive[0] takes { op: \"watch\", track: … }: do = \"subscribe\"\n\
             subscribes to trains.lyon.7\nin the group \"all\"\na role has to allow: subscribe trains.lyon.7\n"
        );
        assert_eq!(
            told(None, r#"{"op":"say","text":"hi"}"#),
            "at /board/station, as ann:\nreceive[1] takes { op: \"say\" }: do = \"publish\"\n\
             publishes on chat.ann: {\"text\":\"hi\"}\na role has to allow: publish chat.ann\n"
        );
        let hello = told(None, r#"{"op":"hello"}"#);
        assert!(hello.ends_with("do = \"send\"\nthe page is told {\"hi\":\"ann\"}\n"), "{hello}");
        assert!(told(None, r#"{"op":"quiet"}"#).ends_with("nothing comes of it\n"));
    }

    #[test]
    fn what_is_refused_says_why_and_what_the_page_is_told() {
        let wild = told(None, r#"{"op":"watch","track":"*"}"#);
        let refused = "is refused: bad_channel: `track` must be one word";
        assert!(wild.contains(refused) && wild.contains("the page is told {\"oops\":"), "{wild}");
        assert!(!wild.contains("a role has to allow"), "{wild}");
        let unknown = told(None, r#"{"op":"dance"}"#);
        let tail = "no rule takes this\nis refused: unknown_type: no rule of this vocabulary takes such a message\n\
                    the page is told {\"oops\":\"no rule of this vocabulary takes such a message\"}\n";
        assert!(unknown.ends_with(tail), "{unknown}");
        let sender = Sender { target: Some("/elsewhere"), user: "ann", claims: None };
        let Err(Unexplained::Elsewhere(words)) = explain_message(FILE, &sender, "{}") else { panic!() };
        assert_eq!(words, "nobody comes in at /elsewhere: the paths are /board/{station}");
    }
}
