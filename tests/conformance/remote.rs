//! What every object store does alike, in-process, emulated, or a real one named by `FSD_TEST_REMOTE`
//! (an URL; its credentials are taken from the environment). Each sentence of [`CASES`] runs on each store.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use fsd_tests::servers::{Azurite, BUCKET, GcsServer, S3Server, Variables};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use crate::objects::*;
use crate::parts::*;
use crate::store::{Kind, Part, Store, runtime, skip};

type Case = for<'a> fn(Part<'a>) -> LocalBoxFuture<'a, ()>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), (|part| $name(part).boxed_local()) as Case)),*] };
}

const CASES: [(&str, Case); 22] = cases![
    what_was_put_is_read_back_with_its_metadata,
    metadata_is_replaced_by_a_put_and_kept_by_nothing_else,
    a_range_ends_where_the_object_ends,
    a_missing_object_is_not_found,
    a_put_happens_only_if_its_condition_holds,
    a_delete_happens_only_if_its_condition_holds,
    a_get_fails_if_the_version_is_another,
    a_directory_has_a_marker_of_its_own,
    a_marker_is_not_listed_beside_its_directory,
    a_file_and_a_directory_of_one_name_do_not_replace_each_other,
    a_level_is_listed_page_by_page,
    metadata_in_a_listing_is_the_objects,
    odd_keys_are_themselves_or_refused,
    hostile_keys_are_refused,
    a_copy_has_the_metadata_given,
    metadata_changes_alone,
    parts_make_an_object_when_completed,
    parts_of_an_upload_that_was_given_up_stand_in_nobodys_way,
    completing_again_finds_what_was_made,
    completing_keeps_to_its_condition,
    parts_of_the_version_before_are_used_again,
    a_missing_container_is_not_an_empty_one,
];

/// Runs every case; says which fail.
fn conforms(store: &Store) {
    let runtime = runtime();
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let run = async {
            let part = Part { store, remote: store.open(name).remote };
            let case = tokio::time::timeout(Duration::from_secs(120), case(part));
            let passed = AssertUnwindSafe(case).catch_unwind().await;
            if !matches!(passed, Ok(Ok(()))) {
                failed.push(name);
            }
        };
        runtime.block_on(run);
    }
    assert!(failed.is_empty(), "{}: {failed:?} of {} cases", store.base, CASES.len());
}

#[test]
fn a_directory_is_a_remote() {
    let root = tempfile::tempdir().unwrap();
    let base = format!("file://{}", root.path().display());
    conforms(&Store { base, variables: Variables::new(), kind: Kind::Dir });
}

#[test]
fn s3_is_a_remote() {
    let server = S3Server::start();
    let base = format!("s3://{BUCKET}/pre fix");
    conforms(&Store { base, variables: server.variables(), kind: Kind::S3 });
}

#[test]
fn gcs_is_a_remote() {
    let server = GcsServer::start();
    let base = format!("gs://{BUCKET}/pre");
    conforms(&Store { base, variables: server.variables(), kind: Kind::Gcs });
}

#[test]
fn azure_is_a_remote() {
    match Azurite::start() {
        Ok(server) => {
            let base = format!("az://{BUCKET}/pre");
            conforms(&Store { base, variables: server.variables(), kind: Kind::Azure });
        }
        Err(missing) => skip(&missing),
    }
}

#[test]
fn a_store_of_yours_is_a_remote() {
    let Ok(base) = std::env::var("FSD_TEST_REMOTE") else {
        return skip("FSD_TEST_REMOTE names no store");
    };
    let kind = match base.split("://").next() {
        Some("s3") => Kind::S3,
        Some("gs") => Kind::Gcs,
        Some("az") => Kind::Azure,
        _ => Kind::Dir,
    };
    conforms(&Store { base, variables: std::env::vars().collect(), kind });
}
