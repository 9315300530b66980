"""CycleGAN (Zhu, Park, Isola and Efros, ICCV 2017): unpaired translation, there and back.

Two generators, to the target expression and back, are each trained against a PatchGAN (least
squares), must undo each other (weighted 10) and keep images that have the expression already
(weighted 5). Inputs and targets are drawn independently: pairs are not used.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from benchmarks.rivals.adversarial import (
    Adversarial,
    PatchCritic,
    as_signed,
    convolution,
    frozen,
    initialised,
    instance_norm,
    jittered,
    residual_body,
)

CYCLE_WEIGHT, IDENTITY_WEIGHT = 10, 5
POOL = 50  # earlier outputs that a critic may be shown instead of the newest


class CycleGAN(Adversarial):
    """Unpaired translation by two generators that undo each other."""

    name, key = "CycleGAN", "cyclegan"
    batches: ClassVar = {"smoke": 1, "small": 1, "paper": 1}
    learning_rate = 2e-4

    def build(self, channels: int, height: int, width: int) -> None:
        """Make two generators, two critics and the pools of earlier outputs."""
        blocks = 9 if max(height, width) >= 256 else 6
        norm = partial(instance_norm, reflect=True)
        self.generator, self.critic = nn.ModuleDict(), nn.ModuleDict()
        for expression in ("target", "source"):  # the expression that is made, and judged
            self.generator[expression] = initialised(
                nn.Sequential(
                    residual_body(channels, self.width, blocks, reflect=True),
                    convolution(self.width, channels, 7, reflect=True),
                    nn.Tanh(),
                )
            )
            self.critic[expression] = nn.Sequential(
                initialised(PatchCritic(channels, self.width, norm))
            )
            self.critic[f"{expression} pool"] = Pool(channels, height, width)

    def train_step(self, faces: Tensor) -> dict[str, Tensor]:
        """Update both generators, then both critics, on images of different subjects."""
        subjects = len(faces) // 2
        real = {
            "source": jittered(as_signed(faces[self.drawn(subjects, 0)])),
            "target": jittered(as_signed(faces[subjects + self.drawn(subjects, 1)])),
        }
        other = {"source": "target", "target": "source"}
        fake = {name: self.generator[name](real[other[name]]) for name in real}
        again = {name: self.generator[name](fake[other[name]]) for name in real}
        same = {name: self.generator[name](real[name]) for name in real}
        with frozen(self.critic):
            adversarial = sum(square(self.critic[name](fake[name]), 1) for name in real)
        cycle = sum(l1_loss(again[name], real[name]) for name in real)
        identity = sum(l1_loss(same[name], real[name]) for name in real)
        self.update(0, adversarial + CYCLE_WEIGHT * cycle + IDENTITY_WEIGHT * identity)

        critic = torch.zeros(())
        for name in real:
            shown = self.critic[f"{name} pool"](fake[name].detach())
            made, seen = self.critic[name](shown), self.critic[name](real[name])
            critic = critic + (square(seen, 1) + square(made, 0)) / 2
        self.update(1, critic)
        return {"critic": critic, "adversarial": adversarial, "cycle": cycle, "identity": identity}

    def translate(self, image: Tensor) -> Tensor:
        """Apply the generator to the target expression."""
        return self.translator(image)

    @property
    def translator(self) -> nn.Module:
        """The generator to the target expression; the way back is not needed any more."""
        return self.generator["target"]


class Pool(nn.Module):
    """Earlier outputs (Shrivastava et al. 2017), buffers so that checkpoints hold them."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(POOL, channels, height, width))
        self.register_buffer("held", torch.zeros((), dtype=torch.long))

    def forward(self, outputs: Tensor) -> Tensor:
        """Store outputs; return each, or with probability 1/2 the earlier one that it replaces."""
        shown = []
        for output in outputs:
            if self.held < POOL:
                self.images[self.held] = output
                self.held += 1
            elif torch.rand(()) < 0.5:
                index = torch.randint(POOL, ())
                earlier = self.images[index].clone()
                self.images[index] = output
                output = earlier
            shown.append(output)
        return torch.stack(shown)


def square(scores: Tensor, label: float) -> Tensor:
    """Return the mean squared distance of scores from a label."""
    return (scores - label).square().mean()


RIVALS = [CycleGAN]
