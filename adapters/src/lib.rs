//! Part of Weft.
