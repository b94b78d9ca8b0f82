//! Objects held to the schemas of Sublet's resource definitions, as an API server with strict field validation holds them.
//!
//! Fields that must be there aren't asked for: a page shows what it is about.

use serde_json::Value;

/// The definitions of all of Sublet's kinds.
pub(super) struct Definitions(Vec<Definition>);

/// One kind.
pub(super) struct Definition {
    kind: String,
    short_names: Vec<String>,
    schema: Value,
}

impl Definitions {
    pub(super) fn all() -> Self {
        let all = api::crds().into_iter().chain(api::capi::crds());
        let all = all.map(|crd| {
            let names = crd.spec.names;
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
            Definition {
                kind: names.kind,
                short_names: names.short_names.unwrap_or_default(),
                schema: schema["openAPIV3Schema"].clone(),
            }
        });
        Self(all.collect())
    }

    pub(super) fn of(&self, kind: &str) -> Option<&Definition> {
        self.0.iter().find(|definition| definition.kind == kind)
    }

    pub(super) fn by_short_name(&self, name: &str) -> Option<&Definition> {
        let mut all = self.0.iter();
        all.find(|definition| definition.short_names.iter().any(|short| short == name))
    }
}

impl Definition {
    /// What is wrong with an object, or with a part of one.
    pub(super) fn judge(&self, object: &Value) -> Vec<String> {
        let mut wrong = vec![];
        for (field, value) in object.as_object().into_iter().flatten() {
            // Every object has these, and the API server knows what is in them.
            if !["apiVersion", "kind", "metadata"].contains(&field.as_str()) {
                judge(&self.schema["properties"][field], value, field, &mut wrong);
            }
        }
        wrong
    }

    /// The fields of `spec`.
    pub(super) fn spec_fields(&self) -> Vec<String> {
        let fields = self.schema["properties"]["spec"]["properties"].as_object();
        fields
            .into_iter()
            .flat_map(|fields| fields.keys().cloned())
            .collect()
    }

    /// What the definition says of a field.
    pub(super) fn description(&self, pointer: &str) -> String {
        let field = self.schema["properties"].pointer(pointer);
        let said = field.and_then(|field| field["description"].as_str());
        said.unwrap_or_default().to_owned()
    }
}

fn judge(schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    if schema.is_null() {
        return wrong.push(format!("{path}: there is no such field"));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    let kind = match schema["type"].as_str() {
        _ if schema["x-kubernetes-int-or-string"] == true => "integer or string",
        Some(kind) => kind,
        None => return wrong.push(format!("{path}: its definition says no type")),
    };
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        _ => value.is_i64() || value.is_string(),
    };
    if !fits {
        return wrong.push(format!("{path}: {value} is no {kind}"));
    }
    let allowed = schema["enum"].as_array();
    if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        return wrong.push(format!(
            "{path}: {value} isn't one of {}",
            allowed.join(", ")
        ));
    }
    for (field, inner) in value.as_object().into_iter().flatten() {
        let named = &schema["properties"][field];
        let any = &schema["additionalProperties"];
        let of = if named.is_null() { any } else { named };
        judge(of, inner, &format!("{path}.{field}"), wrong);
    }
    for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
        judge(&schema["items"], inner, &format!("{path}[{at}]"), wrong);
    }
}
