//! Against independent computations: the recursive definitions of RFC 6962, published roots, every
//! flipped bit, every torn file.

use super::*;
use crate::session::Asker;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use veilgate_federated::run::RunId;

const RUN: RunId = RunId([0xab; 32]);
const PLAN: [u8; 32] = [0xcd; 32];

fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate("tax").unwrap())
}

/// MTH of RFC 6962, 2.1, word for word.
fn mth(entries: &[Vec<u8>]) -> [u8; 32] {
    match entries {
        [] => Sha256::digest(b"").into(),
        [one] => Sha256::digest([&[0], one.as_slice()].concat()).into(),
        _ => {
            let (left, right) = entries.split_at(split(entries.len()));
            node(mth(left), mth(right))
        }
    }
}

fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    Sha256::digest([&[1][..], &left, &right].concat()).into()
}

/// The largest power of two below `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// PATH of RFC 6962, 2.1.1.
fn path(m: usize, entries: &[Vec<u8>]) -> Vec<[u8; 32]> {
    if entries.len() == 1 {
        return Vec::new();
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut below, beside) = if m < k {
        (path(m, left), mth(right))
    } else {
        (path(m - k, right), mth(left))
    };
    below.push(beside);
    below
}

/// SUBPROOF of RFC 6962, 2.1.2.
fn subproof(m: usize, entries: &[Vec<u8>], whole: bool) -> Vec<[u8; 32]> {
    if m == entries.len() {
        return if whole {
            Vec::new()
        } else {
            vec![mth(entries)]
        };
    }
    let k = split(entries.len());
    let (left, right) = entries.split_at(k);
    let (mut below, beside) = if m <= k {
        (subproof(m, left, whole), mth(right))
    } else {
        (subproof(m - k, right, false), mth(left))
    };
    below.push(beside);
    below
}

/// All files of the log with their content, without private ones.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with(layout::PRIVATE) {
                    folders.push(path);
                }
            } else {
                files.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    files
}

fn restore(folder: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for path in snapshot(folder).keys() {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn asker() -> Asker {
    Asker {
        analyst: "zhang.wei".to_owned(),
        purpose: "pension audit".to_owned(),
        case: "2026-117".to_owned(),
    }
}

fn leaves(from: u64, count: u64) -> Vec<Leaf> {
    (from..from + count)
        .map(|n| match n % 3 {
            0 => Leaf::admission(&RUN, &PLAN, &asker(), None, false, n),
            1 => Leaf::consent(&RUN, &PLAN, &[7; 32], n),
            _ => Leaf::failure(&RunId([1; 32]), Code::PeerUnavailable, n),
        })
        .collect()
}

/// The entries that the files hold, read independently of the layout code's paths.
fn entries(folder: &Path, size: u64) -> Vec<Vec<u8>> {
    let folder = Folder::for_reading(folder);
    (0..size.div_ceil(256))
        .flat_map(|number| folder.read_bundle(number, size).unwrap())
        .collect()
}

#[test]
fn published_roots() {
    // The reference tree of certificate-transparency's tests, sizes 0 to 8.
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(hex::encode(ledger.root.0), *root, "size {size}");
        let head = ledger.key.open(&ledger.checkpoint().unwrap()).unwrap();
        assert_eq!(
            (head.size, hex::encode(head.root)),
            (size as u64, (*root).into())
        );
        if let Some(input) = inputs.get(size) {
            ledger
                .append_entries(&[hex::decode(input).unwrap()])
                .unwrap();
        }
    }
}

#[test]
fn grows_past_tile_bounds_in_any_steps_and_matches_the_rfc() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity();
    let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
    for step in [1, 2, 3, 249, 1, 1, 255, 256, 300] {
        let before = ledger.size();
        let first = ledger.append_all(&leaves(before, step)).unwrap();
        assert_eq!(first.index, before);
        if step % 2 == 1 {
            drop(ledger);
            ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
        }
        let size = ledger.size();
        assert_eq!(size, before + step);
        let all = entries(folder.path(), size);
        assert_eq!(ledger.root.0, mth(&all), "size {size}");
        let found: Vec<String> = snapshot(folder.path())
            .keys()
            .map(|path| {
                path.strip_prefix(folder.path())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        let mut expected: Vec<String> = layout::files(size).into_iter().collect();
        let mut found = found;
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "size {size}");
        let report = verify(folder.path(), Some(identity.public_key())).unwrap();
        assert_eq!((report.size, report.root), (size, mth(&all)));
        assert!(report.uncommitted.is_empty());
        let reader = TileHashReader::new(size, ledger.root, &ledger.folder);
        for index in [0, size / 2, size - 1] {
            let proof = tlog_tiles::prove_record(size, index, &reader).unwrap();
            let proof: Vec<[u8; 32]> = proof.into_iter().map(|hash| hash.0).collect();
            assert_eq!(proof, path(usize::try_from(index).unwrap(), &all));
        }
        for old in [1, before.max(1), size] {
            let expected = subproof(usize::try_from(old).unwrap(), &all, true);
            assert_eq!(
                ledger.growth_proof(old).unwrap(),
                expected,
                "{old} to {size}"
            );
        }
    }
    assert!(ledger.growth_proof(0).is_err());
    assert!(ledger.growth_proof(ledger.size() + 1).is_err());
}

#[test]
fn paths_are_those_of_the_specification() {
    // From https://c2sp.org/tlog-tiles.
    assert_eq!(
        layout::hash_tile_path(0, 1_234_067, 256),
        "tile/0/x001/x234/067"
    );
    assert_eq!(layout::hash_tile_path(2, 3, 9), "tile/2/003.p/9");
    assert_eq!(layout::bundle_path(273, 112), "tile/entries/273.p/112");
    // A tree of 70,000 leaves, as the specification counts its tiles.
    let files = layout::files(70_000);
    for name in [
        "tile/0/272",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ] {
        assert!(files.contains(name), "{name}");
    }
    assert_eq!(files.len(), 2 + 274 * 2 + 2 + 1);
}

#[test]
fn every_flipped_bit_of_the_log_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity();
    let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
    ledger.append_all(&leaves(0, 3)).unwrap();
    drop(ledger);
    let files = snapshot(folder.path());
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    for key in [None, Some(identity.public_key())] {
        verify(folder.path(), key).unwrap();
    }
    for (path, bytes) in &files {
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                std::fs::write(path, &altered).unwrap();
                let error = verify(folder.path(), None).expect_err(&format!("{path:?} {at} {bit}"));
                assert_eq!(error.code, Code::LedgerCorrupt);
                assert_eq!(error.blame().exit_code(), 76);
                assert!(!error.message.contains("zhang.wei"));
            }
        }
        for altered in [
            &bytes[..bytes.len() - 1],
            &[bytes.as_slice(), b"\n"].concat(),
            b"",
        ] {
            std::fs::write(path, altered).unwrap();
            assert!(verify(folder.path(), None).is_err(), "{path:?}");
        }
        std::fs::remove_file(path).unwrap();
        assert!(verify(folder.path(), None).is_err(), "{path:?} missing");
        std::fs::write(path, bytes).unwrap();
    }
    verify(folder.path(), None).unwrap();
}

