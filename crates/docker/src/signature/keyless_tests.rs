use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_model::TextPattern;
use serde_json::json;

use super::authority::{NOW, Proof, Sigstore, Wish};
use super::*;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const IN_TOTO: Option<&str> = Some("application/vnd.in-toto+json");

fn digest() -> ImageDigest {
    ImageDigest::parse(DIGEST).unwrap()
}

fn payload() -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "hello"},
            "image": {"docker-manifest-digest": DIGEST},
            "type": "cosign container image signature"
        },
        "optional": null
    })
    .to_string()
}

fn statement(predicate: &str) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": DIGEST.trim_start_matches("sha256:")}}],
        "predicateType": predicate,
        "predicate": {}
    })
    .to_string()
}

fn exactly(text: &str) -> TextPattern {
    TextPattern::Exactly(text.to_owned())
}

fn root(sigstore: &Sigstore) -> TrustedRoot {
    TrustedRoot::parse(sigstore.trusted_root().to_string().as_bytes()).unwrap()
}

fn signers(root: TrustedRoot, identity: &TextPattern, issuer: &TextPattern) -> Signers {
    Signers { keys: Vec::new(), keyless: Some(KeylessSigner::new(root, identity, issuer).unwrap()) }
}

fn ordinary(sigstore: &Sigstore) -> Signers {
    signers(root(sigstore), &exactly("ci@example.com"), &exactly("https://accounts.example.com"))
}

fn noted(proof: &Proof) -> FoundSignature {
    bundle::noted(&proof.payload, &STANDARD.encode(&proof.signature), &proof.notes())
}

fn bundled(proof: &Proof) -> FoundSignature {
    ImageSignature::of_bundle(proof.bundle().to_string().as_bytes(), Some(&proof.payload))
}

fn check(found: FoundSignature, signers: &Signers) -> Result<String, Untrusted> {
    check_signatures(&digest(), &[found], signers)
}

fn refused(found: FoundSignature, signers: &Signers) -> String {
    check(found, signers).unwrap_err().to_string()
}

#[test]
fn every_form_of_a_keyless_signature_is_taken() {
    let sigstore = Sigstore::new();
    let signers = ordinary(&sigstore);
    let by = Ok("ci@example.com".to_owned());
    let text = sigstore.sign(&payload(), None, &Wish::default());
    assert_eq!(check(noted(&text), &signers), by);
    assert_eq!(check(bundled(&text), &signers), by);
    let envelope = sigstore.sign(&statement(SIGNED), IN_TOTO, &Wish::default());
    assert_eq!(check(bundled(&envelope), &signers), by);
    // One that counts is enough, whatever stands beside it.
    let other = Sigstore::new().sign(&payload(), None, &Wish::default());
    let found = [Err(Unreadable("bundle")), noted(&other), noted(&text)];
    assert_eq!(check_signatures(&digest(), &found, &signers), by);
    // A statement about an image is not a signature of it.
    let about = sigstore.sign(&statement("https://slsa.dev/provenance/v1"), IN_TOTO, &Wish::default());
    assert_eq!(check(bundled(&about), &signers), Err(Untrusted::NotAnImage));
    let other = ImageDigest::parse(DIGEST.replace('1', "2")).unwrap();
    for proof in [text, envelope] {
        let refused = check_signatures(&other, &[bundled(&proof)], &signers);
        assert_eq!(refused, Err(Untrusted::OtherImage { digest: DIGEST.to_owned() }));
    }
}

#[test]
fn an_envelope_signed_by_a_key_is_taken() {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let statement = statement(SIGNED);
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": STANDARD.encode(&statement),
            "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(key.sign(message.as_bytes()).unwrap())}]
        }
    });
    let found = ImageSignature::of_bundle(bundle.to_string().as_bytes(), None);
    let keys = vec![PublicKey::parse(key.public_key_pem().as_bytes()).unwrap()];
    let own = Signers { keys: keys.clone(), keyless: None };
    assert_eq!(check(found.clone(), &own), Ok("a key of the project".to_owned()));
    let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let other = PublicKey::parse(other.public_key_pem().as_bytes()).unwrap();
    assert_eq!(check(found.clone(), &Signers { keys: vec![other], keyless: None }), Err(Untrusted::OtherKey));
    // Whoever asks for keyless signatures only does not take keys.
    let keyless = ordinary(&Sigstore::new());
    assert_eq!(check(found.clone(), &keyless), Err(KeylessError::NoCertificate.into()));
    let both = Signers { keys, keyless: keyless.keyless };
    assert_eq!(check(found, &both), Ok("a key of the project".to_owned()));
}

