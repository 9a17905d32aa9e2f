//! The dialect as a whole: worked exchanges of `spec/protocol.md` 12, and properties of both parsers.

use proptest::prelude::*;
use qvd_wire::http::{
    Answer, Credentials, Get, Limits, Method, Reply, Request, RequestParser, ResponseParser, SLAVE_KEY,
    Status, UPGRADE_QVD, VM_INFO, Version, progress, switching,
};

fn requests(chunks: &[&[u8]]) -> (Vec<Request>, bool) {
    let mut parser = RequestParser::new(Limits::default());
    let mut found = Vec::new();
    for chunk in chunks {
        parser.feed(chunk);
        loop {
            match parser.request() {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn answers(chunks: &[&[u8]]) -> (Vec<Answer>, bool) {
    let mut parser = ResponseParser::new(64 * 1024);
    let mut found = Vec::new();
    for chunk in chunks {
        parser.feed(chunk);
        loop {
            match parser.answer() {
                Ok(Some(answer)) => found.push(answer),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    match parser.finish() {
        Ok(last) => {
            found.extend(last);
            (found, false)
        }
        Err(_) => (found, true),
    }
}

fn one_request(bytes: &[u8]) -> Request {
    let (mut found, failed) = requests(&[bytes]);
    assert!(!failed && found.len() == 1, "{found:?}");
    found.remove(0)
}

#[test]
fn perl_client_lists_and_connects() {
    let list = one_request(
        b"GET /qvd/list_of_vm? HTTP/1.1\r\nAuthorization: Basic am9lQGFjbWU6c2VjcmV0\r\n\
          Accept: application/json\r\nUser-Agent: QVD::HTTPC/0.01 (linux)\r\n\r\n",
    );
    assert_eq!(
        (list.method, list.version, list.path.as_str()),
        (Method::Get, Version::Http11, "/qvd/list_of_vm")
    );
    let Some(Credentials::Basic { login, password }) = Credentials::of(&list.headers) else { panic!() };
    assert_eq!((login.as_slice(), password.as_slice()), (b"joe@acme".as_slice(), b"secret".as_slice()));

    let connect = one_request(
        b"GET /qvd/connect_to_vm?id=12&qvd.client.os=linux&qvd.client.keyboard=pc105%2Fes&qvd.client.fullscreen= \
          HTTP/1.1\r\nAuthorization: Basic am9lQGFjbWU6c2VjcmV0\r\nConnection: Upgrade\r\nUpgrade: QVD/1.0\r\n\r\n",
    );
    assert_eq!(connect.query.value("qvd.client.keyboard"), Some("pc105/es"));
    assert_eq!(connect.query.value("qvd.client.fullscreen"), Some(""));
    assert!(
        connect.headers.has_token("Connection", "Upgrade")
            && connect.headers.has_token("Upgrade", UPGRADE_QVD)
    );
}

#[test]
fn c_and_qt_send_bare_line_feeds_and_no_host() {
    let connect = one_request(
        b"GET /qvd/connect_to_vm?id=12&qvd.client.keyboard=pc105/en&qvd.client.timezone=Europe/Madrid HTTP/1.1\n\
          Authorization: Basic am9lQGFjbWU6c2VjcmV0\nUser-Agent: QVDClient Qt/0.01 (Linux)\n\
          Connection: Upgrade\nUpgrade: QVD/1.0\n\n",
    );
    assert_eq!(connect.query.value("qvd.client.timezone"), Some("Europe/Madrid"));
    assert!(connect.headers.has_token("upgrade", "qvd/1.0"));
}

#[test]
fn server_bytes_are_the_documented_ones() {
    assert_eq!(
        progress("Session acquired for VM_ID: 12"),
        b"HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Session acquired for VM_ID: 12\r\n\r\n"
    );
    let key = "b7Qm".repeat(16);
    assert_eq!(
        String::from_utf8(switching(&[(SLAVE_KEY, key.clone())])).unwrap(),
        format!("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: {key}\r\n\r\n")
    );
    let body = "The requested virtual machine is not available: takeover timed out, retry later.";
    let reply = Reply::text(Status::Unavailable, body);
    assert_eq!(
        String::from_utf8(reply.head()).unwrap(),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 80\r\n\r\n"
    );
    assert_eq!(reply.body(), body.as_bytes());
}

#[test]
fn a_connect_as_the_client_sees_it() {
    let key = "k".repeat(64);
    let mut stream = progress("Starting virtual machine");
    stream.extend(progress("Connection established"));
    stream.extend(switching(&[(SLAVE_KEY, key.clone())]));
    stream.extend(b"NXPROXY-3.5.0");
    let mut parser = ResponseParser::new(1024);
    parser.feed(&stream);
    for text in ["Starting virtual machine", "Connection established"] {
        let Ok(Some(Answer::Interim(head))) = parser.answer() else { panic!("no progress") };
        assert_eq!((head.status, head.headers.text(VM_INFO).as_deref()), (102, Some(text)));
    }
    let Ok(Some(Answer::Switched(head))) = parser.answer() else { panic!("no switch") };
    assert_eq!(head.headers.text(SLAVE_KEY).unwrap(), key);
    assert_eq!(&parser.into_rest()[..], b"NXPROXY-3.5.0");
}

#[test]
fn upstream_quirks_are_survived() {
    // 4.7: a blocked VM; two header lines have no colon.
    let (found, failed) = answers(&[b"HTTP/1.1 404 Not Found\r\n403 Forbidden\r\nVM is blocked\r\n\
        Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nnone"]);
    let [Answer::Final(head, body)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((head.status, body.as_slice(), failed), (404, b"none".as_slice(), false));

    // 4.7: a progress text of two lines ends the head early.
    let (found, failed) = answers(&[
        b"HTTP/1.1 102 Processing\r\n\r\nsecond",
        b" line\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    ]);
    assert!(matches!(&found[..], [Answer::Interim(_), Answer::Final(_, body)] if body == b"ok") && !failed);

    // No reason, no length: the body lasts until the connection ends.
    let (found, failed) = answers(&[b"HTTP/1.1 500\r\n\r\nSome", b"thing"]);
    assert!(matches!(&found[..], [Answer::Final(_, body)] if body == b"Something") && !failed);
}

#[test]
fn other_protocols_and_oversized_answers_are_refused() {
    assert!(answers(&[b"SSH-2.0-OpenSSH"]).1);
    assert!(answers(&[b"+OK hello\r\n"]).1);
    assert!(answers(&[b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"]).1);
    assert!(answers(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]).1);
    assert!(answers(&[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"]).1);
}

/// Bytes in the likeness of requests and answers, and plain noise.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET /qvd/ping HTTP/1.1\r\n".to_vec()),
        Just(b"HTTP/1.1 102 Processing\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\nContent-Length: 3\n".to_vec()),
        Just(b"Content-Length: 18446744073709551616\r\n".to_vec()),
        Just(b"Connection: Upgrade\r\n".to_vec()),
        Just(b"NXPROXY-".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

proptest! {
    #[test]
    fn chunking_never_changes_what_is_read(bytes in noise(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let chunks = cut(&bytes, &cuts);
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(requests(&chunks), requests(&[&bytes]));
        prop_assert_eq!(answers(&chunks), answers(&[&bytes]));
    }

    #[test]
    fn what_a_client_asks_the_server_understands(
        pairs in prop::collection::vec(("[a-z.]{1,12}", ".{0,20}"), 0..6),
        token in "[!-~]{1,40}",
    ) {
        let credentials = Credentials::Bearer { token: token.into_bytes().into() };
        let mut get = Get::new("/qvd/connect_to_vm");
        for (name, value) in &pairs {
            get = get.query(name, value);
        }
        let request = one_request(&get.credentials(&credentials).upgrade(UPGRADE_QVD).encode());
        let sent: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), Some(v.as_str()))).collect();
        prop_assert_eq!(request.query.iter().collect::<Vec<_>>(), sent);
        prop_assert_eq!(Credentials::of(&request.headers), Some(credentials));
        prop_assert!(request.headers.has_token("Upgrade", "QVD/1.0"));
    }

    #[test]
    fn what_a_server_answers_the_client_understands(body in prop::collection::vec(any::<u8>(), 0..200), value in ".{0,60}") {
        let reply = Reply::new(Status::Forbidden, "text/plain", body).field("X-Note", value);
        let stream = [progress("going on"), reply.head(), reply.body().to_vec()].concat();
        let (found, failed) = answers(&[&stream]);
        prop_assert!(!failed);
        let [Answer::Interim(_), Answer::Final(head, received)] = found.as_slice() else {
            return Err(TestCaseError::fail(format!("{found:?}")));
        };
        prop_assert_eq!((head.status, received.as_slice()), (403, reply.body()));
    }

    #[test]
    fn lists_are_never_empty_answers(text in ".*") {
        prop_assert!(!Reply::text(Status::Ok, text).body().is_empty());
    }
}
