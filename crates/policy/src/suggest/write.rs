//! From a group of calls to the text of a policy.

use std::fmt::Write as _;

use model::PrincipalKind;

use super::shape::Shape;
use super::{Evidence, ForWhom, Group, Subject, Suggester, Suggestion};

/// The policy of a group; `number` makes its name the only one of its kind.
pub(super) fn suggestion(of: &Suggester<'_>, group: &Group<'_>, number: usize) -> Suggestion {
    let mut generalised = Vec::new();
    let mut conditions = Vec::new();
    let route = of.vocabulary.routes.get(group.route).cloned().unwrap_or_default();
    let by_service = of.forms.get(&route.name).is_some_and(|form| form.by_service);
    let (resource, place) = if by_service {
        conditions.push(format!("resource.service == {}", quoted(&route.service)));
        ("resource".to_owned(), route.service.as_str())
    } else {
        (format!("resource == Route::{}", quoted(&route.name)), route.name.as_str())
    };
    let (action, whole) = of.action(group.method);
    if !whole {
        conditions.push(format!("context.method == {}", quoted(group.method)));
    }
    let (principal, who) = principal(of, &group.subject);
    if let Subject::Role(..) = group.subject {
        generalised.push(format!("everybody in role {who:?}"));
    }
    path(&group.shape, &mut conditions, &mut generalised);
    end_user(of, group, &mut conditions, &mut generalised);
    parameters(of, group, &route.parameters, by_service, &mut conditions, &mut generalised);
    let id = format!("suggested {number}: {who} {} {place}", group.method);
    let mut text = format!(
        "@id({})\npermit ({principal}, action == Action::{}, {resource})",
        quoted(&id),
        quoted(action)
    );
    if conditions.is_empty() {
        text.push(';');
    } else {
        let _ = write!(text, "\nwhen {{ {} }};", conditions.join(" && "));
    }
    Suggestion { id, text, generalised, evidence: Evidence::of(&group.calls) }
}

/// The principal's part of the scope, and its name.
fn principal(of: &Suggester<'_>, subject: &Subject) -> (String, String) {
    match subject {
        Subject::One(kind, id) => (format!("principal == {}::{}", kind.name(), quoted(id)), id.clone()),
        Subject::Role(kind, role) => {
            let name = of.vocabulary.roles.get(*role).map(|role| role.name.clone()).unwrap_or_default();
            (format!("principal is {} in Role::{}", kind.name(), quoted(&name)), name)
        }
    }
}

/// What the path has to be, where the route's pattern leaves it open.
fn path(shape: &Shape, conditions: &mut Vec<String>, generalised: &mut Vec<String>) {
    if shape.0.is_empty() {
        return;
    }
    let whole = shape.0.iter().map(|segment| segment.as_deref());
    let Some(fixed) = whole.collect::<Option<Vec<_>>>() else {
        // As many slashes as the shape has, so that no `*` can hold one.
        let segments = shape.0.iter().map(|segment| segment.as_deref().map_or("*".to_owned(), like));
        let segments: Vec<String> = segments.collect();
        conditions.push(format!("context.path like \"/{}\"", segments.join("/")));
        conditions.push(format!("!(context.path like \"{}\")", "/*".repeat(segments.len() + 1)));
        for empty in with_an_empty(shape, &segments) {
            conditions.push(format!("!(context.path like \"{empty}\")"));
        }
        let shown = shape.0.iter().map(|segment| segment.as_deref().unwrap_or("*"));
        generalised.push(format!("every path /{}", shown.collect::<Vec<_>>().join("/")));
        return;
    };
    // Also where it reads like the route's pattern: a client can send `**` too.
    conditions.push(format!("context.path == {}", quoted(&format!("/{}", fixed.join("/")))));
}

/// The patterns of paths in which a segment that may be any is empty. They are few, however many
/// segments there are, unless an empty one has its place before the last.
fn with_an_empty(shape: &Shape, segments: &[String]) -> Vec<String> {
    let Some((last, before)) = shape.0.split_last() else { return Vec::new() };
    if before.iter().all(|segment| segment.as_deref() != Some("")) {
        let ends_open = last.is_none().then(|| "*/".to_owned());
        return std::iter::once("*//*".to_owned()).chain(ends_open).collect();
    }
    let open = shape.0.iter().enumerate().filter(|(_, segment)| segment.is_none());
    open.map(|(place, _)| {
        let mut empty = segments.to_vec();
        if let Some(segment) = empty.get_mut(place) {
            segment.clear();
        }
        format!("/{}", empty.join("/"))
    })
    .collect()
}

/// The kind of end user that every call was for, and the narrowest role that all of them held; or
/// that it was for nobody.
fn end_user(
    of: &Suggester<'_>,
    group: &Group<'_>,
    conditions: &mut Vec<String>,
    generalised: &mut Vec<String>,
) {
    let kind = match group.for_whom {
        ForWhom::EndUser(kind) => kind,
        ForWhom::Nobody => return conditions.push("!(context has user)".to_owned()),
        ForWhom::Unsaid => return,
    };
    conditions.push("context has user".to_owned());
    conditions.push(format!("context.user.kind == {}", quoted(kind.name())));
    let role = of.user_role(&group.calls).and_then(|role| of.vocabulary.roles.get(role));
    let Some(role) = role else { return generalised.push(format!("every end user of kind {}", kind.name())) };
    conditions.push(format!("context.user.roles.contains({})", quoted(&role.name)));
    generalised.push(format!("every end user in role {:?}", role.name));
}

/// A parameter that was the caller's name in every call stays that; the others are any.
fn parameters(
    of: &Suggester<'_>,
    group: &Group<'_>,
    parameters: &[String],
    by_service: bool,
    conditions: &mut Vec<String>,
    generalised: &mut Vec<String>,
) {
    let alone = matches!(&group.subject, Subject::One(PrincipalKind::Anonymous, _));
    for parameter in parameters.iter().filter(|_| !by_service) {
        let own = |seen: &super::Seen| seen.parameters.get(parameter) == Some(&seen.caller.id);
        if !alone && group.calls.iter().all(|(seen, _)| own(seen)) {
            let field = field("resource.params", parameter);
            conditions.push(format!("resource.params has {} && {field} == principal.id", quoted(parameter)));
        } else if of.pattern(group.route).contains(&format!("{{{parameter}}}")) {
            generalised.push(format!("every {parameter}"));
        }
    }
}

fn field(record: &str, name: &str) -> String {
    format!("{record}[{}]", quoted(name))
}

/// A Cedar text.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// A fixed part of a `like` pattern, without its quotes.
fn like(text: &str) -> String {
    let quoted = quoted(text).replace('*', "\\*");
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}
