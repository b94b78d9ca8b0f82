//! Answers of servers outside, kept for a tenant as long as they say, and half a minute at most, as CoreDNS does.
//!
//! Each tenant has one of its own: what another has asked for can't be told by how fast the answer comes. It is bounded in
//! answers and in bytes; where there is no room, what would end first goes.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// Answers that are kept at most.
const MOST: usize = 512;
/// Bytes of them, as they came.
const ROOM: usize = 256 << 10;
/// Longest answer that is kept, in bytes.
const LONGEST: usize = 4096;
/// How long one is kept at most: the `cache 30` of CoreDNS.
const LONGEST_KEPT: u32 = 30;

/// What is asked: names are the same in upper and lower case.
type Key = (Name, RecordType);

/// Answers for one tenant.
#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Key, Kept>,
    bytes: usize,
}

struct Kept {
    since: Instant,
    until: Instant,
    bytes: usize,
    answer: Outside,
}

/// An answer of a server outside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outside {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Cache {
    /// The answer to a question, with as much time left as there is.
    pub(super) fn get(&self, name: &Name, kind: RecordType, now: Instant) -> Option<Outside> {
        let kept = self.kept.get(&(name.to_lowercase(), kind))?;
        let age = now.saturating_duration_since(kept.since).as_secs();
        if now >= kept.until {
            return None;
        }
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        let Outside {
            answers,
            authorities,
            additionals,
            ..
        } = &mut answer;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    /// Keeps an answer if it says for how long it holds.
    pub(super) fn put(&mut self, name: &Name, kind: RecordType, reply: &[u8], now: Instant) {
        if reply.len() > LONGEST {
            return;
        }
        let Some((answer, seconds)) = Message::from_vec(reply).ok().and_then(lasting) else {
            return;
        };
        let until = now + Duration::from_secs(seconds.into());
        let key = (name.to_lowercase(), kind);
        self.forget(&key);
        if self.is_full(reply.len()) {
            self.make_room(reply.len(), now);
        }
        self.bytes += reply.len();
        let kept = Kept {
            since: now,
            until,
            bytes: reply.len(),
            answer,
        };
        self.kept.insert(key, kept);
    }

    fn is_full(&self, more: usize) -> bool {
        self.kept.len() >= MOST || self.bytes + more > ROOM
    }

    /// What has ended goes, then what ends first.
    fn make_room(&mut self, more: usize, now: Instant) {
        let ended: Vec<Key> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.until <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            self.forget(&key);
        }
        while self.is_full(more)
            && let Some(first) = self.kept.iter().min_by_key(|(_, kept)| kept.until)
        {
            let key = first.0.clone();
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

/// An answer and the seconds that it holds; `None` when it is cut, says that something failed, or doesn't say how long it
/// holds.
fn lasting(reply: Message) -> Option<(Outside, u32)> {
    let code = reply.metadata.response_code;
    if reply.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        return None;
    }
    let shortest = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    let seconds = match (code, shortest(&reply.answers)) {
        (ResponseCode::NoError, Some(shortest)) => shortest,
        // That there is nothing holds as long as the zone says (RFC 2308).
        _ => reply
            .authorities
            .iter()
            .find_map(|record| match &record.data {
                RData::SOA(zone) => Some(record.ttl.min(zone.minimum)),
                _ => None,
            })?,
    };
    let seconds = seconds.min(LONGEST_KEPT);
    let answer = Outside {
        code,
        answers: reply.answers,
        authorities: reply.authorities,
        additionals: reply.additionals,
    };
    (seconds > 0).then_some((answer, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::{MessageType, OpCode, Query},
        rr::rdata::{A, SOA},
    };

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn reply(code: ResponseCode, answers: &[u32], zone: Option<(u32, u32)>) -> Message {
        let mut reply = Message::new(7, MessageType::Response, OpCode::Query);
        reply.metadata.response_code = code;
        reply.add_query(Query::query(name("www.example.com."), RecordType::A));
        for ttl in answers {
            let data = RData::A(A::new(192, 0, 2, 1));
            reply.add_answer(Record::from_rdata(name("www.example.com."), *ttl, data));
        }
        if let Some((ttl, minimum)) = zone {
            let zone = SOA::new(
                name("ns.example.com."),
                name("a.example.com."),
                1,
                2,
                3,
                4,
                minimum,
            );
            let record = Record::from_rdata(name("example.com."), ttl, RData::SOA(zone));
            reply.authorities.push(record);
        }
        reply
    }

    fn kept_for(reply: Message) -> u32 {
        lasting(reply).map_or(0, |(_, seconds)| seconds)
    }

    #[test]
    fn an_answer_holds_as_long_as_it_says_and_half_a_minute_at_most() {
        use ResponseCode::{NXDomain, NoError, ServFail};
        assert_eq!(kept_for(reply(NoError, &[60, 5, 10], None)), 5);
        assert_eq!(kept_for(reply(NoError, &[3600], None)), 30);
        assert_eq!(kept_for(reply(NoError, &[0], None)), 0);
        assert_eq!(kept_for(reply(NXDomain, &[], Some((20, 15)))), 15);
        assert_eq!(kept_for(reply(NoError, &[], Some((10, 15)))), 10);
        assert_eq!(kept_for(reply(NXDomain, &[], None)), 0);
        assert_eq!(kept_for(reply(ServFail, &[60], None)), 0);
        let mut cut = reply(NoError, &[60], None);
        cut.metadata.truncation = true;
        assert_eq!(kept_for(cut), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn time_passes_for_what_is_kept() {
        let mut cache = Cache::default();
        let bytes = reply(ResponseCode::NoError, &[20, 25], None)
            .to_vec()
            .unwrap();
        let now = Instant::now();
        cache.put(&name("WWW.example.com."), RecordType::A, &bytes, now);
        let at = |seconds: u64| {
            let then = now + Duration::from_secs(seconds);
            cache.get(&name("www.Example.com."), RecordType::A, then)
        };
        let left = |answer: Option<Outside>| -> Vec<u32> {
            let answers = answer.map(|answer| answer.answers).unwrap_or_default();
            answers.iter().map(|record| record.ttl).collect()
        };
        assert_eq!(left(at(0)), [20, 25]);
        assert_eq!(left(at(19)), [1, 6]);
        assert_eq!(at(20), None);
        assert_eq!(
            cache.get(&name("www.example.com."), RecordType::AAAA, now),
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_would_end_first_makes_room() {
        let mut cache = Cache::default();
        let now = Instant::now();
        let answer = |ttl: u32| reply(ResponseCode::NoError, &[ttl], None).to_vec().unwrap();
        cache.put(&name("brief."), RecordType::A, &answer(3), now);
        for number in 0..2 * MOST {
            let ttl = if number < MOST { 10 } else { 20 };
            cache.put(
                &name(&format!("n{number}.")),
                RecordType::A,
                &answer(ttl),
                now,
            );
        }
        assert_eq!(cache.kept.len(), MOST);
        assert_eq!(cache.get(&name("brief."), RecordType::A, now), None);
        assert!(cache.get(&name("n1023."), RecordType::A, now).is_some());
        let bytes: usize = cache.kept.values().map(|kept| kept.bytes).sum();
        assert!(cache.bytes == bytes && bytes <= ROOM);
        // Long ones are bounded by their bytes, and what was asked again is there once.
        let long = reply(ResponseCode::NoError, &[30; 150], None)
            .to_vec()
            .unwrap();
        assert!(long.len() <= LONGEST, "{}", long.len());
        for number in 0..MOST {
            cache.put(
                &name(&format!("l{}.", number % 300)),
                RecordType::A,
                &long,
                now,
            );
        }
        assert!(cache.bytes <= ROOM && cache.kept.len() < MOST);
    }
}
