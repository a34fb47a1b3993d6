//! Source: where pictures come from, and fair shares of that.

use std::{collections::BTreeMap, path::Path};

use super::{Photo, photo::Place};

/// Pictures that must share the beginning of a name for it to be a source.
const MANY: usize = 8;

/// The source of every place: see [`Photo::source`].
pub(super) fn sources<'a>(places: impl Iterator<Item = &'a Place> + Clone) -> Vec<String> {
    let mut count = BTreeMap::<String, usize>::new();
    for beginning in places.clone().filter_map(beginning) {
        *count.entry(beginning).or_default() += 1;
    }
    let shared = |beginning: &String| count[beginning] >= MANY;
    places
        .map(|place| match (place, beginning(place).filter(shared)) {
            (Place::Entry(pack, number), _) => pack.source(*number).to_owned(),
            (_, Some(beginning)) => beginning,
            (Place::File(path) | Place::Frame(path, _), None) => folder(path),
        })
        .collect()
}

/// The beginning of a file's name; none where it begins with a digit, and for pictures that know their source.
fn beginning(place: &Place) -> Option<String> {
    let (Place::File(path) | Place::Frame(path, _)) = place else {
        return None;
    };
    let name = path.file_name()?.to_string_lossy();
    let ends = |c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    let beginning = name.split(ends).next().filter(|name| !name.is_empty())?;
    Some(beginning.to_owned())
}

fn folder(path: &Path) -> String {
    let name = path.parent().and_then(Path::file_name);
    name.map_or(".".into(), |name| name.to_string_lossy().into_owned())
}

/// The numbers of the pictures of each source, sources in the order of their names.
pub(super) fn by_source(photos: &[Photo]) -> Vec<Vec<usize>> {
    let mut groups = BTreeMap::<&str, Vec<usize>>::new();
    for (number, photo) in photos.iter().enumerate() {
        groups.entry(photo.source()).or_default().push(number);
    }
    groups.into_values().collect()
}

/// `total` divided in proportion to `weights` by largest remainders, at least one each where `total` allows.
pub(super) fn divided(total: usize, weights: &[f64]) -> Vec<usize> {
    let least = usize::from(total >= weights.len());
    let spare = (total - least * weights.len().min(total)) as f64;
    let sum: f64 = weights.iter().sum();
    // What is above the guaranteed one; a source that one serves already gets no more.
    let above = |w: &f64| (w / sum * total as f64 - least as f64).max(0.);
    let wanted: Vec<f64> = weights.iter().map(above).collect();
    let scale = spare / wanted.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let exact: Vec<f64> = wanted.iter().map(|w| w * scale).collect();
    let mut shares: Vec<usize> = exact.iter().map(|e| e.floor() as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    let rest = |i: usize| exact[i] - exact[i].floor();
    order.sort_by(|&i, &j| rest(j).total_cmp(&rest(i)).then(i.cmp(&j)));
    let missing = (spare as usize).saturating_sub(shares.iter().sum());
    for &i in order.iter().cycle().take(missing) {
        shares[i] += 1;
    }
    shares.iter().map(|share| share + least).collect()
}

/// As [`divided`], but nobody gets more than there is of it.
fn divided_within(total: usize, weights: &[f64], limits: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; weights.len()];
    let mut left = total.min(limits.iter().sum());
    while left > 0 {
        let hungry: Vec<usize> = (0..limits.len())
            .filter(|&i| shares[i] < limits[i])
            .collect();
        let theirs: Vec<f64> = hungry.iter().map(|&i| weights[i]).collect();
        for (&i, more) in hungry.iter().zip(divided(left, &theirs)) {
            let more = more.min(limits[i] - shares[i]);
            shares[i] += more;
            left -= more;
        }
    }
    shares
}

