//! `[[http]]`: what HTTP requests ask for.

use tidegate_document::section::Section;

use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::place::TemplatePlace;
use crate::compile::rules::Spot;
use crate::compile::sections::segments;
use crate::compile::words::ActionWords;
use crate::language::rules::HTTP_WORDS;
use crate::language::rules::METHODS;
use crate::model::Act;
use crate::model::HttpAction;
use crate::model::HttpIndex;
use crate::model::HttpRoute;
use crate::model::Segment;
use crate::source::end;

const WORDS: ActionWords = ActionWords(HTTP_WORDS);

impl Compiler<'_> {
    /// Every call.
    pub(super) fn calls(&self, root: &Section<'_>) -> Box<[HttpRoute]> {
        let sections = self.limited(root, "http");
        let calls: Vec<HttpRoute> = sections
            .iter()
            .zip((0..).map(HttpIndex))
            .filter_map(|(section, at)| self.call(section, at))
            .collect();
        for (at, call) in calls.iter().enumerate() {
            let same = |other: &&HttpRoute| other.method == call.method && other.template == call.template;
            if calls[..at].iter().any(|other| same(&other)) {
                let problem = format!("there are two calls {} {}", call.method, call.template);
                root.mistake("http", problem, "remove one of them");
            }
        }
        calls.into()
    }

    fn call(&self, section: &Section<'_>, at: HttpIndex) -> Option<HttpRoute> {
        let paths = PathScope::Http(at);
        let method = section.required_text("method", "write GET, POST, PUT or DELETE").unwrap_or_default();
        if !method.is_empty() && !METHODS.contains(&method) {
            section.mistake(
                "method",
                format!("\"{method}\" is none that a call may have"),
                "write GET, POST, PUT or DELETE",
            );
        }
        let template =
            section.required_text("path", "write it, such as path = \"/ws/stats\"").unwrap_or_default();
        let segments = segments(template).unwrap_or_else(|problem| {
            section.mistake("path", problem, "write \"/\" and segments, such as \"/orders/{id}\"");
            Vec::new()
        });
        let word = section.required_text("do", &format!("say what is to be done: {}", WORDS.list()));
        let require = self.requires(section, TemplatePlace::Call, paths);
        let action =
            word.and_then(|word| self.action(section, word, Spot { place: TemplatePlace::Call, paths }));
        let send = self.json_template(section, "send", TemplatePlace::Called, paths);
        let status = section.whole("status", 200..=599, "", "");
        // Of a call whose `do` is no word no one can say which keys it takes.
        if let Some(word) = word.filter(|word| WORDS.keys(word).is_some()) {
            end(section, |key| WORDS.elsewhere(key, word));
        }
        let tokens = segments.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) if self.tokens.borrow().contains(name) => Some(name.clone()),
            Segment::Parameter(_) | Segment::Literal(_) => None,
        });
        let tokens = tokens.collect();
        Some(HttpRoute {
            method: method.into(),
            template: template.into(),
            segments: segments.into(),
            tokens,
            require,
            action: action?,
            send,
            status: status.and_then(|status| u16::try_from(status).ok()),
        })
    }

    fn action(&self, section: &Section<'_>, word: &str, spot: Spot<'_>) -> Option<HttpAction> {
        Some(match word {
            "publish" | "request" => HttpAction::Act(self.output(section, word, spot)?),
            "last" => {
                let each = self.each(section, spot);
                HttpAction::Last { each, channels: self.channels(section, spot, true)? }
            }
            "stats" => HttpAction::Stats,
            "receive" => HttpAction::Receive,
            "send" => HttpAction::Act(Act::Send),
            "health" => HttpAction::Health,
            "console" => HttpAction::Console,
            _ => {
                WORDS.refuse(section, word);
                return None;
            }
        })
    }
}
