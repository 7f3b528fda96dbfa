//! From a message to a mail: text in lines of ASCII, whatever the message has in it.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, MessageBuilder, SinglePart};
use pillarbox_runtime::adapter::SendError;

use super::mailbox;
use super::settings::SmtpSettings;
use crate::parcel::{Parcel, body_unreadable};
use crate::template::{Template, key_hash};

/// The longest header line's text that is taken: what is longer is no subject.
const SUBJECT_BYTES_MAX: usize = 900;
/// The last second that a mail can be dated: of the year 9999.
const DATE_MAX: Duration = Duration::from_secs(253_402_300_799);

/// A mail and who gets it.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) sender: Address,
    pub(super) recipients: Vec<Address>,
    /// Lines of ASCII with CR LF between any two.
    pub(super) text: Vec<u8>,
}

impl Mail {
    /// Reads the whole body.
    ///
    /// # Errors
    /// The body is too long or cannot be read; permanent: a header is missing, or is not what it is to be.
    pub(super) fn new(settings: &SmtpSettings, parcel: &Parcel<'_>) -> Result<Self, SendError> {
        let (length, most) = (parcel.body.len(), settings.body_bytes_max);
        if length > most {
            return Err(SendError::permanent(format!(
                "the message's body has {length} bytes, more than {most} (setting body_bytes_max)"
            )));
        }
        let from = single("from", &settings.from, parcel)?;
        let (to, cc) = (several("to", &settings.to, parcel)?, several("cc", &settings.cc, parcel)?);
        let bcc = several("bcc", &settings.bcc, parcel)?;
        let mut head = Message::builder()
            .from(from.clone())
            .subject(subject(&settings.subject, parcel)?)
            .date(UNIX_EPOCH + submitted(parcel)?)
            // The same on every attempt, so that who gets it twice can tell.
            .message_id(Some(format!("<{}@{}>", key_hash(parcel.send_key), from.email.domain())))
            .raw_header(own_header("X-Pillarbox-Message-Id", parcel.message_id.to_string()))
            .raw_header(own_header("X-Pillarbox-Attempt", parcel.attempt.to_string()));
        if parcel.in_doubt {
            head = head.raw_header(own_header("X-Pillarbox-In-Doubt", "true".to_owned()));
        }
        head = to.iter().cloned().fold(head, MessageBuilder::to);
        head = cc.iter().cloned().fold(head, MessageBuilder::cc);
        if let Some(reply_to) = &settings.reply_to {
            head = head.reply_to(single("reply_to", reply_to, parcel)?);
        }
        let made = head.singlepart(part(settings, parcel)?);
        let mail = made.map_err(|error| {
            SendError::permanent("the message cannot be made into a mail").caused_by(error)
        })?;
        let mut recipients: Vec<Address> = Vec::new();
        for Mailbox { email, .. } in to.into_iter().chain(cc).chain(bcc) {
            if !recipients.contains(&email) {
                recipients.push(email);
            }
        }
        let mut text = mail.formatted();
        // The last line's end is a part of what ends the mail.
        text.truncate(text.strip_suffix(b"\r\n").map_or(text.len(), <[u8]>::len));
        Ok(Self { sender: from.email, recipients, text })
    }
}

fn own_header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

fn submitted(parcel: &Parcel<'_>) -> Result<Duration, SendError> {
    let micros = u64::try_from(parcel.submitted.as_micros()).ok();
    micros.map(Duration::from_micros).filter(|span| *span <= DATE_MAX).ok_or_else(|| {
        SendError::permanent("the time of submission is too far from now to be written into a mail")
    })
}

fn subject(template: &Template, parcel: &Parcel<'_>) -> Result<String, SendError> {
    let text = template.render(parcel, "the subject", |value| value.replace('\t', " "))?;
    one_line(&text)?;
    if text.len() > SUBJECT_BYTES_MAX {
        let length = text.len();
        return Err(SendError::permanent(format!(
            "the subject has {length} bytes, more than {SUBJECT_BYTES_MAX}"
        )));
    }
    Ok(text)
}

/// The box takes no header with control characters; whoever does without the box is refused here.
fn one_line(text: &str) -> Result<(), SendError> {
    if text.chars().any(char::is_control) {
        return Err(SendError::permanent(format!(
            "the subject {text:?} has control characters, which a mail's header does not take"
        )));
    }
    Ok(())
}

fn single(key: &str, template: &Template, parcel: &Parcel<'_>) -> Result<Mailbox, SendError> {
    let text = template.render(parcel, &format!("the setting `{key}`"), str::to_owned)?;
    mailbox::one(&text).map_err(|problem| no_address(key, &problem))
}

/// A template gives one address; one that is a value alone may give several.
fn several(key: &str, templates: &[Template], parcel: &Parcel<'_>) -> Result<Vec<Mailbox>, SendError> {
    let mut all = Vec::new();
    for template in templates {
        if template.is_one_value() {
            let text = template.render(parcel, &format!("the setting `{key}`"), str::to_owned)?;
            all.extend(mailbox::many(&text).map_err(|problem| no_address(key, &problem))?);
        } else {
            all.push(single(key, template, parcel)?);
        }
    }
    Ok(all)
}

fn no_address(key: &str, problem: &str) -> SendError {
    SendError::permanent(format!("the setting `{key}` gives no address for this message: {problem}"))
}

/// How a body of this media type is written.
///
/// # Errors
/// Why none can be.
pub(super) fn encoding(content_type: &str) -> Result<ContentTransferEncoding, String> {
    let possible = content_type.len() <= 255 && content_type.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !possible || ContentType::parse(content_type).is_err() {
        return Err(format!("{content_type:?} is no media type"));
    }
    let kind = content_type.trim_start().to_ascii_lowercase();
    if kind.starts_with("multipart/") || kind.starts_with("message/") {
        return Err(format!("{content_type:?} is a media type of mails inside a mail"));
    }
    let text = kind.starts_with("text/");
    Ok(if text { ContentTransferEncoding::QuotedPrintable } else { ContentTransferEncoding::Base64 })
}

/// Text stays readable where it is UTF-8. Neither encoding leaves a line's end that is not one, nor a line that is too
/// long: no server can take a part of the body for the end of the mail.
fn part(settings: &SmtpSettings, parcel: &Parcel<'_>) -> Result<SinglePart, SendError> {
    let own = parcel.headers.get("content-type").map(ToString::to_string);
    let content_type = own.as_deref().unwrap_or(&settings.content_type);
    let wrong = |problem| SendError::permanent(format!("the message's header \"content-type\": {problem}"));
    let encoding = encoding(content_type).map_err(wrong)?;
    let header = ContentType::parse(content_type).map_err(|error| {
        SendError::permanent(format!("{content_type:?} is no media type")).caused_by(error)
    })?;
    let bytes = parcel.body.to_bytes().map_err(body_unreadable)?;
    let text = std::str::from_utf8(&bytes).ok();
    let encoded = match (encoding, text) {
        (ContentTransferEncoding::QuotedPrintable, Some(text)) => {
            Body::new_with_encoding(text.to_owned(), ContentTransferEncoding::QuotedPrintable)
        }
        _ => Body::new_with_encoding(bytes.to_vec(), ContentTransferEncoding::Base64),
    };
    let body =
        encoded.map_err(|_| SendError::permanent("the message's body cannot be written into a mail"))?;
    Ok(SinglePart::builder().header(header).body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_line() {
        assert!(one_line("Order für 3 €").is_ok());
        for text in ["a\r\nBcc: b@example.com", "a\nb", "a\0"] {
            assert!(one_line(text).unwrap_err().to_string().contains("control characters"));
        }
    }
}
