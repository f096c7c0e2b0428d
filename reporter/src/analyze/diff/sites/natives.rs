//! What a native function is called in every build of its library.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::analyze::report::Frame;
use crate::analyze::roles::file_name;
use crate::read::Loaded;
use crate::symbolize::ModuleId;

/// What is known of the native modules before sites are told apart.
#[derive(Default)]
pub struct Natives {
    /// By a module's name, its builds.
    builds: HashMap<String, BTreeSet<Vec<u8>>>,
    /// By a module's name, for each of its files whether functions in it have names.
    named: HashMap<String, BTreeMap<ModuleId, bool>>,
}

impl Natives {
    /// Takes the modules of a dump.
    pub fn add(&mut self, loaded: &Loaded) {
        for module in &loaded.dump.modules {
            let module = &module.loaded;
            let build = match module.build_id.is_empty() {
                true => module.path.clone().into_bytes(),
                false => module.build_id.clone(),
            };
            self.builds.entry(module_name(&module.path)).or_default().insert(build);
        }
    }

    /// Takes a function of the file `module` at `path`.
    pub fn saw(&mut self, module: ModuleId, path: &str, has_name: bool) {
        let files = self.named.entry(module_name(path)).or_default();
        *files.entry(module).or_default() |= has_name;
    }

    /// What a function is called in every build of its module. Names in one file and offsets into
    /// another cannot be compared: where a file has no names, the module alone has to do.
    pub fn key(&self, frame: &Frame) -> (String, Option<String>) {
        let Frame::Native { module, function, offset, .. } = frame else {
            return (String::new(), None);
        };
        let name = module_name(module);
        let one_build = self.builds.get(&name).is_none_or(|builds| builds.len() <= 1);
        let has = |named| {
            self.named.get(&name).is_some_and(|files| files.values().any(|&it| it == named))
        };
        let function = match function {
            _ if has(true) && has(false) => None,
            None if one_build => Some(format!("+0x{offset:x}")),
            function => function.clone(),
        };
        (name, function)
    }
}

/// A library's name without what differs from build to build: tags of the interpreter, versions,
/// hashes that packaging tools add.
fn module_name(path: &str) -> String {
    let file = file_name(path);
    let Some((name, _)) = file.split_once(".so") else { return file.to_owned() };
    let name = name.split(".cpython-").next().unwrap_or(name);
    let name = name.strip_suffix(".abi3").unwrap_or(name);
    // `libx-0cf96a72.3.23.dev`: as auditwheel names what it bundles.
    let hashed = name.char_indices().find(|&(at, letter)| {
        let hash = name.get(at + 1..at + 9).unwrap_or("");
        let ends = name.get(at + 9..).is_some_and(|it| it.is_empty() || it.starts_with('.'));
        letter == '-' && ends && hash.len() == 8 && hash.bytes().all(|it| it.is_ascii_hexdigit())
    });
    let name = hashed.and_then(|(at, _)| name.get(..at)).unwrap_or(name);
    format!("{name}.so")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::roles::Role;
    use crate::symbolize::Symbols;

    fn frame(module: &str, function: Option<&str>) -> Frame {
        Frame::Native {
            module: module.into(),
            function: function.map(str::to_owned),
            file: None,
            line: None,
            offset: 0x10,
            inlined: false,
            role: Role::Program,
        }
    }

    #[test]
    fn names_and_offsets_are_not_compared() {
        let mut symbols = Symbols::default();
        let mut module = |path: &str, build: u8| {
            symbols.module(&pyshim_dump::record::Module {
                path: path.into(),
                build_id: vec![build],
                ..Default::default()
            })
        };
        let (old, new) = (module("/old/row.so", 1), module("/new/row.so", 2));
        let mut natives = Natives::default();
        natives.saw(new, "/new/row.so", true);
        let of = |natives: &Natives, path, function| natives.key(&frame(path, function)).1;
        assert_eq!(of(&natives, "/new/row.so", Some("pack")).as_deref(), Some("pack"));
        assert_eq!(of(&natives, "/old/row.so", None).as_deref(), Some("+0x10"), "one build");
        natives.builds.insert("row.so".into(), [vec![1], vec![2]].into());
        assert_eq!(of(&natives, "/old/row.so", None), None, "of another build");
        natives.saw(old, "/old/row.so", false);
        assert_eq!(of(&natives, "/new/row.so", Some("pack")), None, "the other has no names");
    }

    #[test]
    fn modules_are_the_same_in_every_build() {
        for (path, name) in [
            ("/x/rowpack.cpython-311-x86_64-linux-gnu.so", "rowpack.so"),
            ("/x/_rust.abi3.so", "_rust.so"),
            ("/usr/lib/libpng16.so.16.39.0", "libpng16.so"),
            ("/n.libs/libopenblas64_p-r0-0cf96a72.3.23.dev.so", "libopenblas64_p-r0.so"),
            ("/x/my-extension.so", "my-extension.so"),
            ("/usr/bin/tool", "tool"),
        ] {
            assert_eq!(module_name(path), name, "{path}");
        }
    }
}
