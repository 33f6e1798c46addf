//! Secrets in a table, or in a file that the table names. No diagnostic shows their value.

use std::fs::File;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use tidegate_document::diagnostic::Diagnostic;
use tidegate_document::diagnostic::ValueError;
use tidegate_document::quote::quoted;

use crate::config::reader::SetValue;
use crate::config::secret::Secret;
use crate::config::table::ConfigTable;

/// Mode bits: every user may read the file, or write to it.
const READABLE: u32 = 0o004;
const WRITABLE: u32 = 0o002;

/// More than any secret needs. Without a limit, reading a file such as `/dev/zero` would never end.
const MAX_SECRET_BYTES: u64 = 65_536;

impl ConfigTable<'_> {
    /// A secret from `key`, or from the file that `file_key` names. `None` if both are absent or empty. A secret that
    /// cannot be read is reported, and is empty.
    pub(in crate::config) fn secret(
        &self,
        key: &'static str,
        file_key: &'static str,
    ) -> Option<SetValue<Secret>> {
        let alternatives = [self.secret_text(key), self.secret_in_file(file_key)];
        let help = "keep one of them and remove the other";
        self.choose_last_layer(alternatives.into_iter().flatten().collect(), help)
    }

    /// A public text from `key`, or from the file that `file_key` names. `None` if both are absent or empty. It may be a
    /// secret by mistake, so no diagnostic shows it.
    pub(in crate::config) fn public_text(
        &self,
        key: &'static str,
        file_key: &'static str,
    ) -> Option<SetValue<Secret>> {
        let in_file = self.readable_file(file_key).map(|path| {
            // A file that cannot be opened has an error already.
            let text = File::open(&path.value)
                .map(|_| read_secret(&path.value))
                .unwrap_or_else(|_| Ok(Secret::new("")));
            let text = text.unwrap_or_else(|error| {
                let message = format!("cannot read a key from {}: {error}", quoted(&path.value));
                self.reject(&path, ValueError::new(message, "name a file that contains only the key"));
                Secret::new("")
            });
            SetValue { value: text, key: path.key, layer: path.layer }
        });
        let alternatives = [self.secret_text(key), in_file];
        let help = "keep one of them and remove the other";
        self.choose_last_layer(alternatives.into_iter().flatten().collect(), help)
    }

    /// The path of a file. Reports a file that cannot be opened, and warns if every user can change it.
    pub(in crate::config) fn readable_file(&self, key: &'static str) -> Option<SetValue<String>> {
        let path = self.non_empty(key)?;
        let opened = File::open(&path.value).and_then(|file| file.metadata());
        let error = match opened {
            Ok(found) if found.is_dir() => "it is a directory".to_owned(),
            Ok(found) => {
                if has_mode(&found, WRITABLE) {
                    self.warn_of_mode(&path, &found);
                }
                return Some(path);
            }
            Err(error) => error.to_string(),
        };
        let message = format!("cannot open {}: {error}", quoted(&path.value));
        self.error(
            key,
            message,
            "name a file that exists and that the account of Tidegate may read, or leave the key empty",
        );
        Some(path)
    }

    /// The same for a file with a secret. Also warns if every user can read it.
    pub(in crate::config) fn secret_file(&self, key: &'static str) -> Option<SetValue<String>> {
        let path = self.readable_file(key)?;
        self.warn_of_readers(&path);
        Some(path)
    }

    fn warn_of_readers(&self, path: &SetValue<String>) {
        let found = std::fs::metadata(&path.value);
        // A file that every user may change has a warning already.
        if let Ok(found) = found
            && has_mode(&found, READABLE)
            && !has_mode(&found, WRITABLE)
        {
            self.warn_of_mode(path, &found);
        }
    }

    fn warn_of_mode(&self, path: &SetValue<String>, found: &Metadata) {
        let can = if has_mode(found, WRITABLE) { "change" } else { "read" };
        let message = format!(
            "every user of this machine can {can} {} (mode {:04o}); restrict it with chmod 600",
            quoted(&path.value),
            found.permissions().mode() & 0o7777
        );
        self.reader.diagnostics.at_key(Diagnostic::warning(&path.key, message));
    }

    /// A text that no diagnostic shows.
    pub(in crate::config) fn secret_text(&self, key: &'static str) -> Option<SetValue<Secret>> {
        self.add_secret_key(key);
        let Some(text) = self.section.get(key)?.text() else {
            self.error(key, "the value is not a text", "write it between quotation marks");
            return self.found(key, Secret::new(String::new()));
        };
        if text.is_empty() { None } else { self.found(key, Secret::new(text.to_owned())) }
    }

    fn secret_in_file(&self, key: &'static str) -> Option<SetValue<Secret>> {
        let path = self.non_empty(key)?;
        let secret = read_secret(&path.value).unwrap_or_else(|error| {
            let message = format!("cannot read a secret from {}: {error}", quoted(&path.value));
            let help = "name a file that exists, that the account of Tidegate may read, and that contains only the secret";
            self.reject(&path, ValueError::new(message, help));
            Secret::new(String::new())
        });
        if let Ok(found) = std::fs::metadata(&path.value)
            && has_mode(&found, READABLE | WRITABLE)
        {
            self.warn_of_mode(&path, &found);
        }
        Some(SetValue { value: secret, key: path.key, layer: path.layer })
    }
}

/// Whether a regular file has one of these mode bits. Devices are excluded, because their modes differ.
fn has_mode(found: &Metadata, mode: u32) -> bool {
    found.is_file() && found.permissions().mode() & mode != 0
}

fn read_secret(path: &str) -> Result<Secret, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err("the file is too long for a secret".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err("the file is empty".to_owned()) } else { Ok(Secret::new(text.to_owned())) }
}
