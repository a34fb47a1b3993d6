//! Name: what the result of each source is called.

use std::{collections::HashMap, path::Path};

use super::{Item, Refused};

/// Containers that are written as they are called.
const KEPT: [&str; 4] = ["mp4", "mov", "mkv", "webm"];

/// Where the result of `source` goes: the same path, and behind it what makes it a name of its container.
pub(super) fn output(source: &str, container: Option<&str>) -> String {
    let extension = Path::new(source).extension().unwrap_or_default();
    let is = |name: &str| extension.eq_ignore_ascii_case(name);
    let kept = match container {
        Some(container) => is(container),
        None => KEPT.into_iter().any(is),
    };
    match container {
        _ if kept => source.to_owned(),
        Some(container) => format!("{source}.{container}"),
        None if is("m4v") => format!("{source}.mp4"),
        None => format!("{source}.mkv"),
    }
}

/// Takes those from `items` whose result would be called as another one's. Of two, the one that is itself called so stays,
/// else the first. Upper and lower case count as one, as they do on many file systems.
pub(super) fn claim(items: &mut Vec<Item>) -> Vec<Refused> {
    let mut owners = HashMap::with_capacity(items.len());
    for own in [true, false] {
        for (index, item) in items.iter().enumerate() {
            if own == (item.source == item.output) {
                owners.entry(item.output.to_lowercase()).or_insert(index);
            }
        }
    }
    let owner = |item: &Item| owners.get(&item.output.to_lowercase());
    let refusal = |(index, item): (usize, &Item)| {
        let owner = owner(item).filter(|owner| **owner != index)?;
        Some(refusal(item, items.get(*owner)?))
    };
    let mut refusals = items
        .iter()
        .enumerate()
        .map(refusal)
        .collect::<Vec<_>>()
        .into_iter();
    let mut refused = Vec::new();
    items.retain(|_| {
        let refusal = refusals.next().flatten();
        let stays = refusal.is_none();
        refused.extend(refusal);
        stays
    });
    refused
}

fn refusal(item: &Item, owner: &Item) -> Refused {
    let (source, output) = (item.source.clone(), &item.output);
    let why = format!(
        "a result of the same name: {source} would become {output}, and {} becomes {}; rename one of them",
        owner.source, owner.output
    );
    Refused { source, why }
}
