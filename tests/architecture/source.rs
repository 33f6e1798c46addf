//! A source file, with the queries that the rules need: its code without comments, its imports and its words.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Crates that have the same name as one of our modules.
const OURS_TOO: [&str; 1] = ["config"];

/// All source files below a folder.
pub(crate) fn read(root: &Path, folder: &str) -> Vec<Source> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let source = |path: &Path| {
        let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
        match path.extension() {
            _ if path.is_dir() => read(root, &name),
            Some(extension) if extension == "rs" => {
                vec![Source::new(&name, &fs::read_to_string(path).unwrap())]
            }
            Some(_) | None => Vec::new(),
        }
    };
    paths.iter().flat_map(|path| source(path)).collect()
}

/// A source file, and its code without comments, string literals and tests.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let is_source = path.starts_with("src/") || path.contains("/src/");
        let is_test = is_source && (path.contains("/tests/") || path.ends_with("/tests.rs"));
        let code = if is_test { String::new() } else { without_tests(without_comments_and_texts(text)) };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// The names of the types and traits that the file declares.
    pub(crate) fn types(&self) -> Vec<String> {
        let mut words = self.code.split_whitespace();
        let mut types = Vec::new();
        while let Some(word) = words.next() {
            if matches!(word, "struct" | "enum" | "trait")
                && let Some(name) = words.next()
            {
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                types.push(name[..end].to_owned());
            }
        }
        types
    }

    /// The crate below `crates` to which the file belongs. `None` for the product's own files.
    pub(crate) fn of_crate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// The file's path in `src`, with the crate's name in front if it is not the product: `tidegate-bench/servers.rs`.
    pub(crate) fn place(&self) -> String {
        let path = self.path.strip_prefix("src/").or_else(|| self.path.strip_prefix("crates/"));
        path.unwrap_or(&self.path).replacen("/src/", "/", 1)
    }

    /// The file's top-level module; in another crate, the name of that crate.
    pub(crate) fn module(&self) -> String {
        let place = self.place();
        let first = place.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first).to_owned()
    }

    /// The file's module path within its crate: `hub::topic`.
    pub(crate) fn module_path(&self) -> String {
        let place = self.place();
        let in_crate = self.of_crate().and_then(|name| place.strip_prefix(name)?.strip_prefix('/'));
        in_crate.unwrap_or(&place).trim_end_matches(".rs").replace('/', "::")
    }

    /// The files among these that this file imports, however the paths are written. A path counts as an import of the
    /// deepest file that it names. A line such as `mod topic;` is no import.
    pub(crate) fn imported_files(&self, files: &BTreeSet<String>) -> BTreeSet<String> {
        let place = self.module_path();
        let mut above: Vec<_> = place.split("::").collect();
        above.pop();
        let from_root = self.paths_behind("crate::").into_iter().map(|path| (String::new(), path));
        let from_above = (1..=above.len()).flat_map(|steps| {
            let base = above[..above.len() + 1 - steps].join("::");
            let paths = self.paths_behind(&"super::".repeat(steps)).into_iter();
            paths.map(move |path| (base.clone(), path)).collect::<Vec<_>>()
        });
        let children = files.iter().filter_map(|file| file.strip_prefix(&format!("{place}::")));
        let from_here = children.filter(|child| !child.contains("::")).flat_map(|child| {
            let paths = self.paths_behind(&format!("{child}::")).into_iter();
            paths.map(|path| (place.clone(), format!("{child}::{path}"))).collect::<Vec<_>>()
        });
        let paths = from_root.chain(from_above).chain(from_here);
        let found = paths.filter_map(|(base, path)| {
            let whole = if base.is_empty() { path } else { format!("{base}::{path}") };
            let ends = whole.match_indices("::").map(|(at, _)| at).chain([whole.len()]);
            let deepest = ends.map(|end| &whole[..end]).filter(|file| files.contains(*file)).last();
            deepest.map(str::to_owned)
        });
        found.filter(|file| *file != place).collect()
    }

    /// The rest of each path with this beginning.
    fn paths_behind(&self, root: &str) -> Vec<String> {
        let begins = occurrences(&self.code, root).filter(|at| {
            let before = self.code[..*at].trim_end();
            !before.ends_with("::") && !before.ends_with("pub(in")
        });
        let rest = begins.map(|at| &self.code[at + root.len()..]);
        rest.filter(|rest| !rest.starts_with("super::"))
            .map(|rest| rest.chars().take_while(|c| is_name(*c) || *c == ':').collect())
            .collect()
    }

    pub(crate) fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The lines whose code contains a word, as a whole word.
    pub(crate) fn says(&self, word: &str) -> Vec<usize> {
        occurrences(&self.code, word).map(|at| line_of(&self.code, at)).collect()
    }

    /// The names of the fields of log lines that these macros write, each with the line on which its macro begins.
    pub(crate) fn log_fields(&self, macros: &[&str]) -> Vec<(usize, String)> {
        let begins = macros
            .iter()
            .flat_map(|begin| occurrences(&self.code, begin).map(move |at| (at, at + begin.len())));
        begins
            .flat_map(|(at, inside)| {
                let fields = arguments(&self.code[inside..]).into_iter().filter_map(|argument| {
                    let argument = argument.trim().trim_start_matches(['%', '?']);
                    let is_part = |c: char| is_name(c) || c == '.';
                    let end = argument.find(|c| !is_part(c)).unwrap_or(argument.len());
                    let (name, rest) = argument.split_at(end);
                    let rest = rest.trim_start();
                    let is_field = rest.is_empty() || rest.starts_with('=') && !rest.starts_with("==");
                    (is_field && !name.is_empty()).then(|| name.to_owned())
                });
                let line = line_of(&self.code, at);
                fields.map(move |name| (line, name)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The lines whose text contains a word, tests and comments included.
    pub(crate) fn says_raw(&self, words: &str) -> Vec<usize> {
        let code = without_comments_and_texts(&self.text);
        code.match_indices(words).map(|(at, _)| line_of(&code, at)).collect()
    }

    /// The lines on which a path begins with a crate, or the crate is imported.
    pub(crate) fn names_crate(&self, name: &str) -> Vec<usize> {
        let named = |at: &usize| {
            let (before, after) = (self.code[..*at].trim_end(), &self.code[*at + name.len()..]);
            let is_root = match before.strip_suffix("::") {
                Some(before) => !before.ends_with(|c: char| is_name(c) || c == '>'),
                None => !before.ends_with('.'),
            };
            let imported = before.ends_with("use") && after.starts_with([';', ' ']);
            // If one of our modules has the name of the crate, only an import means the crate.
            let ours = OURS_TOO.contains(&name);
            let is_path =
                after.starts_with("::") && (!ours || before.ends_with("use") || before.ends_with("::"));
            is_root && (imported || is_path)
        };
        occurrences(&self.code, name).filter(named).map(|at| line_of(&self.code, at)).collect()
    }

    /// The top-level modules that paths name, however they reach the root.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let depth = self.place().split('/').count();
        let up = "super::".repeat(depth);
        let roots = ["crate::", "tidegate::", up.as_str()];
        let found = roots
            .into_iter()
            .flat_map(|root| occurrences(&self.code, root).map(move |at| (at, at + root.len())));
        let found = found.filter(|(at, _)| !self.code[..*at].ends_with("::"));
        let named = found.map(|(at, end)| (line_of(&self.code, at), name_at(&self.code, end)));
        named.filter(|(_, name)| name != "super").collect()
    }
}

/// The arguments of a macro, from behind its opening parenthesis.
fn arguments(code: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                found.push(&code[start..at]);
                return found;
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(&code[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn name_at(code: &str, at: usize) -> String {
    code[at..].chars().take_while(|c| is_name(*c)).collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The places of a word in a text, without longer words that contain it.
fn occurrences<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = word.starts_with(is_name) && code[..*at].ends_with(is_name);
        let after = word.ends_with(is_name) && code[at + word.len()..].starts_with(is_name);
        !before && !after
    })
}

/// The same lines without comments and literals.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match skipped(rest, code.ends_with(is_name)) {
            Some(length) => {
                code.extend(rest[..length].chars().filter(|c| *c == '\n'));
                length
            }
            None => {
                code.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    code
}

/// The length of the comment or literal at the beginning of `rest`, if there is one.
fn skipped(rest: &str, in_name: bool) -> Option<usize> {
    let until =
        |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(until("*/", 2));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    let prefix = ["br", "r"].into_iter().find(|prefix| !in_name && rest.starts_with(prefix));
    if let Some(raw) = prefix.and_then(|prefix| rest.strip_prefix(prefix)) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = rest.len() - raw.len() + hashes + 1;
            return Some(until(&format!("\"{}", "#".repeat(hashes)), start));
        }
    }
    // A single quote begins a character literal or a lifetime.
    let mut after = rest.strip_prefix('\'')?.chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) | (_, Some('\'')) => Some(quoted(rest, '\'')),
        _ => None,
    }
}

/// The length of a quoted literal, with its quotation marks.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The same lines without the modules and functions that exist only in tests.
fn without_tests(mut code: String) -> String {
    while let Some(start) = code.find("#[cfg(test)]") {
        let open = code[start..].find(['{', ';']).map_or(code.len(), |at| start + at);
        let mut depth = 0;
        let end = code[open..].char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + at + c.len_utf8())
        });
        let end = end.unwrap_or(code.len());
        let lines = "\n".repeat(code[start..end].matches('\n').count());
        code.replace_range(start..end, &lines);
    }
    code
}
