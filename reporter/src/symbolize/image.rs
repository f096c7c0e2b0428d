//! One program file on this machine: its build id, its symbols, its debug information.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::read::ReadCache;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::NativeLine;
use super::name::demangle;

type Elf<'a> = object::File<'a, &'a ReadCache<File>>;

/// Why a program file cannot name addresses of the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such file here.
    Missing,
    /// It cannot be read, or is no program file.
    Unreadable,
    /// It is another build than the one that ran.
    Changed,
}

/// A program file, opened for look-ups.
pub struct Image {
    symbols: Vec<Symbol>,
    /// Static variables, in the same order.
    variables: Vec<Symbol>,
    lines: Option<Loader>,
}

struct Symbol {
    start: u64,
    /// Zero where the file does not say.
    size: u64,
    name: String,
}

impl Image {
    /// Opens the file at `path`, which must have the given build id unless that is empty.
    pub fn open(path: &Path, build_id: &[u8]) -> Result<Image, Trouble> {
        if !fs::metadata(path).map_err(|_| Trouble::Missing)?.is_file() {
            return Err(Trouble::Unreadable);
        }
        let cache = ReadCache::new(File::open(path).map_err(|_| Trouble::Unreadable)?);
        let elf = object::File::parse(&cache).map_err(|_| Trouble::Unreadable)?;
        let own = own_build_id(&elf);
        if !build_id.is_empty() && own.as_deref() != Some(build_id) {
            return Err(Trouble::Changed);
        }
        let debug = match has_lines(&elf) {
            true => Some(path.to_owned()),
            false => debug_file(path, &elf, own.as_deref()),
        };
        let apart = debug.as_deref().filter(|&debug| debug != path);
        let sorted = |kind| {
            let mut symbols = Vec::new();
            collect(&elf, kind, &mut symbols);
            if let Some(debug) = apart {
                with_elf(debug, |elf| collect(elf, kind, &mut symbols));
            }
            symbols.sort_by(|a, b| (a.start, a.size, &a.name).cmp(&(b.start, b.size, &b.name)));
            symbols
        };
        let (symbols, variables) = (sorted(SymbolKind::Text), sorted(SymbolKind::Data));
        let lines = debug.and_then(|debug| {
            let shared = with_elf(&debug, |elf| shared_debug(&debug, elf)).flatten();
            Loader::new_with_sup(&debug, shared).ok()
        });
        Ok(Image { symbols, variables, lines })
    }

    /// The functions that the address `at` of the file lies in, innermost first; more than one where
    /// the compiler inlined.
    pub fn lookup(&self, at: u64) -> Vec<NativeLine> {
        let symbol = covering(&self.symbols, at);
        let mut out = Vec::new();
        let frames = self.lines.as_ref().and_then(|lines| lines.find_frames(at).ok());
        if let Some(mut frames) = frames {
            while let Ok(Some(frame)) = frames.next() {
                let name =
                    frame.function.as_ref().and_then(|it| Some(demangle(&it.raw_name().ok()?)));
                let place = frame.location;
                out.push(NativeLine {
                    function: name,
                    file: place.as_ref().and_then(|place| Some(place.file?.to_owned())),
                    line: place.and_then(|place| place.line).filter(|&line| line != 0),
                    inlined: true,
                });
            }
        }
        if out.is_empty() && symbol.is_some() {
            out.push(NativeLine::default());
        }
        if let Some(outermost) = out.last_mut() {
            outermost.inlined = false;
            if outermost.function.is_none() {
                outermost.function = symbol;
            }
        }
        out
    }

    /// The static variable that the address `at` of the file lies in.
    pub fn variable(&self, at: u64) -> Option<String> {
        covering(&self.variables, at)
    }
}

/// The symbol that covers `at`. Its nearest predecessor would often be a neighbour whose name
/// merely survived stripping, so one that ends before `at` does not count.
fn covering(symbols: &[Symbol], at: u64) -> Option<String> {
    let after = symbols.partition_point(|symbol| symbol.start <= at);
    let before = symbols.get(..after)?;
    let nearest = before.last()?.start;
    before
        .iter()
        .rev()
        .take_while(|symbol| symbol.start == nearest)
        .find(|symbol| symbol.size == 0 || at - symbol.start < symbol.size)
        .map(|symbol| demangle(&symbol.name))
}

fn with_elf<T>(path: &Path, then: impl FnOnce(&Elf) -> T) -> Option<T> {
    let cache = ReadCache::new(File::open(path).ok()?);
    let elf = object::File::parse(&cache).ok()?;
    Some(then(&elf))
}

fn own_build_id(elf: &Elf) -> Option<Vec<u8>> {
    elf.build_id().ok().flatten().map(<[u8]>::to_vec)
}

fn has_lines(elf: &Elf) -> bool {
    [".debug_info", ".zdebug_info"]
        .iter()
        .any(|name| elf.section_by_name(name).is_some_and(|section| section.file_range().is_some()))
}

