//! A list, page by page. Where objects are large, pages get smaller; a list that doesn't end is an error (T42).
//!
//! One tenant with a thousand objects of a megabyte must neither stay unlisted itself nor, since the super cluster's
//! objects of all tenants are one list, keep a syncer from becoming ready (T40).

use crate::{client::Lister, error::Error, watch::encode};
use serde_json::Value;
use tenancy::{object::at, paging::PageSize};

/// Requests for one list: far more than for an etcd of 8 GiB that is full of the largest objects.
const MOST_REQUESTS: usize = 20_000;
/// Objects in one list: more than all tenants of a super cluster have of a kind.
const MOST_OBJECTS: usize = 1_000_000;
/// Pages without an object, one after the other: those of an API server that filters may be, now and then.
const MOST_EMPTY: usize = 100;

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its objects; what isn't a map isn't among them.
    pub(crate) items: Vec<Value>,
    /// About how many bytes each of them had.
    pub(crate) size: usize,
    /// The resource version of the list, as it says.
    pub(crate) version: String,
}

/// Where a list stands.
pub(crate) struct Pages {
    path: String,
    query: String,
    size: PageSize,
    /// Where the next page begins; none after the last one.
    token: Option<String>,
    requests: usize,
    objects: usize,
    empty: usize,
}

impl Pages {
    /// The list at `path`; `query` is what else is asked for, each part with an `&` before it.
    pub(crate) fn of(path: &str, query: String) -> Self {
        Self {
            path: path.to_owned(),
            query,
            size: PageSize::default(),
            token: Some(String::new()),
            requests: 0,
            objects: 0,
            empty: 0,
        }
    }

