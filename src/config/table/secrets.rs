//! Secrets in a table: written there, or in a file of their own. Nothing here shows a value.

use std::fs::File;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::Wrong;
use tidegate_document::quote::quoted;

use crate::config::reader::SetValue;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;

/// Modes of a file: all others may read it, or write it.
const READABLE: u32 = 0o004;
const WRITABLE: u32 = 0o002;

/// More than any secret needs; a device that never ends is not read for ever.
const LONGEST: u64 = 65_536;

impl ConfigTable<'_> {
    /// A secret from `key` or from the file that `file_key` names; `None` where both are absent or empty. One
    /// that cannot be read is a mistake, and empty.
    pub(in crate::config) fn secret(
        &self,
        key: &'static str,
        file_key: &'static str,
    ) -> Option<SetValue<Secret>> {
        let ways = [self.written(key), self.in_a_file(file_key)];
        self.strongest(ways.into_iter().flatten().collect(), "keep one of them, and remove the other")
    }

    /// The path of a file that can be read, for those who read it themselves.
    pub(in crate::config) fn readable_file(&self, key: &'static str) -> Option<SetValue<String>> {
        let path = self.given(key)?;
        let opened = File::open(&path.value).and_then(|file| file.metadata());
        let problem = match opened {
            Ok(found) if found.is_dir() => "it is a directory".to_owned(),
            Ok(found) => {
                if is_open(&found, WRITABLE) {
                    self.warn_of_mode(&path, &found);
                }
                return Some(path);
            }
            Err(error) => error.to_string(),
        };
        let problem = format!("{}: {problem}", quoted(&path.value));
        self.mistake(key, problem, "name a file that this user may read, or leave the key empty");
        Some(path)
    }

    /// The same of a file that holds a secret.
    pub(in crate::config) fn secret_file(&self, key: &'static str) -> Option<SetValue<String>> {
        let path = self.readable_file(key)?;
        self.warn_of_readers(&path);
        Some(path)
    }

    /// Others on this machine may read or write it.
    fn warn_of_readers(&self, path: &SetValue<String>) {
        let found = std::fs::metadata(&path.value);
        // What others may change has been said of already.
        if let Ok(found) = found
            && is_open(&found, READABLE)
            && !is_open(&found, WRITABLE)
        {
            self.warn_of_mode(path, &found);
        }
    }

    fn warn_of_mode(&self, path: &SetValue<String>, found: &Metadata) {
        let may = if is_open(found, WRITABLE) { "change" } else { "read" };
        let text = format!(
            "every user of this machine may {may} {} (mode {:04o}); take that away: chmod 600",
            quoted(&path.value),
            found.permissions().mode() & 0o7777
        );
        self.reader.diagnostics.at_key(Diagnostic::warning(&path.key, text));
    }

    /// A text that no mistake may show.
    pub(in crate::config) fn written(&self, key: &'static str) -> Option<SetValue<Secret>> {
        self.know(key, None);
        let Some(text) = self.section.get(key)?.text() else {
            self.mistake(key, "the value is not a text", "write it between quotation marks");
            return self.found(key, Secret::new(String::new()));
        };
        if text.is_empty() { None } else { self.found(key, Secret::new(text.to_owned())) }
    }

    fn in_a_file(&self, key: &'static str) -> Option<SetValue<Secret>> {
        let path = self.given(key)?;
        let secret = read_secret(&path.value).unwrap_or_else(|problem| {
            let problem = format!("{}: {problem}", quoted(&path.value));
            let cure = "name a file that this user may read, with nothing in it but the secret";
            self.refuse_found(&path, Wrong::new(problem, cure));
            Secret::new(String::new())
        });
        if let Ok(found) = std::fs::metadata(&path.value)
            && is_open(&found, READABLE | WRITABLE)
        {
            self.warn_of_mode(&path, &found);
        }
        Some(SetValue { value: secret, key: path.key, layer: path.layer })
    }
}

/// Whether others may do one of these with a file. Devices have modes of their own.
fn is_open(found: &Metadata, mode: u32) -> bool {
    found.is_file() && found.permissions().mode() & mode != 0
}

fn read_secret(path: &str) -> Result<Secret, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err("the file is too long for a secret".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err("the file is empty".to_owned()) } else { Ok(Secret::new(text.to_owned())) }
}
