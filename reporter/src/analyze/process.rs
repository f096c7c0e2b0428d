//! What process a dump is of.

use crate::read::Loaded;

use pyshim_dump::{Dump, Mode};

use super::report::Process;
use super::roles::file_name;

/// Of a dump.
pub fn process(loaded: &Loaded) -> Process {
    let dump = &loaded.dump;
    let known = &dump.process;
    Process {
        dump: loaded.path.display().to_string(),
        pid: dump.pid,
        parent: dump.parent_pid,
        program: program(&known.argv, &known.executable, !known.python.is_empty()),
        argv: known.argv.clone(),
        executable: known.executable.clone(),
        directory: known.directory.clone(),
        python: Some(known.python.clone()).filter(|python| !python.is_empty()),
        started_unix_ns: dump.started_unix_ns,
        duration_ns: lived_ns(dump),
        state: loaded.state,
        forked: dump.forked,
        inherited_freed: dump.inherited_freed,
        finalized: dump.final_ns.is_some(),
        sampled: sampled(dump),
    }
}

/// How long it lived, as far as its dump knows.
pub fn lived_ns(dump: &Dump) -> u64 {
    dump.end.map_or(dump.heartbeat_ns, |end| end.at_ns)
}

/// Mean bytes between samples; `None`: every block was recorded.
pub fn sampled(dump: &Dump) -> Option<u64> {
    match dump.mode {
        Mode::Exact => None,
        Mode::Sampled(mean) => Some(mean),
    }
}

/// What people call it: the script's name, `python -m module`, or the command's name.
fn program(argv: &[String], executable: &str, runs_python: bool) -> String {
    let command = argv.first().map_or(executable, String::as_str);
    let command = file_name(command);
    if !runs_python || !command.trim_start_matches('-').starts_with("python") {
        return if command.is_empty() {
            file_name(executable).to_owned()
        } else {
            command.to_owned()
        };
    }
    let mut rest = argv.iter().skip(1);
    while let Some(argument) = rest.next() {
        if let Some(long) = argument.strip_prefix("--") {
            if long == "check-hash-based-pycs" {
                rest.next();
            }
            continue;
        }
        let Some(letters) = argument.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return file_name(argument).to_owned();
        };
        // Flags may be put together (`-um module`); the first that takes a value ends them.
        let Some(at) = letters.find(['c', 'm', 'X', 'W']) else { continue };
        let (flag, value) = letters.split_at(at).1.split_at(1);
        let value = if value.is_empty() { rest.next().map_or("", String::as_str) } else { value };
        match flag {
            "m" => return format!("python -m {value}"),
            "c" => return "python -c".into(),
            _ => {}
        }
    }
    command.to_owned()
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn programs_have_the_name_that_people_use() {
        for (line, name) in [
            ("python app.py --fast", "app.py"),
            ("/usr/bin/python3.11 -X dev -u /srv/app.py", "app.py"),
            ("python -Wignore -O app.py", "app.py"),
            ("python -m http.server 80", "python -m http.server"),
            ("python -um http.server", "python -m http.server"),
            ("python -c pass", "python -c"),
            ("python", "python"),
            ("python -", "-"),
            ("/venv/bin/python /venv/bin/gunicorn app:app", "gunicorn"),
            ("uwsgi --ini x.ini", "uwsgi"),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(program(&argv, "/x", true), name, "{line}");
        }
        assert_eq!(program(&[], "/opt/bin/tool", false), "tool");
        assert_eq!(program(&[], "", false), "");
    }
}
