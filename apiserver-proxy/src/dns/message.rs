//! Bytes in, question out; answer in, bytes out. The wire format itself is hickory's.

use super::{answer::Answer, cache::Outside};
use hickory_proto::{
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder},
};

/// Longest answer by UDP to a client that doesn't say what it takes.
const PLAIN: u16 = 512;
/// Longest answer by UDP to one that does: more would be cut to pieces on its way.
const EDNS: u16 = 1232;

/// How a question came; its answer goes the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream.
    Tcp,
}

/// A question that can be answered.
pub(super) struct Request {
    message: Message,
    /// What is asked.
    pub(super) query: Query,
    /// How it came.
    pub(super) transport: Transport,
}

/// What isn't a question that can be answered.
#[derive(Debug, PartialEq)]
pub(super) enum Unfit {
    /// No message at all, or an answer: saying something could go back and forth for ever.
    Silent,
    /// It is answered with an error.
    Refused(Vec<u8>),
}

impl Request {
    /// Reads a question.
    pub(super) fn read(bytes: &[u8], transport: Transport) -> Result<Self, Unfit> {
        let header = Header::read(&mut BinDecoder::new(bytes)).map_err(|_| Unfit::Silent)?;
        let metadata = header.metadata;
        if metadata.message_type == MessageType::Response {
            return Err(Unfit::Silent);
        }
        let refuse = |code| {
            let bytes = bare(&metadata, code).to_vec();
            bytes.map_or(Unfit::Silent, Unfit::Refused)
        };
        if metadata.op_code != OpCode::Query {
            return Err(refuse(ResponseCode::NotImp));
        }
        let message = Message::from_vec(bytes).map_err(|_| refuse(ResponseCode::FormErr))?;
        let [query] = message.queries.as_slice() else {
            return Err(refuse(ResponseCode::FormErr));
        };
        let query = query.clone();
        let request = Self {
            message,
            query,
            transport,
        };
        if request
            .message
            .edns
            .as_ref()
            .is_some_and(|edns| edns.version() != 0)
        {
            return Err(Unfit::Refused(request.fail(ResponseCode::BADVERS)));
        }
        if request.query.query_class() != DNSClass::IN {
            return Err(Unfit::Refused(request.fail(ResponseCode::Refused)));
        }
        Ok(request)
    }

    /// The bytes of an answer out of what is known.
    ///
    /// Its records begin with another one each time, so that clients that take the first spread.
    pub(super) fn reply(&self, mut answer: Answer) -> Vec<u8> {
        let turn = usize::from(self.message.metadata.id);
        if let Some(first) = answer.records.first()
            && answer
                .records
                .iter()
                .all(|record| record.name == first.name)
        {
            let turn = turn % answer.records.len();
            answer.records.rotate_left(turn);
        }
        let mut reply = bare(&self.message.metadata, answer.code);
        reply.metadata.authoritative = answer.code != ResponseCode::Refused;
        reply.answers = answer.records;
        reply.authorities = answer.authorities;
        reply.additionals = answer.additionals;
        self.bytes(reply)
    }

    /// Whether an answer that was kept is as good as a new one: nothing is asked for but the records.
    pub(super) fn is_plain(&self) -> bool {
        let metadata = &self.message.metadata;
        let edns = self.message.edns.as_ref();
        metadata.recursion_desired
            && !metadata.checking_disabled
            && edns.is_none_or(|edns| !edns.flags().dnssec_ok)
    }

    /// The bytes of an answer that a server outside gave before.
    pub(super) fn repeat(&self, outside: Outside) -> Vec<u8> {
        let mut reply = bare(&self.message.metadata, outside.code);
        reply.metadata.recursion_available = true;
        reply.answers = outside.answers;
        reply.authorities = outside.authorities;
        reply.additionals = outside.additionals;
        self.bytes(reply)
    }

    /// The bytes of an answer that says what is wrong, and nothing else.
    pub(super) fn fail(&self, code: ResponseCode) -> Vec<u8> {
        self.bytes(bare(&self.message.metadata, code))
    }

    fn bytes(&self, mut reply: Message) -> Vec<u8> {
        reply.add_query(self.query.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS).set_version(0);
            reply.set_edns(edns);
        }
        encode(&reply, self.limit()).unwrap_or_else(|| {
            let code = ResponseCode::ServFail;
            bare(&self.message.metadata, code)
                .to_vec()
                .unwrap_or_default()
        })
    }

    fn limit(&self) -> u16 {
        match (self.transport, &self.message.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN, EDNS),
        }
    }
}

/// A question of ours, for the records of another name.
pub(super) fn ask(name: &Name, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS).set_version(0);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// The records of an answer to a question of ours.
pub(super) fn records(bytes: &[u8]) -> Option<Vec<Record>> {
    Some(Message::from_vec(bytes).ok()?.answers)
}

/// Another number for a question, or for its answer.
pub(super) fn renumber(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
}

