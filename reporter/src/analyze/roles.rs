//! Whose code a native frame is: the program's, or plumbing between it and the allocator.

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An extension, a library, the program: what a reader looks for.
    Program,
    /// The interpreter.
    Interpreter,
    /// The C and C++ libraries, the loader, what calls C functions for others (libffi), or the like of
    /// them compiled into the program.
    Runtime,
    /// The shim.
    Shim,
}

/// Of a whole program file. `interpreter` is the executable of a process that runs Python.
pub fn of_module(path: &str, interpreter: Option<&str>) -> Role {
    let name = file_name(path);
    if name.starts_with("libpyshim.so") {
        return Role::Shim;
    }
    if name.starts_with("libpython") {
        return Role::Interpreter;
    }
    if interpreter == Some(path) && (name.starts_with("python") || name.starts_with("pypy")) {
        return Role::Interpreter;
    }
    const RUNTIME: [&str; 10] = [
        "libc",
        "libffi",
        "libpthread",
        "libdl",
        "librt",
        "libstdc++",
        "libc++",
        "libc++abi",
        "libgcc_s",
        "linux-vdso",
    ];
    // Behind that comes the version, as in `libc-2.31.so`, or the end.
    let is_version = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_end = |rest: &str| rest.starts_with(".so") || is_version(rest);
    let runtime = RUNTIME.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(is_end));
    // Of `ld-`, only the loader itself.
    let runtime = runtime || name.starts_with("ld-");
    if runtime && name.contains(".so") { Role::Runtime } else { Role::Program }
}

/// Of one function in a file of the program: containers and allocation functions of C++ and Rust are
/// compiled into whoever uses them.
pub fn of_function(module: Role, function: Option<&str>) -> Role {
    const RUNTIME: [&str; 20] = [
        // Names that could not be read.
        "_ZSt",
        "_ZNSt",
        "_ZNKSt",
        "_ZN9__gnu_cxx",
        "std::",
        "__gnu_cxx::",
        "operator new",
        "void* std::",
        "alloc::",
        "core::",
        "hashbrown::",
        "<alloc::",
        "<core::",
        "<std::",
        "<hashbrown::",
        "__rust_",
        "__rustc",
        "__rdl_",
        "__rg_",
        "__cxa_",
    ];
    match function {
        Some(name)
            if module == Role::Program && RUNTIME.iter().any(|prefix| name.starts_with(prefix)) =>
        {
            Role::Runtime
        }
        _ => module,
    }
}

/// Functions of the interpreter that allocate for others: their name says nothing about who asked.
pub fn is_allocator(function: &str) -> bool {
    const ALLOCATORS: [&str; 9] = [
        "PyObject_Malloc",
        "PyObject_Calloc",
        "PyObject_Realloc",
        "PyMem_",
        "PyObject_GC_",
        "PyObject_New",
        "PyObject_Var",
        "PyType_GenericAlloc",
        "PyVarObject",
    ];
    let bare = function.trim_start_matches('_');
    matches!(bare, "gc_alloc" | "new_reference")
        || ALLOCATORS.iter().any(|prefix| bare.starts_with(prefix))
}

/// Whether a program file calls C functions for Python code: what these allocate is that code's.
pub fn is_bridge(path: &str) -> bool {
    let name = file_name(path);
    name.starts_with("_ctypes.") || name.starts_with("_cffi_backend.")
}

