"""The mode ``optimise``: Optuna asks for points, several objectives at once (NSGA-II).

Points are asked for by generations of a fixed size, and the sampler draws from the sweep's seed, so
that the same points are asked for whatever runs them and however often the sweep was killed: a
resumed search starts anew and finds its results in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.sweep.plan import Sweep
from sim.sweep.point import Point
from sim.sweep.tasks import Row
from spec.errors import ToolError

Evaluate = Callable[[Sequence[Point]], Sequence[Row]]
"""Runs the estimate of some points, which are all different; rows in their order."""


def search(sweep: Sweep, evaluate: Evaluate) -> list[Point]:
    """The points of a search, in the order in which they were first asked for.

    Raises:
        ToolError: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ToolError(
            "the mode optimise needs the package optuna: pip install 'kria-llm[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    population = min(sweep.optimise.population, sweep.optimise.trials)
    study = optuna.create_study(
        directions=[up if way == "max" else down for way in sweep.objectives.values()],
        sampler=optuna.samplers.NSGAIISampler(population_size=max(2, population), seed=sweep.seed),
    )
    found: dict[str, Point] = {}
    done: dict[str, Row] = {}
    trials = 0
    while trials < sweep.optimise.trials:
        asked = []
        for _ in range(min(population, sweep.optimise.trials - trials)):
            trial = study.ask()
            values = {
                axis.name: axis.values[trial.suggest_int(axis.name, 0, len(axis.values) - 1)]
                for axis in sweep.axes
            }
            asked.append((trial, sweep.point(len(found), values)))
            found.setdefault(asked[-1][1].key, asked[-1][1])
        trials += len(asked)
        new = [point for key, point in found.items() if key not in done]
        done |= {row.key: row for row in evaluate(new)}
        for trial, point in asked:
            row = done[point.key]
            if row.status == "ok":
                study.tell(trial, [row.figures[name] for name in sweep.objectives])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return list(found.values())
