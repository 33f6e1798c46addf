//! Compiles `[[http]]`.

use tidegate_document::section::Section;

use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::actions::ActionTable;
use crate::compile::check::parts::PlacedRoute;
use crate::compile::parameters::ParameterOwner;
use crate::compile::rules::RuleContext;
use crate::compile::sections::segments;
use crate::compile::template_place::TemplatePlace;
use crate::file::reject_unknown_keys;
use crate::language::rules::HTTP_ACTIONS;
use crate::language::rules::METHODS;
use crate::model::HttpAction;
use crate::model::HttpIndex;
use crate::model::HttpRoute;
use crate::model::RuleAction;
use crate::route::PathIndex;

const ACTIONS: ActionTable = ActionTable(HTTP_ACTIONS);

impl Compiler<'_> {
    pub(super) fn http_routes(&self, root: &Section<'_>) -> Vec<PlacedRoute> {
        let sections = self.limited_tables(root, "http");
        let routes = sections.iter().zip((0..).map(HttpIndex)).filter_map(|(section, at)| {
            Some(PlacedRoute { route: self.http_route(section, at)?, location: section.location().clone() })
        });
        routes.collect()
    }

    fn http_route(&self, section: &Section<'_>, at: HttpIndex) -> Option<HttpRoute> {
        let paths = PathScope::Http(at);
        let method = section.required_text("method", "write GET, POST, PUT or DELETE").unwrap_or_default();
        if !method.is_empty() && !METHODS.contains(&method) {
            section.error(
                "method",
                format!("\"{method}\" is not a supported method"),
                "write GET, POST, PUT or DELETE",
            );
        }
        let template =
            section.required_text("path", "write it, such as path = \"/ws/stats\"").unwrap_or_default();
        let segments = segments(template).unwrap_or_else(|problem| {
            section.error("path", problem, "write \"/\" and segments, such as \"/orders/{id}\"");
            Vec::new()
        });
        let word = section.required_text("do", &format!("say what is to be done: {}", ACTIONS.list()));
        let when = self.conditions(section, TemplatePlace::HttpRequest, paths);
        let require = self.requires(section, TemplatePlace::HttpRequest, paths);
        let action = word.and_then(|word| {
            self.http_action(section, word, RuleContext { place: TemplatePlace::HttpRequest, paths })
        });
        let send = self.json_template(section, "send", TemplatePlace::HttpResponse, paths);
        let status = section.whole("status", 200..=599, "", "");
        // Without a known action, it is unclear which keys are allowed.
        if let Some(word) = word.filter(|word| ACTIONS.keys(word).is_some()) {
            reject_unknown_keys(section, |key| ACTIONS.misplaced_key(key, word));
        }
        // A `receive` route handles its body by the rules of the file's first path.
        let owners = [ParameterOwner::Http(at), ParameterOwner::Path(PathIndex(0))];
        let owners = if word == Some("receive") { &owners[..] } else { &owners[..1] };
        let parameters = self.parameters.borrow().in_subjects(owners);
        Some(HttpRoute {
            method: method.into(),
            template: template.into(),
            segments: segments.into(),
            parameters,
            when,
            require,
            action: action?,
            send,
            status: status.and_then(|status| u16::try_from(status).ok()),
        })
    }

    fn http_action(&self, section: &Section<'_>, word: &str, context: RuleContext<'_>) -> Option<HttpAction> {
        Some(match word {
            "publish" | "request" => HttpAction::Rule(self.publish_or_request(section, word, context)?),
            "last" => {
                let each = self.each(section, context);
                HttpAction::Last { each, channels: self.channels(section, context, true)? }
            }
            "stats" => HttpAction::Stats,
            "receive" => HttpAction::Receive,
            "send" => HttpAction::Rule(RuleAction::Send),
            "health" => HttpAction::Health,
            "console" => HttpAction::Console,
            _ => {
                ACTIONS.reject_unknown(section, word);
                return None;
            }
        })
    }
}
