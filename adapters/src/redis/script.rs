//! The script that adds a message once.

use pillarbox_runtime::adapter::SendError;
use redis::Cmd;

use super::settings::RedisSettings;
use crate::parcel::{Parcel, body_unreadable};

/// Adds the entry unless the key is there, then sets the key. A script is one step: nobody sees it half done, and the
/// append-only file has all of it or nothing. The entry goes first: should the server refuse it (the key is no stream,
/// there is no memory), no key stays behind that would call it sent.
const SCRIPT: &str = "\
if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
if ARGV[1] == '0' and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local add = {'XADD', KEYS[1]}
if ARGV[2] ~= '' then add[3] = 'MAXLEN' add[4] = '~' add[5] = ARGV[2] end
add[#add + 1] = '*'
for i = 4, #ARGV do add[#add + 1] = ARGV[i] end
redis.call('SET', KEYS[2], redis.call(unpack(add)), 'PX', ARGV[3])
return 1";

/// What the script says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// There is no stream of that name, and none is to be made.
    NoStream,
    /// The entry is there, from now or from an earlier attempt.
    Added,
}

impl Said {
    /// Reads the script's answer.
    pub(super) fn read(answer: i64) -> Option<Self> {
        match answer {
            0 => Some(Self::NoStream),
            1 | 2 => Some(Self::Added),
            _ => None,
        }
    }
}

/// The key by which a send key is known. In a cluster it is on the stream's node.
pub(super) fn sent_key(stream: &str, send_key: &str) -> String {
    let tagged = stream
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .is_some_and(|(tag, _)| !tag.is_empty());
    // Without a tag of its own, a name with a brace in it cannot be made one.
    if tagged || stream.contains(['{', '}']) {
        format!("{stream}:sent:{send_key}")
    } else {
        format!("{{{stream}}}:sent:{send_key}")
    }
}

/// The command for a message. Reads the whole body.
///
/// # Errors
/// The body is too long, or cannot be read.
pub(super) fn command(settings: &RedisSettings, parcel: &Parcel<'_>) -> Result<Cmd, SendError> {
    let (length, most) = (parcel.body.len(), settings.body_bytes_max);
    if length > most {
        return Err(SendError::permanent(format!(
            "the message's body has {length} bytes, more than {most} (setting body_bytes_max)"
        )));
    }
    let body = parcel.body.to_bytes().map_err(body_unreadable)?;
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(2).arg(&settings.stream).arg(sent_key(&settings.stream, parcel.send_key));
    command.arg(if settings.create_stream { "1" } else { "0" });
    command.arg(settings.entries_max.map_or_else(String::new, |most| most.to_string()));
    command.arg(settings.window.as_millis().to_string());
    command.arg("body").arg(&body[..]);
    command.arg("message-id").arg(parcel.message_id.to_string());
    command.arg("send-key").arg(parcel.send_key);
    command.arg("attempt").arg(parcel.attempt.to_string());
    if parcel.in_doubt {
        command.arg("in_doubt").arg("1");
    }
    for (name, value) in parcel.headers.iter() {
        command.arg(format!("h-{name}")).arg(value.to_string());
    }
    Ok(command)
}
