//! Compiles a `when` on publications and on HTTP requests.

use tidegate_document::node::Node;
use tidegate_document::section::Section;

use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::template_place::TemplatePlace;
use crate::model::Condition;
use crate::model::Literal;
use crate::model::Matcher;
use crate::placeholder::Placeholder;
use crate::placeholder::Scope;
use crate::placeholder::Source;

impl Compiler<'_> {
    /// Reads a `when` on publications, or on requests with [`TemplatePlace::HttpRequest`].
    pub(super) fn conditions(
        &self,
        section: &Section<'_>,
        place: TemplatePlace,
        paths: PathScope<'_>,
    ) -> Box<[Condition]> {
        let mut conditions = Vec::new();
        for (name, value) in section.table("when").iter().flat_map(Section::entries) {
            self.condition(section, name, value, (place, paths), &mut conditions);
        }
        conditions.into()
    }

    fn condition(
        &self,
        section: &Section<'_>,
        name: &str,
        value: &Node,
        (place, paths): (TemplatePlace, PathScope<'_>),
        out: &mut Vec<Condition>,
    ) {
        if let Some(inner) = value.table() {
            for (key, value) in inner.iter() {
                self.condition(section, &format!("{name}.{key}"), value, (place, paths), out);
            }
            return;
        }
        let placeholder = self.bare_placeholder(section, "when", name, place, paths);
        let matcher = self.matcher(section, "when", value);
        if let (Some(placeholder), Some(matcher)) = (placeholder, matcher) {
            if out.iter().any(|condition| condition.placeholder.name == placeholder.name) {
                let problem = format!("when has two conditions on \"{name}\"");
                section.error("when", problem, "keep one of them");
            }
            if place == TemplatePlace::HttpRequest {
                check_part_of_request(section, &placeholder, &matcher);
            } else if placeholder.source.scope() != Scope::Publication {
                section.error(
                    "when",
                    format!("{name} is not a part of a publication"),
                    "look at data.x or nats.X",
                );
            }
            out.push(Condition { placeholder, matcher });
        }
    }
}

/// Reports a condition on what is no part of a request, or on a text that can never be such a value.
fn check_part_of_request(section: &Section<'_>, placeholder: &Placeholder, matcher: &Matcher) {
    let name = &placeholder.name;
    if matches!(placeholder.source, Source::Path(_) | Source::Query(_) | Source::Header(_)) {
        let is_text = |literal: &Literal| matches!(literal, Literal::Text(_));
        if matches!(matcher, Matcher::OneOf(literals) if !literals.iter().all(is_text)) {
            let help = "write it between quotation marks";
            section.error("when", format!("{name} is always a text"), help);
        }
    } else if placeholder.source != Source::Message
        && TemplatePlace::HttpRequest.rejects(name, &placeholder.source).is_none()
    {
        let help = "look at path.x, query.x, header.x or msg.x";
        section.error("when", format!("{name} is not a part of a request"), help);
    }
}
