"""Skeletons: names of keypoints, limbs, flip pairs, sigmas, colors; mapping of keypoints between two skeletons."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featherpose.errors import InputError, did_you_mean
from featherpose.keypoint_names import is_left_of_pair, mirrored_name, sideless_name, standard_names

LEFT, RIGHT, MIDDLE = (255, 138, 40), (56, 152, 255), (120, 220, 90)
# Data sets annotate hips and shoulders at different positions (COCO's hips are higher and wider apart than MPII's).
CONVENTION_DEPENDENT = frozenset({"left_hip", "right_hip", "left_shoulder", "right_shoulder"})


@dataclass(frozen=True)
class Skeleton:
    """Names, limbs, flip pairs, OKS sigmas and limb colors (RGB) of K keypoints.

    `landmarks` names the convention for hips and shoulders: these keypoints map only between skeletons that share it.
    """

    name: str
    keypoint_names: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    colors: tuple[tuple[int, int, int], ...]
    landmarks: str = "coco"

    def __post_init__(self) -> None:
        self._refuse_repeated_names()
        self._refuse_wrong_lengths()
        self._refuse_indices_out_of_range()

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoint_names)

    @cached_property
    def flip_order(self) -> NDArray[np.int64]:
        """(K,) index array: the keypoints of the mirrored person are `keypoints[..., flip_order, :]`."""
        order = np.arange(self.num_keypoints)
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    def to_dict(self) -> dict[str, Any]:
        """Skeleton -> plain dict that can be written as JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Skeleton":
        """Plain dict, as `to_dict` writes it -> Skeleton; InputError when a field is missing or unknown."""
        try:
            return cls(**{key: _tuples(value) for key, value in values.items()})
        except TypeError as error:
            raise InputError(f"A skeleton cannot be created from the keys {sorted(values)}: {error}.") from None

    @classmethod
    def from_names(
        cls, name: str, keypoint_names: Sequence[str], limbs: Sequence[tuple[int, int]] = (), landmarks: str = "coco"
    ) -> "Skeleton":
        """Keypoint names in any usual spelling and limbs by index -> Skeleton; flip pairs, sigmas, colors by name.

        Keypoints that COCO has get COCO's sigmas, some others the sigma of the nearest such keypoint, the rest the
        mean of COCO's 17 (`OTHER_SIGMA`). `unpaired_keypoints` lists keypoints that name a side but have no partner.
        """
        names = standard_names(keypoint_names)
        return cls(
            name=name,
            keypoint_names=tuple(keypoint_names),
            limbs=tuple(limbs),
            flip_pairs=tuple(
                (i, names.index(mirrored_name(n))) for i, n in enumerate(names) if is_left_of_pair(n, names)
            ),
            sigmas=tuple(_SIGMAS.get(sideless_name(n), OTHER_SIGMA) for n in names),
            colors=tuple(_color(names[a], names[b]) for a, b in limbs),
            landmarks=landmarks,
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Skeleton":
        """YAML file with the fields of this class, or with `keypoints` alone -> Skeleton.

        The short form lists the names as `keypoints`; `limbs` (pairs of names) and `sigmas` (name: number) may be
        added. Flip pairs and colors follow from the names, as in `from_names`.
        """
        import yaml

        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML ({error}).") from None
        if not isinstance(values, dict):
            raise InputError(f"{path}: wanted a YAML mapping with the keys name, keypoint_names, limbs, ...")
        try:
            return _from_short(values, Path(path)) if "keypoints" in values else cls.from_dict(values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def _refuse_repeated_names(self) -> None:
        repeated = sorted({keypoint for keypoint in self.keypoint_names if self.keypoint_names.count(keypoint) > 1})
        if repeated:
            raise InputError(f"Skeleton {self.name!r} lists {', '.join(repeated)} more than once.")

    def _refuse_wrong_lengths(self) -> None:
        if len(self.sigmas) != len(self.keypoint_names):
            raise InputError(
                f"Skeleton {self.name!r}: {len(self.sigmas)} sigmas for {len(self.keypoint_names)} keypoints."
            )
        if len(self.colors) != len(self.limbs):
            raise InputError(f"Skeleton {self.name!r}: {len(self.colors)} colors for {len(self.limbs)} limbs.")
        for color in self.colors:
            if len(color) != 3:
                raise InputError(f"Skeleton {self.name!r}: the color {color} is not three numbers, RGB.")

    def _refuse_indices_out_of_range(self) -> None:
        for pair in (*self.limbs, *self.flip_pairs):
            if len(pair) != 2 or not all(0 <= index < len(self.keypoint_names) for index in pair):
                raise InputError(
                    f"Skeleton {self.name!r}: {pair} is not a pair of keypoint indices from 0 to"
                    f" {len(self.keypoint_names) - 1}."
                )
        paired = [keypoint for pair in self.flip_pairs for keypoint in pair]
        repeated = sorted({self.keypoint_names[keypoint] for keypoint in paired if paired.count(keypoint) > 1})
        if repeated:
            raise InputError(f"Skeleton {self.name!r}: {', '.join(repeated)} is in more than one flip pair.")


def _from_short(values: dict[str, Any], path: Path) -> Skeleton:
    """Mapping with `keypoints` and, optionally, `name`, `limbs` and `sigmas` -> Skeleton."""
    unknown = sorted(set(values) - {"name", "keypoints", "limbs", "sigmas"})
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r}; wanted keypoints, limbs, sigmas and name.")
    names = values["keypoints"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"keypoints is {names!r}, wanted a list of names.")
    limbs = values.get("limbs") or []
    sigmas = values.get("sigmas") or {}
    mentioned = [*sigmas, *(name for limb in limbs for name in limb)]
    for name in mentioned:
        if name not in names:
            raise InputError(f"{name!r} is not among the keypoints.{did_you_mean(str(name), names)}")
    pairs = [(names.index(a), names.index(b)) for a, b in limbs]
    skeleton = Skeleton.from_names(str(values.get("name") or path.stem), names, pairs)
    known = zip(names, skeleton.sigmas, strict=True)
    return replace(skeleton, sigmas=tuple(float(sigmas.get(name, sigma)) for name, sigma in known))


def map_keypoints(
    keypoints: ArrayLike, visibility: ArrayLike, source: Skeleton, target: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Keypoints (..., Ks, 2), visibility (..., Ks) of `source` -> (..., Kt, 2) and (..., Kt) of `target`, by name.

    A keypoint that the source lacks or annotates by another convention (`landmarks`) is (0, 0) with visibility 0.
    """
    points, seen = np.asarray(keypoints, np.float32), np.asarray(visibility, np.int64)
    mapped = np.zeros((*points.shape[:-2], target.num_keypoints, 2), np.float32)
    mapped_seen = np.zeros((*seen.shape[:-1], target.num_keypoints), np.int64)
    disputed: frozenset[str] = frozenset() if source.landmarks == target.landmarks else CONVENTION_DEPENDENT
    for t, keypoint in enumerate(target.keypoint_names):
        if keypoint in source.keypoint_names and keypoint not in disputed:
            s = source.keypoint_names.index(keypoint)
            mapped[..., t, :], mapped_seen[..., t] = points[..., s, :], seen[..., s]
    return mapped, mapped_seen


def unpaired_keypoints(skeleton: Skeleton) -> list[str]:
    """Skeleton -> keypoints that name a side but have no partner: in a flipped image they are on the wrong side."""
    paired = {keypoint for pair in skeleton.flip_pairs for keypoint in pair}
    names = standard_names(skeleton.keypoint_names)
    return [skeleton.keypoint_names[i] for i, n in enumerate(names) if mirrored_name(n) != n and i not in paired]


def keypoints_without_sigma(skeleton: Skeleton) -> list[str]:
    """Skeleton -> keypoints for which `from_names` knows no sigma, so that they get `OTHER_SIGMA`."""
    names = standard_names(skeleton.keypoint_names)
    return [
        keypoint
        for keypoint, name in zip(skeleton.keypoint_names, names, strict=True)
        if sideless_name(name) not in _SIGMAS
    ]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_SIGMAS = {
    **{"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062},
    **{"hip": 0.107, "knee": 0.087, "ankle": 0.089},
    # COCO has no value for these; each gets that of the nearest keypoint.
    **{"pelvis": 0.107, "thorax": 0.079, "upper_neck": 0.079, "neck": 0.079, "head_top": 0.035, "head": 0.035},
    **dict.fromkeys(("big_toe", "small_toe", "heel"), 0.089),
    **dict.fromkeys([f"face_{index}" for index in range(68)], 0.025),
    **dict.fromkeys(["hand_root", *(f"{finger}_{joint}" for finger in _FINGERS for joint in range(1, 5))], 0.062),
}
OTHER_SIGMA = 0.067
"""OKS sigma of a keypoint for which no published data set gives one: the mean of COCO's 17."""
_ARMS_AND_LEGS = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
)


def _standard(name: str, names: str, limbs: tuple[tuple[str, str], ...], landmarks: str) -> Skeleton:
    """Keypoint names in one string and limbs by name -> Skeleton."""
    keypoint_names = names.split()
    return Skeleton.from_names(
        name, keypoint_names, [(keypoint_names.index(a), keypoint_names.index(b)) for a, b in limbs], landmarks
    )


def _color(a: str, b: str) -> tuple[int, int, int]:
    sides = {keypoint.split("_")[0] for keypoint in (a, b)}
    if "left" in sides and "right" not in sides:
        return LEFT
    return RIGHT if "right" in sides and "left" not in sides else MIDDLE


COCO17 = _standard(
    "coco17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    (
        *_ARMS_AND_LEGS,
        *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
        *(("left_shoulder", "left_hip"), ("right_shoulder", "right_hip")),
        *(("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear")),
    ),
    "coco",
)
"""COCO's 17 keypoints (Lin et al. 2014) with the sigmas of its evaluation."""

