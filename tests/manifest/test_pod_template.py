"""A pod template is read, compared with another one, and pinned to digests."""

import copy
import re

import pytest

from manifest.annotations import UNPINNED
from manifest.pod_template import image_of, new_rollout_id, pinned, without_own_annotations
from tests.manifest.samples import DIGEST, DIGESTS, FORMER, NEW_ID, PINNED, images


def test_a_rollout_id_fits_urls_and_keys_and_each_one_is_later():
    ids = [new_rollout_id() for _ in range(100)]
    assert all(re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z", each) for each in ids)
    assert ids == sorted(ids)


def test_a_rollout_is_about_the_image_that_was_asked_for():
    template = {"spec": {"containers": [{"image": "envoy:1"}, {"image": "acme/web:2"}]}}
    assert image_of(template, "acme/web:2") == "acme/web:2"
    assert image_of(template, None) == "envoy:1"


def test_pinning_changes_the_images_that_have_a_digest_and_nothing_else():
    before = copy.deepcopy(FORMER)
    assert images(pinned(FORMER, DIGESTS | {"gone": DIGEST})) == PINNED
    assert pinned(FORMER, {}) == FORMER == before


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {"auto-deployer/restartedAt": NEW_ID},
        {"auto-deployer/restartedAt": NEW_ID, UNPINNED: '{"web": "acme/web:latest"}'},
    ],
)
def test_templates_that_differ_only_in_our_annotations_are_the_same(annotations):
    metadata = {"labels": {"app": "web"}} | ({} if annotations is None else {"annotations": annotations})
    bare = without_own_annotations({"metadata": metadata, "spec": FORMER["spec"]})
    assert bare == without_own_annotations({"metadata": {"labels": {"app": "web"}}, "spec": FORMER["spec"]})
    assert bare != without_own_annotations(FORMER)
    assert without_own_annotations(FORMER)["metadata"]["annotations"] == {"scrape": "yes"}
