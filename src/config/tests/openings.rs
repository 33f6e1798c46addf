//! What `check` once called valid: each is a mistake now, or a warning that says what comes of it.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// The warnings about one key.
fn warned(file: &str, key: &str) -> Vec<String> {
    let loaded = load_file(file).expect(file);
    loaded.warnings.into_iter().filter(|warning| warning.key == key).map(|warning| warning.message).collect()
}

fn log(filter: &str) -> String {
    format!("[log]\nfilter = \"{filter}\"")
}

#[test]
fn a_log_filter_that_names_no_level_and_no_module_does_not_make_the_node_mute() {
    for (filter, cure) in [
        ("loud", "write a level"),
        ("inof", "did you mean \"info\"?"),
        ("info,loud", "write a level"),
        ("info,tidgate=debug", "did you mean \"tidegate\"?"),
        ("info,tidegate::lan=debug", "did you mean \"lane\"?"),
        ("tidegate=loud", "write a level"),
        ("", "write a level"),
    ] {
        let mistake = mistake_in(&log(filter));
        assert_eq!(mistake.key, "log.filter", "{filter}");
        assert!(mistake.help.contains(cure), "{filter}: {mistake}");
    }
    for filter in
        ["info", "WARN", "3", "info,tidegate::lane=debug", "info,async_nats=trace", "tidegate=debug"]
    {
        assert_eq!(warned(&log(filter), "log.filter"), [""; 0], "{filter}");
    }
    for filter in ["off", "tidegate=off", "tidegate::lane=debug", "async_nats=info"] {
        let said = warned(&log(filter), "log.filter");
        assert!(said.len() == 1 && said[0].contains("errors neither"), "{filter}: {said:?}");
    }
}

fn role(rules: &str) -> String {
    format!("[[role]]\nname = \"user\"\n{rules}")
}

#[test]
fn a_misspelt_hole_is_not_found_by_every_user_getting_401() {
    for kind in ["allow", "deny"] {
        let mistake = mistake_in(&role(&format!("subscribe = {{ {kind} = [\"user.{{subb}}.>\"] }}")));
        assert_eq!(mistake.key, format!("role[0].subscribe.{kind}[0]"));
        assert!(mistake.message.contains("refused with 401"), "{mistake}");
        assert!(mistake.help.contains("{sub}") && mistake.help.contains("{claims.subb}"), "{mistake}");
    }
    for fine in
        ["user.{sub}.>", "user.{claims.sub}.>", "user.{claims.subb}.>", "org.{org.id}.>", "t.{tenant}"]
    {
        load_file(&role(&format!("subscribe = {{ allow = [\"{fine}\"] }}"))).expect(fine);
    }
}

#[test]
fn a_role_that_may_nearly_everything_is_said_aloud() {
    for (operation, may) in [("subscribe", "hear"), ("publish", "publish on"), ("request", "ask services on")]
    {
        for wide in [">", "*", "*.prices"] {
            let said = warned(
                &role(&format!("{operation} = {{ allow = [\"{wide}\"] }}")),
                &format!("role[0].{operation}.allow"),
            );
            assert!(
                said.len() == 1 && said[0].contains(&format!("may {may} nearly every subject")),
                "{said:?}"
            );
        }
    }
    let said = warned(&role("subscribe = { allow = [\"{sub}.>\"] }"), "role[0].subscribe.allow");
    assert!(said.len() == 1 && said[0].contains("whose sub is \"prices\""), "{said:?}");
    for narrow in ["prices.>", "u-{sub}.>", "user.{sub}.*"] {
        let file = role(&format!("subscribe = {{ allow = [\"{narrow}\"], deny = [\">\"] }}"));
        assert_eq!(warned(&file, "role[0].subscribe.allow"), [""; 0], "{narrow}");
    }
}

#[test]
fn a_page_for_everybody_is_said_aloud() {
    let console = |listen: &str| format!("[http]\nconsole = true\nlisten = \"{listen}\"");
    for everybody in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        let said = warned(&console(everybody), "http.console");
        assert!(said.len() == 1 && said[0].contains(everybody), "{everybody}: {said:?}");
    }
    for this_machine in ["127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(warned(&console(this_machine), "http.console"), [""; 0]);
    }
}