/// The number of a message.
pub(super) fn number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// Whether `reply` answers `question`: its number, and what it repeats of the question, are the same.
pub(super) fn answers(question: &[u8], reply: &[u8]) -> bool {
    let read = |bytes| {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let queries = Message::read_queries(&mut decoder, header.counts.queries.into()).ok()?;
        Some((header.metadata, queries))
    };
    let (Some((asked, question)), Some((answered, repeated))) = (read(question), read(reply))
    else {
        return false;
    };
    answered.message_type == MessageType::Response
        && answered.id == asked.id
        && repeated == question
}

/// Whether an answer was cut.
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    Header::read(&mut BinDecoder::new(bytes)).is_ok_and(|header| header.metadata.truncation)
}

fn bare(request: &Metadata, code: ResponseCode) -> Message {
    let mut message = Message::new(request.id, MessageType::Response, request.op_code);
    message.metadata = Metadata::response_from_request(request);
    message.metadata.response_code = code;
    message
}

/// At most `limit` bytes; what doesn't fit is left out, and the answer says so.
fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PLAIN.into());
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    match message.emit(&mut encoder) {
        Ok(()) => Some(bytes),
        Err(_) => message.truncate().to_vec().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{RData, rdata::A};

    fn question(edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 4;
        let name = Name::from_ascii("Web.Shop.svc.cluster.local.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn addresses(count: u8) -> Answer {
        let name = Name::from_ascii("Web.Shop.svc.cluster.local.").unwrap();
        let record = |last| Record::from_rdata(name.clone(), 30, RData::A(A::new(10, 0, 0, last)));
        Answer {
            records: (0..count).map(record).collect(),
            ..Answer::empty(ResponseCode::NoError)
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut_and_says_so() {
        for (edns, transport, longest, is_whole) in [
            (None, Transport::Udp, 512, false),
            (Some(100), Transport::Udp, 512, false),
            (Some(4096), Transport::Udp, 1232, false),
            (None, Transport::Tcp, 65_535, true),
        ] {
            let request = Request::read(&question(edns), transport).ok().unwrap();
            let bytes = request.reply(addresses(100));
            let reply = Message::from_vec(&bytes).unwrap();
            assert!(bytes.len() <= longest, "{} bytes", bytes.len());
            assert_eq!(reply.metadata.truncation, !is_whole);
            assert_eq!(reply.answers.len() == 100, is_whole);
            assert_eq!(is_cut(&bytes), !is_whole);
        }
    }

    #[test]
    fn an_answer_repeats_the_question_as_it_was_written() {
        let request = Request::read(&question(Some(1232)), Transport::Udp)
            .ok()
            .unwrap();
        let reply = Message::from_vec(&request.reply(addresses(3))).unwrap();
        assert_eq!(
            reply.queries[0].name().to_ascii(),
            "Web.Shop.svc.cluster.local."
        );
        assert_eq!((reply.metadata.id, reply.metadata.authoritative), (4, true));
        assert!(reply.edns.is_some());
        // The fourth question: the second of three comes first.
        assert_eq!(reply.answers[0].data, RData::A(A::new(10, 0, 0, 1)));
        let plain = Request::read(&question(None), Transport::Udp).ok().unwrap();
        assert!(
            Message::from_vec(&plain.reply(addresses(1)))
                .unwrap()
                .edns
                .is_none()
        );
    }

    #[test]
    fn what_is_no_question_is_refused_or_passed_over() {
        let code = |bytes: &[u8]| match Request::read(bytes, Transport::Udp) {
            Ok(_) => Some(ResponseCode::NoError),
            Err(Unfit::Silent) => None,
            Err(Unfit::Refused(bytes)) => {
                Some(Message::from_vec(&bytes).unwrap().metadata.response_code)
            }
        };
        let good = question(None);
        assert_eq!(code(&good), Some(ResponseCode::NoError));
        assert_eq!(code(b"hello"), None);
        assert_eq!(code(&good[..20]), Some(ResponseCode::FormErr));
        let mut answer = good.clone();
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None);
        let mut update = good.clone();
        update[2] |= 5 << 3;
        assert_eq!(code(&update), Some(ResponseCode::NotImp));
        let mut none = good.clone();
        none[5] = 0;
        none.truncate(12);
        assert_eq!(code(&none), Some(ResponseCode::FormErr));
        let mut chaos = good;
        let last = chaos.len() - 1;
        chaos[last] = 3;
        assert_eq!(code(&chaos), Some(ResponseCode::Refused));
    }

    #[test]
    fn an_answer_of_others_must_fit_its_question() {
        let mut asked = question(None);
        let request = Request::read(&asked, Transport::Udp).ok().unwrap();
        let mut reply = request.reply(addresses(1));
        assert!(answers(&asked, &reply));
        renumber(&mut reply, 5);
        assert!(!answers(&asked, &reply));
        renumber(&mut asked, 5);
        assert!(answers(&asked, &reply) && number(&asked) == Some(5));
        assert!(!answers(
            &ask(&Name::root(), RecordType::A).unwrap(),
            &reply
        ));
    }
}
