//! What the kept store of format version 1 holds, and what must be said of each damage to it.
//!
//! What must always hold: a row is never changed to please a program; that is what a new version is for.

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Disk(&'static str),
    Layer(&'static str),
    Hashes(&'static str),
}
use Subject::{Disk, Hashes, Layer};

/// The layers of the kept store by the resource or the disk each was made for.
pub(crate) const LAYERS: [(&str, &str); 7] = [
    ("d-live", "153ca64f2ebb46ea6d5ff19673695ec4"),
    ("d-reset", "bc54a8a9a583d7ec15e2e8a812273c36"),
    ("m-1", "d0119c915d9ecb8f892633c99e683610"),
    ("m-2", "346e2d282c4d9d7ad25338b4adfa4c4f"),
    ("m-3", "9152bdb0f7a54062dd2dcb65bf35424c"),
    ("s-1", "5672a9cbffc8d958a9bfa3278ec5c61f"),
    ("s-2", "b216bd90088f0c29013151309b4a3557"),
];

/// What the kept store reads as: its SHA-256, taken once.
pub(crate) const WHOLE: [(Subject, &str); 10] = [
    (Disk("d-live"), "1a6e8af0be8333c3871b7208df37387a236d3e3c1222b67eb8fcb823ef7d1f08"),
    (Disk("d-reset"), "0b67cda4d1eda821feb8dbdf4d23dc99152282c6e734e27c458226988c9f0339"),
    (Disk("d-chain"), "bf0cb8864b8bd960a1f2a0e7abe7f933453fb78f5284e39d7ed4aacd43758340"),
    (Disk("d-clean"), "b01a3b2e34a065271fc19700a7c455ac12d7d9c767c3cc360be9c4e156671f98"),
    (Disk("d-cut"), "c7fe8c7b9e5ff04b4daf9d1ccec6ac6f5807688ac036c77e0b6b3f7c4c0709ae"),
    (Layer("m-1"), "106d346705f1bc1fbb26ce6e32c239bcd2e46bc85336f7553e984f15e711e76e"),
    (Layer("m-2"), "aa4052ad4d7d60bd264dfba2b5e0773c58a5ccfa7d029f1e5d28d33cf8ebc3c9"),
    (Layer("m-3"), "8a92ddeadf01aea29c051488bb7f3fb0af3fe65f2c864f9b2103227d42884af2"),
    (Layer("s-1"), "f476454fcd56824d5fbeb56d9a66560d63f4f83cebf479bb9864efe932fb6191"),
    (Layer("s-2"), "7f43f0dd6bed7bfa7e7721062870aaf8b2ccc52349844509adbfc9da43b19ab1"),
];

/// What is found of each damage, by our program and by the one in Python; `{x}` stands for the id of layer x.
pub(crate) const DAMAGED: [(&str, Subject, &str, &str); 35] = [
    (
        "ledger-bad-crc",
        Disk("d-live"),
        "the ledger is damaged: no valid copy of its header",
        "the ledger: no valid copy of its header",
    ),
    (
        "ledger-foreign-magic",
        Disk("d-live"),
        "the ledger is damaged: no valid copy of its header",
        "the ledger: no valid copy of its header",
    ),
    (
        "ledger-newer-version",
        Disk("d-live"),
        "the ledger: version 2 with features 0x0 is not known here",
        "the ledger: version 2 with features 0x0 is not known",
    ),
    (
        "ledger-big-endian",
        Disk("d-live"),
        "the ledger: version 16777216 with features 0x0 is not known here",
        "the ledger: version 16777216 with features 0x0 is not known",
    ),
    (
        "ledger-unknown-feature",
        Disk("d-live"),
        "the ledger: version 1 with features 0x4 is not known here",
        "the ledger: version 1 with features 0x4 is not known",
    ),
    (
        "ledger-cut",
        Disk("d-live"),
        "the ledger is damaged: it is shorter than its header",
        "the ledger: it is shorter than its header",
    ),
    (
        "record-bad-crc",
        Disk("d-live"),
        "the disk d-live is refused: its ledger record: its checksum is wrong",
        "the disk d-live: slot 2 of the ledger is damaged",
    ),
    (
        "record-bad-older-crc",
        Disk("d-live"),
        "the disk d-live is refused: its ledger record: its checksum is wrong",
        "the disk d-live: slot 2 of the ledger is damaged",
    ),
    (
        "record-zeroed",
        Disk("d-live"),
        "the disk d-live is refused: its ledger record: one of its two records is gone",
        "the disk d-live: slot 2 of the ledger is damaged",
    ),
    (
        "record-foreign-magic",
        Disk("d-live"),
        "the disk d-live is refused: its ledger record: its checksum is wrong",
        "the disk d-live: slot 2 of the ledger is damaged",
    ),
    (
        "record-strayed",
        Disk("d-live"),
        "the disk d-live is refused: its ledger record: it belongs to another slot",
        "the disk d-live: slot 2 of the ledger is damaged",
    ),
    (
        "record-newer-version",
        Disk("d-reset"),
        "the ledger: record version 2 is not known, only 1",
        "the ledger: a record has version 2, only 1 is known",
    ),
    (
        "record-of-an-old-ledger",
        Disk("d-reset"),
        "the disk d-reset is refused: the head {d-reset} of disk d-reset is damaged: its epoch 3 is above the ledger's 2: the ledger is an old one",
        "the layer {d-reset}: its epoch is above the ledger's: the ledger is an old one",
    ),
    (
        "record-names-the-head-of-another",
        Disk("d-live"),
        "the disk d-live is refused: the head {d-reset} of disk d-live is damaged: it belongs to another disk",
        "the layer {d-reset} is the head of another disk",
    ),
    (
        "header-bad-crc",
        Layer("s-1"),
        "the header of layer {s-1} is damaged: its checksum is wrong",
        "the layer {s-1}: no valid copy of its header",
    ),
    (
        "header-foreign-magic",
        Layer("s-1"),
        "the header of layer {s-1} is damaged: it does not begin with REINITLY",
        "the layer {s-1}: no valid copy of its header",
    ),
    (
        "header-newer-version",
        Disk("d-live"),
        "the header of layer {d-live}: format version 2 is not known, only 1",
        "the layer {d-live}: format version 2 is not known, only 1",
    ),
    (
        "header-older-copy-of-a-newer-version",
        Layer("s-1"),
        "the header of layer {s-1}: format version 2 is not known, only 1",
        "the layer {s-1}: format version 2 is not known, only 1",
    ),
    (
        "header-big-endian",
        Layer("s-1"),
        "the header of layer {s-1}: format version 16777216 is not known, only 1",
        "the layer {s-1}: format version 16777216 is not known, only 1",
    ),
    (
        "header-unknown-feature",
        Layer("s-1"),
        "the header of layer {s-1}: required feature bit 5 is not known",
        "the layer {s-1}: required features 0x20 are not known",
    ),
    (
        "header-not-sealed",
        Layer("s-1"),
        "layer {s-1} is damaged: it was never sealed",
        "the layer {s-1} was never sealed",
    ),
    (
        "sector-bad-check-word",
        Disk("d-live"),
        "the disk is damaged: the map of layer {d-live} is damaged: sector 0 at byte 8192: its check word is wrong",
        "the layer {d-live}: map sector 0: its check word is wrong",
    ),
    (
        "word-data-and-zero",
        Disk("d-live"),
        "the disk is damaged: the map of layer {d-live} is damaged: sector 0 at byte 8192: a word says what no word can say",
        "the layer {d-live}: map sector 0: a word that nobody writes",
    ),
    (
        "word-without-epoch",
        Disk("d-live"),
        "the disk is damaged: the map of layer {d-live} is damaged: sector 0 at byte 8192: a word says what no word can say",
        "the layer {d-live}: map sector 0: a word that nobody writes",
    ),
    (
        "word-above-the-header",
        Disk("d-live"),
        "the disk is damaged: the map of layer {d-live} is damaged: sector 0 at byte 8192: a word's epoch is above its header's",
        "the layer {d-live}: map sector 0: epoch 2 is above the header's 1",
    ),
    (
        "word-above-the-header-of-a-layer",
        Layer("s-1"),
        "the disk is damaged: the map of layer {s-1} is damaged: sector 0 at byte 8192: a word's epoch is above its header's",
        "the layer {s-1}: map sector 0: epoch 8 is above the header's 1",
    ),
    (
        "hash-page-bad-crc",
        Hashes("s-2"),
        "hash page 0 of layer {s-2} is damaged: its checksum is wrong",
        "the layer {s-2}: hash page 0: its checksum is wrong",
    ),
    (
        "map-cut",
        Layer("s-1"),
        "layer {s-1} is damaged: its files have 4608000 and 8192 bytes, too few or too many for 4608000",
        "the layer {s-1}: its files have the wrong length",
    ),
    (
        "map-of-hashes-cut",
        Hashes("s-2"),
        "hash page 0 of layer {s-2} is damaged: it cannot be read",
        "the layer {s-2}: hash page 0: its checksum is wrong",
    ),
    (
        "data-cut",
        Layer("s-1"),
        "layer {s-1} is damaged: its files have 4607488 and 16384 bytes, too few or too many for 4608000",
        "the layer {s-1}: its files have the wrong length",
    ),
    (
        "data-longer",
        Layer("s-1"),
        "layer {s-1} is damaged: its files have 4608512 and 16384 bytes, too few or too many for 4608000",
        "the layer {s-1}: its files have the wrong length",
    ),
    (
        "data-of-a-head-cut",
        Disk("d-live"),
        "the disk d-live is refused: layer {d-live} is damaged: its files have 1074688 and 12288 bytes, too few or too many for 1075200",
        "the layer {d-live}: its files have the wrong length",
    ),
    (
        "head-missing",
        Disk("d-live"),
        "the disk d-live is refused: layer {d-live} is damaged: its data is missing",
        "the layer {d-live}: its files are missing",
    ),
    (
        "layers-swapped",
        Disk("d-reset"),
        "the disk d-reset is refused: the header of layer {m-1} is damaged: it belongs to layer {s-1}",
        "the layer {m-1}: its header is that of {s-1}",
    ),
    (
        "layers-swapped",
        Layer("s-1"),
        "the header of layer {s-1} is damaged: it belongs to layer {m-1}",
        "the layer {s-1}: its header is that of {m-1}",
    ),
];

/// Damages that are made good: one copy of a header is enough, growing and creating may be cut short.
pub(crate) const MADE_GOOD: [(&str, Subject); 5] = [
    ("ledger-one-bad-copy", Disk("d-live")),
    ("header-bad-newer-copy", Layer("s-1")),
    ("header-bad-newer-copy", Disk("d-chain")),
    ("data-of-a-head-longer", Disk("d-live")),
    ("record-half-made", Disk("d-live")),
];

/// The id of a layer.
pub(crate) fn layer_id(name: &str) -> &'static str {
    LAYERS.iter().find(|(of, _)| *of == name).unwrap().1
}

/// A text with the ids it stands for.
pub(crate) fn with_ids(text: &str) -> String {
    LAYERS.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), id))
}
