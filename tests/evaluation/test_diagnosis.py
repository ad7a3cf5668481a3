"""Confusion matrix, kinds of error and calibration: five persons worked by hand, MPII, and random persons."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")
from featherpose.errors import InputError
from featherpose.evaluation.anatomy import GOOD, KINDS, NEAR, breakdown, confusion, corrected, kinds_of, oks_radii
from featherpose.evaluation.calibration import calibration
from featherpose.evaluation.diagnosis import diagnose_coco, diagnose_persons, with_diagnosis
from featherpose.evaluation.pairs import match_persons
from featherpose.evaluation.persons import Found
from featherpose.evaluation.prediction import Predictions
from featherpose.evaluation.result import Evaluation
from featherpose.formats import coco_labels
from featherpose.records import Labels
from featherpose.skeleton import MPII16, Skeleton

HANDS = replace(Skeleton.from_names("hands", ["head", "left_hand", "right_hand"]), sigmas=(0.1, 0.1, 0.1))
"""With an area of 100 x 100 pixels, a keypoint 23.5 px away has a similarity of 0.5, one 11.4 px away of 0.85."""
HEAD, LEFT, RIGHT = range(3)


def labels_of(*persons: tuple[int, list[list[float]]]) -> Labels:
    """Persons, each an image and keypoints [x, y, v] -> their labels."""
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 2000, "height": 900} for number in (1, 2)]
    annotations = [
        {
            **{"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 100.0**2},
            **{"bbox": [min(x for x, _, _ in keypoints), 50, 200, 200], "keypoints": np.ravel(keypoints).tolist()},
        }
        for number, (image, keypoints) in enumerate(persons, start=1)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(HANDS.keypoint_names)}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    return replace(coco_labels.from_json(document, "five"), skeleton=HANDS)


def result_of(image: int, points: list[tuple[float, float]], score: float = 0.9) -> dict:
    return {
        **{"image_id": image, "category_id": 1, "score": score},
        "keypoints": [value for x, y in points for value in (x, y, score)],
    }


def standing_at(x: float, head: float = 2.0) -> list[list[float]]:
    """A person's head and hands; `head`: its visibility."""
    return [[x, 100.0, head], [x - 50, 200.0, 2.0], [x + 50, 200.0, 1.0]]


LABELS = labels_of(
    (1, standing_at(200)),
    (1, standing_at(600)),
    (1, standing_at(1000, head=0)),
    (2, standing_at(200)),
    (2, standing_at(600)),
)
RESULTS = [
    # Head right, left hand on the right one, right hand 15 px off.
    result_of(1, [(205, 100), (250, 200), (265, 200)]),
    # Head right, left hand on the right hand of the third person, right hand nowhere.
    result_of(1, [(600, 100), (1050, 200), (1500, 800)]),
    # Head not labeled, both hands right.
    result_of(1, [(500, 800), (950, 200), (1050, 200)]),
    # Head on the left hand, both hands right. The fifth person has no pose.
    result_of(2, [(150, 200), (150, 200), (250, 200)], 0.4),
]


def test_confusion_matrix_of_five_persons() -> None:
    found = diagnose_coco(LABELS, RESULTS)
    assert found.confusion.counts.tolist() == [
        # head, left hand, right hand, another person, nothing
        [2, 1, 0, 0, 1],
        [0, 2, 1, 1, 1],
        [0, 0, 3, 0, 2],
    ]
    assert found.confusion.overall_accuracy == 7 / 14
    assert (found.num_persons, found.num_missed) == (5, 1)


def test_kinds_of_error_of_five_persons() -> None:
    kinds, _ = kinds_of(match_persons(LABELS, RESULTS), HANDS)
    names = [[KINDS[kind] if kind >= 0 else "-" for kind in person] for person in kinds]
    assert names == [
        ["good", "inversion", "jitter"],
        ["good", "swap", "miss"],
        ["-", "good", "good"],
        ["miss", "good", "good"],
        ["-", "-", "-"],
    ]
    found = diagnose_coco(LABELS, RESULTS).breakdown
    assert found is not None
    assert dict(found.counts) == {"good": 6, "jitter": 1, "inversion": 1, "swap": 1, "miss": 2}
    assert min(found.ap_gained.values()) >= 0
    assert found.ap_gained["miss"] > 0


@pytest.mark.parametrize(
    ("kind", "person", "keypoint", "offset"),
    [("jitter", 0, RIGHT, 11.40), ("miss", 1, RIGHT, 23.55), ("inversion", 0, LEFT, 0.0), ("swap", 1, LEFT, 0.0)],
)
def test_corrected_keypoints_have_the_similarity_of_their_kind(
    kind: str, person: int, keypoint: int, offset: float
) -> None:
    pairs = match_persons(LABELS, RESULTS)
    kinds, similarity = kinds_of(pairs, HANDS)
    wrong = kinds == KINDS.index(kind)
    fixed = {"jitter": GOOD, "miss": NEAR}.get(kind)
    target = similarity if fixed is None else np.full_like(similarity, fixed)
    better = corrected(RESULTS, pairs, wrong, target, HANDS)
    x, y, _ = np.reshape(better[person]["keypoints"], (3, 3))[keypoint]
    place = pairs.keypoints[person, keypoint]
    assert (x - place[0], y - place[1]) == pytest.approx((offset, 0), abs=0.01)
    assert sum(a != b for a, b in zip(better, RESULTS, strict=True)) == wrong.any(axis=1).sum()


