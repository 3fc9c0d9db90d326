//! How spans and reports leave the host: HTTP, and HTTPS whose certificates the host's own store vouches for (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name another). Only threads that wait for nobody but their receiver come here.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// One who sends to `url`, and gives up a request after `limit`. It follows no redirection and asks no proxy.
#[must_use]
pub fn sender_to(url: &str, limit: Duration) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(limit)).proxy(None).max_redirects(0);
    // The host's certificates are read only where they are needed: some hosts have none.
    let config = if url.starts_with("https://") { config.tls_config(trusting_the_host(url)) } else { config };
    config.build().into()
}

/// Trust in whom the host trusts, as of now.
fn trusting_the_host(url: &str) -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::warn!(
            url,
            why,
            "no certificates to trust were found, so nothing can be sent; install ca-certificates, or set SSL_CERT_FILE"
        );
    }
    let roots: Vec<_> = found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}
