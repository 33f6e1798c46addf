//! `GET /config`: every setting in use, and where it is from. Secrets are masked.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tidegate_document::node::Node;
use tidegate_document::node::Value as Written;
use warp::reply::Reply as _;
use warp::reply::Response;

use crate::config::report::Setting;
use crate::config::report::SettingOrigin;
use crate::http::admin::access::Admin;

/// The configuration in use.
pub(super) fn answer(admin: &Admin) -> Response {
    let view = admin.view.get();
    let report = &view.report;
    let settings = report.settings.iter().map(|(key, setting)| (key.clone(), object(setting)));
    let body = json!({
        "node": &*admin.node.name,
        "file": report.file,
        "needs_restart": report.needs_restart,
        "settings": settings.collect::<Map<_, _>>(),
    });
    warp::reply::json(&body).into_response()
}

fn object(Setting { value, origin }: &Setting) -> Value {
    let (from, name, line) = match origin {
        SettingOrigin::Default => ("default", None, None),
        SettingOrigin::File { line } => ("file", None, *line),
        SettingOrigin::Environment(name) => ("environment", Some(&**name), None),
        SettingOrigin::Flag(name) => ("flag", Some(&**name), None),
        SettingOrigin::Command(name) => ("command", Some(*name), None),
    };
    let mut object = json!({ "value": json_of(value), "from": from });
    if let Some(name) = name {
        object["name"] = name.into();
    }
    if let Some(line) = line {
        object["line"] = line.into();
    }
    object
}

/// A value as JSON. Files have few levels: `tidegate_document` refuses deeper ones.
fn json_of(value: &Written) -> Value {
    match value {
        Written::Text(text) | Written::Time(text) => json!(text),
        Written::Whole(number) => json!(number),
        Written::Float(number) => json!(number),
        Written::Boolean(truth) => json!(truth),
        Written::List(elements) => elements.iter().map(|Node { value, .. }| json_of(value)).collect(),
        Written::Table(table) => {
            Value::Object(table.iter().map(|(key, node)| (key.to_owned(), json_of(&node.value))).collect())
        }
    }
}
