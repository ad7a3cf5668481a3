from dataclasses import replace

import numpy as np
import pytest
import yaml

from featherpose.errors import InputError
from featherpose.keypoint_names import standard_names
from featherpose.skeleton import (
    COCO17,
    CROWDPOSE14,
    HALPE26,
    LEFT,
    LSP14,
    MIDDLE,
    MPII16,
    OTHER_SIGMA,
    RIGHT,
    SKELETONS,
    WHOLEBODY133,
    Skeleton,
    find_skeleton,
    keypoints_without_sigma,
    map_keypoints,
    unpaired_keypoints,
)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
class TestEverySkeleton:
    def test_flip_order_is_its_own_inverse(self, skeleton):
        np.testing.assert_array_equal(skeleton.flip_order[skeleton.flip_order], np.arange(skeleton.num_keypoints))

    def test_flip_order_swaps_left_and_right(self, skeleton):
        swapped = [skeleton.keypoint_names[i] for i in skeleton.flip_order]
        sides = str.maketrans({"<": "right", ">": "left"})
        wanted = [j.replace("left", "<").replace("right", ">").translate(sides) for j in skeleton.keypoint_names]
        assert swapped == wanted

    def test_limbs_reach_every_keypoint(self, skeleton):
        assert {keypoint for limb in skeleton.limbs for keypoint in limb} == set(range(skeleton.num_keypoints))

    def test_from_names_equals_built_in_skeleton(self, skeleton):
        found = Skeleton.from_names(skeleton.name, skeleton.keypoint_names, skeleton.limbs, skeleton.landmarks)
        if skeleton is CROWDPOSE14:  # its sigmas of head and neck are not those of other data sets
            found = replace(found, sigmas=skeleton.sigmas)
        assert found == skeleton
        assert standard_names(skeleton.keypoint_names) == skeleton.keypoint_names
        assert unpaired_keypoints(skeleton) == keypoints_without_sigma(skeleton) == []

    def test_yaml_and_dict_round_trip(self, skeleton, tmp_path):
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(skeleton.to_dict()))
        assert Skeleton.from_yaml(tmp_path / "s.yaml") == skeleton


