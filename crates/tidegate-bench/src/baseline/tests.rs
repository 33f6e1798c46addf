//! Tests of the parsers for records and requests.

use super::*;

#[test]
fn a_record_is_found_once_it_is_complete() {
    let mut feed = vec![7, 0, 0, 0, 3, 0, 0, 0];
    feed.extend_from_slice(b"abc");
    feed.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(next_record(&feed, 0), Some((7, 8..11)));
    assert_eq!(next_record(&feed, 11), Some((1, 19..19)));
    for cut in 0..11 {
        assert_eq!(next_record(&feed[..cut], 0), None, "cut at {cut}");
    }
    assert_eq!(next_record(&feed, 19), None);
}

#[test]
fn a_request_names_its_subjects() {
    assert_eq!(subjects(b"GET /0,7,12 HTTP/1.1\r\nHost: x\r\n\r\n"), [0, 7, 12]);
    assert_eq!(subjects(b"GET / HTTP/1.1\r\n\r\n"), Vec::<usize>::new());
    assert_eq!(subjects(b""), Vec::<usize>::new());
}
