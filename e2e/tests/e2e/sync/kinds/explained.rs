//! What an admin is told of objects of these kinds, by `sublet explain` and `sublet whose`.

use super::{WORK, crossing, place, shown};
use anyhow::Context;
use e2e::{
    kind::Kind,
    read::{name, text},
    rig::{Guest, Rig},
    tenant::NAMESPACE_OF_TESTS,
};
use futures::{TryStreamExt, stream};

/// Commands at once.
const AT_ONCE: usize = 4;

/// What is asked, and what is said.
struct Asked {
    line: String,
    answer: Result<String, String>,
}

/// Of what the tenant is shown and of what it made both commands tell what it is.
pub(super) async fn are_explained(rig: &Rig, guest: &Guest) -> anyhow::Result<()> {
    let sublet = rig.sublet()?;
    let asked = of_shown(guest).chain(of_crossing(guest));
    let sublet = &sublet;
    stream::iter(asked.map(Ok))
        .try_for_each_concurrent(AT_ONCE, |asked| async move {
            let outcome = sublet.run(&asked.line).await?;
            let told = match &asked.answer {
                Ok(words) => outcome.says(&[words.as_str()]),
                Err(words) => outcome.fails(1, &[words.as_str()]),
            };
            told.map(drop).context(asked.line)
        })
        .await
}

fn of_shown(guest: &Guest) -> impl Iterator<Item = Asked> {
    shown().into_iter().flat_map(move |row| {
        let own = name(&row.object);
        let super_place = text(&row.object, "/metadata/namespace");
        [
            Asked {
                line: explain(guest, row.kind, (place(&row), own)),
                answer: Ok("It is published from the super cluster".into()),
            },
            Asked {
                line: whose(row.kind, (super_place, own)),
                answer: Err("belongs to no tenant".into()),
            },
        ]
    })
}

fn of_crossing(guest: &Guest) -> impl Iterator<Item = Asked> {
    let twin = guest.twin(WORK);
    crossing().into_iter().flat_map(move |row| {
        let (kind, own) = (row.kind, name(&row.object));
        let owner = format!(
            "{} {twin}/{own} is {0} {WORK}/{own} of tenant {}",
            kind.name, guest.name
        );
        [
            Asked {
                line: explain(guest, kind, (WORK, own)),
                answer: Ok("It is synced.".into()),
            },
            Asked {
                line: whose(kind, (&twin, own)),
                answer: Ok(owner),
            },
        ]
    })
}

fn explain(guest: &Guest, kind: Kind, place: (&str, &str)) -> String {
    let object = object(kind, place);
    format!("explain {} {object} -n {NAMESPACE_OF_TESTS}", guest.name)
}

fn whose(kind: Kind, place: (&str, &str)) -> String {
    format!("whose {}", object(kind, place))
}

/// `PLURAL.GROUP/NAMESPACE/NAME`, as far as there is one.
fn object(kind: Kind, (namespace, name): (&str, &str)) -> String {
    let group = kind.api_version.split_once('/').map(|(group, _)| group);
    let dot = group.map(|group| format!(".{group}")).unwrap_or_default();
    let resource = format!("{}{dot}", kind.plural);
    let parts = [resource.as_str(), namespace, name].into_iter();
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/")
}
