//! Lists that grow with the number of tenants, page by page: neither side holds more than a page of them as text.

use kube::{
    Api, Resource,
    api::{ListParams, ObjectList},
    core::PartialObjectMeta,
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tenancy::paging::LARGEST;

/// All objects that `params` select.
pub(crate) async fn all<K>(api: &Api<K>, params: &ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    gather(params, async |page| api.list(&page).await).await
}

/// The same without what they hold.
pub(crate) async fn metadata<K>(
    api: &Api<K>,
    params: &ListParams,
) -> Result<Vec<PartialObjectMeta<K>>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    gather(params, async |page| api.list_metadata(&page).await).await
}

/// Asks for page after page. Where the rest of a list isn't kept any more, all of it is asked for at once, as kubectl does.
async fn gather<T: Clone>(
    params: &ListParams,
    ask: impl AsyncFn(ListParams) -> Result<ObjectList<T>, kube::Error>,
) -> Result<Vec<T>, kube::Error> {
    let page_size = u32::try_from(LARGEST).unwrap_or(u32::MAX);
    let mut next = params.clone().limit(page_size);
    let mut found = vec![];
    loop {
        let page = match ask(next.clone()).await {
            Err(kube::Error::Api(status))
                if status.code == 410 && next.continue_token.is_some() =>
            {
                return Ok(ask(params.clone()).await?.items);
            }
            answer => answer?,
        };
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => next = next.continue_token(&token),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
    use kube::api::TypeMeta;
    use serde_json::json;
    use std::cell::RefCell;

    /// The page of the numbers below `count` that is asked for.
    fn page(count: usize, asked: &ListParams) -> ObjectList<usize> {
        let begin = asked.continue_token.as_deref().unwrap_or("0");
        let begin: usize = begin.parse().unwrap();
        let end = asked.limit.map_or(count, |limit| begin + limit as usize);
        ObjectList {
            types: TypeMeta::default(),
            metadata: ListMeta {
                continue_: (end < count).then(|| end.to_string()),
                ..ListMeta::default()
            },
            items: (begin..end.min(count)).collect(),
        }
    }

    #[tokio::test]
    async fn a_list_is_read_in_pages_that_keep_its_selector() {
        let asked = RefCell::new(vec![]);
        let params = ListParams::default().labels("a=b");
        let found = gather(&params, async |params| {
            let list = page(1_100, &params);
            asked.borrow_mut().push(params);
            Ok(list)
        });
        assert_eq!(found.await.unwrap(), (0..1_100).collect::<Vec<_>>());
        let asked = asked.into_inner();
        assert_eq!(asked.len(), 3);
        assert!(
            asked
                .iter()
                .all(|asked| asked.label_selector == params.label_selector)
        );
        assert!(asked.iter().all(|asked| asked.limit == Some(500)));
    }

    #[tokio::test]
    async fn a_rest_that_is_gone_is_asked_for_with_all_of_the_list() {
        let params = ListParams::default();
        let found = gather(&params, async |params| {
            if params.continue_token.is_none() {
                return Ok(page(700, &params));
            }
            let gone = json!({"status": "Failure", "reason": "Expired", "code": 410});
            Err(kube::Error::Api(Box::new(
                serde_json::from_value(gone).unwrap(),
            )))
        });
        assert_eq!(found.await.unwrap(), (0..700).collect::<Vec<_>>());
    }
}
