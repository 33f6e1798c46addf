//! Flags override variables, variables override the file, and the file overrides defaults; also keys that exclude each
//! other.

use super::*;
use std::time::Duration;

use crate::config::auth::key::KeyConfig;
use crate::config::log::LogFormat;
use crate::config::nats::login::NatsLogin;
use crate::config::secret::Secret;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn password(user: &str, password: &str) -> NatsLogin {
    NatsLogin::Password { user: user.to_owned(), password: secret(password) }
}

#[test]
fn later_sources_override_earlier_ones() {
    let file = "[server]\ndrain_s = 1";
    let variable: &[(&str, &str)] = &[("TIDEGATE_SERVER__DRAIN_S", "2")];
    let flag: &[(&str, &str)] = &[("server.drain_s", "3")];
    let drain = |file: &str, variables, flags| {
        let seconds = load_all(file, variables, flags).unwrap().config.server.drain;
        assert_eq!(
            load_all(file, variables, flags).unwrap().config.server.feed_linger,
            Duration::from_secs(5)
        );
        seconds.as_secs()
    };
    assert_eq!(drain("", &[], &[]), 10);
    assert_eq!(drain(file, &[], &[]), 1);
    assert_eq!(drain(file, variable, &[]), 2);
    assert_eq!(drain("", variable, &[]), 2);
    assert_eq!(drain(file, variable, flag), 3);
    assert_eq!(drain(file, &[], flag), 3);
}

#[test]
fn variables_can_set_values_of_every_type() {
    let environment = [
        ("TIDEGATE_HTTP__LISTEN", "[::]:0"),
        ("TIDEGATE_HTTP__CONSOLE", "TRUE"),
        ("TIDEGATE_NATS__URL", "nats://a:1, b ,"),
        ("TIDEGATE_AUTH__TOKEN_TYPES", "JWT,at+jwt"),
        ("TIDEGATE_AUTH__HMAC_SECRET", "00123456789012345678901234567890"),
        ("TIDEGATE_AUTH__ISSUER", "12345"),
        ("TIDEGATE_LIMITS__OUTBOX_BYTES", " 65536 "),
        ("TIDEGATE_LIMITS__REQUEST_TIMEOUT_MAX_MS", "2500"),
        ("TIDEGATE_LOG__FORMAT", "json"),
        ("TIDEGATE_NATS__INBOX_PREFIX", "_INBOX.edge"),
    ];
    let config = load_all("", &environment, &[]).unwrap().config;
    assert_eq!(config.http.listen, "[::]:0".parse().unwrap());
    assert!(config.http.console);
    assert_eq!(config.nats.urls, ["nats://a:1", "nats://b:4222"]);
    assert_eq!(config.auth.token_types, ["JWT", "at+jwt"]);
    let key = KeyConfig {
        key: "auth.hmac_secret".to_owned(),
        ..KeyConfig::hs256("main", secret("00123456789012345678901234567890"))
    };
    assert_eq!(config.auth.keys, [key]);
    assert_eq!(config.auth.issuer, "12345");
    assert_eq!(config.limits.outbox_bytes, 65_536);
    assert_eq!(config.limits.request_timeout_max, Duration::from_millis(2500));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.nats.inbox_prefix, "_INBOX.edge");
    for word in ["0", "no", "off", "False"] {
        assert!(
            !load_all("[http]\nconsole = true", &[("TIDEGATE_HTTP__CONSOLE", word)], &[])
                .unwrap()
                .config
                .http
                .console
        );
    }
}

#[test]
fn common_variables_are_read_and_tidegates_own_override_them() {
    let others =
        [("NATS_URL", "other"), ("NATS_USER", "ann"), ("NATS_PASSWORD", "pw"), ("RUST_LOG", "debug")];
    let file = "[nats]\nurl = \"file\"\n[log]\nfilter = \"warn\"";
    let config = load_all(file, &others, &[]).unwrap().config;
    assert_eq!(config.nats.urls, ["nats://other:4222"]);
    assert_eq!(config.nats.login, password("ann", "pw"));
    assert_eq!(config.log.filter, "debug");

    let mut both = others.to_vec();
    both.insert(0, ("TIDEGATE_NATS__URL", "ours"));
    both.push(("TIDEGATE_LOG__FILTER", "error"));
    let config = load_all(file, &both, &[]).unwrap().config;
    assert_eq!((config.nats.urls[0].as_str(), config.log.filter.as_str()), ("nats://ours:4222", "error"));

    let empty = [("NATS_URL", ""), ("NATS_USER", ""), ("NATS_PASSWORD", ""), ("RUST_LOG", ""), ("PORT", "")];
    let config = load_all(file, &empty, &[]).unwrap().config;
    assert_eq!((config.nats.urls[0].as_str(), config.log.filter.as_str()), ("nats://file:4222", "warn"));
}