#[test]
fn who_signed_and_who_vouched_decide() {
    let sigstore = Sigstore::new();
    let workflow = "https://github.com/acme/shop/.github/workflows/ci.yml@refs/tags/v1";
    let issuer = "https://token.actions.example.com";
    let wish = Wish { identity: workflow, issuer, ..Wish::default() };
    let proof = sigstore.sign(&payload(), None, &wish);
    let check = |identity: &TextPattern, by: &TextPattern| {
        check(noted(&proof), &signers(root(&sigstore), identity, by)).map_err(|error| error.to_string())
    };
    let matching = |text: &str| TextPattern::Matching(text.to_owned());
    let good = Ok(workflow.to_owned());
    assert_eq!(check(&exactly(workflow), &exactly(issuer)), good);
    let tags = matching(r"https://github\.com/acme/shop/\.github/workflows/ci\.yml@refs/tags/.+");
    assert_eq!(check(&tags, &matching(r"https://token\.actions\..*")), good);
    let other = check(&exactly("https://github.com/acme/shop"), &exactly(issuer)).unwrap_err();
    assert_eq!(other, format!("it was signed by `{workflow}`, not by `https://github.com/acme/shop`"));
    // A part that matches is not enough, whatever way the expression is written.
    for part in
        ["https://github.com/acme/shop", "acme", "x|https://github.com/acme/shop", "^https://github.com/"]
    {
        let refused = check(&matching(part), &exactly(issuer)).unwrap_err();
        assert!(refused.starts_with("it was signed by"), "{part}: {refused}");
    }
    let other = check(&exactly(workflow), &exactly("https://accounts.example.com")).unwrap_err();
    assert_eq!(other, format!("`{issuer}` vouched for who signed it, not `https://accounts.example.com`"));
    assert!(KeylessSigner::new(root(&sigstore), &matching("("), &exactly(issuer)).is_err());
}

#[test]
fn one_thing_that_is_wrong_is_named() {
    let sigstore = Sigstore::new();
    let signers = ordinary(&sigstore);
    for (wish, why) in [
        (
            Wish { identity: "eve@example.com", ..Wish::default() },
            "it was signed by `eve@example.com`, not by `ci@",
        ),
        (
            Wish { issuer: "https://evil.example.com", ..Wish::default() },
            "`https://evil.example.com` vouched for",
        ),
        (
            Wish { logged: NOW + 601, ..Wish::default() },
            "its certificate was not valid when the transparency log",
        ),
        (
            Wish { logged: NOW - 1, ..Wish::default() },
            "its certificate was not valid when the transparency log",
        ),
        (Wish { is_for_code: false, ..Wish::default() }, "its certificate is not for signing code"),
        (Wish { is_in_certificate_log: false, ..Wish::default() }, "its certificate holds no timestamp of a"),
    ] {
        let proof = sigstore.sign(&payload(), None, &wish);
        let refused = [refused(noted(&proof), &signers), refused(bundled(&proof), &signers)];
        assert!(refused.iter().all(|text| text.starts_with(why)), "{why}: {refused:?}");
    }
    let good = sigstore.sign(&payload(), None, &Wish::default());
    let other = sigstore.sign(&payload(), None, &Wish::default());
    let changed = |change: &dyn Fn(&mut Proof), why: &str| {
        let mut proof = good.clone();
        change(&mut proof);
        let refused = [refused(noted(&proof), &signers), refused(bundled(&proof), &signers)];
        assert!(refused.iter().all(|text| text.contains(why)), "{why}: {refused:?}");
    };
    changed(&|proof| proof.payload[40] ^= 1, "what was signed has been changed");
    changed(&|proof| proof.signature = other.signature.clone(), "is not by the key of its certificate");
    let elsewhere = "its log entry is not by a transparency log of the trusted root, or it has been changed";
    changed(&|proof| proof.body = proof.body.replace("0.0.1", "0.0.2"), elsewhere);
    changed(&|proof| proof.logged += 1, elsewhere);
    changed(&|proof| proof.log[0] ^= 1, elsewhere);
    changed(&|proof| proof.promise.as_mut().unwrap()[20] ^= 1, elsewhere);
    changed(&|proof| Sigstore::new().promise(proof), elsewhere);
    // A good entry of the log about something else.
    let entry = |change: &dyn Fn(&mut Proof), why: &str| {
        changed(
            &|proof| {
                change(proof);
                sigstore.promise(proof);
            },
            why,
        );
    };
    let between = |proof: &mut Proof, from: &str, to: &str| proof.body = proof.body.replace(from, to);
    let text = |proof: &Proof| STANDARD.encode(&proof.signature);
    entry(&|proof| proof.body = other.body.clone(), "its log entry is for another signature");
    entry(&|proof| between(proof, &text(&good), &text(&other)), "its log entry is for another signature");
    entry(
        &|proof| {
            proof.body = other.body.replace(&text(&other), &text(&good));
        },
        "its log entry is for another certificate",
    );
    entry(&|proof| between(proof, "\"value\":\"", "\"value\":\"00"), "its log entry is for another content");
    entry(&|proof| between(proof, "sha256", "sha512"), "its log entry is for another content");
    entry(&|proof| between(proof, "hashedrekord", "rpm"), "its log entry is of the kind `rpm 0.0.1`");
    entry(&|proof| proof.body = "{}".to_owned(), "the log entry of its signature cannot be understood");
}

