//! A missing right, in words: who lacks which verb on which resource, and where.

/// Reads the API server's sentence, which names all of it.
///
/// `RESOURCE is forbidden: User "U" cannot VERB resource "R" in API group "G" in the namespace "N"`, or
/// `… at the cluster scope`. A sentence of another form (an admission plugin's) is passed on.
pub(super) fn words(message: &str) -> String {
    let Some(missing) = parse(message) else {
        return format!("not allowed: {message}");
    };
    let Missing {
        user,
        verb,
        resource,
        place,
    } = missing;
    format!(
        "not allowed: {user:?} lacks the verb {verb:?} on {resource:?} {place}; ask an admin of the cluster for it"
    )
}

struct Missing<'a> {
    user: &'a str,
    verb: &'a str,
    resource: String,
    place: String,
}

fn parse(message: &str) -> Option<Missing<'_>> {
    let (_, rest) = message.split_once("User \"")?;
    let (user, rest) = rest.split_once("\" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once('"')?;
    let group = between(rest, "in API group \"", "\"").unwrap_or_default();
    let place = match between(rest, "in the namespace \"", "\"") {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in the whole cluster".to_owned(),
    };
    let resource = if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    };
    Some(Missing {
        user,
        verb,
        resource,
        place,
    })
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn the_missing_right_is_named() {
        let namespaced = "virtualcontrolplanes.sublet.dev is forbidden: User \"jane\" cannot list resource \
             \"virtualcontrolplanes\" in API group \"sublet.dev\" in the namespace \"default\"";
        assert_eq!(
            words(namespaced),
            "not allowed: \"jane\" lacks the verb \"list\" on \"virtualcontrolplanes.sublet.dev\" in namespace default; \
             ask an admin of the cluster for it"
        );
        let everywhere = "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope";
        assert!(words(everywhere).contains("\"nodes\" in the whole cluster"));
    }

    #[test]
    fn other_refusals_are_passed_on() {
        let quota = "pods \"x\" is forbidden: exceeded quota: q";
        assert_eq!(words(quota), format!("not allowed: {quota}"));
    }
}