fn collect(elf: &Elf, kind: SymbolKind, out: &mut Vec<Symbol>) {
    for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
        if symbol.kind() != kind || symbol.is_undefined() || symbol.address() == 0 {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        // A mark such as `_edata` is no variable; functions of assembly may be without a size.
        let is_mark = kind == SymbolKind::Data && symbol.size() == 0;
        if !name.is_empty() && !is_mark {
            let (start, size) = (symbol.address(), symbol.size());
            out.push(Symbol { start, size, name: name.to_owned() });
        }
    }
}

/// Where distributions put debug information apart from the program.
const DEBUG_ROOT: &str = "/usr/lib/debug";

/// The separate debug file of the program at `path`.
fn debug_file(path: &Path, elf: &Elf, build_id: Option<&[u8]>) -> Option<PathBuf> {
    let by_id = build_id.and_then(debug_path);
    let by_link = elf.gnu_debuglink().ok().flatten().map(|(name, _)| {
        let name = String::from_utf8_lossy(name).into_owned();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mirrored = Path::new(DEBUG_ROOT).join(folder.strip_prefix("/").unwrap_or(folder));
        [folder.join(&name), folder.join(".debug").join(&name), mirrored.join(&name)]
    });
    by_id
        .into_iter()
        .chain(by_link.into_iter().flatten())
        .filter(|debug| debug != path)
        // A debug file of another build would name wrong lines; without ids there is no telling.
        .find(|debug| {
            with_elf(debug, |elf| has_lines(elf) && own_build_id(elf).as_deref() == build_id)
                .unwrap_or(false)
        })
}

fn debug_path(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Path::new(DEBUG_ROOT).join(format!(".build-id/{first:02x}/{rest}.debug")))
}

/// The file with what several debug files share (`dwz`).
fn shared_debug(debug: &Path, elf: &Elf) -> Option<PathBuf> {
    let (name, _) = elf.gnu_debugaltlink().ok()??;
    let shared = debug.parent()?.join(String::from_utf8_lossy(name).as_ref());
    shared.is_file().then_some(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_functions_have_names_and_lines() {
        let path = std::env::current_exe().unwrap();
        let image = Image::open(&path, &[]).unwrap();
        let at = with_elf(&path, |elf| {
            let named = |name: &str| demangle(name).ends_with("image::tests::landmark");
            elf.symbols().find(|it| it.name().is_ok_and(named)).map(|it| it.address())
        });
        assert!(landmark(3) > 0);
        let found = image.lookup(at.flatten().unwrap());
        let outermost = found.last().unwrap();
        assert!(outermost.function.as_deref().unwrap().ends_with("landmark"), "{found:?}");
        assert!(outermost.file.as_deref().unwrap().ends_with("image.rs"), "{found:?}");
    }

    static BEACON: [std::sync::atomic::AtomicU64; 4] =
        [const { std::sync::atomic::AtomicU64::new(0) }; 4];

    #[test]
    fn our_own_variables_have_names() {
        std::hint::black_box(&BEACON)[1].store(7, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::current_exe().unwrap();
        let image = Image::open(&path, &[]).unwrap();
        let at = with_elf(&path, |elf| {
            let named = |name: &str| demangle(name).ends_with("image::tests::BEACON");
            elf.symbols().find(|it| it.name().is_ok_and(named)).map(|it| it.address())
        });
        let at = at.flatten().unwrap();
        for offset in [0, 8, 31] {
            let found = image.variable(at + offset).unwrap();
            assert!(found.ends_with("BEACON"), "{found}");
        }
        assert!(!image.variable(at + 32).is_some_and(|found| found.ends_with("BEACON")));
    }

    #[inline(never)]
    fn landmark(value: u64) -> u64 {
        std::hint::black_box(value) + 1
    }

    #[test]
    fn another_build_is_told_from_a_missing_one() {
        let path = std::env::current_exe().unwrap();
        if with_elf(&path, own_build_id).flatten().is_some() {
            assert_eq!(Image::open(&path, b"other").err(), Some(Trouble::Changed));
        }
        let gone = Image::open(Path::new("/nowhere/lib.so"), &[]).err();
        assert_eq!(gone, Some(Trouble::Missing));
        let text = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(Image::open(Path::new(text), &[]).err(), Some(Trouble::Unreadable));
    }

    #[test]
    fn an_address_behind_a_function_has_no_name() {
        let symbols = vec![
            Symbol { start: 0x10, size: 8, name: "a".into() },
            Symbol { start: 0x40, size: 0, name: "b".into() },
        ];
        let image = Image { symbols, variables: Vec::new(), lines: None };
        assert_eq!(covering(&image.symbols, 0x0f), None);
        assert_eq!(covering(&image.symbols, 0x17).as_deref(), Some("a"));
        assert_eq!(covering(&image.symbols, 0x18), None);
        assert_eq!(covering(&image.symbols, 0x99).as_deref(), Some("b"));
        assert!(image.lookup(0x18).is_empty());
    }
}
