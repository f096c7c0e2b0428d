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

/// For each file of `new` that is not in `old`, the one in `old` that it was under another root.
/// Roots are told by the files that they have in common.
pub fn relocate<'a>(
    old: &BTreeSet<&'a str>,
    new: &BTreeSet<&'a str>,
) -> BTreeMap<&'a str, &'a str> {
    let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
    for &path in old.difference(new) {
        by_name.entry(file_name(path)).or_default().push(path);
    }
    let mut pairs = Vec::new();
    let mut votes: HashMap<(&str, &str), usize> = HashMap::new();
    for &now in new.difference(old) {
        for &was in by_name.get(file_name(now)).into_iter().flatten() {
            let (roots, shared) = split(was, now);
            *votes.entry(roots).or_default() += 1;
            pairs.push((roots, shared, was, now));
        }
    }
    // The roots with most files in common first; of those, the longest common paths.
    let rank = |pair: &(_, usize, &str, &str)| {
        (
            std::cmp::Reverse((votes.get(&pair.0).copied(), pair.1)),
            pair.2.to_owned(),
            pair.3.to_owned(),
        )
    };
    pairs.sort_by_cached_key(rank);
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

fn is_common(name: &str) -> bool {
    matches!(name, "__init__.py" | "__main__.py" | "conftest.py" | "setup.py")
}

/// The roots of two paths with the same file name, and how many parts they share behind them.
fn split<'a>(one: &'a str, other: &'a str) -> ((&'a str, &'a str), usize) {
    let mut shared = 0;
    let mut length = 0;
    for (a, b) in one.rsplit('/').zip(other.rsplit('/')) {
        if a != b {
            break;
        }
        shared += 1;
        length += a.len() + 1;
    }
    let root = |path: &'a str| path.get(..path.len().saturating_sub(length)).unwrap_or("");
    ((root(one), root(other)), shared)
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
    fn each_file_is_taken_once() {
        let found = moved(&["/o/util.py"], &["/n/a/util.py", "/n/b/util.py"]);
        assert_eq!(found.len(), 1);
    }
}
