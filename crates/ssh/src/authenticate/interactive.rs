use russh::MethodKind;
use russh::client::{KeyboardInteractiveAuthResponse as Response, Prompt as Question};
use secrecy::ExposeSecret;

use super::{Authentication, AuthenticationError, Authenticator, Outcome, PASSWORD_TRIES};
use crate::text::printable;

/// How many rounds of questions one try may have. A host that asks without an end would otherwise hold us for ever.
const ROUNDS: usize = 20;

/// Makes the question of a later attempt differ from the first, so that a wrong answer is not given again.
pub(super) fn numbered(question: &str, attempt: usize) -> String {
    if attempt == 1 { question.to_owned() } else { format!("{question} (attempt {attempt})") }
}

impl Authenticator<'_> {
    /// Lets a person answer the questions of the host (RFC 4256).
    pub(super) async fn keyboard_interactive(&mut self) -> Result<Outcome, AuthenticationError> {
        for attempt in 1..=PASSWORD_TRIES {
            let started =
                self.handle.authenticate_keyboard_interactive_start(self.hop.user.clone(), None).await;
            let mut response = started.map_err(|error| self.closed(error.to_string()))?;
            let mut answered = false;
            for _ in 0..ROUNDS {
                match response {
                    Response::Success => return Ok(Outcome::In(Authentication::KeyboardInteractive)),
                    Response::Failure { remaining_methods, partial_success } => {
                        if !answered {
                            return self.refused(remaining_methods, partial_success);
                        }
                        self.tried.push("keyboard-interactive".to_owned());
                        if let outcome @ Outcome::Partial =
                            self.refused(remaining_methods, partial_success)?
                        {
                            return Ok(outcome);
                        }
                        break;
                    }
                    Response::InfoRequest { name, instructions, prompts } => {
                        let preface = [name, instructions].map(|text| printable(text.trim()));
                        let Some(answers) = self.answers(&preface, &prompts, attempt).await else {
                            self.tried.push("keyboard-interactive (nobody answered)".to_owned());
                            return Ok(Outcome::Unanswered);
                        };
                        answered |= !answers.is_empty();
                        let next = self.handle.authenticate_keyboard_interactive_respond(answers).await;
                        response = next.map_err(|error| self.closed(error.to_string()))?;
                    }
                }
            }
            let methods = self.accepts.as_ref();
            if methods.is_some_and(|methods| !methods.contains(&MethodKind::KeyboardInteractive)) {
                break;
            }
        }
        Ok(Outcome::Refused)
    }

    async fn answers(
        &self,
        preface: &[String],
        questions: &[Question],
        attempt: usize,
    ) -> Option<Vec<String>> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let asked = printable(question.prompt.trim_end().trim_end_matches(':'));
            let who = format!("{}@{}", self.hop.user, self.hop.name);
            let words = preface.iter().filter(|text| !text.is_empty()).cloned().chain([asked]);
            let text = format!("{who}: {}", words.collect::<Vec<_>>().join("\n"));
            let text = numbered(&text, attempt);
            let _pause = self.deadline.pause();
            answers.push(if question.echo {
                self.prompt.text(&text).await?
            } else {
                self.prompt.secret(&text).await?.expose_secret().to_owned()
            });
        }
        Some(answers)
    }
}
