//! JSON as a `google.protobuf.Struct`.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Map;

pub(super) fn structure(claims: &Map<String, serde_json::Value>) -> Struct {
    Struct { fields: claims.iter().map(|(name, claim)| (name.clone(), value(claim))).collect() }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(is) => Kind::BoolValue(*is),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(list) => {
            Kind::ListValue(ListValue { values: list.iter().map(value).collect() })
        }
        serde_json::Value::Object(members) => Kind::StructValue(structure(members)),
    };
    Value { kind: Some(kind) }
}
