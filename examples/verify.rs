//! Measures the cost of authenticating a token, with and without the token cache. `cargo run --release --example
//! verify`
#![expect(clippy::print_stdout, reason = "the program prints its results")]

use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::KeyPair as _;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use serde_json::json;
use tidegate::auth::Authenticator;
use tidegate::auth::jwt;
use tidegate::config::auth::AuthConfig;
use tidegate::config::auth::key::KeyConfig;
use tidegate::config::secret::Secret;
use tidegate_protocol::permissions::Role;
use tidegate_protocol::permissions::RuleTemplates;
use tidegate_protocol::template::Template;

const SECRET: &str = "a secret for this measurement and nothing else";
/// The number of tokens. A node with 10,000 clients sees as many, so memory is as cold here as there.
const TOKENS: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mint = |number: usize| {
        let claims = json!({"sub": format!("user-{number}"), "role": "user", "iss": "https://issuer.example",
            "iat": now, "exp": now + 3600, "jti": format!("0192b3a1-7c1e-7d3c-9f53-{number:012}")});
        jwt::mint_hs256(&Secret::new(SECRET), Some("main"), &claims)
    };
    let tokens: Vec<String> = (0..TOKENS).map(mint).collect::<Result<_, _>>()?;
    println!("{TOKENS} tokens of {} bytes in turn, one thread", tokens[0].len());
    let uncached = authenticator(0)?;
    report("HS256, verified each time", &tokens, |token| {
        uncached.authenticate(token, SystemTime::now()).is_ok()
    })?;
    let cached = authenticator(4 * TOKENS)?;
    report("cached, any algorithm", &tokens, |token| cached.authenticate(token, SystemTime::now()).is_ok())?;
    println!("  ({} of {TOKENS} tokens are cached)", cached.cached_tokens());

    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("cannot generate a key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())?;
    let signing = EncodingKey::from_ec_der(document.as_ref());
    let key = DecodingKey::from_ec_der(pair.public_key().as_ref());
    let message = tokens[0].rsplit_once('.').context("three segments")?.0.as_bytes();
    let signature = jsonwebtoken::crypto::sign(message, &signing, Algorithm::ES256)?;
    report("ES256, signature check only", &tokens, |_| {
        jsonwebtoken::crypto::verify(&signature, message, &key, Algorithm::ES256).unwrap_or_default()
    })
}

fn authenticator(token_cache: usize) -> anyhow::Result<Authenticator> {
    let key = KeyConfig::hs256("main", Secret::new(SECRET));
    let allow = ["prices.*", "user.{sub}.>"].into_iter().map(Template::parse).collect::<Result<_, _>>()?;
    let subscribe = RuleTemplates { allow, deny: Vec::new() };
    let role = Role { name: "user".to_owned(), subscribe, ..Role::default() };
    Ok(Authenticator::new(AuthConfig { keys: vec![key], token_cache, ..AuthConfig::default() }, vec![role])?)
}

/// Runs `accepts` once for each token, and then measures it for a second.
fn report(what: &str, tokens: &[String], accepts: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    anyhow::ensure!(tokens.iter().all(|token| accepts(token)), "{what}: a token was rejected");
    let start = Instant::now();
    let mut count = 0_u32;
    for token in tokens.iter().cycle() {
        black_box(accepts(token));
        count += 1;
        if count.is_multiple_of(64) && start.elapsed() >= Duration::from_secs(1) {
            break;
        }
    }
    let each = start.elapsed() / count;
    println!("{what:<36} {:>8.2} µs  {:>9.0}/s", each.as_secs_f64() * 1e6, 1.0 / each.as_secs_f64());
    Ok(())
}
