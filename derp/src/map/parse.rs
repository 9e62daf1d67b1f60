//! Other people's DERP maps: JSON as Tailscale's and Headscale's programs read it.
//!
//! Does: takes names in any letter case, passes over what it does not know, leaves out regions
//! and nodes that are `null`. Does not: fetch, merge, or judge: that is `DerpMap::validate`.

use std::collections::BTreeMap;

use serde::de::MapAccess;

use super::{DerpMap, HomeParams, Node, Region};
use crate::json::{self, Fault, Object, Value};

/// Most bytes in a map that is parsed. Ours: Tailscale's own map, the largest in use, has some
/// 60 KiB; a parsed map takes a few times its text.
pub const MAX_MAP_LEN: usize = 1 << 20;

/// Why bytes are not a DERP map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMapError {
    /// Longer than [`MAX_MAP_LEN`].
    #[error("map of {len} bytes, at most {MAX_MAP_LEN}")]
    TooLong {
        /// Length of the text, in bytes.
        len: usize,
    },
    /// Not JSON, cut short, or with something behind it.
    #[error("map is not JSON")]
    Syntax,
    /// JSON of another shape: a wrong type, a region key that is no number, a negative id.
    #[error("JSON is no DERP map")]
    Shape,
}

impl DerpMap {
    /// Reads a map in JSON. `null` and `{}` are maps without regions.
    ///
    /// Of a region that comes twice the last counts, whole.
    ///
    /// # Errors
    ///
    /// [`ParseMapError`]; whoever has an older map keeps it.
    ///
    /// # Source
    ///
    /// DERP-10.2.
    pub fn parse(text: &[u8]) -> Result<Self, ParseMapError> {
        if text.len() > MAX_MAP_LEN {
            return Err(ParseMapError::TooLong { len: text.len() });
        }
        let mut map = Self::default();
        json::read_object(text, &mut map).map_err(|fault| match fault {
            Fault::Syntax => ParseMapError::Syntax,
            Fault::Shape => ParseMapError::Shape,
        })?;
        Ok(map)
    }
}

impl Object for DerpMap {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        let is = |wanted| json::is_named(name, wanted);
        if is("regions") {
            value.object(&mut Regions(&mut self.regions)).map(|_| ())
        } else if is("homeparams") {
            let mut params = self.home_params.take().unwrap_or_default();
            self.home_params = value.object(&mut params)?.then_some(params);
            Ok(())
        } else if is("omitdefaultregions") {
            set(&mut self.omit_default_regions, value.flag()?);
            Ok(())
        } else {
            value.ignore()
        }
    }
}

impl Object for HomeParams {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        if json::is_named(name, "regionscore") {
            value.object(&mut Scores(&mut self.region_score)).map(|_| ())
        } else {
            value.ignore()
        }
    }
}

/// Regions by the decimal id that is their name.
struct Regions<'m>(&'m mut BTreeMap<u64, Region>);

impl Object for Regions<'_> {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        let id = id_in_name(name).ok_or_else(json::refuse)?;
        let mut region = Region::default();
        if value.object(&mut region)? {
            self.0.insert(id, region);
        }
        Ok(())
    }
}

/// Scores by the decimal id that is their name.
struct Scores<'m>(&'m mut BTreeMap<u64, f64>);

impl Object for Scores<'_> {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        let id = id_in_name(name).ok_or_else(json::refuse)?;
        if let Some(score) = value.number()? {
            self.0.insert(id, score);
        }
        Ok(())
    }
}

impl Object for Region {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        let is = |wanted| json::is_named(name, wanted);
        if is("regionid") {
            set(&mut self.id, whole(value)?);
        } else if is("regioncode") {
            set(&mut self.code, value.text()?);
        } else if is("regionname") {
            set(&mut self.name, value.text()?);
        } else if is("latitude") {
            set(&mut self.latitude, value.number()?);
        } else if is("longitude") {
            set(&mut self.longitude, value.number()?);
        } else if is("avoid") {
            set(&mut self.avoid, value.flag()?);
        } else if is("nomeasurenohome") {
            set(&mut self.no_measure_no_home, value.flag()?);
        } else if is("nodes") {
            set(&mut self.nodes, value.list()?);
        } else {
            value.ignore()?;
        }
        Ok(())
    }
}

impl Object for Node {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &[u8],
        value: Value<'_, A>,
    ) -> Result<(), A::Error> {
        let is = |wanted| json::is_named(name, wanted);
        if is("name") {
            set(&mut self.name, value.text()?);
        } else if is("regionid") {
            set(&mut self.region_id, whole(value)?);
        } else if is("hostname") {
            set(&mut self.host_name, value.text()?);
        } else if is("certname") {
            set(&mut self.cert_name, value.text()?);
        } else if is("ipv4") {
            set(&mut self.ipv4, value.text()?);
        } else if is("ipv6") {
            set(&mut self.ipv6, value.text()?);
        } else if is("stunport") {
            set(&mut self.stun_port, whole(value)?);
        } else if is("stunonly") {
            set(&mut self.stun_only, value.flag()?);
        } else if is("derpport") {
            set(&mut self.derp_port, whole(value)?);
        } else if is("insecurefortests") {
            set(&mut self.insecure_for_tests, value.flag()?);
        } else if is("stuntestip") {
            set(&mut self.stun_test_ip, value.text()?);
        } else if is("canport80") {
            set(&mut self.can_port_80, value.flag()?);
        } else {
            value.ignore()?;
        }
        Ok(())
    }
}

/// `null` leaves a field as it was.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Reads a whole number that fits the field.
fn whole<'de, A: MapAccess<'de>, T: TryFrom<i64>>(
    value: Value<'_, A>,
) -> Result<Option<T>, A::Error> {
    value.integer()?.map(T::try_from).transpose().map_err(|_| json::refuse())
}

fn id_in_name(name: &[u8]) -> Option<u64> {
    std::str::from_utf8(name).ok()?.parse().ok()
}
