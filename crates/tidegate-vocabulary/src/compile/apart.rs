//! Compiles `each`, `channel` and `collect` of `[[deliver]]`.

use tidegate_document::section::Section;
use tidegate_protocol::elements::CollectionId;

use crate::compile::Compiler;
use crate::compile::PathScope;
use crate::compile::template_place::TemplatePlace;
use crate::file::reject_unknown_keys;
use crate::json_template::JsonTemplate;
use crate::model::Collect;
use crate::model::EachRule;
use crate::placeholder::Placeholder;
use crate::placeholder::Scope;
use crate::placeholder::Source;

/// A collection, and how its rules are written.
struct WrittenCollection {
    id: CollectionId,
    by: Placeholder,
    send: JsonTemplate,
    /// `send` with its slots.
    json_template: JsonTemplate,
    slots: std::ops::Range<usize>,
}

/// The collections of a file.
#[derive(Default)]
pub(super) struct WrittenCollections(Vec<WrittenCollection>);

impl WrittenCollections {
    /// Notes the template of a new collection.
    pub(super) fn add(
        &mut self,
        each: Option<&EachRule>,
        send: JsonTemplate,
        json_template: &JsonTemplate,
        slots: std::ops::Range<usize>,
    ) {
        if let Some(Collect { collection, by }) = each.and_then(|each| each.collect.as_ref()) {
            let (by, json_template) = (by.clone(), json_template.clone());
            self.0.push(WrittenCollection { id: *collection, by, send, json_template, slots });
        }
    }

    /// If another rule is written with the same `by` and `send`, the rule shares its collection, template and slots.
    pub(super) fn share(
        &self,
        each: &mut Option<EachRule>,
        send: &JsonTemplate,
    ) -> Option<(JsonTemplate, std::ops::Range<usize>)> {
        let collect = each.as_mut()?.collect.as_mut()?;
        let known = self.0.iter().find(|known| known.by == collect.by && known.send == *send)?;
        collect.collection = known.id;
        Some((known.json_template.clone(), known.slots.clone()))
    }
}

impl Compiler<'_> {
    /// Compiles how a rule takes publications apart. `number` is the number of the collection, if it has one.
    pub(super) fn each_rule(
        &self,
        section: &Section<'_>,
        paths: PathScope<'_>,
        number: CollectionId,
    ) -> Option<EachRule> {
        let each = self.placeholder(section, "each", TemplatePlace::Deliver, paths);
        if section.get("each").is_none() {
            for key in ["channel", "collect"] {
                if section.get(key).is_some() {
                    section.error(
                        key,
                        "is about the elements of a list, and there is no each",
                        "add each = \"{data}\"",
                    );
                }
            }
        }
        if each.as_ref().is_some_and(|each| each.source != Source::Data) {
            section.error(
                "each",
                "is not a part of the payload",
                "write \"{data}\", or a part such as \"{data.list}\"",
            );
        }
        let channel = section.text("channel");
        let channel =
            channel.and_then(|text| self.channel(section, "channel", text, TemplatePlace::Deliver, paths));
        if let Some(channel) = &channel {
            if channel.is_wild() {
                section.error(
                    "channel",
                    "has a wildcard, and an element belongs to one channel",
                    "name the tokens",
                );
            }
            let other = channel.placeholders().find(|found| found.source.scope() != Scope::Publication);
            if let Some(other) = other {
                let problem = format!("{{{}}} is not a part of the publication", other.name);
                section.error("channel", problem, "write parts of the element: {data.symbol}");
            }
        }
        let collect = section.table("collect").and_then(|table| {
            table.required(
                "by",
                "name what an element has in common with the one that replaces it: by = \"{data.symbol}\"",
            );
            let by = self.placeholder(&table, "by", TemplatePlace::Deliver, paths);
            reject_unknown_keys(&table, |_| None);
            let by = by?;
            if by.source.scope() != Scope::Publication {
                table.error(
                    "by",
                    "is not a part of the publication",
                    "write a part of the element: \"{data.symbol}\"",
                );
            }
            Some(Collect { collection: number, by })
        });
        Some(EachRule { each: each?, channel, collect })
    }
}
