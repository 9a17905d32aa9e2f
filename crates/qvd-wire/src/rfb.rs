//! What viewers send by RFB (RFC 6143), filtered for those that may only watch.
//!
//! Keys, pointers and clipboards are left out. So are all offers of extensions by which a viewer would get to send
//! messages of other shapes: what was not offered is not used, and a message that is not known ends the connection.

/// Lets pass what a viewer needs to see, and nothing that does anything.
#[derive(Debug)]
pub struct ViewOnly {
    state: State,
    /// The beginning of what is not complete.
    pending: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Version,
    Security,
    /// The answer to a challenge.
    Response,
    Init,
    Messages,
    /// So many bytes of a message that is left out.
    Dropping(u64),
}

/// What cannot be filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewerError {
    /// The viewer speaks no version in which it chooses the security itself.
    #[error("the viewer speaks another protocol than RFB 3.7 or 3.8")]
    Version,
    /// A kind of security whose exchange is not known.
    #[error("security of type {0} cannot be filtered")]
    Security(u8),
    /// A message that is not known.
    #[error("a message of the unknown type {0}")]
    Message(u8),
    /// More encodings than there are.
    #[error("the viewer offers {0} encodings")]
    Encodings(u16),
}

const VERSION: usize = 12;
const NONE: u8 = 1;
const PASSWORD: u8 = 2;
const CHALLENGE: usize = 16;
/// Encodings that a viewer may offer; all that are registered are fewer.
const ENCODINGS: u16 = 512;

impl Default for ViewOnly {
    fn default() -> Self {
        Self { state: State::Version, pending: Vec::new() }
    }
}

impl ViewOnly {
    /// Takes what the viewer sent, in pieces of any size, and appends what may pass to `out`.
    ///
    /// # Errors
    /// [`ViewerError`] when it cannot be told what the viewer does; nothing more may pass then.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ViewerError> {
        self.pending.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(used) = self.step(taken, out)? {
            taken += used;
        }
        self.pending.drain(..taken);
        Ok(())
    }

    /// Takes one message at `at`; its length, or none when it is not complete.
    fn step(&mut self, at: usize, out: &mut Vec<u8>) -> Result<Option<usize>, ViewerError> {
        let left = self.pending.get(at..).unwrap_or_default();
        let mut pass = |length: usize| {
            let message = left.get(..length);
            out.extend_from_slice(message.unwrap_or_default());
            message.map(<[u8]>::len)
        };
        Ok(match self.state {
            State::Version => match left.get(..VERSION) {
                None => None,
                Some(b"RFB 003.007\n" | b"RFB 003.008\n") => {
                    self.state = State::Security;
                    pass(VERSION)
                }
                Some(_) => return Err(ViewerError::Version),
            },
            State::Security => match left.first() {
                None => None,
                Some(&NONE) => {
                    self.state = State::Init;
                    pass(1)
                }
                Some(&PASSWORD) => {
                    self.state = State::Response;
                    pass(1)
                }
                Some(other) => return Err(ViewerError::Security(*other)),
            },
            State::Response => {
                let passed = pass(CHALLENGE);
                if passed.is_some() {
                    self.state = State::Init;
                }
                passed
            }
            State::Init => {
                let passed = pass(1);
                if passed.is_some() {
                    self.state = State::Messages;
                }
                passed
            }
            State::Dropping(length) => {
                let dropped = usize::try_from(length).unwrap_or(usize::MAX).min(left.len());
                let length = length - dropped as u64;
                self.state = if length == 0 { State::Messages } else { State::Dropping(length) };
                (dropped > 0).then_some(dropped)
            }
            State::Messages => match left.first() {
                None => None,
                // The format of pixels; requests for updates.
                Some(0) => pass(20),
                Some(3) => pass(10),
                Some(2) => encodings(left, out)?,
                // Keys and pointers.
                Some(4) => left.get(..8).map(<[u8]>::len),
                Some(5) => left.get(..6).map(<[u8]>::len),
                Some(6) => match left.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()) {
                    None => None,
                    // A negative length is that of an extension.
                    Some(length) => {
                        let length = u64::from(i32::from_be_bytes(length).unsigned_abs());
                        if length > 0 {
                            self.state = State::Dropping(length);
                        }
                        Some(8)
                    }
                },
                Some(other) => return Err(ViewerError::Message(*other)),
            },
        })
    }
}

/// Passes the encodings that change nothing about what a viewer sends.
fn encodings(message: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, ViewerError> {
    let Some(count) = message.get(2..4).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()) else {
        return Ok(None);
    };
    let count = u16::from_be_bytes(count);
    if count > ENCODINGS {
        return Err(ViewerError::Encodings(count));
    }
    let length = 4 + 4 * usize::from(count);
    let Some(offered) = message.get(4..length) else { return Ok(None) };
    let offered = offered.chunks_exact(4).filter_map(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let kept: Vec<[u8; 4]> = offered.filter(|bytes| is_harmless(i32::from_be_bytes(*bytes))).collect();
    out.extend_from_slice(&[2, 0]);
    out.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(ENCODINGS).to_be_bytes());
    out.extend(kept.into_iter().flatten());
    Ok(Some(length))
}

