//! Endpoints with listeners of their own: which they share, which paths are free there, and what is twice.

use super::*;
use std::net::SocketAddr;

/// A file with endpoints at these addresses and paths.
fn endpoints(list: &[(&str, &str)]) -> String {
    let one = |(listen, path): &(&str, &str)| {
        let listen = if listen.is_empty() { String::new() } else { format!("listen = \"{listen}\"\n") };
        format!("[[endpoint]]\n{listen}path = \"{path}\"\n")
    };
    list.iter().map(one).collect()
}

fn listens(file: &str) -> Vec<Option<String>> {
    let endpoints = load_file(file).expect(file).config.endpoints;
    endpoints.into_iter().map(|endpoint| endpoint.listen.map(|listen| listen.to_string())).collect()
}

#[test]
fn an_endpoint_listens_where_all_do_or_for_itself() {
    let own = |address: &str| Some(address.to_owned());
    for (file, expected) in [
        (endpoints(&[("", "/ws"), ("127.0.0.1:9001", "/")]), vec![None, own("127.0.0.1:9001")]),
        ("[[endpoint]]\nlisten = \"\"\npath = \"/ws\"".to_owned(), vec![None]),
        (endpoints(&[("127.0.0.1:8080", "/ws")]), vec![None]),
        (endpoints(&[("[::1]:8080", "/ws")]), vec![own("[::1]:8080")]),
        (format!("[http]\nlisten = \"1.2.3.4:5\"\n{}", endpoints(&[("1.2.3.4:5", "/ws")])), vec![None]),
        (
            format!("[http]\nlisten = \"127.0.0.1:0\"\n{}", endpoints(&[("127.0.0.1:0", "/ws")])),
            vec![own("127.0.0.1:0")],
        ),
    ] {
        assert_eq!(listens(&file), expected, "{file}");
    }
    let shared = endpoints(&[("1.2.3.4:7", "/a"), ("", "/b"), ("1.2.3.4:6", "/c"), ("1.2.3.4:7", "/d")]);
    let config = load_file(&shared).unwrap().config;
    let beside: Vec<SocketAddr> = endpoint::listeners_beside(&config.endpoints).collect();
    assert_eq!(beside, ["1.2.3.4:6".parse().unwrap(), "1.2.3.4:7".parse().unwrap()]);
}

#[test]
fn twins_are_of_one_listener() {
    for list in [
        &[("", "/ws"), ("1.2.3.4:5", "/ws")][..],
        &[("1.2.3.4:5", "/ws"), ("1.2.3.4:6", "/ws"), ("1.2.3.4:6", "/")],
    ] {
        load_file(&endpoints(list)).expect("different listeners");
    }
    for list in [
        &[("", "/ws"), ("", "/ws")][..],
        &[("", "/ws"), ("127.0.0.1:8080", "/ws")],
        &[("1.2.3.4:5", "/ws"), ("1.2.3.4:5", "/ws")],
        &[("1.2.3.4:5", "/"), ("1.2.3.4:5", "/")],
    ] {
        let mistake = mistake_in(&endpoints(list));
        assert_eq!(mistake.key, "endpoint[1].path", "{list:?}");
        assert!(mistake.message.ends_with("is that of endpoint[0] too"), "{mistake}");
    }
}

#[test]
fn the_root_is_free_on_a_listener_of_its_own_and_health_routes_nowhere() {
    assert_eq!(load_file(&endpoints(&[("1.2.3.4:5", "/")])).unwrap().config.endpoints[0].path, "/");
    for (listen, path) in
        [("", "/"), ("127.0.0.1:8080", "/"), ("1.2.3.4:5", "/healthz"), ("1.2.3.4:5", "/readyz")]
    {
        let mistake = mistake_in(&endpoints(&[(listen, path)]));
        assert_eq!(mistake.key, "endpoint[0].path", "{listen} {path}");
        assert!(mistake.message.contains("a path of Tidegate's own"), "{mistake}");
        assert_eq!(mistake.help.contains("listen = "), path == "/", "{mistake}");
    }
    for address in ["9001", "localhost:9001", ":9001", "127.0.0.1", "127.0.0.1:99999"] {
        let mistake = mistake_in(&endpoints(&[(address, "/ws")]));
        assert_eq!(mistake.key, "endpoint[0].listen", "{address}");
        assert!(mistake.help.contains("\"127.0.0.1:8080\""), "{mistake}");
    }
}

#[test]
fn the_port_of_the_platform_may_not_be_that_of_an_endpoint() {
    let file = endpoints(&[("", "/ws"), ("127.0.0.1:9001", "/")]);
    load_all(&file, &[("PORT", "9002")], &[]).unwrap();
    let found = load_all(&file, &[("PORT", "9001")], &[]).unwrap_err().0;
    assert_eq!((found.len(), found[0].key.as_str(), found[0].origin.as_str()), (1, "http.listen", "PORT"));
    assert_eq!(found[0].message, "127.0.0.1:9001 is endpoint[1].listen");
    load_all(&endpoints(&[("127.0.0.1:0", "/")]), &[("PORT", "0")], &[]).unwrap();
}

#[test]
fn the_paths_of_a_vocabulary_are_those_of_its_endpoint() {
    let mcp = "vocabulary = \"vocabularies/financegpt-mcp.toml\"";
    let at = |listen: &str, path: &str| format!("[[endpoint]]\n{mcp}\nlisten = \"{listen}\"\n{path}");
    load_file(&at("", "")).expect("without the page its place is free");
    load_file(&format!("{}\n{}", at("", ""), at("1.2.3.4:5", ""))).expect("different listeners");
    load_file(&format!("[http]\nconsole = true\n{}", at("1.2.3.4:5", ""))).expect("not where the page is");
    let page = mistake_in(&format!("[http]\nconsole = true\n{}", at("", "")));
    assert_eq!(page.key, "endpoint[0].vocabulary");
    assert!(page.message.starts_with("its path \"/\" is a path of Tidegate's own"), "{page}");
    let twice = mistakes_in(&format!("{}\n{}", at("1.2.3.4:5", ""), at("1.2.3.4:5", "")));
    assert!(twice.iter().all(|mistake| mistake.key == "endpoint[1].path"), "{twice:?}");
    let both = mistake_in(&at("1.2.3.4:5", "path = \"/ws\""));
    assert_eq!(both.key, "endpoint[0].path");
}
