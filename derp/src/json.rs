//! JSON as the programs we must agree with read it: Go's `encoding/json`, on top of serde_json.
//!
//! Does: matches names in any letter case, passes over what nobody asked for without recursion,
//! takes strings that are not UTF-8, leaves a field alone when its value is `null`.
//! Does not: build a tree, convert between types, or keep the text of an error.
//!
//! Users: `login::info`, `key::file`, `map`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

/// Why bytes are not the wanted JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON at all, cut short, or with something behind it.
    Syntax,
    /// JSON of another shape: a list for an object, text for a number, a number too large.
    Shape,
}

/// Something that is filled from the fields of a JSON object, in the order they come.
pub(crate) trait Object {
    /// Takes one field. A name that comes twice is handed in twice.
    ///
    /// # Errors
    ///
    /// Those of `value`, and [`refuse`] for a value that has the right type and is still wrong.
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error>;
}

/// An error for a value that has the right JSON type and is still wrong.
pub(crate) fn refuse<E: de::Error>() -> E {
    E::custom("refused")
}

/// Fills `object` from all of `json`, which is a JSON object or `null`.
pub(crate) fn read_object(json: &[u8], object: &mut impl Object) -> Result<(), Fault> {
    let fault = |error: serde_json::Error| match error.classify() {
        Category::Data => Fault::Shape,
        Category::Syntax | Category::Eof | Category::Io => Fault::Syntax,
    };
    if has_control_in_text(json) {
        return Err(Fault::Syntax);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    Fill(object).deserialize(&mut reader).map_err(fault)?;
    reader.end().map_err(fault)
}

/// Whether a string in `json` holds a control character that is not escaped.
///
/// JSON has none, and serde_json lets them through where it reads strings as bytes.
fn has_control_in_text(json: &[u8]) -> bool {
    let (mut in_text, mut escaped) = (false, false);
    json.iter().any(|&byte| {
        let quote = byte == b'"' && !escaped;
        let control = in_text && byte < 0x20;
        in_text ^= quote;
        escaped = in_text && byte == b'\\' && !escaped;
        control
    })
}

/// Whether `name` is the field `wanted`, which is given in lower-case ASCII.
///
/// Go folds letters by simple Unicode case folding. Outside ASCII that adds two characters:
/// the long s and the Kelvin sign.
pub(crate) fn is_named(name: &[u8], wanted: &str) -> bool {
    let mut rest = name;
    for letter in wanted.bytes() {
        rest = match (rest, letter) {
            ([first, rest @ ..], _) if first.eq_ignore_ascii_case(&letter) => rest,
            ([0xc5, 0xbf, rest @ ..], b's') | ([0xe2, 0x84, 0xaa, rest @ ..], b'k') => rest,
            _ => return false,
        };
    }
    rest.is_empty()
}

/// The value of a field that has not been read yet. Each method reads it; `None` stands for
/// `null`, which leaves a field as it was.
pub(crate) struct Value<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> Value<'_, A> {
    /// Passes over the value, whatever it is and however deep, without recursion.
    pub(crate) fn ignore(self) -> Result<(), A::Error> {
        self.0.next_value::<IgnoredAny>().map(|_| ())
    }

    /// Reads `true` or `false`.
    pub(crate) fn flag(self) -> Result<Option<bool>, A::Error> {
        self.0.next_value()
    }

    /// Reads a number without fraction or exponent.
    pub(crate) fn integer(self) -> Result<Option<i64>, A::Error> {
        self.0.next_value()
    }

    /// Reads a number.
    pub(crate) fn number(self) -> Result<Option<f64>, A::Error> {
        self.0.next_value()
    }

    /// Reads the bytes of a string, escapes resolved. They may be anything but UTF-8.
    pub(crate) fn bytes(self) -> Result<Option<Cow<'de, [u8]>>, A::Error> {
        self.0.next_value_seed(Nullable(Bytes))
    }

    /// Reads a string; what is not UTF-8 in it becomes U+FFFD.
    pub(crate) fn text(self) -> Result<Option<String>, A::Error> {
        Ok(self.bytes()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Fills `object`; `false` if there was `null` instead of an object.
    pub(crate) fn object(self, object: &mut impl Object) -> Result<bool, A::Error> {
        self.0.next_value_seed(Fill(object))
    }

    /// Reads a list of objects. Elements that are `null` are passed over.
    pub(crate) fn list<T: Object + Default>(self) -> Result<Option<Vec<T>>, A::Error> {
        self.0.next_value_seed(Nullable(List(Vec::new())))
    }
}

/// The bytes of a string.
struct Bytes;

impl<'de> DeserializeSeed<'de> for Bytes {
    type Value = Cow<'de, [u8]>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Bytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// What the seed reads, or `null`.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(reader).map(Some)
    }
}

/// Fills an object; the value says whether there was one.
struct Fill<'o, O>(&'o mut O);

impl<'de, O: Object> DeserializeSeed<'de> for Fill<'_, O> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        Ok(Nullable(Fields(self.0)).deserialize(reader)?.is_some())
    }
}

/// Hands the fields of an object on, one by one.
struct Fields<'o, O>(&'o mut O);

impl<'de, O: Object> DeserializeSeed<'de> for Fields<'_, O> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de, O: Object> Visitor<'de> for Fields<'_, O> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key_seed(Bytes)? {
            self.0.field(&name, Value(&mut fields))?;
        }
        Ok(())
    }
}

/// Reads a list of objects.
struct List<T>(Vec<T>);

impl<'de, T: Object + Default> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Vec<T>, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de, T: Object + Default> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Vec<T>, A::Error> {
        loop {
            let mut element = T::default();
            match elements.next_element_seed(Fill(&mut element))? {
                Some(true) => self.0.push(element),
                Some(false) => {}
                None => return Ok(self.0),
            }
        }
    }
}
