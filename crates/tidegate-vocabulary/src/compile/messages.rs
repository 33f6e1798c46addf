//! Compiles the sections with messages of the server: `[greeting]`, `[error]`, `[gap]`, `[close]`, `[heartbeat]`, and
//! the rest.

use std::time::Duration;

use tidegate_document::node::Node;
use tidegate_document::section::Section;
use tidegate_document::suggest::did_you_mean;
use tidegate_protocol::disconnect::Disconnect;
use tidegate_protocol::error::ErrorCode;
use tidegate_protocol::json;

use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::template_place::TemplatePlace;
use crate::file::reject_unknown_keys;
use crate::json_template::JsonTemplate;
use crate::json_template::TemplateSlot;
use crate::model::ErrorCodes;
use crate::model::ErrorNames;
use crate::model::Heartbeat;
use crate::model::ServerMessages;
use crate::model::UnknownMessage;

/// Close codes for applications (RFC 6455 §7.4.2).
const APPLICATION_CODES: std::ops::RangeInclusive<i128> = 3000..=4999;

impl Compiler<'_> {
    pub(super) fn send_of(
        &self,
        root: &Section<'_>,
        name: &'static str,
        place: TemplatePlace,
    ) -> Option<JsonTemplate> {
        let section = root.table(name)?;
        let all = self.all_paths();
        let json_template = self.json_template(&section, "send", place, PathScope::Paths(&all));
        section.required("send", &format!("write the message, or leave [{name}] out for silence"));
        reject_unknown_keys(&section, |_| None);
        json_template
    }

    pub(super) fn server_messages(
        &self,
        root: &Section<'_>,
        slots: &mut Vec<TemplateSlot>,
    ) -> ServerMessages {
        let mut of_channel = |name| {
            let mut json_template = self.send_of(root, name, TemplatePlace::ChannelNotice)?;
            self.extract_slots(root, &format!("{name}.send"), &mut json_template, slots);
            Some(json_template)
        };
        let (gap, stale, unsubscribed) = (of_channel("gap"), of_channel("stale"), of_channel("unsubscribed"));
        let expiring = self.send_of(root, "expiring", TemplatePlace::SessionEnd);
        ServerMessages { error: None, gap, stale, unsubscribed, expiring, close: None }
    }

    pub(super) fn codes(&self, root: &Section<'_>, messages: &mut ServerMessages) -> ErrorCodes {
        let mut codes = ErrorCodes::default();
        let Some(section) = root.table("error") else { return codes };
        let all = self.all_paths();
        messages.error = self.json_template(&section, "send", TemplatePlace::Error, PathScope::Paths(&all));
        codes.names = self.error_names(&section, "codes").unwrap_or_default();
        codes.of_refusals = self.error_names(&section, "refuse_codes");
        if let Some(table) = section.table("close") {
            let closing = table.entries().filter_map(|(name, value)| {
                Some((self.code_named(&table, name, name)?, close_code(&table, name, value, false)?))
            });
            codes.closing = closing.collect();
        }
        reject_unknown_keys(&section, |_| None);
        codes
    }

    /// A table of errors and their names.
    fn error_names(&self, section: &Section<'_>, key: &'static str) -> Option<ErrorNames> {
        let table = section.table(key)?;
        let (mut names, mut default) = (Vec::new(), None);
        for (name, value) in table.entries() {
            let text = value.text().map(json::string);
            let Some(shown) = text.or_else(|| Some(value.whole()?.to_string())) else {
                let help = "write the text or number to send as {code}";
                table.error(name, "is neither a text nor a whole number", help);
                continue;
            };
            if name == "default" {
                default = Some(shown.into());
            } else if let Some(code) = self.code_named(&table, name, name) {
                names.push((code, shown.into()));
            }
        }
        Some(ErrorNames { names: names.into(), default })
    }

    pub(super) fn closes(
        &self,
        root: &Section<'_>,
        messages: &mut ServerMessages,
    ) -> Box<[(Disconnect, u16)]> {
        let Some(section) = root.table("close") else { return Box::default() };
        let all = self.all_paths();
        messages.close =
            self.json_template(&section, "send", TemplatePlace::SessionEnd, PathScope::Paths(&all));
        let known: Vec<&str> = Disconnect::ALL.iter().map(|end| end.name()).collect();
        let ends = section.entries().filter(|(name, _)| *name != "send").filter_map(|(name, value)| {
            let Some(end) = Disconnect::ALL.into_iter().find(|end| end.name() == name) else {
                let help = format!("{}known are {}", did_you_mean(name, &known), known.join(", "));
                section.error(name, "is not a reason to close a session", help);
                return None;
            };
            Some((end, close_code(&section, name, value, false)?))
        });
        ends.collect()
    }

    pub(super) fn heartbeat(&self, root: &Section<'_>) -> Heartbeat {
        let Some(section) = root.table("heartbeat") else { return Heartbeat::default() };
        let all = self.all_paths();
        let by = section.text("by").unwrap_or("client");
        let ping = self.json_template(&section, "ping", TemplatePlace::Session, PathScope::Paths(&all));
        match (by, section.get("ping").is_some()) {
            ("client", true) => {
                section.error(
                    "ping",
                    "is never sent: by = \"client\"",
                    "write by = \"server\", or remove it",
                );
            }
            ("server" | "both", false) => {
                section.error("ping", "is missing", format!("by = \"{by}\" needs the message that pings"));
            }
            ("client" | "server" | "both", _) => {}
            _ => {
                section.error("by", format!("\"{by}\" is not a value of by"), "write client, server or both")
            }
        }
        let pong = section.get("pong").is_some().then(|| self.tests(&section, "pong"));
        let every = section.text("every").and_then(|text| {
            let seconds =
                text.strip_suffix('s').and_then(|text| text.parse().ok()).filter(|s| (1..=3600).contains(s));
            if seconds.is_none() {
                section.error(
                    "every",
                    format!("\"{text}\" is not a time between pings"),
                    "write \"30s\", at most 3600s",
                );
            }
            seconds.map(Duration::from_secs)
        });
        reject_unknown_keys(&section, |_| None);
        Heartbeat { ping, every, pong }
    }

    pub(super) fn unknown(&self, root: &Section<'_>) -> UnknownMessage {
        let Some(section) = root.table("unknown") else { return UnknownMessage::Default };
        let all = self.all_paths();
        let act = section.text("do");
        let code =
            section.get("code").map_or(Some(ErrorCode::UnknownType), |_| self.error_code(&section, "code"));
        let message = self.text_template(&section, "message", TemplatePlace::Message, PathScope::Paths(&all));
        reject_unknown_keys(&section, |_| None);
        match act {
            None => UnknownMessage::Error { code: code.unwrap_or(ErrorCode::UnknownType), message },
            Some("ignore") => UnknownMessage::Ignore,
            Some(_) => {
                section.error(
                    "do",
                    "is not \"ignore\"",
                    "write do = \"ignore\", or remove it to send an error",
                );
                UnknownMessage::Default
            }
        }
    }

    /// The error that a key names. `bad_request` if the key is missing.
    pub(super) fn error_code(&self, section: &Section<'_>, key: &'static str) -> Option<ErrorCode> {
        match section.get(key) {
            None => Some(ErrorCode::BadRequest),
            Some(_) => self.code_named(section, key, section.text(key)?),
        }
    }

    fn code_named(&self, section: &Section<'_>, key: &str, name: &str) -> Option<ErrorCode> {
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == name);
        if code.is_none() {
            let known: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
            let help = format!("{}known are {}", did_you_mean(name, &known), known.join(", "));
            section.error(key, format!("there is no error \"{name}\""), help);
        }
        code
    }

    pub(super) fn close_code(&self, section: &Section<'_>, key: &'static str, normal: bool) -> Option<u16> {
        close_code(section, key, section.get(key)?, normal)
    }
}

fn close_code(section: &Section<'_>, key: &str, value: &Node, normal: bool) -> Option<u16> {
    let code = value.whole().filter(|code| APPLICATION_CODES.contains(code) || (normal && *code == 1000));
    if code.is_none() {
        section.error(key, "is not a code that an application may send", "write one from 3000 to 4999");
    }
    code.and_then(|code| u16::try_from(code).ok())
}
