//! What is made of the figures of several rounds.

use serde_json::Value;

/// The median of each number that all rounds have, in the shape of the rounds.
pub fn median(rounds: &[Value]) -> Value {
    match rounds.first() {
        Some(Value::Object(first)) => {
            let of_key = |key: &String| {
                let values: Option<Vec<Value>> =
                    rounds.iter().map(|round| round.get(key).cloned()).collect();
                values.map(|values| (key.clone(), median(&values)))
            };
            Value::Object(first.keys().filter_map(of_key).collect())
        }
        Some(Value::Number(_)) => {
            let mut numbers: Vec<f64> = rounds.iter().filter_map(Value::as_f64).collect();
            numbers.sort_by(f64::total_cmp);
            let (low, high) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
            round(f64::midpoint(low, high)).into()
        }
        other => other.cloned().unwrap_or_default(),
    }
}

/// To hundredths: more digits would claim more than was measured.
pub fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn medians_keep_the_shape() {
        let rounds = [
            json!({"a": {"b": 3, "only here": 1}, "name": "x"}),
            json!({"a": {"b": 1}, "name": "x"}),
            json!({"a": {"b": 2}, "name": "x"}),
        ];
        assert_eq!(median(&rounds), json!({"a": {"b": 2.0}, "name": "x"}));
        assert_eq!(median(&[json!(1), json!(4)]), json!(2.5));
    }
}
