"""Trials and their fingerprints: which runs an experiment asks for, named by all that can change them.

`fingerprint = sha256(canonical JSON of {code, command, parameters, datasets, environment, seed})`.
Descriptions, labels, executor, resources, timeouts, retries and `parallel` are not in it: changing them
trains nothing. The `declaration` stands for the same trial without the digests of unpinned data outside
the repository, which can move without a commit.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from mlops.observation.observed import ObservedDataset
from mlops.planning.canonical import sha256_of
from mlops.planning.desired import Code
from mlops.planning.work import Scalar, Trial, TrialData
from mlops.resources import Experiment


def trials(experiment: Experiment, code: Code, datasets: Mapping[str, ObservedDataset]) -> tuple[Trial, ...]:
    """The distinct trials of an experiment, in the order of its sweep.

    Every dataset that it names must have a digest in `datasets`.
    """
    data = tuple(
        TrialData(role, name, str(datasets[name].digest), datasets[name].outside)
        for role, name in sorted(experiment.spec.datasets.items())
    )
    declared = {
        role: (
            {"uri": datasets[name].uri}
            if datasets[name].outside and not datasets[name].pinned
            else datasets[name].digest
        )
        for role, name in experiment.spec.datasets.items()
    }
    base = {**code.defaults, **experiment.spec.parameters}
    found: dict[str, Trial] = {}
    for point in _points(experiment):
        parameters = {**base, **point}
        content: dict[str, Any] = {
            "code": dict(code.files),
            "command": list(code.command),
            "parameters": parameters,
            "environment": code.environment,
            "seed": experiment.spec.seed,
        }
        fingerprint = sha256_of({**content, "datasets": {item.role: item.digest for item in data}})
        declaration = sha256_of({**content, "datasets": declared})
        found.setdefault(
            fingerprint,
            Trial(
                experiment.metadata.name,
                parameters,
                code.command,
                data,
                fingerprint,
                declaration,
                experiment.spec.seed,
            ),
        )
    return tuple(found.values())


def _points(experiment: Experiment) -> Iterator[dict[str, Scalar]]:
    sweep = experiment.spec.sweep
    if sweep is None:
        yield {}
        return
    names = sorted(sweep.parameters)
    if sweep.strategy == "grid":
        axes: list[Any] = [sweep.parameters[name] for name in names]
        for values in itertools.product(*axes):
            yield dict(zip(names, values, strict=True))
        return
    for index in range(sweep.trials or 1):
        yield {
            name: _draw(sweep.parameters[name], f"{experiment.spec.seed or 0}:{index}:{name}")
            for name in names
        }


def _draw(choice: Any, key: str) -> Scalar:
    """A value drawn from a key of its own, so that asking for more trials keeps those there were."""
    generator = random.Random(key)
    if isinstance(choice, list | tuple):
        drawn: Scalar = choice[generator.randrange(len(choice))]
        return drawn
    if choice.uniform is not None:
        return generator.uniform(*choice.uniform)
    if choice.log_uniform is not None:
        low, high = choice.log_uniform
        number: float = math.exp(generator.uniform(math.log(low), math.log(high)))
        # Rounded, as the last digits of exp and log differ between machines, and a fingerprint may not.
        return min(max(float(f"{number:.12g}"), float(low)), float(high))
    low, high = choice.int_
    return generator.randint(int(low), int(high))


def text_of(value: Scalar) -> str:
    """A parameter's value as argv and environment see it: as it is written in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def mlflow_text(value: Scalar) -> str:
    """A parameter's value as MLflow itself writes it, so that training code that logs it too agrees."""
    return str(value)


def fill(command: tuple[str, ...], parameters: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Replace `{name}` in each argument by the parameter's value; nothing else is interpreted."""
    filled = []
    for argument in command:
        parts = argument.split("{")
        text = parts[0]
        for part in parts[1:]:
            name, brace, rest = part.partition("}")
            text += text_of(parameters[name]) + rest if brace and name in parameters else "{" + part
        filled.append(text)
    return tuple(filled)