MPII16 = _standard(
    "mpii16",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    (
        *_ARMS_AND_LEGS,
        *(("thorax", "left_shoulder"), ("thorax", "right_shoulder"), ("pelvis", "left_hip"), ("pelvis", "right_hip")),
        *(("pelvis", "thorax"), ("thorax", "upper_neck"), ("upper_neck", "head_top")),
    ),
    "mpii",
)
"""MPII's 16 keypoints (Andriluka et al. 2014)."""

LSP14 = _standard(
    "lsp14",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist neck head_top",
    (
        *_ARMS_AND_LEGS,
        *(("neck", "left_shoulder"), ("neck", "right_shoulder"), ("left_hip", "right_hip")),
        *(("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("neck", "head_top")),
    ),
    "mpii",
)
"""LSP's 14 keypoints (Johnson and Everingham 2010); hips and shoulders are placed as in MPII."""

CROWDPOSE14 = replace(
    _standard(
        "crowdpose14",
        "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
        "left_hip right_hip left_knee right_knee left_ankle right_ankle head neck",
        (
            *_ARMS_AND_LEGS,
            *(("neck", "left_shoulder"), ("neck", "right_shoulder"), ("left_hip", "right_hip")),
            *(("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("neck", "head")),
        ),
        "crowdpose",
    ),
    # Those of its evaluation code, where head and neck have the shoulder's.
    sigmas=(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)
"""CrowdPose's 14 keypoints (Li et al. 2019). Its images come from COCO, MPII and AI Challenger: hips and shoulders are
taken for a convention of its own, and not mapped to another one."""

_FEET = (
    *(("left_ankle", "left_heel"), ("left_ankle", "left_big_toe"), ("left_ankle", "left_small_toe")),
    *(("right_ankle", "right_heel"), ("right_ankle", "right_big_toe"), ("right_ankle", "right_small_toe")),
)

HALPE26 = _standard(
    "halpe26",
    f"{' '.join(COCO17.keypoint_names)} head neck hip left_big_toe right_big_toe left_small_toe right_small_toe "
    "left_heel right_heel",
    (
        *_ARMS_AND_LEGS,
        *(("neck", "left_shoulder"), ("neck", "right_shoulder"), ("hip", "left_hip"), ("hip", "right_hip")),
        *(("hip", "neck"), ("neck", "head")),
        *(("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear")),
        *_FEET,
    ),
    "coco",
)
"""Halpe's 26 keypoints of the body (Fang et al. 2022, AlphaPose): COCO's 17, then head, neck, hip and feet."""


def _hand(side: str) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Side -> names of the 21 keypoints of a hand, the root first, and the limbs from the root along each finger."""
    root = f"{side}_hand_root"
    fingers = [[f"{side}_{finger}_{joint}" for joint in range(1, 5)] for finger in _FINGERS]
    limbs = tuple(pair for finger in fingers for pair in zip([root, *finger], finger, strict=False))
    return [root, *(name for finger in fingers for name in finger)], limbs


_FACE_PAIRS = {
    **{i: 16 - i for i in range(8)},  # jaw
    **{17 + i: 26 - i for i in range(5)},  # eyebrows
    **{31: 35, 32: 34},  # nose
    **{36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46},  # eyes
    **{48: 54, 49: 53, 50: 52, 58: 56, 59: 55},  # outer lips
    **{60: 64, 61: 63, 67: 65},  # inner lips
}
"""Points of the person's right half of the face -> those of the left half, in the 68-point layout of 300-W."""


_FACE_LINES = (
    *(range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36)),  # jaw, eyebrows, nose
    *((*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60)),  # eyes, lips
)
"""Lines through the points of the face, as they are drawn."""


def _face() -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Names of the 68 points of the face, of which a pair has the number of its right point, and the limbs."""
    names = {index: f"face_{index}" for index in range(68)}
    for right, left in _FACE_PAIRS.items():
        names[right] = f"right_face_{right}"
        names[left] = f"left_face_{right}"
    limbs = tuple((names[a], names[b]) for line in _FACE_LINES for a, b in pairwise(line))
    return list(names.values()), limbs


def _wholebody() -> Skeleton:
    left, left_limbs = _hand("left")
    right, right_limbs = _hand("right")
    feet = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
    body = [(COCO17.keypoint_names[a], COCO17.keypoint_names[b]) for a, b in COCO17.limbs]
    hands = (("left_wrist", left[0]), ("right_wrist", right[0]), *left_limbs, *right_limbs)
    face, face_limbs = _face()
    names = " ".join([*COCO17.keypoint_names, *feet, *face, *left, *right])
    return _standard("wholebody133", names, (*body, *_FEET, *face_limbs, *hands), "coco")


WHOLEBODY133 = _wholebody()
"""COCO-WholeBody's 133 keypoints (Jin et al. 2020): COCO's 17, six of the feet, 68 of the face, 21 of each hand.

The OKS sigmas of feet, face and hands are not the data set's: each is that of the nearest keypoint of COCO.
"""

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, MPII16, LSP14, CROWDPOSE14, HALPE26, WHOLEBODY133)}


def find_skeleton(name: str) -> Skeleton:
    """Name of a built-in skeleton, or path of a YAML file -> Skeleton; InputError for an unknown name."""
    if name.endswith((".yaml", ".yml")):
        return Skeleton.from_yaml(name)
    if name not in SKELETONS:
        raise InputError(f"Unknown skeleton {name!r}.{did_you_mean(name, SKELETONS)} A YAML file works, too.")
    return SKELETONS[name]
