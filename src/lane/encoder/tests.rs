//! One publication in several formats: rendered once, deflated once, and only where that saves bytes.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::*;
use crate::hooks::Faults;
use fastrand::Rng;
use tidegate_protocol::deflate::Inflater;
use tidegate_protocol::frame::Encoding;
use tidegate_protocol::frame::RouteId;
use tidegate_protocol::frame::VocabularyId;
use tidegate_protocol::headers::PublicationHeaders;
use tidegate_protocol::payload::Payload;
use tidegate_protocol::renderers::Renderers;
use tidegate_protocol::scratch::Scratch;

const MIN: usize = 256;

fn plain_format(route: u16) -> Format {
    Format { vocabulary: VocabularyId::NATIVE, route: RouteId(route), encoding: Encoding::JSON }
}

fn deflated_format(route: u16, window_bits: u8) -> Format {
    Format { encoding: Encoding::deflated(window_bits), ..plain_format(route) }
}

fn publication(payload: Vec<u8>) -> Publication {
    Publication {
        subject: "orders.1".into(),
        payload: Payload::classify(payload.into()),
        headers: PublicationHeaders::default(),
        key: "orders.1".into(),
        time: SystemTime::UNIX_EPOCH,
        seq: 0,
    }
}

/// A JSON payload with `times` repetitions.
fn json(times: usize) -> Vec<u8> {
    format!("[{}0]", r#"{"side":"buy","price":190.1},"#.repeat(times)).into_bytes()
}

/// The frames of a publication, and how many messages were deflated for them.
fn encoded(formats: &[Format], payload: Vec<u8>) -> (Vec<Frame>, u64) {
    let faults = Arc::new(Faults::default());
    let settings = CompressionSettings { min_bytes: MIN, level: 1 };
    let mut encoder = Encoder::new(Renderers::default(), settings).with_hooks(Arc::clone(&faults).into());
    let frames = encoder.encode(formats, "orders.1", &publication(payload)).unwrap().frames;
    assert_eq!(frames.iter().map(|(format, _)| *format).collect::<Vec<_>>(), formats);
    (frames.into_iter().map(|(_, frame)| frame).collect(), faults.deflated.load(Ordering::SeqCst))
}

/// Whether two frames share their bytes in memory.
fn shared(one: &Frame, other: &Frame) -> bool {
    std::ptr::eq(one.as_bytes().as_ptr(), other.as_bytes().as_ptr())
}

#[test]
fn a_deflated_frame_says_what_the_plain_one_says() {
    for times in [10, 100, 1000, 5000] {
        let (frames, deflated) = encoded(&[plain_format(0), deflated_format(0, 15)], json(times));
        assert_eq!(deflated, 1);
        assert_eq!([frames[0].is_deflated(), frames[1].is_deflated()], [false, true], "{times}");
        assert_eq!(frames[1].as_bytes()[0], 0xc1);
        assert!(frames[1].len() < frames[0].len());
        let message = Inflater::default().inflate(frames[1].message(), usize::MAX).unwrap();
        assert_eq!(message, frames[0].message());
    }
}

#[test]
fn a_publication_is_deflated_once_for_all_windows() {
    let formats: Vec<_> = (8..=15).map(|window_bits| deflated_format(0, window_bits)).collect();
    let (frames, deflated) = encoded(&formats, json(30));
    assert_eq!(deflated, 1);
    let length = frames[0].message().len();
    assert!(!frames[0].is_deflated() && length > 512, "{length}");
    for (frame, window) in frames.iter().zip(8..) {
        assert_eq!(frame.is_deflated(), length <= 1 << window, "{window}");
        let same = frames.iter().find(|other| other.is_deflated() == frame.is_deflated()).unwrap();
        assert!(shared(frame, same));
    }
}

#[test]
fn each_route_has_frames_of_its_own() {
    let formats = [deflated_format(1, 15), plain_format(0), plain_format(1), deflated_format(0, 15)];
    let (frames, deflated) = encoded(&formats, json(30));
    assert_eq!(deflated, 2);
    assert!(!shared(&frames[0], &frames[3]) && !shared(&frames[1], &frames[2]));
    assert_eq!(encoded(&[plain_format(0), plain_format(1)], json(30)).1, 0);
}

#[test]
fn where_it_does_not_pay_the_frame_is_the_plain_one() {
    let mut noise = [0_u8; 2000];
    Rng::with_seed(1).fill(&mut noise);
    let formats = [plain_format(0), deflated_format(0, 15)];
    let short = json(1);
    let (frames, deflated) = encoded(&formats, short);
    assert!(shared(&frames[0], &frames[1]) && deflated == 0, "it is too short to try");
    let letters: String = noise.iter().map(|byte| char::from(b'!' + byte % 90)).collect();
    let (frames, deflated) = encoded(&formats, letters.replace(['\\', '"'], "-").into_bytes());
    assert!(shared(&frames[0], &frames[1]) && deflated == 1, "it was tried, and saves too little");
}

#[test]
fn a_fault_in_one_publication_leaves_the_encoder_whole() {
    let mut encoder = Encoder::new(Renderers::default(), CompressionSettings { min_bytes: MIN, level: 1 });
    let formats = [deflated_format(0, 15)];
    let channel = "orders.1";
    assert!(encoder.encode(&formats, channel, &publication(b"\"panic in encode\"".to_vec())).is_none());
    let frames = encoder.encode(&formats, channel, &publication(json(30))).unwrap().frames;
    assert!(frames[0].1.is_deflated());
    let (renderers, again) = (Renderers::default(), publication(json(30)));
    let plain = encode_plain(&renderers, formats[0], channel, &again, &mut Scratch::default());
    assert!(matches!(plain, Rendered::Frame(frame) if !frame.is_deflated()));
}
