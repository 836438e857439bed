use freehold_wire::agent::{AgentErrorCode, AgentRefusal};

/// Refuses a request.
pub(crate) fn refusal(code: AgentErrorCode, message: impl Into<String>) -> AgentRefusal {
    AgentRefusal { code, message: message.into() }
}

/// Writes an error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