/// A fixed sample of `count` pictures (all, where there are no more) in which every source has its share by largest
/// remainders, and at least one where `count` allows. Order and choice depend on the pictures' contents alone.
pub fn stratified(photos: &[Photo], count: usize) -> Vec<Photo> {
    let groups = by_source(photos);
    let counts: Vec<usize> = groups.iter().map(Vec::len).collect();
    let weights: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
    chosen(photos, groups, &divided_within(count, &weights, &counts))
}

/// `count` pictures, each source in proportion to the square root of how many it has, as in training.
pub(super) fn rooted(photos: &[Photo], count: usize) -> Vec<Photo> {
    let groups = by_source(photos);
    let counts: Vec<usize> = groups.iter().map(Vec::len).collect();
    let weights: Vec<f64> = counts.iter().map(|&n| (n as f64).sqrt()).collect();
    chosen(photos, groups, &divided_within(count, &weights, &counts))
}

/// So many pictures of each group, those of the smallest hash, in the order of their hashes.
fn chosen(photos: &[Photo], groups: Vec<Vec<usize>>, shares: &[usize]) -> Vec<Photo> {
    let mut chosen = Vec::new();
    for (mut group, &share) in groups.into_iter().zip(shares) {
        group.sort_by_key(|&number| photos[number].content());
        chosen.extend(group.into_iter().take(share).map(|i| photos[i].clone()));
    }
    chosen.sort_by_key(Photo::content);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of this source; its content is the number.
    fn photo(source: &str, number: u32) -> Photo {
        let mut content = [0; 32];
        content[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
        Photo::unseen(number.to_string().into(), source, content)
    }

    #[test]
    fn shares_are_whole_fair_and_never_nothing() {
        assert_eq!(divided(10, &[1., 1.]), [5, 5]);
        assert_eq!(divided(10, &[6., 3., 1.]), [6, 3, 1]);
        assert_eq!(divided(4, &[1000., 1., 1.]), [2, 1, 1]);
        assert_eq!(divided(2, &[1000., 1., 1.]).iter().sum::<usize>(), 2);
        assert_eq!(divided(0, &[1., 2.]), [0, 0]);
        for total in 0..200 {
            let shares = divided(total, &[50., 20., 7., 1.]);
            assert_eq!(shares.iter().sum::<usize>(), total);
            assert!(total < 4 || shares.iter().all(|&s| s > 0));
        }
        assert_eq!(divided_within(10, &[1., 1., 1.], &[1, 20, 2]), [1, 7, 2]);
        assert_eq!(divided_within(99, &[1., 1.], &[3, 4]), [3, 4]);
    }

    #[test]
    fn a_stratified_sample_has_every_source_and_no_order_of_its_own() {
        let mut photos: Vec<_> = (0..90).map(|i| photo("many", i)).collect();
        photos.extend((90..99).map(|i| photo("few", i)));
        photos.push(photo("one", 99));
        let sample = stratified(&photos, 20);
        let of = |source| sample.iter().filter(|p| p.source() == source).count();
        assert_eq!((of("many"), of("few"), of("one")), (17, 2, 1));
        photos.reverse();
        let names = |sample: &[Photo]| sample.iter().map(Photo::name).collect::<Vec<_>>();
        assert_eq!(names(&stratified(&photos, 20)), names(&sample));
        assert_eq!(stratified(&photos, 1000).len(), 100);
        assert!(stratified(&[], 5).is_empty());
    }

    #[test]
    fn a_source_is_a_shared_beginning_else_a_folder() {
        let many = (0..8).map(|i| Place::File(format!("a/lsp-{i}.jpg").into()));
        let few =
            ["a/cat-1.jpg", "b/cat-2.jpg", "b/17.jpg", "lsp.png"].map(|p| Place::File(p.into()));
        let places: Vec<_> = many.chain(few).collect();
        let found = sources(places.iter());
        assert!(found[..8].iter().all(|s| s == "lsp"));
        assert_eq!(found[8..], ["a", "b", "b", "lsp"]);
    }
}