/// Ways to draw, and pseudo-encodings that only tell the viewer something.
const fn is_harmless(encoding: i32) -> bool {
    matches!(encoding,
        // How pixels are packed.
        0..=50
        // Quality and compression.
        | -32..=-23 | -256..=-247 | -512..=-412 | -768..=-763
        // The last rectangle, the size and the name of the screen, the shape and place of the pointer.
        | -224 | -223 | -307 | -239 | -240 | -314 | -232)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message, and what is left of it.
    type Message = (Vec<u8>, Vec<u8>);

    fn opening(password: bool) -> Message {
        let mut bytes = b"RFB 003.008\n".to_vec();
        if password {
            bytes.push(PASSWORD);
            bytes.extend([7; CHALLENGE]);
        } else {
            bytes.push(NONE);
        }
        bytes.push(1);
        (bytes.clone(), bytes)
    }

    fn offer(encodings: &[i32]) -> Vec<u8> {
        let mut bytes = vec![2, 0];
        bytes.extend(u16::try_from(encodings.len()).unwrap().to_be_bytes());
        bytes.extend(encodings.iter().flat_map(|encoding| encoding.to_be_bytes()));
        bytes
    }

    fn filtered(bytes: &[u8]) -> Result<Vec<u8>, ViewerError> {
        let mut out = Vec::new();
        ViewOnly::default().feed(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn keys_pointers_and_clipboards_are_left_out() {
        let (mut bytes, opening) = opening(false);
        bytes.extend([4, 1, 0, 0, 0, 0, 0, 0x61]);
        bytes.extend([5, 1, 0, 10, 0, 10]);
        bytes.extend([6, 0, 0, 0, 0, 0, 0, 3]);
        bytes.extend(b"abc");
        bytes.extend([6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfd, 1, 2, 3]);
        bytes.extend([3, 0, 0, 0, 0, 0, 0, 9, 0, 9]);
        assert_eq!(filtered(&bytes).unwrap(), [opening, vec![3, 0, 0, 0, 0, 0, 0, 9, 0, 9]].concat());
    }

    #[test]
    fn extensions_are_not_offered_and_not_taken() {
        let opening = opening(true).0;
        let out = filtered(&[opening.clone(), offer(&[7, -308, 16, -258, -239, -313, -312, -316])].concat())
            .unwrap();
        assert_eq!(out, [opening.clone(), offer(&[7, 16, -239])].concat());
        for unknown in [1_u8, 150, 248, 250, 251, 255] {
            assert_eq!(
                filtered(&[opening.as_slice(), &[unknown]].concat()),
                Err(ViewerError::Message(unknown))
            );
        }
        assert_eq!(filtered(b"RFB 003.003\n"), Err(ViewerError::Version));
        assert_eq!(filtered(b"GET / HTTP/1"), Err(ViewerError::Version));
        assert_eq!(filtered(b"RFB 003.008\n\x13"), Err(ViewerError::Security(19)));
        let many = [opening.as_slice(), &[2, 0, 0xff, 0xff]].concat();
        assert_eq!(filtered(&many), Err(ViewerError::Encodings(0xffff)));
    }

    fn message() -> impl Strategy<Value = Message> {
        let same = |bytes: Vec<u8>| (bytes.clone(), bytes);
        prop_oneof![
            prop::collection::vec(any::<u8>(), 19).prop_map(move |rest| same([vec![0], rest].concat())),
            prop::collection::vec(any::<u8>(), 9).prop_map(move |rest| same([vec![3], rest].concat())),
            prop::collection::vec(-800..100_i32, 0..20).prop_map(|all| {
                let kept: Vec<i32> = all.iter().copied().filter(|one| is_harmless(*one)).collect();
                (offer(&all), offer(&kept))
            }),
            prop::collection::vec(any::<u8>(), 7).prop_map(|rest| ([vec![4], rest].concat(), Vec::new())),
            prop::collection::vec(any::<u8>(), 5).prop_map(|rest| ([vec![5], rest].concat(), Vec::new())),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|text| {
                let length = u32::try_from(text.len()).unwrap().to_be_bytes();
                ([vec![6, 0, 0, 0], length.to_vec(), text].concat(), Vec::new())
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_passes_does_not_depend_on_how_it_arrives(
            password: bool,
            messages in prop::collection::vec(message(), 0..12),
            pieces in prop::collection::vec(1..40_usize, 1..20)
        ) {
            let messages = [vec![opening(password)], messages].concat();
            let sent: Vec<u8> = messages.iter().flat_map(|(sent, _)| sent.clone()).collect();
            let wanted: Vec<u8> = messages.into_iter().flat_map(|(_, passes)| passes).collect();
            let (mut filter, mut out, mut rest) = (ViewOnly::default(), Vec::new(), sent.as_slice());
            for piece in pieces.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(piece.min(rest.len()));
                filter.feed(now, &mut out).unwrap();
                rest = later;
            }
            prop_assert_eq!(out, wanted);
            prop_assert!(filter.pending.is_empty());
        }

        #[test]
        fn nothing_makes_it_fail_or_keep_much(bytes: Vec<u8>, more: Vec<u8>) {
            let (mut filter, mut out) = (ViewOnly::default(), Vec::new());
            let _ = filter.feed(b"RFB 003.008\n\x01\x01", &mut out);
            let _ = filter.feed(&bytes, &mut out).and_then(|()| filter.feed(&more, &mut out));
            prop_assert!(filter.pending.len() <= 4 + 4 * usize::from(ENCODINGS));
        }
    }
}
