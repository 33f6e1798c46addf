//! The configurations in `docs/TOKENS.md` can be used.

use std::path::Path;

use super::SECRET;
use crate::auth::Authenticator;
use crate::config::load::load;
use crate::config::source::Sources;

#[test]
fn the_configurations_in_tokens_md_can_be_used() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TOKENS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4, "{blocks:?}");
    for (number, block) in blocks.iter().enumerate() {
        let file = std::env::temp_dir().join(format!("tidegate-tokens-{}-{number}", std::process::id()));
        let text = block.replace("secret_file = \"token.key\"", &format!("secret = \"{SECRET}\""));
        std::fs::write(&file, text).unwrap();
        let loaded = load(&Sources { file: Some(file.clone()), ..Sources::default() });
        std::fs::remove_file(&file).unwrap();
        let loaded = loaded.unwrap_or_else(|invalid| panic!("{block}\n{invalid:?}"));
        assert_eq!(loaded.warnings, [], "{block}");
        Authenticator::new(loaded.config.auth, loaded.config.roles).unwrap();
    }
}
