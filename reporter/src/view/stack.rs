//! A stack in lines: Python and native frames, plumbing left out.

use std::rc::Rc;

use crate::analyze::report::{Frame, Site};
use crate::analyze::roles::{self, Role};

use super::{Paint, clean};

/// Lines of a stack before the rest is only counted.
const DEPTH: usize = 10;
/// The same of a stack that is the interpreter's alone.
const DEPTH_INSIDE: usize = 5;

/// One line, in three columns.
struct Line {
    place: String,
    name: String,
    detail: String,
    /// The interpreter's own: of less interest.
    faint: bool,
    /// How often the same frame follows on itself.
    times: usize,
}

/// The lines of the stack of `site`; Python files are given from `directory`.
pub fn lines(site: &Site, directory: &str, paint: Paint) -> Vec<String> {
    let (shown, depth) = shown(&site.stack);
    let mut lines: Vec<Line> = Vec::new();
    let mut last: Option<&Frame> = None;
    let mut left = 0;
    for &(frame, faint) in &shown {
        if let Some(line) = lines.last_mut().filter(|_| last == Some(frame) && left == 0) {
            line.times += 1;
            continue;
        }
        last = Some(frame);
        if lines.len() == depth {
            left += 1;
            continue;
        }
        lines.push(Line { faint, ..line(frame, directory) });
    }
    let width = |text: &dyn Fn(&Line) -> &str, most: usize| {
        lines
            .iter()
            .map(|line| text(line).chars().count())
            .filter(|&it| it <= most)
            .max()
            .unwrap_or(0)
    };
    let place = width(&|line| &line.place, 40);
    let name = width(&|line| &line.name, 30);
    let mut out: Vec<String> = lines.iter().map(|line| line.render(place, name, paint)).collect();
    if left > 0 {
        out.push(paint.faint(&format!("… {left} more outer frames")));
    }
    if site.truncated {
        out.push(paint.faint("… outer frames were not recorded"));
    }
    if out.is_empty() {
        out.push(paint.faint("stack not recorded"));
    }
    out
}

impl Line {
    fn render(&self, place: usize, name: usize, paint: Paint) -> String {
        let mut text = format!("{:place$}  {:name$}", self.place, self.name);
        if self.times > 1 {
            text.push_str(&format!("  × {}", self.times));
        }
        let detail = match self.detail.as_str() {
            "" => String::new(),
            detail => format!("  {}", paint.faint(detail)),
        };
        let text = format!("{text}{detail}");
        let text = text.trim_end();
        if self.faint { paint.faint(text) } else { text.to_owned() }
    }
}

/// The frames that say something. A stack of the interpreter alone is shown as it is.
fn shown(stack: &[Rc<Frame>]) -> (Vec<(&Frame, bool)>, usize) {
    let tells = |frame: &Frame| match frame {
        Frame::Python { .. } => true,
        Frame::Native { role, .. } => *role == Role::Program,
    };
    let Some(first) = stack.iter().position(|frame| tells(frame)) else {
        return (stack.iter().map(|frame| (&**frame, false)).collect(), DEPTH_INSIDE);
    };
    let (inner, rest) = stack.split_at(first);
    let mut out = Vec::new();
    // What the interpreter made for a Python line says what kind of object it is.
    if matches!(rest.first().map(|frame| &**frame), Some(Frame::Python { .. })) {
        let names_something = |frame: &&Rc<Frame>| match &***frame {
            Frame::Native { function: Some(name), role: Role::Interpreter, .. } => {
                !roles::is_allocator(name)
            }
            _ => false,
        };
        out.extend(inner.iter().find(names_something).map(|frame| (&**frame, true)));
    }
    for frame in rest.iter().filter(|frame| tells(frame)) {
        // A dozen frames of the machinery lie between a module and who imports it.
        let import = is_import(frame);
        let inside = import && out.iter().any(|(frame, _)| matches!(frame, Frame::Python { .. }));
        if !inside {
            out.push((&**frame, import));
        }
    }
    (out, DEPTH)
}

/// A frame in a few words: its place and its name.
pub fn brief(frame: &Frame, directory: &str) -> String {
    let Line { place, name, .. } = line(frame, directory);
    format!("{place} {name}")
}

/// Whether a frame is one of the import machinery.
fn is_import(frame: &Frame) -> bool {
    matches!(frame, Frame::Python { file, .. } if roles::is_import_machinery(file))
}

