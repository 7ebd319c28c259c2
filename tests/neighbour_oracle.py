"""Sessions like the current one, found slowly: what `lite.neighbours`, whose formula it has, is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pocketrec.lite.neighbours import Neighbourhood


class SlowNeighbours:
    """Sessions `train` of items below `n`, in order of `times`, when they began, in ms."""

    def __init__(self, train: Sequence[Sequence[int]], times: Sequence[int], n: int) -> None:
        self.train, self.times, self.n = train, times, n
        self.last_places = [{item: place for place, item in enumerate(one)} for one in train]
        self.holders = {item: [at for at, one in enumerate(train) if item in one] for item in range(n)}

    def scores(self, session: Sequence[int], settings: Neighbourhood) -> list[float]:
        """Scores of all items after a session so far."""

        def fall(clicks: int, length: float) -> float:
            return math.exp(-clicks / length) if settings.shape == "exponential" else max(0.0, 1 - clicks / length)

        own = {item: place for place, item in enumerate(session)}
        met: dict[int, list[int]] = {}
        for item in sorted(own, key=own.__getitem__):
            for at in self.holders[item][-settings.newest :]:
                met.setdefault(at, []).append(item)
        found = []
        for at, shared in met.items():
            ages = [len(session) - 1 - own[item] for item in shared]
            days = (self.times[-1] - self.times[at]) / 86_400_000
            weight = math.exp(-days / settings.recency) / len(self.train[at]) ** settings.norm
            likeness = float(np.float32(sum(fall(age, settings.inside) for age in ages) * weight))
            found.append((likeness, at, fall(ages[-1], settings.match), self.last_places[at][shared[-1]]))
        scores = [0.0] * self.n
        for likeness, at, match, meeting in sorted(found, reverse=True)[: settings.neighbours]:
            for item, place in self.last_places[at].items():
                rarity = 1 + settings.idf * math.log(len(self.train) / len(self.holders[item]))
                scores[item] += likeness * match * fall(abs(place - meeting), settings.near) * rarity
        best = max(scores) or 1.0
        for item, place in own.items():
            scores[item] += settings.again * best * fall(len(session) - 1 - place, 10.0)
        return [float(np.float32(score)) for score in scores]
