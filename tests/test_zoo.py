import json
import subprocess
import sys

import pytest

import featherpose
from featherpose import weights, zoo
from featherpose.errors import ModelError
from featherpose.kinds import DETECTOR, POSE

ENTRIES = {entry.name: entry for entry in zoo.read()}


def test_every_network_is_counted_and_nothing_else_is_listed():
    assert all((entry.parameters, entry.macs, entry.macs_run, entry.input) for entry in ENTRIES.values())
    assert not {"openpose", "dekr_w32", "higher_hrnet_w48"} & set(ENTRIES)


def test_scores_have_metric_protocol_and_source():
    for entry in ENTRIES.values():
        for score in entry.published:
            assert 10 < score.percent < 100, entry.name
            assert score.metric in ("AP", "PCKh@0.5")
            assert score.data and score.boxes and score.source


def test_every_paper_has_a_link_or_a_note():
    without = {name for name, entry in ENTRIES.items() if not entry.paper.link}
    ours = {"feather_pose", "rep_pose", "inverted_pose", "feather_detect"}
    assert without == {"cbam_lite_hrnet_18", "cbam_lite_hrnet_30", *ours}
    assert all(entry.note for name, entry in ENTRIES.items() if name in without)


def test_counts_equal_the_published_code(parity):
    counted = json.loads((parity / "counts.json").read_text())
    ours = {name.replace("lite_hrnet_", "litehrnet"): entry for name, entry in ENTRIES.items()}
    for name, published in counted.items():
        assert ours[name].parameters == published["params"], name
        assert ours[name].macs == published["macs"]["256x192"]["all_incl_matmul_as_written"], name
    for name in ("litehrnet18", "litehrnet30", "naive_litehrnet18", "wider_naive_litehrnet18"):
        assert ours[name].macs_run == counted[name]["macs"]["256x192"]["conv_linear_each_module_once"]


def test_weights_flag_matches_shipped_models():
    assert [entry.name for entry in zoo.read(["hrnet_w32", "nosuch"]) if entry.weights] == ["hrnet_w32"]
    with_weights = {entry.name for entry in featherpose.list_networks() if entry.weights}
    cards = [card for kind in (POSE, DETECTOR) for card in weights.shipped_cards(kind.name)]
    assert with_weights == {card["network"] for card in cards}
    assert "cbam_lite_hrnet_18" in with_weights


@pytest.mark.parametrize(
    ("word", "names"),
    [
        pytest.param("nosuch", [], id="no match"),
        pytest.param("hrnet_w4", ["hrnet_w48"], id="name"),
        pytest.param("SIMPLE_BASELINE_RESNET50", ["simple_baseline_resnet50"], id="either case"),
        pytest.param("Pose Machines", ["cpm"], id="title"),
        pytest.param("wei et", ["cpm"], id="authors"),
    ],
)
def test_find_by_name_title_and_authors(word, names):
    assert [entry.name for entry in zoo.find(word, zoo.read())] == names


def test_empty_word_lists_all_networks():
    assert featherpose.list_networks("") == featherpose.list_networks()
    assert [entry.name for entry in featherpose.list_networks()] == list(ENTRIES)


def test_unknown_word_suggests_close_names():
    with pytest.raises(ModelError, match=r"No network has 'lite_hrnet_19' in its name or paper\. Did you mean 'lite"):
        featherpose.list_networks("lite_hrnet_19")


def test_models_needs_no_torch_or_onnxruntime():
    code = "import sys, featherpose; assert featherpose.list_networks(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "onnxruntime", "cv2", "featherpose.networks"} & set(done.stdout.split())