fn line(frame: &Frame, directory: &str) -> Line {
    let (place, name, detail) = match frame {
        Frame::Python { file, line, function, source, .. } => {
            let file = if file.is_empty() { "?" } else { short(file, directory) };
            let place = match line {
                Some(line) => format!("{file}:{line}"),
                None => file.to_owned(),
            };
            (place, function.clone(), source.clone().unwrap_or_default())
        }
        Frame::Native { module, function, file, line, offset, .. } => {
            let module = match roles::file_name(module) {
                "" => "?",
                name => name,
            };
            let name = function.clone().unwrap_or_else(|| format!("+0x{offset:x}"));
            let detail = match (file.as_deref().map(roles::file_name), line) {
                (Some(file), Some(line)) => format!("{file}:{line}"),
                (Some(file), None) => file.to_owned(),
                (None, _) => String::new(),
            };
            (module.to_owned(), name, detail)
        }
    };
    Line {
        place: clean(&place),
        name: clean(&name),
        detail: clean(&detail),
        faint: false,
        times: 1,
    }
}

/// A Python file as its own project names it.
fn short<'a>(file: &'a str, directory: &str) -> &'a str {
    if let Some(inside) = file.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')) {
        return inside;
    }
    for folder in ["/site-packages/", "/dist-packages/"] {
        if let Some((_, inside)) = file.rsplit_once(folder) {
            return inside;
        }
    }
    let library = file.split_once("/lib/python3.").and_then(|(_, inside)| inside.split_once('/'));
    library.map_or(file, |(_, inside)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(file: &str, line: u32) -> Rc<Frame> {
        Rc::new(Frame::Python {
            file: file.into(),
            line: Some(line),
            column: None,
            function: "f".into(),
            source: None,
        })
    }

    fn native(module: &str, function: Option<&str>, role: Role) -> Rc<Frame> {
        Rc::new(Frame::Native {
            module: module.into(),
            function: function.map(str::to_owned),
            file: None,
            line: None,
            offset: 0x10,
            inlined: false,
            role,
        })
    }

    fn of(stack: Vec<Rc<Frame>>) -> Vec<String> {
        lines(&Site { stack, ..Site::default() }, "/srv", Paint(false))
    }

    #[test]
    fn plumbing_is_left_out() {
        let inner = native("/l/libc.so.6", Some("strdup"), Role::Runtime);
        let own = native("/x/row.so", Some("pack"), Role::Program);
        let call = native("/bin/python3", Some("cfunction_call"), Role::Interpreter);
        let found = of(vec![inner, own, call, python("/srv/app.py", 3)]);
        assert_eq!(found, ["row.so    pack", "app.py:3  f"]);
    }

    #[test]
    fn what_the_interpreter_makes_for_a_line_is_named_once() {
        let stack = vec![
            native("/bin/python3", Some("_PyObject_Malloc"), Role::Interpreter),
            native("/bin/python3", Some("PyList_New"), Role::Interpreter),
            native("/bin/python3", Some("more"), Role::Interpreter),
            python("/srv/app.py", 3),
        ];
        assert_eq!(of(stack), ["python3   PyList_New", "app.py:3  f"]);
    }

    #[test]
    fn the_interpreter_alone_is_shown() {
        let stack = vec![native("/bin/python3", None, Role::Interpreter)];
        assert_eq!(of(stack), ["python3  +0x10"]);
        assert_eq!(of(vec![]), ["stack not recorded"]);
    }

    #[test]
    fn importing_takes_one_line_at_most() {
        let machinery = || python("<frozen importlib._bootstrap>", 241);
        let stack = vec![
            machinery(),
            machinery(),
            python("/srv/a.py", 1),
            machinery(),
            python("/srv/b.py", 2),
        ];
        assert_eq!(
            of(stack),
            ["<frozen importlib._bootstrap>:241  f", "a.py:1  f", "b.py:2  f"].map(|line| {
                let (place, name) = line.split_once("  ").unwrap();
                format!("{place:33}  {name}")
            })
        );
    }

    #[test]
    fn recursion_and_depth_are_counted() {
        let mut stack: Vec<_> = (0..50).map(|_| python("/srv/app.py", 3)).collect();
        assert_eq!(of(stack.clone()), ["app.py:3  f  × 50"]);
        stack = (0..50).map(|line| python("/srv/app.py", line)).collect();
        let found = of(stack);
        assert_eq!(found.len(), DEPTH + 1);
        assert_eq!(found.last().unwrap(), "… 40 more outer frames");
    }

    #[test]
    fn files_are_named_from_their_project() {
        assert_eq!(short("/srv/a/b.py", "/srv"), "a/b.py");
        assert_eq!(short("/v/lib/python3.11/site-packages/x/y.py", "/srv"), "x/y.py");
        assert_eq!(short("/v/lib/python3.11/json/decoder.py", "/srv"), "json/decoder.py");
        assert_eq!(short("/else/b.py", "/srv"), "/else/b.py");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let found = of(vec![python("/srv/\x1b[2J.py", 3)]);
        assert!(!found.concat().contains('\x1b'));
    }
}