#[test]
fn flips_in_a_large_ledger_are_found_and_located() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    ledger.append_all(&leaves(0, 600)).unwrap();
    let files = snapshot(folder.path());
    for (path, bytes) in &files {
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            std::fs::write(path, &altered).unwrap();
            let error = verify(folder.path(), None).unwrap_err();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                error.message.contains(&name) || path.to_string_lossy().contains("entries"),
                "{path:?}: {error}"
            );
        }
        std::fs::write(path, bytes).unwrap();
    }
    let bundle = folder.path().join("tile/entries/001");
    let mut altered = files[&bundle].clone();
    let place = altered
        .windows(7)
        .rposition(|window| window == b"consent")
        .unwrap();
    altered[place] = b'd';
    std::fs::write(&bundle, altered).unwrap();
    let error = verify(folder.path(), None).unwrap_err();
    assert!(error.message.contains("entry 511"), "{error}");
}

#[test]
fn an_interrupted_append_is_undone_and_a_lost_commitment_is_not() {
    let identity = identity();
    for (size, more) in [
        (0, 1),
        (3, 1),
        (3, 5),
        (254, 2),
        (255, 300),
        (256, 1),
        (511, 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
        ledger.append_all(&leaves(0, size)).unwrap();
        let before = snapshot(folder.path());
        let root = ledger.root;
        ledger.append_all(&leaves(size, more)).unwrap();
        drop(ledger);
        let after = snapshot(folder.path());
        let checkpoint = folder.path().join(layout::CHECKPOINT);
        let new: Vec<&PathBuf> = after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .collect();
        // Power fails after any number of the new files, the last of them in the middle.
        for done in 0..=new.len() {
            for torn in [false, true] {
                let mut crashed = before.clone();
                for path in &new[..done] {
                    crashed.insert((*path).clone(), after[*path].clone());
                }
                if torn && done > 0 {
                    let path = new[done - 1];
                    let half = after[path].len() / 2;
                    crashed.remove(path);
                    let mut writing = path.clone().into_os_string();
                    writing.push(".writing");
                    crashed.insert(writing.into(), after[path][..half].to_vec());
                }
                restore(folder.path(), &crashed);
                let ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
                assert_eq!((ledger.size, ledger.root), (size, root));
                assert_eq!(
                    snapshot(folder.path()),
                    before,
                    "{size}+{more}, {done} done"
                );
                drop(ledger);
            }
        }
        // The checkpoint is there, but something that it commits to is not.
        for path in after.keys().filter(|path| **path != checkpoint) {
            restore(folder.path(), &after);
            let half = after[path].len() / 2;
            std::fs::write(path, &after[path][..half]).unwrap();
            assert!(verify(folder.path(), None).is_err(), "{path:?}");
            let edge = layout::partial_files(size + more);
            let name = path.strip_prefix(folder.path()).unwrap().to_string_lossy();
            if edge.contains(name.as_ref()) {
                let error = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap_err();
                assert_eq!(error.code, Code::LedgerCorrupt, "{path:?}");
            }
        }
        // Without a checkpoint there is no telling what was committed.
        restore(folder.path(), &after);
        std::fs::remove_file(&checkpoint).unwrap();
        let error = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap_err();
        assert_eq!(error.code, Code::LedgerCorrupt);
        // And then it goes on as if nothing had been.
        restore(folder.path(), &before);
        let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
        ledger.append_all(&leaves(size, more)).unwrap();
        verify(folder.path(), Some(identity.public_key())).unwrap();
    }
}

#[test]
fn a_ledger_is_verified_and_proven_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity();
    let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
    ledger.append_all(&leaves(0, 250)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 250..280 {
                ledger.append_all(&leaves(index, 1)).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut size = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let report = verify(folder.path(), Some(identity.public_key())).unwrap();
            assert!(report.size >= size);
            size = report.size;
            let proof = prove(folder.path(), &hex::encode(RUN.0)).unwrap();
            proof.check(Some(identity.public_key())).unwrap();
        }
    });
}