#[test]
fn two_listeners_of_one_port_are_found_before_the_start() {
    let listen = |main: &str, other: &str| {
        format!("[http]\nlisten = \"{main}\"\n[[endpoint]]\npath = \"/ws\"\nlisten = \"{other}\"")
    };
    for (main, other) in [
        ("0.0.0.0:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "0.0.0.0:9"),
        ("[::]:9", "0.0.0.0:9"),
        ("[::]:9", "127.0.0.1:9"),
    ] {
        let mistake = mistake_in(&listen(main, other));
        assert_eq!(mistake.key, "endpoint[0].listen", "{main} {other}");
        assert!(mistake.message.contains("are one port"), "{mistake}");
    }
    for (main, other) in [
        ("0.0.0.0:9", "0.0.0.0:9"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("0.0.0.0:9", "[::1]:9"),
        ("127.0.0.1:9", "127.0.0.2:9"),
        ("0.0.0.0:8", "127.0.0.1:9"),
    ] {
        load_file(&listen(main, other)).unwrap_or_else(|wrong| panic!("{main} {other}: {wrong}"));
    }
}

fn with_mode(contents: &str, mode: u32) -> Scratch {
    let file = Scratch::new(contents);
    std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn a_secret_that_others_may_read_or_change_is_said_aloud() {
    for (mode, may) in [
        (0o666, Some("change")),
        (0o622, Some("change")),
        (0o644, Some("read")),
        (0o640, None),
        (0o600, None),
    ] {
        let file = with_mode(SECRET, mode);
        let path = file.path();
        for (key, text) in [
            ("auth.key[0].secret_file", format!("[[auth.key]]\nsecret_file = \"{path}\"")),
            ("auth.hmac_secret_file", format!("[auth]\nhmac_secret_file = \"{path}\"")),
            ("nats.token_file", format!("[nats]\ntoken_file = \"{path}\"")),
            ("nats.password_file", format!("[nats]\nuser = \"a\"\npassword_file = \"{path}\"")),
            ("nats.creds_file", format!("[nats]\ncreds_file = \"{path}\"")),
            ("nats.nkey_file", format!("[nats]\nnkey_file = \"{path}\"")),
        ] {
            let said = warned(&text, key);
            let fits = may.is_none_or(|may| said.iter().any(|text| text.contains(&format!("may {may} "))));
            assert!(said.len() == usize::from(may.is_some()) && fits, "{mode:o} {key}: {said:?}");
        }
        let ca = warned(&format!("[nats]\nca_file = \"{path}\""), "nats.ca_file");
        assert_eq!(ca.len(), usize::from(mode & 0o002 != 0), "everybody may know whom we trust: {ca:?}");
    }
}

#[test]
fn a_class_that_nobody_can_come_to_is_said_aloud() {
    let class = |pattern: &str| {
        format!(
            "{}\n[[class]]\npattern = \"{pattern}\"",
            role("subscribe = { allow = [\"prices.*\", \"user.{sub}.>\"] }")
        )
    };
    for pattern in ["price.>", "prices.*.x", "$JS.>", "tidegate.a", "_INBOX.>"] {
        assert_eq!(warned(&class(pattern), "class[0].pattern").len(), 1, "{pattern}");
    }
    for pattern in [">", "prices.>", "prices.AAPL", "user.*.notifications", "user.alice.a", "*.a"] {
        assert_eq!(warned(&class(pattern), "class[0].pattern"), [""; 0], "{pattern}");
    }
}

#[test]
fn publications_that_wait_until_they_are_too_old_are_found() {
    let class = |lines: &str| format!("[[class]]\npattern = \"a\"\nkind = \"latest\"\n{lines}");
    let mistake = mistake_in(&class("batch_ms = 50\nmax_age_ms = 50"));
    assert_eq!(mistake.key, "class[0].batch_ms");
    load_file(&class("batch_ms = 49\nmax_age_ms = 50")).unwrap();
    assert_eq!(warned(&class("max_rate_ms = 50\nmax_age_ms = 50"), "class[0].max_rate_ms").len(), 1);
    assert_eq!(warned(&class("max_rate_ms = 49\nmax_age_ms = 50"), "class[0].max_rate_ms"), [""; 0]);
}

#[test]
fn tokens_that_expire_as_soon_as_they_are_accepted_are_found() {
    let said = warned("[auth]\nmax_lifetime_s = 30\n[limits]\nexpiring_s = 30", "limits.expiring_s");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        warned("[auth]\nmax_lifetime_s = 31\n[limits]\nexpiring_s = 30", "limits.expiring_s"),
        [""; 0]
    );
}

#[test]
fn blanks_that_no_token_has_are_refused() {
    for key in ["issuer", "audience"] {
        assert_eq!(mistake_in(&format!("[auth]\n{key} = \" x\"")).key, format!("auth.{key}"));
    }
}

#[test]
fn a_header_that_no_class_lets_through_is_said() {
    let vocabulary = Scratch::new(
        "name = \"x\"\n[[path]]\nname = \"a\"\npath = \"/a\"\n[[receive]]\nwhen = { op = \"watch\" }\ndo = \"subscribe\"\n\
         channel = \"chat.a\"\n[[deliver]]\npattern = \"chat.*\"\nsend = { id = \"{nats.Nats-Msg-Id}\", data = \"{data}\" }\n",
    );
    let path = format!("{}.toml", vocabulary.path());
    std::fs::copy(&vocabulary.0, &path).unwrap();
    let with = |class: &str| {
        warned(&format!("[[endpoint]]\nvocabulary = \"{path}\"\n{class}"), "endpoint[0].vocabulary")
    };
    let said = with("");
    assert!(said.len() == 1 && said[0].contains("{nats.Nats-Msg-Id} is always absent"), "{said:?}");
    assert_eq!(with("[[class]]\npattern = \"chat.>\"\nheaders = [\"traceparent\"]").len(), 1);
    for headers in ["nats-msg-id", "*"] {
        let class = format!("[[class]]\npattern = \"chat.>\"\nheaders = [\"{headers}\"]");
        assert_eq!(with(&class), [""; 0], "{headers}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn holes_where_nobody_fills_them_are_refused() {
    for pattern in ["user.{sub}.>", "a.{b", "a}"] {
        let mistake = mistake_in(&format!("[[class]]\npattern = \"{pattern}\""));
        assert!(
            mistake.key == "class[0].pattern" && mistake.help.contains("write * for the token"),
            "{mistake}"
        );
    }
    for written in ["user.${sub}.>", "user.{{sub}}.>"] {
        let mistake = mistake_in(&role(&format!("subscribe = {{ allow = [\"{written}\"] }}")));
        assert!(mistake.help.contains("write {sub}"), "{mistake}");
    }
}

#[test]
fn what_is_allowed_and_denied_as_a_whole_is_said_aloud() {
    let rules = |allow: &str, deny: &str| {
        role(&format!("publish = {{ allow = [\"{allow}\"], deny = [\"{deny}\"] }}"))
    };
    for (allow, deny, is_said) in [
        ("chat.*", "chat.>", true),
        ("user.{sub}.a", "user.*.a", true),
        ("chat.*", "chat.secret", false),
        ("user.{sub}.>", "user.*.internal", false),
    ] {
        let said = warned(&rules(allow, deny), "role[0].publish.deny");
        assert_eq!(said.len(), usize::from(is_said), "{allow} {deny}: {said:?}");
    }
}

#[test]
fn what_does_not_fit_into_what_carries_it_is_said_aloud() {
    for (inner, outer) in [
        ("[auth]\nmax_token_bytes = 8193\n[limits]\nmax_header_bytes = 8192", "auth.max_token_bytes"),
        ("[limits]\npublish_max_bytes = 65537", "limits.publish_max_bytes"),
        ("[limits]\nfeed_value_bytes = 65537\noutbox_bytes = 65536", "limits.feed_value_bytes"),
    ] {
        assert_eq!(warned(inner, outer).len(), 1, "{inner}");
    }
}
