//! The listeners and paths of endpoints. Their errors are in `tests/config/mistakes/endpoint.txt`.

use super::*;

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
fn an_endpoint_uses_the_main_listener_or_its_own() {
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
    let extra: Vec<ListenAddress> = endpoint::extra_listeners(&config.endpoints).collect();
    assert_eq!(extra, ["1.2.3.4:6".parse().unwrap(), "1.2.3.4:7".parse().unwrap()]);
}

#[test]
fn the_variable_port_may_not_name_the_port_of_an_endpoint() {
    let file = endpoints(&[("", "/ws"), ("127.0.0.1:9001", "/")]);
    load_all(&file, &[("PORT", "9002")], &[]).unwrap();
    let found = load_all(&file, &[("PORT", "9001")], &[]).unwrap_err().0;
    assert_eq!((found.len(), found[0].key.as_str(), found[0].origin.as_str()), (1, "http.listen", "PORT"));
    assert_eq!(found[0].message, "127.0.0.1:9001 is also the address of endpoint[1].listen");
    load_all(&endpoints(&[("127.0.0.1:0", "/")]), &[("PORT", "0")], &[]).unwrap();
}

#[test]
fn paths_are_kept_as_they_are_written() {
    for path in ["/ws", "/a/b", "/ws/v1.0", "/~x", "/health"] {
        assert_eq!(load_file(&endpoints(&[("", path)])).expect(path).config.endpoints[0].path, path);
    }
    assert_eq!(load_file(&endpoints(&[("1.2.3.4:5", "/")])).unwrap().config.endpoints[0].path, "/");
    assert_eq!(load_file("endpoint = []").unwrap().config.endpoints, Config::default().endpoints);
}
