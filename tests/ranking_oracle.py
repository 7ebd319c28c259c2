"""Ranks counted one by one: what `gru4rec.ranking` is compared with."""

from __future__ import annotations

from pocketrec.gru4rec.options import Ties


def slow_rank(scores: list[float], target: int, ties: Ties) -> float:
    """Sort the items, and see which places those with the target's score take."""
    best_first = sorted(scores, reverse=True)
    places = [place for place, score in enumerate(best_first, 1) if score == scores[target]]
    return {"standard": places[0], "conservative": places[-1], "median": sum(places) / len(places)}[ties]
