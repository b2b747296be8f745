"""The measure of the head in two steps against the full one."""

from __future__ import annotations

import numpy as np

from host.evaluation.head_quality import Agreement, FullHead
from host.forward.linear import FloatBackend
from host.weights import Quantised
from spec.config import TINY
from tests.host.test_two_step import heads, table


def test_both_heads_of_few_rows_agree():
    """Of 60 rows all are candidates, so both are the same head."""
    rng = np.random.default_rng(1)
    fine = table(rng, 60, 128)
    ours, _ = heads(TINY, fine)
    ours.observer = full = FullHead(TINY, fine)
    ours(rng.normal(size=(9, 128)).astype(np.float32))
    told = full.agreement.as_dict()
    assert told == {"positions": 9, "greedy_equal": 1.0, "sampled_equal": 1.0}
    assert "100.00% of 9 positions" in full.agreement.sentence()


def test_differences_are_counted():
    fine = table(np.random.default_rng(2), 40, 64)
    full = FullHead(TINY, fine)
    activations = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    logits = FloatBackend().load(Quantised(8, 64, fine.values, fine.scales), "head")(activations)
    full(activations, -logits)
    assert full.agreement.positions == 4 and full.agreement.greedy == 0
    assert Agreement().as_dict()["greedy_equal"] == 0
