//! Switches: which of them a vocabulary has, and which are on.

use tidegate_document::diagnostic::ValueError;
use tidegate_document::suggest::did_you_mean;

use crate::model::CompiledVocabulary;

impl CompiledVocabulary {
    /// Checks that its file declares a switch. The error lists those that it declares.
    pub fn check_switch(&self, name: &str) -> Result<(), ValueError> {
        let known: Vec<&str> = self.switches.iter().map(|switch| &*switch.name).collect();
        if known.contains(&name) {
            return Ok(());
        }
        let described =
            self.switches.iter().map(|switch| format!("{} ({})", switch.name, switch.description));
        let described: Vec<String> = described.collect();
        let help = match &described[..] {
            [] => "remove it: this vocabulary has no switches".to_owned(),
            _ => format!("{}its switches are {}", did_you_mean(name, &known), described.join(", ")),
        };
        Err(ValueError::new(format!("is not a switch of {}", self.name), help))
    }

    /// The names of the switches that are on.
    pub fn switches_on(&self) -> impl Iterator<Item = &str> {
        self.switches.iter().filter(|switch| switch.is_on).map(|switch| &*switch.name)
    }
}
