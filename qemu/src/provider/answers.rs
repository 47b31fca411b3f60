//! What the provider answers: a pure function of the request and of its secret.
//!
//! An answer depends on the question: on `nonce:<hex>` in the last user message it seals the nonce, otherwise
//! it names a digest of the question. So a canned answer from anywhere else is recognised.

use super::message::{Incoming, Outgoing};
use ring::{digest, hmac};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) fn answer(request: &Incoming, authorized: bool, secret: &hmac::Key) -> Outgoing {
    if !authorized {
        return refusal(401);
    }
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET", "/v1/models") => {
            let model =
                json!({"id": "astromesh-test", "object": "model", "created": 0, "owned_by": "astromesh"});
            whole(200, &json!({"object": "list", "data": [model]}))
        }
        ("POST", "/v1/chat/completions") => complete(&request.body, secret),
        _ => refusal(404),
    }
}

/// An error in the shape that clients of this protocol show.
pub(super) fn refusal(status: u16) -> Outgoing {
    let (code, message) = match status {
        401 => ("invalid_api_key", "Incorrect API key provided"),
        404 => ("unknown_url", "Unknown request URL"),
        413 => ("too_large", "The request body is too large"),
        _ => ("invalid_request", "The request is not one this provider understands"),
    };
    whole(status, &json!({"error": {"message": message, "type": "invalid_request_error", "code": code}}))
}

fn complete(body: &[u8], secret: &hmac::Key) -> Outgoing {
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return refusal(400) };
    let Some(messages) = request["messages"].as_array() else { return refusal(400) };
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    let Some(question) = last.map(|message| text(&message["content"])) else { return refusal(400) };
    let content = if let Some(nonce) = nonce(&question) {
        format!("The seal of {nonce} is {}.", seal(secret, nonce))
    } else {
        let digest = digest::digest(&digest::SHA256, question.as_bytes());
        format!("Hello! Your question was received; its digest is {}.", &hex(digest.as_ref())[..16])
    };
    let prompt: usize = messages.iter().map(|message| tokens(&text(&message["content"]))).sum();
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": tokens(&content),
        "total_tokens": prompt + tokens(&content),
    });
    let id = format!("chatcmpl-{}", &hex(digest::digest(&digest::SHA256, body).as_ref())[..24]);
    let model = request["model"].as_str().unwrap_or("astromesh-test");
    if request["stream"] == true {
        return stream(&id, model, &content, &usage);
    }
    let message = json!({"role": "assistant", "content": content});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let object = "chat.completion";
    whole(
        200,
        &json!({"id": id, "object": object, "created": 0, "model": model, "choices": [choice], "usage": usage}),
    )
}

/// Server-sent events: the role, the content word by word, the end with the usage, `[DONE]`.
fn stream(id: &str, model: &str, content: &str, usage: &Value) -> Outgoing {
    let event = |delta: Value, finish: Option<&str>, usage: Option<&Value>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let object = "chat.completion.chunk";
        let mut chunk =
            json!({"id": id, "object": object, "created": 0, "model": model, "choices": [choice]});
        if let Some(usage) = usage {
            chunk["usage"] = usage.clone();
        }
        format!("data: {chunk}\n\n")
    };
    let mut pieces = vec![event(json!({"role": "assistant", "content": ""}), None, None)];
    pieces.extend(content.split_inclusive(' ').map(|word| event(json!({"content": word}), None, None)));
    pieces.push(event(json!({}), Some("stop"), Some(usage)));
    pieces.push("data: [DONE]\n\n".into());
    Outgoing { status: 200, content_type: "text/event-stream", pieces, chunked: true }
}

fn whole(status: u16, body: &Value) -> Outgoing {
    Outgoing { status, content_type: "application/json", pieces: vec![body.to_string()], chunked: false }
}

/// A message's content is a string, or a list of parts of which some are text.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The hexadecimal digits behind the last `nonce:`; an agent's own instructions may come before the question.
fn nonce(question: &str) -> Option<&str> {
    let (_, rest) = question.rsplit_once("nonce:")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

/// HMAC-SHA256 of the nonce's text, in hexadecimal.
pub(super) fn seal(secret: &hmac::Key, nonce: &str) -> String {
    hex(hmac::sign(secret, nonce.as_bytes()).as_ref())
}

/// Words stand for tokens: what matters is that the numbers differ and add up.
fn tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_the_hexadecimal_behind_its_mark() {
        assert_eq!(nonce("say nonce:00ffAB, please"), Some("00ffAB"));
        assert_eq!(nonce("nonce:1 then nonce:2"), Some("2"));
        assert_eq!(nonce("nonce: none"), None);
        assert_eq!(nonce("no mark"), None);
    }
}
