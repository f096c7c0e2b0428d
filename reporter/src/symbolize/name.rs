//! Names as people write them.

use cpp_demangle::{DemangleOptions, Symbol};

/// The name without its mangling: Rust without hash, C++ without parameters.
pub fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z") {
        let options = DemangleOptions::new().no_params().no_return_type();
        let plain = Symbol::new(name).ok().and_then(|it| it.demangle_with_options(&options).ok());
        if let Some(plain) = plain {
            return plain;
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn three_languages() {
        assert_eq!(demangle("pack_row"), "pack_row");
        assert_eq!(demangle("_ZN6thread5spawn17h0123456789abcdefE"), "thread::spawn");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("_ZN4pool5Arena4growEm"), "pool::Arena::grow");
        assert_eq!(demangle("_Znwm"), "operator new");
        assert_eq!(demangle("_Z"), "_Z");
    }
}
