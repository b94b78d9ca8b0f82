//! The schema that an API server publishes, as a list of paths.

use crate::side::{Problem, Side};
use http::Method;
use serde_json::Value;

/// Every field below a type of `v1`, with its type: `spec.volumes[].name string`, for one.
///
/// A path is written out to its end; `[]` stands for the items of a list.
pub async fn paths(side: &Side, name: &str, root: &str) -> Result<Vec<(String, String)>, Problem> {
    let document = side
        .request(Method::GET, "/openapi/v3/api/v1", None)
        .await?;
    let mut found = vec![];
    walk(
        &document["components"]["schemas"],
        &format!("io.k8s.api.core.v1.{name}"),
        root,
        &mut found,
    );
    Ok(found)
}

fn walk(schemas: &Value, name: &str, path: &str, found: &mut Vec<(String, String)>) {
    for (field, property) in schemas[name]["properties"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let (kind, below) = kind(schemas, property);
        let path = format!("{path}.{field}");
        let list = if kind.starts_with('[') { "[]" } else { "" };
        found.push((path.clone(), kind));
        if let Some(below) = below {
            walk(schemas, &below, &format!("{path}{list}"), found);
        }
    }
}

/// The type of a property, and the name of its schema if that has fields.
fn kind(schemas: &Value, property: &Value) -> (String, Option<String>) {
    let all_of = property["allOf"].as_array().into_iter().flatten();
    let reference = std::iter::once(property)
        .chain(all_of)
        .find_map(|part| part["$ref"].as_str()?.rsplit('/').next());
    if let Some(name) = reference {
        return match schemas[name].get("properties") {
            Some(_) => ("object".to_owned(), Some(name.to_owned())),
            None => (name.rsplit('.').next().unwrap_or(name).to_owned(), None),
        };
    }
    if property["type"] == "array" {
        let (item, below) = kind(schemas, &property["items"]);
        return (format!("[{item}]"), below);
    }
    if let Some(value) = property.get("additionalProperties") {
        let (value, below) = kind(schemas, value);
        return (format!("{{{value}}}"), below);
    }
    (
        property["type"].as_str().unwrap_or("unknown").to_owned(),
        None,
    )
}