COCO_PAIRS = ["eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
COCO_PARTS = ["nose", *(part for part in COCO_PAIRS for _ in "lr")]
TRUNK = ["pelvis", "thorax", "upper_neck", "head_top"]
LEGS = ["ankle", "knee", "hip", "hip", "knee", "ankle"]
ARMS = ["wrist", "elbow", "shoulder", "shoulder", "elbow", "wrist"]


@pytest.mark.parametrize(
    ("skeleton", "sides", "parts"),
    [
        pytest.param(COCO17, "-lrlrlrlrlrlrlrlr", COCO_PARTS, id="coco"),
        pytest.param(MPII16, "rrrlll----rrrlll", [*LEGS, *TRUNK, *ARMS], id="mpii"),
        pytest.param(LSP14, "rrrlllrrrlll--", [*LEGS, *ARMS, "neck", "head_top"], id="lsp"),
    ],
)
def test_order_is_that_of_the_data_set(skeleton, sides, parts):
    words = {"l": "left_", "r": "right_", "-": ""}
    assert [words[side] + part for side, part in zip(sides, parts, strict=True)] == list(skeleton.keypoint_names)


def test_order_of_halpe_and_wholebody_is_published():
    """../shared/adopt: COCO first; feet by point in Halpe, by side in COCO-WholeBody; hands from the wrist."""
    assert HALPE26.keypoint_names[:17] == WHOLEBODY133.keypoint_names[:17] == COCO17.keypoint_names
    wanted = "head neck hip left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel"
    assert " ".join(HALPE26.keypoint_names[17:]) == wanted
    names = WHOLEBODY133.keypoint_names
    assert " ".join(names[17:23]) == "left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel"
    assert [names.index("right_face_0"), names.index("face_8"), names.index("left_hand_root")] == [23, 31, 91]
    assert [names.index("left_thumb_1"), names.index("right_hand_root"), len(names)] == [92, 112, 133]


def test_default_sigma_is_the_mean_of_coco():
    assert np.mean(COCO17.sigmas) == pytest.approx(OTHER_SIGMA, abs=5e-4)


SPELLINGS = [
    ([], []),
    (["Nose"], ["nose"]),
    (["left_hip", "right_hip"], ["left_hip", "right_hip"]),
    (["LeftHip", "RightHip"], ["left_hip", "right_hip"]),
    (["hipLeft", "hip-right"], ["left_hip", "right_hip"]),
    (["l_hip", "R_HIP"], ["left_hip", "right_hip"]),
    (["LHip", "RHip"], ["left_hip", "right_hip"]),
    (["lhip", "rhip"], ["left_hip", "right_hip"]),
    (["hip.L", "hip.R"], ["left_hip", "right_hip"]),
    (["lefthip", "right hip"], ["left_hip", "right_hip"]),
    (["Lt. Hip", "rt hip"], ["left_hip", "right_hip"]),
    (["left_front_paw", "paw front right"], ["left_front_paw", "right_paw_front"]),
    (["finger1", "finger2"], ["finger_1", "finger_2"]),
    (["lip", "rump"], ["lip", "rump"]),
    (["lamp"], ["lamp"]),
    (["lip", "rip", "leg", "reg"], ["lip", "rip", "leg", "reg"]),
    (["lump", "rump", "light"], ["lump", "rump", "light"]),
    (["light", "right"], ["light", "right"]),
    (["upright", "cleft"], ["upright", "cleft"]),
    (["L1", "L2", "T1"], ["l_1", "l_2", "t_1"]),
    (["L1", "R1"], ["left_1", "right_1"]),
    (["left", "RIGHT"], ["left", "right"]),
    (["L", "R"], ["left", "right"]),
    (["rear", "ear"], ["rear", "ear"]),
    (["linkes_auge", "rechtesAuge", "linker Fuß"], ["left_auge", "right_auge", "left_fuß"]),
    (["oeil_gauche", "oeil_droit", "main droite"], ["left_oeil", "right_oeil", "right_main"]),
    (["ojo izquierdo", "mano derecha"], ["left_ojo", "right_mano"]),
    (["左眼", "右眼", "鼻"], ["left_眼", "right_眼", "鼻"]),
    (["左 肘", "みぎ_肘"], ["left_肘", "right_肘"]),
    ([str(k) for k in range(3)], ["0", "1", "2"]),
    (["левый", "肘"], ["левый", "肘"]),
]


@pytest.mark.parametrize(("names", "wanted"), SPELLINGS, ids=[" ".join(names) for names, _ in SPELLINGS])
def test_spellings_of_left_and_right(names, wanted):
    assert list(standard_names(names)) == wanted


def test_custom_names_give_pairs_sigmas_colors():
    custom = Skeleton.from_names("dog", ["LHip", "tail", "RHip", "nose"], [(0, 1), (1, 2), (1, 3)])
    assert custom.keypoint_names == ("LHip", "tail", "RHip", "nose")
    assert custom.flip_pairs == ((0, 2),)
    assert custom.flip_order.tolist() == [2, 1, 0, 3]
    assert custom.sigmas == (0.107, OTHER_SIGMA, 0.107, 0.026)
    assert custom.colors == (LEFT, RIGHT, MIDDLE)
    assert keypoints_without_sigma(custom) == ["tail"]
    assert unpaired_keypoints(custom) == []


@pytest.mark.parametrize(
    ("keypoint_names", "alone"),
    [
        ([], []),
        (["nose", "tail"], []),
        (["left_paw", "right_paw"], []),
        (["left_paw", "right_ear", "nose"], ["left_paw", "right_ear"]),
        (["LPaw", "RPaw", "REar"], ["REar"]),
    ],
)
def test_keypoint_without_partner_is_listed(keypoint_names, alone):
    assert unpaired_keypoints(Skeleton.from_names("own", keypoint_names)) == alone


def test_two_spellings_of_a_keypoint_are_refused():
    with pytest.raises(InputError, match="'own': right_paw is in more than one flip pair"):
        Skeleton.from_names("own", ["left_paw", "LPaw", "right_paw"])


def test_coco_sigmas_equal_the_evaluation():
    wanted = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
    np.testing.assert_allclose(np.array(COCO17.sigmas) * 10, wanted)


def test_mpii_to_coco_masks_hips_and_shoulders():
    points = np.arange(32).reshape(16, 2)
    mapped, seen = map_keypoints(points, np.full(16, 2), MPII16, COCO17)
    kept = {keypoint for keypoint, v in zip(COCO17.keypoint_names, seen, strict=True) if v}
    assert kept == {
        f"{side}_{keypoint}" for side in ("left", "right") for keypoint in ("elbow", "wrist", "knee", "ankle")
    }
    np.testing.assert_array_equal(mapped[COCO17.keypoint_names.index("left_wrist")], [30, 31])
    np.testing.assert_array_equal(mapped[0], [0, 0])


def test_lsp_and_mpii_share_hips_and_shoulders():
    _, seen = map_keypoints(np.zeros((14, 2)), np.full(14, 2), LSP14, MPII16)
    lacking = {keypoint for keypoint, v in zip(MPII16.keypoint_names, seen, strict=True) if not v}
    assert lacking == {"pelvis", "thorax", "upper_neck"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoint_names": ("a", "a")}, "lists a more than once"),
        ({"sigmas": (0.1,)}, "1 sigmas for 2 keypoints"),
        ({"colors": ()}, "0 colors for 1 limbs"),
        ({"limbs": ((0, 2),)}, r"\(0, 2\) is not a pair of keypoint indices from 0 to 1"),
        ({"flip_pairs": ((0, 1), (1, 0))}, "a, b is in more than one flip pair"),
        ({"joint_names": ()}, "cannot be created from the keys"),
    ],
)
def test_invalid_skeleton_is_refused(change, message):
    values = {
        **{"name": "two", "keypoint_names": ("a", "b"), "limbs": ((0, 1),), "flip_pairs": ((0, 1),)},
        **{"sigmas": (0.1, 0.1), "colors": ((1, 2, 3),)},
    }
    with pytest.raises(InputError, match=message):
        Skeleton.from_dict({**values, **change})


@pytest.mark.parametrize("text", ["joints: [", "- a\n- b\n"], ids=["not YAML", "not a mapping"])
def test_file_without_skeleton_is_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml"):
        Skeleton.from_yaml(tmp_path / "s.yaml")


def test_skeleton_is_found_by_name_or_file(tmp_path):
    skeleton = Skeleton.from_names("one", ["a"])
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(skeleton.to_dict()))
    assert find_skeleton("mpii16") is MPII16
    assert find_skeleton(str(tmp_path / "s.yaml")) == skeleton
    with pytest.raises(InputError, match=r"Unknown skeleton 'coco16'\. Did you mean 'coco17'\? A YAML file works"):
        find_skeleton("coco16")