    /// The next page; none after the last one.
    pub(crate) async fn next(&mut self, lister: &Lister<'_>) -> Result<Option<Page>, Error> {
        while let Some(path) = self.request()? {
            match lister.page(&path).await {
                // Half of it is asked for, from where it began.
                Err(Error::TooLarge) if self.size.shrink() => {}
                other => {
                    let (page, bytes) = other?;
                    return self.take(page, bytes).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// What is to be asked for next.
    fn request(&mut self) -> Result<Option<String>, Error> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        self.requests += 1;
        if self.requests > MOST_REQUESTS {
            return Err(endless("pages"));
        }
        let mut request = format!("{}?limit={}{}", self.path, self.size.objects(), self.query);
        if !token.is_empty() {
            request = format!("{request}&continue={}", encode(token));
        }
        Ok(Some(request))
    }

    /// A page of so many bytes came.
    fn take(&mut self, mut page: Value, bytes: usize) -> Result<Page, Error> {
        let text = |pointer: &str| {
            let found = at(&page, pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let (version, token) = (
            text("/metadata/resourceVersion"),
            text("/metadata/continue"),
        );
        let items = page.get_mut("items").map(Value::take).unwrap_or_default();
        let Value::Array(mut items) = items else {
            return Err(Error::Malformed("a list without items".into()));
        };
        self.objects += items.len();
        self.empty = if items.is_empty() { self.empty + 1 } else { 0 };
        if self.objects > MOST_OBJECTS {
            return Err(endless("objects"));
        }
        if self.empty > MOST_EMPTY {
            return Err(endless("empty pages"));
        }
        if !token.is_empty() && self.token.as_ref() == Some(&token) {
            return Err(Error::Malformed("a list that goes on where it was".into()));
        }
        self.token = (!token.is_empty()).then_some(token);
        self.size.fitted();
        let all = items.len();
        items.retain(Value::is_object);
        if items.len() < all {
            tracing::warn!(path = %self.path, count = all - items.len(), "what is no object is set aside");
        }
        Ok(Page {
            size: bytes / all.max(1),
            items,
            version,
        })
    }
}

fn endless(of: &str) -> Error {
    Error::Malformed(format!("a list of too many {of}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::fake;
    use serde_json::json;
    use tenancy::paging::LARGEST;

    /// An API server that answers requests for a list, by their number, the objects asked for, and the token.
    fn played(
        answer: impl Fn(usize, usize, &str) -> Result<Value, Error>,
    ) -> (usize, Vec<Value>, Result<(), Error>) {
        let mut pages = Pages::of("/api/v1/configmaps", String::new());
        let (mut found, mut requests) = (vec![], 0);
        loop {
            let request = match pages.request() {
                Ok(Some(request)) => request,
                Ok(None) => return (requests, found, Ok(())),
                Err(err) => return (requests, found, Err(err)),
            };
            requests += 1;
            let query = request.split_once("?limit=").unwrap().1;
            let (size, token) = query.split_once("&continue=").unwrap_or((query, ""));
            let page = match answer(requests, size.parse().unwrap(), token) {
                Err(Error::TooLarge) if pages.size.shrink() => continue,
                other => other.and_then(|page| pages.take(page, 0)),
            };
            match page {
                Ok(page) => found.extend(page.items),
                Err(err) => return (requests, found, Err(err)),
            }
        }
    }

    /// A page of objects with these numbers, of so many.
    fn page(from: usize, to: usize, all: usize) -> Value {
        let token = if to < all {
            to.to_string()
        } else {
            String::new()
        };
        let items: Vec<_> = (from..to).map(|number| json!({"number": number})).collect();
        json!({"metadata": {"resourceVersion": "5", "continue": token}, "items": items})
    }

    /// Each object is told of once, and few requests are in vain.
    #[test]
    fn t40_pages_shrink_until_an_answer_fits_and_grow_again() {
        const ALL: usize = 20_000;
        // Of a thousand objects in the midst no more than 16 fit into an answer.
        let weight = |number| match number {
            5_000..6_000 => 60,
            _ => 1,
        };
        let answer = |_, size, token: &str| {
            let from = token.parse().unwrap_or(0);
            let to = ALL.min(from + size);
            if (from..to).map(weight).sum::<usize>() > 1_000 {
                return Err(Error::TooLarge);
            }
            Ok(page(from, to, ALL))
        };
        let (requests, found, end) = played(answer);
        assert!(end.is_ok());
        let numbers = found.iter().map(|item| item["number"].as_u64().unwrap());
        assert!(numbers.eq(0..ALL as u64));
        assert!(requests < 200, "{requests}");
    }

    #[tokio::test]
    async fn t40_the_smaller_page_goes_on_from_the_same_token() {
        let (cluster, mut server) = fake();
        let lister = cluster.lister().await;
        let mut pages = Pages::of("/api/v1/pods", "&labelSelector=a".into());
        let large = vec![b' '; crate::answer::MOST_BYTES + 1];
        let asked = async {
            let mut sizes = vec![];
            while let Some(page) = pages.next(&lister).await.unwrap() {
                sizes.push(page.items.len());
            }
            sizes
        };
        let answers = async {
            server.answer("GET", 200, &page(0, 2, 3)).await;
            server.answer_bytes("GET", 200, large).await;
            server.answer("GET", 200, &page(2, 3, 3)).await.query
        };
        let (sizes, last) = tokio::join!(asked, answers);
        assert_eq!(sizes, [2, 1]);
        assert_eq!(last, "limit=250&labelSelector=a&continue=2");
    }

    #[test]
    fn t42_an_object_that_is_too_large_alone_is_an_error() {
        let (requests, _, end) = played(|_, _, _| Err(Error::TooLarge));
        assert!(matches!(end, Err(Error::TooLarge)));
        assert!(requests < 12, "{requests}");
    }

    #[test]
    fn t42_a_list_that_never_ends_is_an_error() {
        let list = |count: usize, token: String| json!({"metadata": {"continue": token}, "items": vec![json!({}); count]});
        for (says, most, count, token) in [
            // What an API server that filters may do, but not for ever.
            ("empty", MOST_EMPTY, 0, None),
            ("where it was", 2, 1, Some("same")),
            ("pages", MOST_REQUESTS, 1, None),
            ("objects", MOST_OBJECTS / LARGEST, LARGEST, None),
        ] {
            let (requests, _, end) = played(|number, _, _| {
                let token = token.map_or_else(|| number.to_string(), str::to_owned);
                Ok(list(count, token))
            });
            let end = end.unwrap_err();
            assert!(
                matches!(&end, Error::Malformed(text) if text.contains(says)),
                "{end}"
            );
            assert!(requests <= most + 1, "{says}: {requests}");
        }
    }

    #[test]
    fn t42_a_list_without_items_is_an_error_and_what_is_no_object_is_set_aside() {
        for malformed in [json!({}), json!([]), json!(1), json!({"items": {"a": {}}})] {
            let (_, _, end) = played(|_, _, _| Ok(malformed.clone()));
            assert!(matches!(end, Err(Error::Malformed(_))), "{malformed}");
        }
        let mixed = json!({"items": [1, null, "x", [], {"metadata": {"name": "a"}}]});
        let (_, found, end) = played(|_, _, _| Ok(mixed.clone()));
        assert!(end.is_ok());
        assert_eq!(found, [json!({"metadata": {"name": "a"}})]);
    }
}
