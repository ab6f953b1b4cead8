"""The map of an SAE's features: neighbours, placing, clusters. UMAP itself runs in one slow test."""

import numpy as np
import pytest
import torch

from jobs.engine import layout
from jobs.engine.errors import SettingsError

GROUPS, EACH, WIDTH = 4, 30, 24


def grouped(seed: int = 0) -> torch.Tensor:
    """Directions in GROUPS bundles that are far apart, each of EACH, of lengths that are not to matter."""
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.standard_normal((WIDTH, GROUPS)))[0].T
    rows = np.repeat(middles, EACH, axis=0) + 0.05 * rng.standard_normal((GROUPS * EACH, WIDTH))
    return torch.from_numpy(rows * rng.uniform(0.1, 9, (len(rows), 1))).float()


def listed(directions: torch.Tensor, n: int) -> tuple[np.ndarray, np.ndarray]:
    chunks = list(layout.neighbours(directions, n))
    return torch.cat([c.ids for c in chunks]).numpy(), torch.cat([c.values for c in chunks]).numpy()


def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.engine.decoder.MAX_CELLS", 1000)  # several chunks
    directions = grouped()
    ids, values = listed(directions, 7)
    unit = directions.double() / directions.double().norm(dim=1, keepdim=True)
    cosine = (unit @ unit.T).numpy()
    np.fill_diagonal(cosine, -2)
    want = np.sort(cosine, axis=1)[:, ::-1][:, :7]
    assert ids.shape == (GROUPS * EACH, 7)
    np.testing.assert_allclose(values, want, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine, ids, axis=1), want, atol=1e-6)


def test_a_map_needs_a_few_features() -> None:
    with pytest.raises(SettingsError, match="at least 8 features, and the SAE has 7"):
        list(layout.neighbours(torch.eye(7), 3))
    assert listed(torch.eye(8), 14)[0].shape == (8, 7)


def test_the_first_components_are_those_of_an_exact_decomposition() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((200, WIDTH)) * np.array([6, 4, *[0.7] * (WIDTH - 2)]) + 1
    directions = torch.from_numpy(rows).float()
    found = layout.principal(directions, seed=3)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = unit - unit.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    want = (left * size)[:, :2]
    want *= np.sign(want[np.abs(want).argmax(0), [0, 1]])
    np.testing.assert_allclose(found, 10 * want / np.abs(want).max(), atol=1e-2)
    assert layout.principal(directions, seed=3).tobytes() == found.tobytes()
    assert layout.principal(torch.zeros(9, 4), 0).tolist() == [[0, 0]] * 9


def test_points_are_centred_and_reach_one() -> None:
    found = layout.scaled(np.array([[0.0, 0], [4, 1], [2, 3]]))
    assert found.dtype == np.float32
    assert found.tolist() == [[-1, -0.75], [1, -0.25], [0, 0.75]]
    assert layout.scaled(np.ones((3, 2))).tolist() == [[0, 0]] * 3


def blobs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three heaps of n, 2n and 3n points, and which heap each is of."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([0, 1, 2], [n, 2 * n, 3 * n]))
    middles = np.array([[-0.7, 0], [0.6, 0.6], [0.5, -0.7]])
    return (middles[truth] + 0.03 * rng.standard_normal((6 * n, 2))).astype(np.float32), truth


@pytest.mark.parametrize("seen", [50_000, 120], ids=["all", "a sample"])
def test_heaps_are_clusters_the_largest_first(monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    monkeypatch.setattr(layout, "CLUSTERED", seen)
    monkeypatch.setattr(layout, "_SMALLEST", 18)  # or a heap falls into parts of itself
    xy, truth = blobs(50)
    found = layout.clusters(xy, seed=0)
    assert found.dtype == np.int16
    assert set(found) <= {-1, 0, 1, 2}
    for number, heap in enumerate((2, 1, 0)):
        assert set(truth[found == number]) == {heap}
        assert (found[truth == heap] == number).mean() > 0.6
    assert layout.clusters(xy, seed=0).tobytes() == found.tobytes()


def test_clusters_are_numbered_by_size_then_by_their_first_feature() -> None:
    found = layout.by_size(np.array([7, -1, 3, 3, 5, 7, 7, 5, -1]))
    assert found.tolist() == [0, -1, 1, 1, 2, 0, 0, 2, -1]
    assert layout.by_size(np.array([-1, -1])).tolist() == [-1, -1]


def test_the_middle_of_a_cluster_is_nearest_to_the_mean_of_its_directions() -> None:
    directions = grouped()
    cluster = np.repeat([1, 0, -1, 2], EACH)
    unit = (directions / directions.norm(dim=1, keepdim=True)).numpy()
    for number, found in enumerate(layout.middles(directions, cluster, 5)):
        members = np.flatnonzero(cluster == number)
        want = members[np.argsort(-(unit[members] @ unit[members].mean(0)), kind="stable")][:5]
        assert found == want.tolist()


def test_how_much_of_the_neighbourhood_is_kept() -> None:
    xy = np.array([[0, 0], [1, 0], [2.1, 0], [3.3, 0]], np.float32)
    assert layout.kept(np.array([[1], [0], [1], [2]]), xy, 0) == 1
    assert layout.kept(np.array([[1], [0], [3], [0]]), xy, 0) == 0.5


@pytest.mark.slow  # numba compiles UMAP
def test_bundles_of_directions_come_apart_and_a_seed_gives_the_same_bytes() -> None:
    directions = grouped()
    ids, cosines = listed(directions, 14)
    made = [layout.place(ids, cosines, layout.principal(directions, seed), 0.05, seed) for seed in (0, 0, 1)]
    assert made[0].dtype == np.float32
    assert made[0].tobytes() == made[1].tobytes() != made[2].tobytes()
    assert np.abs(made[0]).max() == 1
    middles = made[0].reshape(GROUPS, EACH, 2).mean(1)
    for number, points in enumerate(made[0].reshape(GROUPS, EACH, 2)):
        far = np.linalg.norm(points[:, None] - middles, axis=-1)
        assert (far.argmin(1) == number).all()
    assert layout.kept(ids, made[0], 0) > 0.3
