//! Whether `docs/json.md` tells of what is in a report.

use serde_json::Value;

const DOCUMENT: &str = include_str!("../../../docs/json.md");

/// Each field of the report is named in the document. (Reasons for losses are words of their own.)
pub fn assert_documented(json: &str) {
    let code = DOCUMENT.split('`').skip(1).step_by(2);
    let names: Vec<&str> =
        code.flat_map(|path| path.split('.')).map(|name| name.trim_end_matches("[]")).collect();
    let mut all = vec![serde_json::from_str::<Value>(json).unwrap()];
    while let Some(value) = all.pop() {
        match value {
            Value::Array(values) => all.extend(values),
            Value::Object(fields) => fields.into_iter().for_each(|(name, value)| {
                assert!(name == "schema" || names.contains(&name.as_str()), "{name}");
                all.extend((name != "lost").then_some(value));
            }),
            _ => {}
        }
    }
}
