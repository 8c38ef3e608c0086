"""The numbers of a report from the stored results of each seed, without l2o."""

import json
import math
import random
import sys

import numpy as np


def recompute(path):
    """Returns {optimizer: [mean train loss, ratio, its interval, log-loss, steps, diverged]}."""
    with open(f"{path}.json") as file:
        found = json.load(file)
    curves, target = np.load(f"{path}.npz"), found["target_loss"]
    final = {
        label: [math.inf if v is None else v for v in one["measures"]["train_loss"]["values"]]
        for label, one in found["optimizers"].items()
    }
    best = min((f for k, f in final.items() if not found["optimizers"][k]["learned"]), key=sum)
    n, rows = len(best), {}
    for label, own in final.items():
        losses = curves[f"losses/{label}"].astype(float)
        picks = [random.choices(range(n), k=n) for _ in range(4000)]
        draws = sorted(sum(own[i] for i in p) / sum(best[i] for i in p) for p in picks)
        means = [[np.mean(row[max(0, i - 9) : i + 1]) for i in range(len(row))] for row in losses]
        steps = [next((i for i, m in enumerate(r) if m <= target), math.inf) for r in means]
        fine = [np.isfinite(r).all() and f <= r[0] for r, f in zip(losses, own, strict=True)]
        rows[label] = [
            sum(own) / n, sum(own) / sum(best), draws[100], draws[3899], np.log(losses).mean(),
            sorted(steps)[(n - 1) // 2], 1 - sum(fine) / n,
        ]  # fmt: skip
    return rows


if __name__ == "__main__":
    for name, row in recompute(sys.argv[1]).items():
        print(f"{name:22}", "  ".join(f"{value:9.4g}" for value in row))
