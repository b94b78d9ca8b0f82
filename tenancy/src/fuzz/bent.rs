//! Good inputs, bent: bytes, texts and JSON.

use serde_json::{Map, Value, json};

/// Numbers that a seed determines (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

/// Texts that mean something to somebody, or to nobody.
const TEXTS: [&str; 34] = [
    "",
    "a",
    "web",
    "shop",
    "kube-system",
    "default",
    "Default",
    "ClusterFirst",
    "None",
    "..",
    "../../secrets/x",
    "a/b",
    "a?dryRun=All",
    "%2f",
    "a b",
    "\u{e4}\u{1f980}\u{0}",
    "10.0.0.1",
    "10.96.4.9",
    "10.96.0.1",
    "169.254.169.254",
    "127.0.0.1",
    "::1",
    "fd00::1",
    "0.0.0.0/0",
    "system-node-critical",
    "sublet.dev/tenant",
    "metadata.name",
    "kubernetes.io/hostname",
    "app",
    "In",
    "Exists",
    "ExternalName",
    "Unconfined",
    "99999999999999999999",
];

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 33) as usize % end.max(1)
    }

    /// One of several.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Changes some bytes: flips, inserts, removes, repeats and cuts.
    pub fn bend(&mut self, bytes: &mut Vec<u8>, alphabet: &[u8]) {
        for _ in 0..self.below(6) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.insert(at, self.pick(alphabet)),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let part = bytes[at..].to_vec();
                    let more = self.below(part.len() + 1);
                    bytes.extend_from_slice(&part[..more]);
                }
                4 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = self.pick(alphabet),
                _ => {}
            }
        }
    }

    /// Some of the words after each other, and then bent.
    pub fn text(&mut self, words: &[&str]) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(12) {
            text.push_str(self.pick(words));
        }
        let mut bytes = text.into_bytes();
        let printable: Vec<u8> = (0x20..0x7f).collect();
        self.bend(&mut bytes, &printable);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Changes some values of a JSON text, wherever they stand; new fields have one of the names.
    pub fn bend_json(&mut self, value: &mut Value, names: &[&str]) {
        for _ in 0..1 + self.below(6) {
            self.bend_once(value, names);
        }
    }

    fn bend_once(&mut self, value: &mut Value, names: &[&str]) {
        // Mostly somewhere below.
        if self.below(5) > 0 {
            match value {
                Value::Object(map) if !map.is_empty() => {
                    let at = self.below(map.len());
                    if let Some(below) = map.values_mut().nth(at) {
                        return self.bend_once(below, names);
                    }
                }
                Value::Array(list) if !list.is_empty() => {
                    let at = self.below(list.len());
                    return self.bend_once(&mut list[at], names);
                }
                _ => {}
            }
        }
        match value {
            Value::Object(map) => match self.below(3) {
                0 => {
                    let at = self.below(map.len());
                    let name = map.keys().nth(at).cloned();
                    name.and_then(|name| map.remove(&name));
                }
                _ => {
                    let name = self.pick(names).to_owned();
                    let new = self.json(names, 3);
                    map.insert(name, new);
                }
            },
            Value::Array(list) if self.below(2) == 0 => {
                let at = self.below(list.len());
                match list.get(at).cloned() {
                    Some(again) if self.below(2) == 0 => list.push(again),
                    _ => list.push(self.json(names, 3)),
                }
            }
            _ => *value = self.json(names, 2),
        }
    }

    /// Any JSON, some levels deep.
    pub fn json(&mut self, names: &[&str], deep: usize) -> Value {
        match self.below(if deep == 0 { 7 } else { 10 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => json!(self.pick(&[0, 1, -1, 53, 80, 65_536, i64::MAX, i64::MIN])),
            3 => json!(self.pick(&[0.5, -1e300, 1e19])),
            4 => "x".repeat(self.below(300)).into(),
            5 | 6 => self.pick(&TEXTS).into(),
            7 => {
                let items = 0..self.below(3);
                items.map(|_| self.json(names, deep - 1)).collect()
            }
            _ => {
                let fields = 0..self.below(4);
                let fields = fields.map(|_| {
                    let name = match self.below(3) {
                        0 => self.pick(&TEXTS),
                        _ => self.pick(names),
                    };
                    (name.to_owned(), self.json(names, deep - 1))
                });
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}
