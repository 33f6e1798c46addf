//! Files of vocabularies: which are refused and why, and that none of them makes anything panic.

mod mistakes;
mod properties;
mod silent;
mod together;

use super::*;

/// Two paths, the second with a parameter.
const HEAD: &str = r#"
name = "test"

[[path]]
name = "main"
path = "/ws"

[[path]]
name = "one"
path = "/ws/{symbol}"
"#;

/// What compiling a file with these sections behind the paths says.
fn mistakes(sections: &str) -> Vec<Diagnostic> {
    compile(&format!("{HEAD}{sections}")).err().unwrap_or_default()
}

fn warnings(sections: &str) -> Vec<Diagnostic> {
    let warnings = compile(&format!("{HEAD}{sections}")).unwrap().warnings;
    let placed = |warning: Diagnostic| {
        assert!(warning.place.is_some(), "{warning}");
        Diagnostic { place: None, ..warning }
    };
    warnings.into_iter().map(placed).collect()
}

/// A mistake as it has to be said: its key, and parts of its problem and its cure.
#[derive(Debug)]
struct Said(&'static str, &'static str, &'static str);

fn check(found: &[Diagnostic], expected: &[Said], file: &str) {
    let said = |(mistake, Said(key, problem, help)): (&Diagnostic, &Said)| {
        mistake.key == *key && mistake.message.contains(problem) && mistake.help.contains(help)
    };
    let are_said = found.len() == expected.len() && found.iter().zip(expected).all(said);
    assert!(are_said, "{file}\nsays {found:#?}\nand should say {expected:#?}");
}
