//! Every decoder of records, keys and headers: what it takes, it gives back the same.

use pillarbox_store::testing::{self, Form};

/// The first byte says which form, the rest is the bytes to decode.
pub fn run(data: &[u8]) {
    let Some((&form, bytes)) = data.split_first() else { return };
    let Some(&form) = Form::ALL.get(usize::from(form) % Form::ALL.len()) else { return };
    // More than one spelling may be read; what is written is always the same one.
    let Ok(written) = testing::recode(form, bytes) else { return };
    let again = testing::recode(form, &written);
    assert_eq!(again.as_deref().ok(), Some(&*written), "{form:?} does not read what it wrote: {again:?}");
}
