//! `show`.

use std::fmt::Write as _;

use crate::backend::Backend;
use crate::cli::{Id, Show};
use crate::failure::Failure;
use crate::output::Output;
use crate::wire::{AttemptView, DeliveryView, DoubtView, Header, MessageView};

pub(super) async fn run(show: &Show, backend: &Backend, output: Output) -> Result<(), Failure> {
    match show.id {
        Id::Message(id) => {
            let message = backend.message(id).await?;
            let all: Vec<&DeliveryView> = message.deliveries.iter().collect();
            output.result(&message, || describe(Some(&message), &all))
        }
        Id::Delivery(id) => {
            let delivery = backend.delivery(id).await?;
            // For its headers only; its trace may outlive them.
            let message = backend.message(delivery.message_id).await.ok();
            output.result(&delivery, || describe(message.as_ref(), &[&delivery]))
        }
    }
}

fn describe(message: Option<&MessageView>, deliveries: &[&DeliveryView]) -> String {
    let mut text = String::new();
    if let Some(message) = message {
        line(&mut text, "message", &message.message_id.to_string());
        line(&mut text, "submitted", &message.submitted);
        line(&mut text, "body", &format!("{} bytes", message.body_bytes));
        match &message.headers {
            Some(headers) => {
                for (name, value) in headers {
                    line(&mut text, "header", &format!("{name}: {}", show_header(value)));
                }
            }
            None => line(&mut text, "headers", "no longer kept: every delivery has ended"),
        }
    }
    for delivery in deliveries {
        text.push('\n');
        describe_delivery(&mut text, delivery);
    }
    text
}

fn describe_delivery(text: &mut String, delivery: &DeliveryView) {
    line(text, "delivery", &delivery.delivery_id.to_string());
    line(text, "port", delivery.port.as_str());
    line(text, "state", delivery.state.as_str());
    line(text, "route", delivery.route.as_str());
    line(text, "attempts", &delivery.attempts.to_string());
    let optional = [("due", &delivery.due), ("finished", &delivery.finished), ("reason", &delivery.reason)];
    for (name, value) in optional {
        if let Some(value) = value {
            line(text, name, &one_line(value));
        }
    }
    if let Some(doubt) = &delivery.doubt {
        line(text, "in doubt", &describe_doubt(doubt));
    }
    for attempt in delivery.history.iter().flatten() {
        describe_attempt(text, attempt);
    }
}

fn describe_doubt(doubt: &DoubtView) -> String {
    let begun = &doubt.begun;
    let crashes = match doubt.crashes {
        0 => String::new(),
        1 => ", the process ended once while it was being sent".to_owned(),
        many => format!(", the process ended {many} times while it was being sent"),
    };
    let decided = if doubt.resend { "; it is to be sent again" } else { "" };
    let ended = if doubt.transacted {
        "in a transaction that was not decided: the destination does not have it"
    } else {
        "how that ended is not known"
    };
    format!("it was being sent at {begun}, {ended}{crashes}{decided}")
}

fn describe_attempt(text: &mut String, attempt: &AttemptView) {
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    say(format!(
        "  attempt {}  {}  {}  {}  {} ms",
        attempt.number,
        attempt.started,
        attempt.route.as_str(),
        attempt.outcome.as_str(),
        attempt.took_ms
    ));
    let Some(failure) = &attempt.failure else { return };
    for (depth, cause) in failure.chain.iter().enumerate() {
        let lead = match depth {
            0 if failure.permanent => "permanent: ",
            0 => "failed: ",
            _ => "because: ",
        };
        say(format!("    {}{lead}{}", "  ".repeat(depth), one_line(cause)));
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _fine = writeln!(text, "{name:<10} {value}");
}

/// What destinations say may hold anything: no control character reaches the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn show_header(value: &Header) -> String {
    match value {
        Header::Text(text) => one_line(text),
        Header::Integer(number) => number.to_string(),
        Header::Boolean(flag) => flag.to_string(),
        Header::Bytes { base64 } => format!("(Base64) {base64}"),
    }
}
