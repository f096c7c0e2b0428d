//! Which source files of two runs are the same, wherever they were installed or checked out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::roles::file_name;

/// A source file, apart from where its tree lay.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Of the standard library or an installed package, from there.
    Library(String),
    /// Of the program, its whole path.
    Own(String),
    /// Code that is in no file: `<string>`.
    Nowhere(String),
}

impl Place {
    /// Of a file as a code object names it, in a process that began in `directory`.
    pub fn of(file: &str, directory: &str) -> Place {
        if let Some(inside) = file.strip_prefix('<') {
            let frozen = inside.strip_suffix('>').and_then(|it| it.strip_prefix("frozen "));
            return match frozen {
                Some(module) => Place::Library(format!("python/{}.py", module.replace('.', "/"))),
                None => Place::Nowhere(file.to_owned()),
            };
        }
        for folder in ["/site-packages/", "/dist-packages/"] {
            if let Some((_, inside)) = file.rsplit_once(folder) {
                return Place::Library(format!("site/{inside}"));
            }
        }
        if let Some(inside) = in_standard_library(file) {
            return Place::Library(format!("python/{inside}"));
        }
        Place::Own(absolute(file, directory))
    }
}

/// What follows `…/lib/python3.11/`.
fn in_standard_library(file: &str) -> Option<&str> {
    let (at, _) = file.match_indices("/python").find(|&(at, _)| {
        let library = file
            .get(..at)
            .is_some_and(|it| ["/lib", "/lib64", "/lib32"].iter().any(|end| it.ends_with(end)));
        library && file.get(at + 7..).is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()))
    })?;
    file.get(at + 1..)?.split_once('/').map(|(_, inside)| inside)
}

fn absolute(file: &str, directory: &str) -> String {
    let whole = match file.starts_with('/') {
        true => file.to_owned(),
        false => format!("{directory}/{file}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The roots of an old tree and of a new one.
type Roots<'a> = (&'a str, &'a str);

/// For each file of `new` that is not in `old`, the one in `old` that it was under another root.
/// Roots are told by the files that they have in common.
pub fn relocate<'a>(
    old: &BTreeSet<&'a str>,
    new: &BTreeSet<&'a str>,
) -> BTreeMap<&'a str, &'a str> {
    let gone: BTreeSet<&str> = old.difference(new).copied().collect();
    let come: Vec<&str> = new.difference(old).copied().collect();
    let roots = roots(gone.iter().copied().collect(), come.clone());
    let mut pairs = Vec::new();
    let mut votes: HashMap<Roots, usize> = HashMap::new();
    for now in come {
        for (root, inside) in now.match_indices('/').map(|(at, _)| now.split_at(at)) {
            for &before in roots.get(root).into_iter().flatten() {
                let Some(&was) = gone.get(format!("{before}{inside}").as_str()) else { continue };
                *votes.entry((before, root)).or_default() += 1;
                pairs.push(((before, root), inside.matches('/').count(), was, now));
            }
        }
    }
    // The roots with most files in common first; of those, the longest common paths.
    pairs.sort_by_cached_key(|&(roots, shared, was, now)| {
        (std::cmp::Reverse((votes.get(&roots).copied(), shared)), was, now)
    });
    let (mut found, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (roots, shared, was, now) in pairs {
        // Every package has an `__init__.py`: the name alone says nothing.
        let telling = shared > 1 || votes.get(&roots) > Some(&1) || !is_common(file_name(now));
        if telling && !found.contains_key(now) && taken.insert(was) {
            found.insert(now, was);
        }
    }
    found
}

/// For the root of each new tree those of old ones that it may have been: where a file of the same name
/// lies. Of a name that is in many folders each would be in question for each; there the folders must be
/// called the same, too.
fn roots<'a>(old: Vec<&'a str>, new: Vec<&'a str>) -> HashMap<&'a str, BTreeSet<&'a str>> {
    const FEW: usize = 32;
    const DEEP: usize = 16;
    let mut found: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    let mut many = vec![(old, new)];
    for parts in 1..=DEEP {
        let groups = std::mem::take(&mut many).into_iter();
        for (old, new) in groups.flat_map(|(old, new)| by_end(parts, old, new)) {
            if old.len().max(new.len()) > FEW {
                many.push((old, new));
                continue;
            }
            for (before, root) in new.iter().flat_map(|now| old.iter().map(|was| split(was, now))) {
                found.entry(root).or_default().insert(before);
            }
        }
    }
    found
}

/// Old and new paths that have their last `parts` parts in common, where there are both.
fn by_end<'a>(
    parts: usize,
    old: Vec<&'a str>,
    new: Vec<&'a str>,
) -> impl Iterator<Item = (Vec<&'a str>, Vec<&'a str>)> {
    let end = |path: &'a str| {
        let at = path.rmatch_indices('/').nth(parts - 1).map_or(0, |(at, _)| at);
        path.get(at..).unwrap_or(path)
    };
    let mut groups: HashMap<&str, (Vec<&str>, Vec<&str>)> = HashMap::new();
    old.into_iter().for_each(|path| groups.entry(end(path)).or_default().0.push(path));
    new.into_iter().for_each(|path| groups.entry(end(path)).or_default().1.push(path));
    groups.into_values().filter(|(old, new)| !old.is_empty() && !new.is_empty())
}