#[test]
fn port_replaces_the_port_unless_a_flag_sets_it() {
    let port = [("PORT", "9000"), ("TIDEGATE_HTTP__LISTEN", "0.0.0.0:80")];
    let listen = |environment: &[(&str, &str)], flags: &[(&str, &str)]| {
        load_all("", environment, flags).unwrap().config.http.listen.to_string()
    };
    assert_eq!(listen(&port[..1], &[]), "127.0.0.1:9000");
    assert_eq!(listen(&port, &[]), "0.0.0.0:9000");
    assert_eq!(listen(&port, &[("http.listen", "[::1]:1")]), "[::1]:1");
}

#[test]
fn variables_of_kubernetes_services_are_ignored() {
    let links = [
        ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_SERVICE_PORT", "80"),
        ("TIDEGATE_SERVICE_PORT_HTTP", "80"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:80"),
        ("TIDEGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("TIDEGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("TIDEGATE_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
        ("TIDEGATE_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("TIDE", "x"),
        ("HOME", "/root"),
    ];
    assert_eq!(load_all("", &links, &[]).unwrap().config, Config::default());
    for (name, value) in [
        ("TIDEGATE_PORT", "9000"),
        ("TIDEGATE_HTTP_PORT", "9000"),
        ("TIDEGATE_HTTP__PORT", "tcp://a"),
        ("TIDEGATE_", "x"),
        ("TIDEGATE_HTTP____LISTEN", "1.2.3.4:5"),
        ("TIDEGATE_PORT_80_TCP_NAME", "x"),
    ] {
        let found = load_all("", &[(name, value)], &[]).expect_err(name).0;
        assert_eq!((found.len(), found[0].key.as_str()), (1, name));
    }
}

#[test]
fn there_is_one_login_to_nats_from_the_last_source() {
    let creds = Scratch::new("creds");
    let token = Scratch::new("t0ken\n");
    let creds_in_file = format!("[nats]\ncreds_file = \"{}\"", creds.path());
    let login = |file: &str, environment: &[(&str, &str)]| {
        load_all(file, environment, &[]).unwrap().config.nats.login
    };

    assert_eq!(login("[nats]\nurl = \"nats://ann:p%40w@host\"", &[]), password("ann", "p@w"));
    assert_eq!(login(&creds_in_file, &[]), NatsLogin::CredsFile(creds.0.clone()));
    assert_eq!(
        login("", &[("TIDEGATE_NATS__NKEY_FILE", creds.path())]),
        NatsLogin::NkeyFile(creds.0.clone())
    );
    assert_eq!(login("", &[("TIDEGATE_NATS__TOKEN_FILE", token.path())]), NatsLogin::Token(secret("t0ken")));
    let split = login("[nats]\nuser = \"ann\"", &[("NATS_PASSWORD", "pw")]);
    assert_eq!(split, password("ann", "pw"), "a user in the file and a password in a variable are one login");

    let replaced = load_all(&creds_in_file, &[("NATS_USER", "ann"), ("NATS_PASSWORD", "pw")], &[]).unwrap();
    assert_eq!(replaced.config.nats.login, password("ann", "pw"));
    let about: Vec<String> = replaced.warnings.iter().map(ToString::to_string).collect();
    assert!(
        about.iter().any(|text| text.contains(": nats.creds_file: not used") && text.contains("nats.user")),
        "{about:?}"
    );

    let two = error_in(&format!("{creds_in_file}\ntoken = \"x\""));
    assert!(two.message.contains("nats.creds_file and nats.token exclude each other"), "{two}");
    let urls = error_in("[nats]\nurl = [\"a:b@host\", \"c:d@host\"]");
    assert!(urls.message.contains("different users"), "{urls}");
    assert_eq!(login("[nats]\nurl = [\"a:b@one\", \"a:b@two\", \"three\"]", &[]), password("a", "b"));
}

#[test]
fn secrets_are_read_from_files_without_one_newline_at_the_end() {
    for (contents, expected) in [
        (format!("{SECRET}\n"), SECRET.to_owned()),
        (format!("{SECRET}\r\n"), SECRET.to_owned()),
        (SECRET.to_owned(), SECRET.to_owned()),
        (format!(" {SECRET}\n\n"), format!(" {SECRET}\n")),
    ] {
        let file = Scratch::new(&contents);
        let path = file.path();
        let listed = load_file(&format!("[[auth.key]]\nsecret_file = \"{path}\"")).unwrap();
        let short = load_all("", &[("TIDEGATE_AUTH__HMAC_SECRET_FILE", path)], &[]).unwrap();
        for (loaded, key) in [(listed, "auth.key[0].secret_file"), (short, "auth.hmac_secret_file")] {
            let key = KeyConfig { key: key.to_owned(), ..KeyConfig::hs256("main", secret(&expected)) };
            assert_eq!(loaded.config.auth.keys, [key]);
        }
    }
}

#[test]
fn hmac_secret_replaces_the_list_of_keys() {
    let listed = "[[auth.key]]\nkid = \"old\"\nsecret = \"replace-me-with-at-least-32-random-bytes\"";
    let loaded = load_all(listed, &[("TIDEGATE_AUTH__HMAC_SECRET", SECRET)], &[]).unwrap();
    assert_eq!((loaded.config.auth.keys.len(), loaded.config.auth.keys[0].kid.as_str()), (1, "main"));
    assert!(
        loaded.warnings.iter().any(|warning| warning.message.contains("auth.hmac_secret")),
        "{:?}",
        loaded.warnings
    );

    let both = format!("[auth]\nhmac_secret = \"{SECRET}\"\n[[auth.key]]\nsecret = \"{SECRET}\"");
    assert_eq!(error_in(&both).key, "auth.key");
    let file = Scratch::new(SECRET);
    let twice = format!("[auth]\nhmac_secret = \"{SECRET}\"\nhmac_secret_file = \"{}\"", file.path());
    assert!(error_in(&twice).message.contains("exclude each other"));
    let stronger =
        load_all(&twice.replace(SECRET, ""), &[("TIDEGATE_AUTH__HMAC_SECRET", SECRET)], &[]).unwrap();
    let key = KeyConfig { key: "auth.hmac_secret".to_owned(), ..KeyConfig::hs256("main", secret(SECRET)) };
    assert_eq!(stronger.config.auth.keys, [key]);
}

#[test]
fn without_a_file_config_toml_in_the_working_directory_is_read() {
    assert!(Path::new("config.toml").exists(), "cargo runs tests where the shipped file is");
    let loaded = load(&Sources::default()).unwrap();
    assert_eq!((loaded.origin.as_str(), loaded.config), ("config.toml", Config::default()));
}

#[test]
fn variables_of_opentelemetry_set_the_collector() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20YTpi, x-team = edge"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ];
    let traces = |variables: &[(&str, &str)]| load_all("", variables, &[]).unwrap().config.traces;
    let read = traces(&variables);
    assert_eq!(read.endpoint.unwrap().as_str(), "http://collector:4318");
    let headers: Vec<_> = read.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("Authorization", "Basic YTpi"), ("x-team", "edge")]);
    assert_eq!((read.service_name.as_str(), read.export_interval), ("edge", Duration::from_secs(1)));
    let own = [variables[0], ("TIDEGATE_TRACES__ENDPOINT", "https://other.example.com")];
    assert_eq!(traces(&own).endpoint.unwrap().as_str(), "https://other.example.com");
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0D%0Ac: d"),
    ] {
        let [error] = &load_all("", &[(name, value)], &[]).unwrap_err().0[..] else { panic!("{value}") };
        assert!(error.origin == name && error.key.starts_with("traces."), "{error}");
        assert!(!error.to_string().contains("%0D"), "a header may be a secret: {error}");
    }
}