def test_right_answers_are_all_right() -> None:
    found = diagnose_coco(
        LABELS,
        [
            result_of(1 + (n > 2), [(x, y) for x, y, _ in standing_at(x)])
            for n, x in enumerate((200, 600, 1000, 200, 600))
        ],
    )
    assert found.confusion.overall_accuracy == 1
    assert found.breakdown is not None
    assert dict(found.breakdown.ap_gained) == {"jitter": 0, "inversion": 0, "swap": 0, "miss": 0}


def test_nobody_and_no_result() -> None:
    none = diagnose_coco(LABELS, [])
    assert none.confusion.counts[:, -1].tolist() == [4, 5, 5]
    assert none.to_dict()["calibration"]["right"] is None
    pairs = match_persons(replace(LABELS, persons=()), RESULTS)
    assert np.isnan(confusion(pairs, oks_radii(HANDS.sigmas), HANDS.keypoint_names, "").overall_accuracy)


def test_rows_sum_to_the_labeled_keypoints_of_random_persons() -> None:
    rng = np.random.default_rng(0)
    persons = [
        (int(rng.integers(1, 3)), np.column_stack([rng.uniform(0, 900, (3, 2)), rng.integers(0, 3, 3)]).tolist())
        for _ in range(30)
    ]
    labels = labels_of(*persons)
    results = [result_of(image, [(x, y + 9) for x, y, _ in points]) for image, points in persons[:20]]
    labeled = np.array([[v > 0 for _, _, v in points] for _, points in persons])
    found = diagnose_coco(labels, results)
    assert found.confusion.counts.sum(axis=1).tolist() == labeled.sum(axis=0).tolist()
    pairs = match_persons(labels, results)
    assert found.breakdown is not None
    assert sum(found.breakdown.counts.values()) == pairs.labeled[pairs.found].sum()
    assert breakdown(labels, results, pairs) == found.breakdown


def test_better_pose_takes_the_person() -> None:
    """As in COCO: the best score first, and each takes the most similar person that is left."""
    near = result_of(1, [(x, y) for x, y, _ in standing_at(203)], 0.5)
    best = result_of(1, [(x, y) for x, y, _ in standing_at(206)], 0.8)
    far = result_of(1, [(x, y) for x, y, _ in standing_at(380)], 0.9)
    pairs = match_persons(labels_of((1, standing_at(200))), [near, best, far])
    assert pairs.results.tolist() == [1]


def test_calibration_by_hand() -> None:
    found = calibration([0.25, 0.25, 0.25, 0.25, 0.95, 0.95], [1, 0, 0, 0, 1, 1], threshold=0.3)
    assert [(b.number, b.score, b.right) for b in found.bins] == [(4, 0.25, 0.25), (2, pytest.approx(0.95), 1.0)]
    assert found.expected_error == pytest.approx(2 / 6 * 0.05)
    assert (found.shown, found.right) == (pytest.approx(1 / 3), 1.0)
    assert (
        found.sentence() == "33 % of the visible keypoints have a score of at least 0.3, and 100 % of these are right"
    )


def test_calibration_counts_visible_keypoints_of_found_persons() -> None:
    """v = 2: two heads and four left hands, of which one head and two hands are right."""
    found = diagnose_coco(LABELS, RESULTS).calibration
    assert found is not None
    assert found.number == 7
    assert found.right == pytest.approx(4 / 7)


def test_scores_beyond_the_range_count_as_its_ends() -> None:
    assert [b.score for b in calibration([-0.5, 1.0, 1.5], [0, 1, 1]).bins] == [0, 1]


def test_diagnosis_by_lengths_leaves_out_unknown_keypoints() -> None:
    """Persons 0 and 2 share an image; person 1 is missed, and nobody's last keypoint is known to the model."""
    keypoints = np.random.default_rng(0).uniform(0, 500, (3, 16, 2))
    predicted = keypoints.copy()
    predicted[:, 15] = np.inf
    predicted[1] = np.inf
    rows = [np.array([0, 2]), np.array([1])]
    found = Found(predicted, np.arange(16) < 15, rows, Predictions([], (), 0.0), 3)
    visible = np.ones((3, 16), np.int64)
    diagnosis = diagnose_persons(found, keypoints, visible, np.full(3, 10.0), MPII16, 0.5, "PCKh")
    assert diagnosis.confusion.counts.sum() == 45
    assert diagnosis.confusion.overall_accuracy == pytest.approx(2 / 3)
    assert (diagnosis.num_missed, diagnosis.breakdown, diagnosis.calibration) == (1, None, None)


def test_protocol_without_diagnosis_is_an_error() -> None:
    with pytest.raises(InputError, match="There is no diagnosis for this kind of data set"):
        with_diagnosis(Evaluation(calibration([], []), [], 0, 0, 0.0))  # type: ignore[arg-type]
