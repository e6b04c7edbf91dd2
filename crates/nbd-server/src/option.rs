//! What a client asks for before transmission: the bytes of an option become a [`ClientOption`].
//!
//! What must always hold: whatever the bytes are, the result is an option or the reply that
//! refuses it; nothing is allocated beyond the size of what was received.
//! Left to others: the conversation (`negotiation`).

use crate::wire::{Fields, LONGEST_STRING, option};

/// An option, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientOption<'a> {
    ExportName(&'a [u8]),
    Abort,
    StartTls,
    List,
    Info(ExportQuery<'a>),
    Go(ExportQuery<'a>),
    StructuredReply,
    ExtendedHeaders,
    ListContexts(ContextQuery<'a>),
    SetContexts(ContextQuery<'a>),
}

/// Which export, and what is to be told of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExportQuery<'a> {
    pub(crate) export: &'a [u8],
    pub(crate) wanted: Vec<u16>,
}

/// Which export, and which contexts of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContextQuery<'a> {
    pub(crate) export: &'a [u8],
    pub(crate) queries: Vec<&'a [u8]>,
}

/// Why an option is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionFault {
    /// Not one of ours.
    Unsupported,
    /// Its data is not what the option needs.
    Malformed,
    /// A name or text is longer than the protocol allows.
    StringTooLong,
}

impl<'a> ClientOption<'a> {
    /// Understands option number `code` with its data.
    pub(crate) fn parse(code: u32, data: &'a [u8]) -> Result<Self, OptionFault> {
        match code {
            option::EXPORT_NAME => Ok(Self::ExportName(data)),
            // Spec: data of an ABORT is ignored.
            option::ABORT => Ok(Self::Abort),
            option::STARTTLS => without_data(data, Self::StartTls),
            option::LIST => without_data(data, Self::List),
            option::INFO => ExportQuery::parse(data).map(Self::Info),
            option::GO => ExportQuery::parse(data).map(Self::Go),
            option::STRUCTURED_REPLY => without_data(data, Self::StructuredReply),
            option::EXTENDED_HEADERS => without_data(data, Self::ExtendedHeaders),
            option::LIST_META_CONTEXT => ContextQuery::parse(data).map(Self::ListContexts),
            option::SET_META_CONTEXT => ContextQuery::parse(data).map(Self::SetContexts),
            _ => Err(OptionFault::Unsupported),
        }
    }
}

fn without_data<'a>(
    data: &[u8],
    option: ClientOption<'a>,
) -> Result<ClientOption<'a>, OptionFault> {
    if data.is_empty() { Ok(option) } else { Err(OptionFault::Malformed) }
}

impl<'a> ExportQuery<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, OptionFault> {
        let mut fields = Fields::of(data);
        let export = string(&mut fields)?;
        let count = fields.u16().ok_or(OptionFault::Malformed)?;
        let wanted: Vec<u16> = std::iter::from_fn(|| fields.u16()).collect();
        // Also refuses a last odd byte, which is no request.
        if wanted.len() != usize::from(count) || !fields.rest().is_empty() {
            return Err(OptionFault::Malformed);
        }
        Ok(Self { export, wanted })
    }
}

impl<'a> ContextQuery<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, OptionFault> {
        let mut fields = Fields::of(data);
        let export = string(&mut fields)?;
        let count = fields.u32().ok_or(OptionFault::Malformed)?;
        let mut queries = Vec::new();
        // Ends by itself where the data ends, whatever the count claims.
        for _ in 0..count {
            queries.push(string(&mut fields)?);
        }
        if !fields.rest().is_empty() {
            return Err(OptionFault::Malformed);
        }
        Ok(Self { export, queries })
    }
}

fn string<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], OptionFault> {
    let text = fields.string().ok_or(OptionFault::Malformed)?;
    if text.len() > LONGEST_STRING {
        return Err(OptionFault::StringTooLong);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Message;

    #[test]
    fn go_names_an_export_and_what_to_tell() {
        let data = Message::default().string(b"d-1").u16(2).u16(3).u16(1).into_bytes();
        let expected = ExportQuery { export: b"d-1", wanted: vec![3, 1] };
        assert_eq!(ClientOption::parse(option::GO, &data), Ok(ClientOption::Go(expected)));
    }

    #[test]
    fn counts_that_lie_are_malformed() {
        let more = Message::default().string(b"d-1").u16(9).u16(3).into_bytes();
        let odd = Message::default().string(b"d-1").u16(0).bytes(&[1]).into_bytes();
        let long = Message::default().u32(u32::MAX).bytes(b"d-1").into_bytes();
        for data in [more, odd, long, vec![]] {
            assert_eq!(ClientOption::parse(option::GO, &data), Err(OptionFault::Malformed));
        }
        let contexts = Message::default().string(b"d-1").u32(u32::MAX).into_bytes();
        let parsed = ClientOption::parse(option::SET_META_CONTEXT, &contexts);
        assert_eq!(parsed, Err(OptionFault::Malformed));
    }

    #[test]
    fn names_have_a_longest_length() {
        let data = Message::default().string(&[b'a'; LONGEST_STRING + 1]).u16(0).into_bytes();
        assert_eq!(ClientOption::parse(option::INFO, &data), Err(OptionFault::StringTooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_option_or_a_fault(
            code in 0u32..16,
            data in prop::collection::vec(any::<u8>(), 0..256),
        ) {
            let _ = ClientOption::parse(code, &data);
        }
    }
}
