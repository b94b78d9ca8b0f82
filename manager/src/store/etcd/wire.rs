//! The few messages of etcd's API that are needed, as Protocol Buffers write them; pure.
//!
//! Numbers of fields are those of `etcdserverpb/rpc.proto` of etcd 3.4 to 3.7. Fields that aren't known are passed over.

use bytes::{BufMut, Bytes, BytesMut};

/// What a member says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its number.
    pub(crate) member: u64,
    /// The member that it takes for the leader.
    pub(crate) leader: u64,
    /// The newest revision.
    pub(crate) revision: u64,
    /// Bytes of its file.
    pub(crate) size: u64,
    /// Bytes of it that hold something.
    pub(crate) in_use: u64,
}

/// An alarm of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// Its number.
    pub(crate) member: u64,
    /// What it is about.
    pub(crate) kind: u64,
}

impl Alarm {
    /// A member is full.
    pub(crate) const NO_SPACE: u64 = 1;
}

/// An AlarmRequest's action that takes an alarm back; zero asks for all.
const DEACTIVATE: u64 = 2;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a form that no field of these messages has.
    Other,
}

/// A CompactionRequest that is answered when the member has done it.
pub(super) fn compaction(revision: u64) -> Vec<u8> {
    numbers(&[(1, revision), (2, 1)])
}

/// An AlarmRequest.
pub(super) fn disarm(alarm: Alarm) -> Vec<u8> {
    numbers(&[(1, DEACTIVATE), (2, alarm.member), (3, alarm.kind)])
}

/// A StatusResponse.
pub(super) fn status(message: &[u8]) -> Option<Status> {
    let mut status = Status::default();
    for (field, value) in read(message)? {
        match (field, value) {
            (1, Value::Bytes(header)) => {
                for (field, value) in read(header)? {
                    match (field, value) {
                        (2, Value::Number(member)) => status.member = member,
                        (3, Value::Number(revision)) => status.revision = revision,
                        _ => {}
                    }
                }
            }
            (3, Value::Number(size)) => status.size = size,
            (4, Value::Number(leader)) => status.leader = leader,
            (9, Value::Number(in_use)) => status.in_use = in_use,
            _ => {}
        }
    }
    Some(status)
}

/// The alarms of an AlarmResponse.
pub(super) fn alarms(message: &[u8]) -> Option<Vec<Alarm>> {
    let mut alarms = vec![];
    for (field, value) in read(message)? {
        let (2, Value::Bytes(one)) = (field, value) else {
            continue;
        };
        let mut alarm = Alarm { member: 0, kind: 0 };
        for (field, value) in read(one)? {
            match (field, value) {
                (1, Value::Number(member)) => alarm.member = member,
                (2, Value::Number(kind)) => alarm.kind = kind,
                _ => {}
            }
        }
        alarms.push(alarm);
    }
    Some(alarms)
}

/// A message as gRPC sends it: not compressed, its length before it.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a few numbers"));
    frame.put_slice(message);
    frame.freeze()
}

/// The one message of an answer.
pub(super) fn unframe(body: &Bytes) -> Option<Bytes> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let is_whole = head[0] == 0 && usize::try_from(length).ok()? == message.len();
    is_whole.then(|| body.slice_ref(message))
}

/// A message of numbers; zero is what a field that isn't there means.
fn numbers(fields: &[(u64, u64)]) -> Vec<u8> {
    let mut message = vec![];
    for (field, value) in fields.iter().filter(|(_, value)| *value != 0) {
        put(&mut message, field << 3);
        put(&mut message, *value);
    }
    message
}