#[test]
fn what_is_missing_is_named() {
    let sigstore = Sigstore::new();
    let signers = ordinary(&sigstore);
    let good = sigstore.sign(&payload(), None, &Wish::default());
    let mut proof = good.clone();
    proof.promise = None;
    assert_eq!(check(bundled(&proof), &signers), Err(KeylessError::NoPromise.into()));
    let mut bundle = good.bundle();
    bundle["verificationMaterial"]["tlogEntries"] = json!([]);
    let found = ImageSignature::of_bundle(bundle.to_string().as_bytes(), Some(&good.payload));
    assert_eq!(check(found, &signers), Err(KeylessError::NoEntry.into()));
    let mut notes = good.notes();
    notes.remove("dev.sigstore.cosign/bundle");
    let found = bundle::noted(&good.payload, &STANDARD.encode(&good.signature), &notes);
    assert_eq!(check(found, &signers), Err(KeylessError::NoEntry.into()));
    let by_key = ImageSignature::by_key(&good.payload, &STANDARD.encode(&good.signature));
    assert_eq!(check(by_key, &signers), Err(KeylessError::NoCertificate.into()));
    for (text, part) in [("{}", "bundle"), ("cosign", "bundle"), (r#"{"mediaType":"x"}"#, "bundle")] {
        let found = ImageSignature::of_bundle(text.as_bytes(), None);
        assert_eq!(check(found, &signers), Err(Untrusted::Unreadable(part)));
    }
    assert_eq!(check_signatures(&digest(), &[], &signers), Err(Untrusted::Unsigned));
}

#[test]
fn another_trusted_root_trusts_nobody_of_this_one() {
    let sigstore = Sigstore::new();
    let proof = sigstore.sign(&payload(), None, &Wish::default());
    let other = Sigstore::new().trusted_root();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut root = sigstore.trusted_root();
        change(&mut root);
        let root = TrustedRoot::parse(root.to_string().as_bytes()).unwrap();
        refused(
            noted(&proof),
            &signers(root, &exactly("ci@example.com"), &exactly("https://accounts.example.com")),
        )
    };
    let log = "its log entry is not by a transparency log of the trusted root, or it has been changed";
    let authority = "its certificate is not by an authority of the trusted root";
    let certificates =
        "the timestamp in its certificate is not by a certificate transparency log of the trusted root";
    assert_eq!(with(&|root| root["tlogs"] = other["tlogs"].clone()), log);
    // The right name, another key.
    assert_eq!(with(&|root| root["tlogs"][0]["publicKey"] = other["tlogs"][0]["publicKey"].clone()), log);
    let authorities = "certificateAuthorities";
    assert_eq!(with(&|root| root[authorities] = other[authorities].clone()), authority);
    assert_eq!(with(&|root| root["ctlogs"] = other["ctlogs"].clone()), certificates);
    assert_eq!(
        with(&|root| root["ctlogs"][0]["publicKey"] = other["ctlogs"][0]["publicKey"].clone()),
        certificates
    );
    // What is trusted no longer, or not yet.
    let past = json!({"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"});
    let future = json!({"start": "2036-01-01T00:00:00Z"});
    for period in [past, future] {
        assert_eq!(with(&|root| root["tlogs"][0]["publicKey"]["validFor"] = period.clone()), log);
        assert_eq!(with(&|root| root[authorities][0]["validFor"] = period.clone()), authority);
        assert_eq!(with(&|root| root["ctlogs"][0]["publicKey"]["validFor"] = period.clone()), certificates);
    }
}

#[test]
fn files_that_are_no_trusted_root_are_refused() {
    let good = Sigstore::new().trusted_root();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut root = good.clone();
        change(&mut root);
        TrustedRoot::parse(root.to_string().as_bytes()).unwrap_err().to_string()
    };
    let kind = refused(&|root| root["mediaType"] = json!("application/json"));
    assert!(kind.starts_with("its `mediaType` is `application/json`"), "{kind}");
    for key in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let empty = refused(&|root| root[key] = json!([]));
        assert!(empty.starts_with(&format!("it has nothing usable under `{key}`")), "{empty}");
    }
    let broken = refused(&|root| root["tlogs"][0]["publicKey"]["rawBytes"] = json!("?"));
    assert_eq!(broken, "a certificate or key under `tlogs` cannot be read");
    let broken = "AAAA";
    let broken = refused(&|root| {
        root["certificateAuthorities"][0]["certChain"]["certificates"][0]["rawBytes"] = json!(broken);
    });
    assert_eq!(broken, "a certificate or key under `certificateAuthorities` cannot be read");
    assert!(TrustedRoot::parse(b"-----BEGIN").is_err());
}
