//! Lists as files for spreadsheets (RFC 4180).

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// The rows with these columns: true and false as words, nothing for null.
pub fn file(columns: &[&str], rows: &[Value]) -> Response {
    let mut text = columns.join(",") + "\r\n";
    for row in rows {
        let line: Vec<String> = columns.iter().map(|column| field(&row[*column])).collect();
        text.push_str(&(line.join(",") + "\r\n"));
    }
    ([(CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}

fn field(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        // What a spreadsheet would take for a formula is a text.
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::field;

    #[test]
    fn what_people_wrote_stays_one_field_and_no_formula() {
        let fields = [json!("a,\"b\"\n"), json!("=1+1"), json!(-1.5), json!(null), json!(true), json!({"a": 1})];
        assert_eq!(fields.each_ref().map(field), ["\"a,\"\"b\"\"\n\"", "'=1+1", "-1.5", "", "true", "\"{\"\"a\"\":1}\""]);
    }
}
