"""Mask classes get their roles by their usual names or by the names given, and nobody guesses."""

import numpy as np
import pytest

from mnsa.errors import ConfigError
from mnsa.traits import Roles, find_roles
from mnsa.traits.roles import roles_if_any


@pytest.mark.parametrize(
    ("classes", "roles"),
    [
        (["vein"], Roles(vein=(1,), leaf=(), lesion=())),
        (["foreground"], Roles(vein=(1,), leaf=(), lesion=())),
        (["leaf"], Roles(vein=(), leaf=(1,), lesion=())),
        (["background", "leaf", "symptom"], Roles(vein=(), leaf=(1,), lesion=(2,))),
        (["background", "Leaf", "Veins"], Roles(vein=(2,), leaf=(1,), lesion=())),
    ],
)
def test_usual_names_have_their_roles(classes, roles):
    assert find_roles(classes) == roles


def test_given_names_replace_the_usual_ones_of_their_role_only():
    classes = ["background", "leaf", "rust", "miner", "lesion", "nerve"]
    roles = find_roles(classes, vein=["nerve"], lesion=["rust", "miner"])
    assert roles == Roles(vein=(5,), leaf=(1,), lesion=(2, 3))


def test_a_usual_name_that_is_given_another_role_loses_its_own():
    assert find_roles(["background", "vein", "leaf"], lesion=["vein"]) == Roles(vein=(), leaf=(2,), lesion=(1,))


@pytest.mark.parametrize(
    ("classes", "given", "words"),
    [
        (["background", "class1"], {}, ["background, class1", "--vein NAME"]),
        ([], {}, ["none"]),
        (["background", "leaf"], {"vein": ["nerve"]}, ["no mask class 'nerve'", "background, leaf"]),
        (["background", "leaf"], {"vein": ["leaf"], "leaf": ["leaf"]}, ["can't have two roles"]),
    ],
)
def test_what_cannot_be_told_is_an_error(classes, given, words):
    with pytest.raises(ConfigError) as error:
        find_roles(classes, **given)
    assert [word for word in words if word not in str(error.value)] == []


def test_veins_and_lesions_belong_to_the_leaf():
    mask = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    roles = Roles(vein=(3,), leaf=(1,), lesion=(2,))
    assert roles.pixels_of(mask, "leaf").tolist() == [[False, True, True, True]]
    assert roles.pixels_of(mask, "lesion").tolist() == [[False, False, True, False]]
    assert Roles(vein=(3,), leaf=(), lesion=()).pixels_of(mask, "leaf") is None


def test_masks_of_which_nobody_says_what_they_are_have_no_roles():
    assert roles_if_any(["stem", "pot"]) is None
    assert roles_if_any(["stem", "pot"], vein=["stem"]) == find_roles(["stem", "pot"], vein=["stem"])
    assert roles_if_any(["vein"]) == find_roles(["vein"])
    with pytest.raises(ConfigError, match="no mask class"):
        roles_if_any(["stem"], vein=["twig"])