#[test]
fn files_that_no_ledger_writes_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    drop(Ledger::open(folder.path(), identity()).unwrap());
    assert!(folder.path().join("notes.txt").exists());
    let report = verify(folder.path(), None).unwrap();
    assert_eq!(report.uncommitted, ["notes.txt"]);
}

#[test]
fn an_altered_tail_stops_the_next_append() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    ledger.append_all(&leaves(0, 3)).unwrap();
    let path = folder.path().join("tile/entries/000.p/3");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = ledger.append_all(&leaves(3, 1)).unwrap_err();
    assert_eq!(error.code, Code::LedgerCorrupt);
    assert_eq!(ledger.size(), 3);
}

#[test]
fn one_writer_and_one_identity() {
    let folder = tempfile::tempdir().unwrap();
    let mine = identity();
    let ledger = Ledger::open(folder.path(), Arc::clone(&mine)).unwrap();
    let error = Ledger::open(folder.path(), Arc::clone(&mine)).unwrap_err();
    assert_eq!(error.code, Code::BadConfig, "{error}");
    drop(ledger);
    let error = Ledger::open(folder.path(), identity()).unwrap_err();
    assert_eq!(error.code, Code::LedgerCorrupt, "{error}");
    let error = verify(folder.path(), Some(identity().public_key())).unwrap_err();
    assert!(error.message.contains("another key"), "{error}");
    Ledger::open(folder.path(), mine).unwrap();
}

#[test]
fn analysts_are_named_by_commitment_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    ledger.append_all(&leaves(0, 1)).unwrap();
    for bytes in snapshot(folder.path()).values() {
        assert!(!bytes.windows(9).any(|window| window == b"zhang.wei"));
        assert!(!bytes.windows(8).any(|window| window == b"2026-117"));
    }
    let debug = format!("{:?}", leaves(0, 1));
    assert!(!debug.contains("zhang"), "{debug}");
    assert!(!debug.contains("117"), "{debug}");
    let lines = std::fs::read_to_string(folder.path().join(layout::OPENINGS)).unwrap();
    let fields = leaf::read_entry(&entries(folder.path(), 1)[0]).unwrap();
    assert_eq!(fields["purpose"], "pension audit");
    let mut salts = Vec::new();
    for (line, field) in lines.lines().zip(["analyst", "case"]) {
        let opening: serde_json::Value = serde_json::from_str(line).unwrap();
        let salt = hex::decode(opening["salt"].as_str().unwrap()).unwrap();
        let text = opening[field].as_str().unwrap();
        let expected = leaf::commitment(field, text, &salt.clone().try_into().unwrap());
        assert_eq!(fields[field], expected.as_str());
        assert_eq!(opening["leaf"], 0);
        salts.push(salt);
    }
    assert_eq!(salts.len(), 2);
    assert_ne!(salts[0], salts[1]);
}

