//! Key: one key of the language, and one value of `do`.

#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it is required.
    pub is_required: bool,
    /// What it is for, in one line. Empty if the description of its kind is enough.
    pub doc: &'static str,
}

impl Key {
    pub(super) const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, is_required: true, doc }
    }

    pub(super) const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, is_required: false, doc }
    }
}

/// The type of a key's value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A type that several keys share, by its name in the schema.
    Shared(&'static str),
    /// A text with a minimum and a maximum length in characters. 0 means no limit.
    Text(u32, u32),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of the actions of the section.
    Action,
    Boolean,
    /// A whole number with a minimum and a maximum.
    Integer(i64, i64),
    Table(&'static [Key]),
    /// A list of tables: the name of their type, and their minimum and maximum number. 0 means no limit.
    Tables(&'static str, u32, u32),
    /// The vocabulary's name for each error.
    ErrorNames,
    /// The errors that end a session, each with its close code.
    ClosingCodes,
    /// The close code for each end of a session, and these keys.
    CloseCodes(&'static [Key]),
    /// The error or the close code of a rule, depending on its `do`.
    RuleCode,
}

/// One value of `do`.
#[derive(Clone, Copy, Debug)]
pub struct ActionSpec {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
    /// The keys that it allows, besides those that every rule has.
    pub keys: &'static [&'static str],
    /// The keys that it requires.
    pub required: &'static [&'static str],
    /// Whether it requires `channel` or `channels`.
    pub takes_channels: bool,
}
