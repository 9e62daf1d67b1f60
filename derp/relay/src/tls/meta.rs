//! The certificate that tells clients the relay's DERP key during the TLS handshake.
//!
//! Does: makes it, byte for byte in the form that Tailscale's clients look for. A client that
//! finds it sends its login together with its HTTP request: one round trip less.
//! Does not: prove anything. Its own key is thrown away; the login box proves the DERP key.
//!
//! | field | value |
//! |---|---|
//! | serial | the DERP protocol version |
//! | subject, issuer | one common name, PrintableString: `derpkey` and 64 hex digits |
//! | validity | 30 days before and after now; no client looks |
//! | extensions | exactly one: critical BasicConstraints, an empty sequence |
//!
//! Without key identifiers on purpose: Tailscale's prober takes a certificate whose two are
//! equal, hence also both absent, for a root and does not warn of its end.
//!
//! Last in the chain; see `tls::certificate`. Spec: docs/protocol/derp.md, DERP-1.3.

use std::time::{Duration, SystemTime};

use derp::key::NodePublic;
use rcgen::string::PrintableString;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, Error, IsCa, KeyPair,
    PKCS_ED25519, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::validity::{Validity, since_1970};

/// What the common name starts with.
const NAME_PREFIX: &str = "derpkey";

/// The DERP protocol version, as a serial number.
const SERIAL: [u8; 1] = [2];

/// Time before and after `now` for which the certificate is valid.
const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Object identifier of BasicConstraints.
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];

/// An empty sequence in DER: not a certificate authority, by default.
const EMPTY_SEQUENCE: [u8; 2] = [0x30, 0x00];

/// Makes the certificate for the relay with this key.
///
/// # Errors
///
/// The cryptographic library fails: no randomness, mostly.
///
/// # Source
///
/// DERP-1.3.
pub fn certificate(key: &NodePublic, now: SystemTime) -> Result<CertificateDer<'static>, Error> {
    let name = PrintableString::try_from(format!("{NAME_PREFIX}{}", key.to_hex()))?;
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, DnValue::PrintableString(name));
    let mut basic_constraints =
        CustomExtension::from_oid_content(&BASIC_CONSTRAINTS, EMPTY_SEQUENCE.to_vec());
    basic_constraints.set_criticality(true);
    let validity = Validity::around(now, HALF_LIFE);

    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name;
    params.serial_number = Some(SerialNumber::from_slice(&SERIAL));
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(validity.not_before);
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(validity.not_after);
    // `ExplicitNoCa` would add a key identifier.
    params.is_ca = IsCa::NoCa;
    params.custom_extensions = vec![basic_constraints];
    let throw_away = KeyPair::generate_for(&PKCS_ED25519)?;
    Ok(params.self_signed(&throw_away)?.der().clone())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use x509_parser::oid_registry::{OID_SIG_ED25519, OID_X509_COMMON_NAME};
    use x509_parser::prelude::*;

    use super::*;

    /// DERP-1.3, check-T4: every field of the table above, and nothing else.
    #[test]
    fn has_every_field_that_clients_look_at_and_no_other() {
        let key = NodePublic::from_bytes([0xac; 32]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);

        let der = certificate(&key, now).unwrap();

        assert_eq!(der.len(), 359);
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(certificate.version(), X509Version::V3);
        assert_eq!(certificate.raw_serial(), [2]);
        assert_eq!(certificate.signature_algorithm.algorithm, OID_SIG_ED25519);
        assert!(certificate.signature_algorithm.parameters.is_none());
        assert_eq!(certificate.subject(), certificate.issuer());
        let names: Vec<_> = certificate.subject().iter_attributes().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(*names[0].attr_type(), OID_X509_COMMON_NAME);
        assert_eq!(names[0].attr_value().tag(), asn1_rs::Tag::PrintableString);
        assert_eq!(names[0].as_str().unwrap(), format!("derpkey{}", key.to_hex()));
        assert_eq!(certificate.validity().not_before.timestamp(), 1_767_225_600 - 30 * 86_400);
        assert_eq!(certificate.validity().not_after.timestamp(), 1_767_225_600 + 30 * 86_400);
        let [extension] = certificate.extensions() else { panic!("not one extension") };
        assert_eq!(extension.oid.to_id_string(), "2.5.29.19");
        assert!(extension.critical);
        assert_eq!(extension.value, EMPTY_SEQUENCE);
        UnparsedPublicKey::new(&ED25519, &certificate.public_key().subject_public_key.data)
            .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
            .unwrap();
    }

    /// DERP-1.3: recorded from Go 1.26 with the template of `initMetacert` and the key `acac…`;
    /// what a random key and the time of recording brought is cut out.
    #[test]
    fn is_byte_for_byte_what_the_reference_server_makes() {
        let key = NodePublic::from_bytes([0xac; 32]);
        let name =
            [&hex("30523150304e06035504031347646572706b6579")[..], b"ac".repeat(32).as_slice()]
                .concat();
        let front = [&hex("3082016330820115a003020102020102300506032b6570")[..], &name].concat();
        let times = hex("301e170d");
        let middle = [&name[..], &hex("302a300506032b6570032100")].concat();
        let end = hex("a310300e300c0603551d130101ff04023000300506032b6570034100");

        let der = certificate(&key, SystemTime::now()).unwrap();

        assert_eq!(der[..front.len()], front);
        assert_eq!(der[107..111], times);
        assert_eq!(der[139..139 + middle.len()], middle);
        assert_eq!(der[267..267 + end.len()], end);
        assert_eq!(der.len(), 267 + end.len() + 64);
    }

    /// What comes behind the key is different every time: nobody has the secret half.
    #[test]
    fn is_signed_by_a_key_of_its_own() {
        let key = NodePublic::from_bytes([7; 32]);
        let now = SystemTime::now();

        let [first, second] = [(); 2].map(|()| certificate(&key, now).unwrap());

        assert_ne!(first, second);
    }

    fn hex(digits: &str) -> Vec<u8> {
        let digits: Vec<_> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(16 * pair[0] + pair[1]).unwrap()).collect()
    }
}
