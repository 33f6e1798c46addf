//! One order: an account, the checks of each name, and the certificate.

use std::time::Duration;

use instant_acme::Account;
use instant_acme::AuthorizationStatus;
use instant_acme::ChallengeType;
use instant_acme::Identifier;
use instant_acme::NewAccount;
use instant_acme::NewOrder;
use instant_acme::Order;
use instant_acme::OrderStatus;
use instant_acme::RetryPolicy;
use rcgen::CertificateParams;
use rcgen::CustomExtension;
use rcgen::DistinguishedName;
use rcgen::KeyPair;

use crate::config::tls::acme::AcmeConfig;
use crate::net::acme::cache::Cache;
use crate::net::acme::error::AcmeError;
use crate::net::acme::http::AcmeHttp;
use crate::net::tls::challenges::Challenges;

/// How long an authority may take to check the names, and then to issue the certificate.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).timeout(Duration::from_mins(2));

/// Orders a certificate. Returns its chain and its key in PEM. The caller removes the files of `challenges` afterwards.
pub(super) async fn order(
    config: &AcmeConfig,
    cache: &Cache,
    http: &AcmeHttp,
    challenges: &Challenges,
) -> Result<String, AcmeError> {
    let account = account(config, cache, http).await?;
    let identifiers: Vec<Identifier> = config.domains.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
    prepare_checks(&mut order, challenges).await?;
    let status = order.poll_ready(&PATIENCE).await;
    match status {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(failed_check(&mut order).await),
        Err(error) => {
            let check = failed_check(&mut order).await;
            return Err(if matches!(check, AcmeError::Check { .. }) { check } else { error.into() });
        }
    }
    let key = KeyPair::generate().map_err(key_error)?;
    let mut params = CertificateParams::new(config.domains.clone()).map_err(key_error)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(key_error)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(format!("{}{chain}", key.serialize_pem()))
}

/// The account of the cache, or a new one.
async fn account(config: &AcmeConfig, cache: &Cache, http: &AcmeHttp) -> Result<Account, AcmeError> {
    let builder = Account::builder_with_http(Box::new(http.clone()));
    if let Some(credentials) = cache.account()? {
        return Ok(builder.from_credentials(credentials).await?);
    }
    let contact: Vec<&str> = config.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, config.directory_url.clone(), None).await?;
    cache.store_account(&credentials)?;
    Ok(account)
}

/// Prepares the check of each name, and tells the authority that it may begin.
async fn prepare_checks(order: &mut Order, challenges: &Challenges) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let domain = authorization.identifier().to_string();
        // A name that was checked a short time ago needs no other check.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(domain.clone()))?;
        let pem = challenge_certificate(&domain, challenge.key_authorization().digest().as_ref())?;
        let file = challenges.file(&domain).ok_or_else(|| AcmeError::NoChallenge(domain.clone()))?;
        Cache::store_challenge(&file, &pem)?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// The certificate for the check of a name (RFC 8737 §3) and its key, in PEM.
fn challenge_certificate(domain: &str, digest: &[u8]) -> Result<String, AcmeError> {
    let key = KeyPair::generate().map_err(key_error)?;
    let mut params = CertificateParams::new(vec![domain.to_owned()]).map_err(key_error)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(key_error)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// Why the authority does not accept a name, as far as it says.
async fn failed_check(order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let mut errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        if let Some(error) = errors.next() {
            let reason = error.detail.clone().unwrap_or_else(|| error.to_string());
            return AcmeError::Check { domain, reason };
        }
    }
    AcmeError::Authority(instant_acme::Error::Str("the order is not valid"))
}

fn key_error(error: impl ToString) -> AcmeError {
    AcmeError::Key(error.to_string())
}