#[test]
fn leaves_are_canonical_and_say_what_they_should() {
    let denial = veilgate_federated::error::Denial {
        department: "tax".into(),
        rule: "tax.income.taxable_income/output".into(),
        column: "tax.income.taxable_income".into(),
        asked: "output".into(),
        alternative: "SUM".into(),
    };
    let refusal = Error::denied(denial);
    let leaf = Leaf::admission(
        &RUN,
        &PLAN,
        &Asker {
            analyst: "zhang.wei".to_owned(),
            ..Asker::default()
        },
        Some(&refusal),
        true,
        1_234_567_890,
    );
    let entry = String::from_utf8(leaf.entry(&[0; leaf::SALT]).unwrap()).unwrap();
    let (run, plan) = ("ab".repeat(32), "cd".repeat(32));
    let analyst = leaf::commitment(
        "analyst",
        "zhang.wei",
        &leaf::own("analyst", &[0; leaf::SALT]),
    );
    assert_eq!(
        entry,
        format!(
            "{{\"analyst\":\"{analyst}\",\"column\":\"tax.income.taxable_income\",\
             \"decision\":\"deny\",\"explain\":true,\"kind\":\"admission\",\"plan\":\"{plan}\",\
             \"reason\":\"policy-denied\",\"rule\":\"tax.income.taxable_income/output\",\
             \"run\":\"{run}\",\"time\":\"2009-02-13T23:31:30Z\",\"version\":1}}"
        )
    );
    assert!(leaf::read_entry(entry.as_bytes()).is_some());
    assert!(leaf::read_entry(entry.replace("\":", "\": ").as_bytes()).is_none());
}

#[test]
fn a_proof_holds_offline_and_every_flipped_bit_breaks_it() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity();
    let mut ledger = Ledger::open(folder.path(), Arc::clone(&identity)).unwrap();
    ledger.append_all(&leaves(0, 8)).unwrap();
    let proof = prove(folder.path(), &hex::encode(RUN.0)[..12]).unwrap();
    assert_eq!(proof.query(), hex::encode(RUN.0));
    assert_eq!(proof.leaves().count(), 6);
    let bytes = proof.to_bytes().unwrap();
    let read = Proof::from_bytes(&bytes).unwrap();
    assert_eq!(read, proof);
    let head = read.check(Some(identity.public_key())).unwrap();
    assert_eq!(head.size, 8);
    assert!(
        read.check(Some(super::tests::identity().public_key()))
            .is_err()
    );
    let check = |bytes: &[u8]| Proof::from_bytes(bytes).and_then(|proof| proof.check(None));
    check(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        let error = check(&altered).expect_err(&format!("byte {at}"));
        assert_eq!(error.code, Code::LedgerCorrupt);
    }
    for length in 0..bytes.len() {
        assert!(check(&bytes[..length]).is_err(), "{length}");
    }
    for query in ["abababab12", "ab", "zzzzzzzz", ""] {
        assert_eq!(
            prove(folder.path(), query).unwrap_err().code,
            Code::BadRequest
        );
    }
}

#[test]
fn a_proof_is_not_made_from_an_altered_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    ledger.append_all(&leaves(0, 3)).unwrap();
    let path = folder.path().join("tile/entries/000.p/3");
    let text = std::fs::read(&path).unwrap();
    let place = text
        .windows(5)
        .position(|window| window == b"allow")
        .unwrap();
    let mut altered = text;
    altered[place..place + 5].copy_from_slice(b"denyy");
    std::fs::write(&path, altered).unwrap();
    let error = prove(folder.path(), &hex::encode(RUN.0)).unwrap_err();
    assert_eq!(error.code, Code::LedgerCorrupt, "{error}");
}

#[test]
fn other_tools_can_verify_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(folder.path(), identity()).unwrap();
    ledger.append_all(&leaves(0, 2)).unwrap();
    // The crate's own verifier, from the key file alone.
    let vkey = std::fs::read_to_string(folder.path().join("vkey")).unwrap();
    let verifier = signed_note::StandardVerifier::new(vkey.trim_end()).unwrap();
    let list = signed_note::VerifierList::new(vec![Box::new(verifier)]);
    let note = signed_note::Note::from_bytes(&ledger.checkpoint().unwrap()).unwrap();
    let (verified, unverified) = note.verify(&list).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.origin(), "veilgate/tax");
    assert_eq!(checkpoint.size(), 2);
}