/// Whether a Python file is the machinery of the import statement.
pub fn is_import_machinery(file: &str) -> bool {
    file.starts_with("<frozen importlib")
        || file.ends_with("/importlib/_bootstrap.py")
        || file.ends_with("/importlib/_bootstrap_external.py")
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The library that a file belongs to: the package where it was installed as one.
pub fn library(path: &str, directory: &str) -> String {
    for folder in ["/site-packages/", "/dist-packages/"] {
        if let Some((_, inside)) = path.rsplit_once(folder) {
            let first = inside.split('/').next().unwrap_or(inside);
            let package = first.split('.').next().unwrap_or(first);
            return package.to_owned();
        }
    }
    if path.starts_with('<') || in_standard_library(path) {
        return "standard library".into();
    }
    let inside = path.strip_prefix(directory).map_or(path, |rest| rest.trim_start_matches('/'));
    match inside.split_once('/') {
        Some((first, _)) if !inside.starts_with('/') => first.to_owned(),
        _ => file_name(path).to_owned(),
    }
}

/// `…/lib/python3.11/…`, and `…/lib/python311.zip/…`.
fn in_standard_library(path: &str) -> bool {
    let mut parts = path.split('/');
    while let Some(part) = parts.next() {
        if matches!(part, "lib" | "lib64" | "lib32") {
            let next = parts.clone().next().unwrap_or("");
            if next
                .strip_prefix("python")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_belong_to_somebody() {
        let exe = Some("/opt/py/bin/python3.11");
        for (path, role) in [
            ("/opt/py/bin/python3.11", Role::Interpreter),
            ("/usr/lib/libpython3.11.so.1.0", Role::Interpreter),
            ("/lib/x86_64-linux-gnu/libc.so.6", Role::Runtime),
            ("/lib/x86_64-linux-gnu/libc-2.31.so", Role::Runtime),
            ("/lib64/ld-linux-x86-64.so.2", Role::Runtime),
            ("/usr/lib/libstdc++.so.6", Role::Runtime),
            ("/x/libpyshim.so", Role::Shim),
            ("/x/rowpack.cpython-311-x86_64-linux-gnu.so", Role::Program),
            ("/usr/bin/ld-tool", Role::Program),
            ("/usr/lib/libcrypto.so.3", Role::Program),
            ("/lib/x86_64-linux-gnu/libdl.so.2", Role::Runtime),
            ("/lib/x86_64-linux-gnu/librt-2.31.so", Role::Runtime),
            ("/usr/lib/libdlib.so", Role::Program),
            ("/usr/lib/librtmp.so.1", Role::Program),
            ("/usr/lib/libc-client.so", Role::Program),
        ] {
            assert_eq!(of_module(path, exe), role, "{path}");
        }
        assert_eq!(of_module("/opt/app", Some("/opt/app")), Role::Program);
    }

    #[test]
    fn containers_are_not_the_program() {
        for name in ["std::vector<int>::push_back", "alloc::raw_vec::finish_grow", "operator new"] {
            assert_eq!(of_function(Role::Program, Some(name)), Role::Runtime, "{name}");
        }
        assert_eq!(of_function(Role::Program, Some("pool::grow")), Role::Program);
        assert_eq!(of_function(Role::Program, None), Role::Program);
        assert_eq!(of_function(Role::Interpreter, Some("std::x")), Role::Interpreter);
    }

    #[test]
    fn files_belong_to_libraries() {
        for (path, name) in [
            ("/v/lib/python3.11/site-packages/numpy/core/x.py", "numpy"),
            ("/v/lib/python3.11/site-packages/numpy.libs/libopenblas.so", "numpy"),
            ("/v/lib/python3.11/site-packages/six.py", "six"),
            ("/usr/lib/python3/dist-packages/apt/cache.py", "apt"),
            ("/usr/lib/python3.11/json/decoder.py", "standard library"),
            ("/usr/lib/python3.11/lib-dynload/_json.cpython-311.so", "standard library"),
            ("<frozen importlib._bootstrap>", "standard library"),
            ("/srv/app/shop/models.py", "shop"),
            ("/srv/app/main.py", "main.py"),
            ("main.py", "main.py"),
            ("/usr/lib/librow.so", "librow.so"),
        ] {
            assert_eq!(library(path, "/srv/app"), name, "{path}");
        }
    }

    #[test]
    fn allocation_functions_of_the_interpreter() {
        for name in ["PyObject_Malloc", "_PyObject_GC_NewVar", "PyMem_RawMalloc", "gc_alloc"] {
            assert!(is_allocator(name), "{name}");
        }
        assert!(!is_allocator("PyList_New"));
    }
}
