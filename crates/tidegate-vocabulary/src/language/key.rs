//! Key: what a table of the language says of one key, and of one word for `do`.

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As in the file.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it must be there.
    pub is_required: bool,
    /// What it is for, in one line; empty where its kind says that already.
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

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A kind of value that several keys share, by its name in the schema.
    Shared(&'static str),
    /// A text of at least and at most so many characters; 0: any number.
    Text(u32, u32),
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of the words of the section for `do`.
    Do,
    /// True or false.
    Boolean,
    /// A whole number from one to another.
    Whole(i64, i64),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of tables of this name, at least and at most so many; 0: any number.
    Tables(&'static str, u32, u32),
    /// What each error is called.
    Codes,
    /// The errors that end a session, and the close code of each.
    ClosingCodes,
    /// The close code of each end of a session, and these keys.
    Ends(&'static [Key]),
    /// The error or the close code of a rule: its `do` says which.
    CodeOfRule,
}

/// One word for `do`.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// As in the file.
    pub name: &'static str,
    /// What is done, in one line.
    pub doc: &'static str,
    /// The keys that mean something with it, next to those of every rule.
    pub keys: &'static [&'static str],
    /// Those of them that must be there.
    pub required: &'static [&'static str],
    /// Whether `channel` or `channels` must be there.
    pub takes_channels: bool,
}
