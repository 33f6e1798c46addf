//! Hostile values of placeholders with the filter `dotted`, for the tests of the compiler and for those with real
//! sockets, which have this file as a module.

/// Texts that are no list of tokens.
pub(crate) const NO_LISTS_OF_TOKENS: [&str; 21] = [
    "a..b",
    ".a",
    "a.",
    ".",
    "..",
    "*",
    ">",
    "a.*",
    "*.a",
    "a.>",
    ">.a",
    "a*.b",
    "$SYS.x",
    "x.$SYS",
    "a. b",
    "a.\0",
    "a.\u{2028}",
    "a.\u{ff0a}",
    "a.\r\nPUB x 1",
    "a.%2E",
    "1.2.3.4.5.6.7.8.9",
];