fn put(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// All fields of a message, in their order; `None` if it isn't one.
fn read(mut message: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = vec![];
    while !message.is_empty() {
        let key = take_number(&mut message)?;
        let value = match key & 7 {
            0 => Value::Number(take_number(&mut message)?),
            1 => take(&mut message, 8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(take_number(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        fields.push((key >> 3, value));
    }
    Some(fields)
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_number(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A StatusResponse, as a member writes it.
    pub(crate) fn status(status: &Status) -> Vec<u8> {
        let header = numbers(&[(2, status.member), (3, status.revision)]);
        let mut message = within(1, &header);
        message.extend(numbers(&[
            (3, status.size),
            (4, status.leader),
            (9, status.in_use),
        ]));
        message
    }

    /// An AlarmResponse.
    pub(crate) fn alarms(alarms: &[Alarm]) -> Vec<u8> {
        let one = |alarm: &Alarm| within(2, &numbers(&[(1, alarm.member), (2, alarm.kind)]));
        alarms.iter().flat_map(one).collect()
    }

    fn within(field: u64, inner: &[u8]) -> Vec<u8> {
        let mut message = vec![];
        put(&mut message, field << 3 | 2);
        put(&mut message, inner.len() as u64);
        message.extend(inner);
        message
    }

    /// As `protoc --encode` writes them.
    #[test]
    fn requests_are_written_as_protocol_buffers_prescribe() {
        assert_eq!(compaction(300), [0x08, 0xac, 0x02, 0x10, 0x01]);
        let alarm = Alarm {
            member: 0x8211_f1d0_f64f_3269,
            kind: Alarm::NO_SPACE,
        };
        let wanted = [
            0x08, 0x02, 0x10, 0xe9, 0xe4, 0xbc, 0xb2, 0x8f, 0xba, 0xfc, 0x88, 0x82, 0x01, 0x18,
            0x01,
        ];
        assert_eq!(disarm(alarm), wanted);
        assert_eq!(frame(&[7, 8])[..], [0, 0, 0, 0, 2, 7, 8]);
    }

    #[test]
    fn answers_are_read_and_what_is_not_known_is_passed_over() {
        let header = [0x08, 0x05, 0x10, 0x09, 0x18, 0xac, 0x02, 0x20, 0x03];
        let mut message = vec![0x0a, header.len() as u8];
        message.extend(header);
        // The version, the sizes, the leader, an error, a fixed number that nobody knows.
        message.extend([0x12, 0x03, b'3', b'.', b'6']);
        message.extend([0x18, 0x80, 0x80, 0x80, 0x18, 0x20, 0x09]);
        message.extend([0x42, 0x02, b'n', b'o', 0x48, 0x80, 0x80, 0x40]);
        message.extend([0xa5, 0x06, 1, 2, 3, 4]);
        let wanted = Status {
            member: 9,
            leader: 9,
            revision: 300,
            size: 48 << 20,
            in_use: 1 << 20,
        };
        assert_eq!(super::status(&message), Some(wanted));
        let both = [
            0x0a, 0x00, 0x12, 0x04, 0x08, 0x09, 0x10, 0x01, 0x12, 0x02, 0x08, 0x07,
        ];
        let wanted = [(9, Alarm::NO_SPACE), (7, 0)].map(|(member, kind)| Alarm { member, kind });
        assert_eq!(super::alarms(&both), Some(wanted.to_vec()));
        assert_eq!(super::alarms(&[]), Some(vec![]));
        assert_eq!(super::alarms(&both[..11]), None);
    }

    #[test]
    fn only_a_whole_message_is_taken_out_of_its_frame() {
        let body = frame(&[1, 2, 3]);
        assert_eq!(unframe(&body).as_deref(), Some(&[1, 2, 3][..]));
        for wrong in [&body[..4], &body[..7], &[1, 0, 0, 0, 0][..]] {
            assert_eq!(unframe(&Bytes::copy_from_slice(wrong)), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (super::status(&bytes), super::alarms(&bytes), unframe(&Bytes::from(bytes)));
        }

        #[test]
        fn a_number_comes_back_as_it_went(number in 1u64..) {
            let message = numbers(&[(3, number)]);
            prop_assert_eq!(read(&message), Some(vec![(3, Value::Number(number))]));
        }
    }
}