fn is_common(name: &str) -> bool {
    matches!(name, "__init__.py" | "__main__.py" | "conftest.py" | "setup.py")
}

/// The roots of two paths with the same file name: what is before the parts that they share.
fn split<'a>(one: &'a str, other: &'a str) -> Roots<'a> {
    let parts = one.rsplit('/').zip(other.rsplit('/'));
    let shared = parts.take_while(|(a, b)| a == b).fold(0, |length, (a, _)| length + a.len() + 1);
    let root = |path: &'a str| path.get(..path.len().saturating_sub(shared)).unwrap_or("");
    (root(one), root(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_known_wherever_they_are() {
        for (path, place) in [
            ("/v/lib/python3.11/site-packages/a/b.py", Place::Library("site/a/b.py".into())),
            ("/usr/lib/python3/dist-packages/apt/x.py", Place::Library("site/apt/x.py".into())),
            ("/opt/lib/python3.12/json/x.py", Place::Library("python/json/x.py".into())),
            ("/usr/lib64/python3.9/os.py", Place::Library("python/os.py".into())),
            (
                "<frozen importlib._bootstrap>",
                Place::Library("python/importlib/_bootstrap.py".into()),
            ),
            ("<string>", Place::Nowhere("<string>".into())),
            ("app.py", Place::Own("/srv/app.py".into())),
            ("./a/../b.py", Place::Own("/srv/b.py".into())),
            ("/home/me/pythonista/lib/x.py", Place::Own("/home/me/pythonista/lib/x.py".into())),
        ] {
            assert_eq!(Place::of(path, "/srv"), place, "{path}");
        }
    }

    fn moved(old: &[&'static str], new: &[&'static str]) -> Vec<(&'static str, &'static str)> {
        let (old, new) = (old.iter().copied().collect(), new.iter().copied().collect());
        relocate(&old, &new).into_iter().collect()
    }

    #[test]
    fn a_checkout_elsewhere_is_the_same() {
        assert_eq!(moved(&["/old/app.py"], &["/new/app.py"]), [("/new/app.py", "/old/app.py")]);
        assert_eq!(moved(&["/same/app.py"], &["/same/app.py"]), []);
        assert_eq!(moved(&["/old/app.py"], &["/new/tool.py"]), []);
    }

    #[test]
    fn equal_names_go_by_their_folders() {
        let found = moved(
            &["/o/a/util.py", "/o/b/util.py", "/o/a/__init__.py", "/o/x.py"],
            &["/n/b/util.py", "/n/a/util.py", "/n/a/__init__.py", "/n/x.py"],
        );
        assert_eq!(
            found,
            [
                ("/n/a/__init__.py", "/o/a/__init__.py"),
                ("/n/a/util.py", "/o/a/util.py"),
                ("/n/b/util.py", "/o/b/util.py"),
                ("/n/x.py", "/o/x.py"),
            ]
        );
    }

    #[test]
    fn a_name_that_every_package_has_is_not_enough() {
        assert_eq!(moved(&["/o/a/__init__.py"], &["/n/b/__init__.py"]), []);
        let (old, new) = (["/o/__init__.py", "/o/app.py"], ["/n/__init__.py", "/n/app.py"]);
        assert_eq!(moved(&old, &new).len(), 2);
    }

    #[test]
    fn a_name_in_thousands_of_folders_goes_by_these() {
        let tree = |root: &str, last: &str| -> Vec<String> {
            let mut folders: Vec<String> = (0..1999).map(|number| format!("p{number}")).collect();
            folders.push(last.into());
            let mut files: Vec<String> =
                folders.iter().map(|folder| format!("{root}/{folder}/__init__.py")).collect();
            files.push(format!("{root}/{last}/core.py"));
            files
        };
        // All has moved, and one of the packages was renamed.
        let (old, new) = (tree("/o", "old"), tree("/n", "new"));
        let paths = |of: &'static [String]| of.iter().map(String::as_str).collect::<Vec<_>>();
        let (old, new) = (paths(old.leak()), paths(new.leak()));
        let roots = roots(old.clone(), new.clone());
        let expected = [("/n", BTreeSet::from(["/o"])), ("/n/new", BTreeSet::from(["/o/old"]))];
        assert_eq!(roots, HashMap::from(expected), "not each with each");
        let mut expected: Vec<_> = new.iter().copied().zip(old.iter().copied()).collect();
        expected.sort_unstable();
        assert_eq!(moved(&old, &new), expected);
    }

    #[test]
    fn each_file_is_taken_once() {
        let found = moved(&["/o/util.py"], &["/n/a/util.py", "/n/b/util.py"]);
        assert_eq!(found.len(), 1);
    }
}
