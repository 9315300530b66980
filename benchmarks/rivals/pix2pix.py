"""Pix2Pix (Isola, Zhu, Zhou and Efros, CVPR 2017): paired translation.

A U-Net is trained against a PatchGAN, which sees input and output together, and with the absolute
error, weighted 100. As in the paper a mini-batch is one image, images are jittered and flipped, and
dropout and the normalisation by the image's own statistics stay on in prediction.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from benchmarks.rivals.adversarial import (
    Adversarial,
    PatchCritic,
    as_signed,
    frozen,
    initialised,
    jittered,
)

L1_WEIGHT = 100

#: With a batch of one image these are the image's own statistics, in training and after.
batch_norm = partial(nn.BatchNorm2d, track_running_stats=False)


class Pix2Pix(Adversarial):
    """Paired translation by a U-Net and a critic of patches."""

    name, key = "Pix2Pix", "pix2pix"
    batches: ClassVar = {"smoke": 1, "small": 1, "paper": 1}
    learning_rate = 2e-4

    def build(self, channels: int, height: int, width: int) -> None:
        """Make a U-Net and a PatchGAN."""
        self.generator = initialised(UNet(channels, self.width, height, width))
        self.critic = initialised(PatchCritic(2 * channels, self.width, batch_norm))

    def train_step(self, faces: Tensor) -> dict[str, Tensor]:
        """Update the critic, then the generator, on pairs."""
        subjects = len(faces) // 2
        chosen = self.drawn(subjects)
        both = jittered(as_signed(faces[torch.cat([chosen, chosen + subjects])]))
        source, target = both.chunk(2)
        output = self.generator(source)

        seen = self.critic(torch.cat([source, target], 1))
        made = self.critic(torch.cat([source, output.detach()], 1))
        critic = (cross_entropy(seen, 1) + cross_entropy(made, 0)) / 2
        self.update(1, critic)

        with frozen(self.critic):
            adversarial = cross_entropy(self.critic(torch.cat([source, output], 1)), 1)
            absolute = l1_loss(output, target)
            self.update(0, adversarial + L1_WEIGHT * absolute)
        return {"critic": critic, "adversarial": adversarial, "l1": absolute}

    def translate(self, image: Tensor) -> Tensor:
        """Apply the U-Net with dropout."""
        return self.generator(image)


class UNet(nn.Module):
    """Convolutions that halve the sides as often as possible, and back with skip connections.

    256 px give the paper's eight levels, with dropout in the first three of the decoder; smaller
    images have fewer of both.
    """

    def __init__(self, channels: int, first: int, height: int, width: int) -> None:
        super().__init__()
        depth = 0
        while depth < 8 and height % 2 == width % 2 == 0:
            height, width, depth = height // 2, width // 2, depth + 1
        widths = [channels, *(first * min(2**level, 8) for level in range(depth))]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(1, depth + 1):
            normed = 1 < level < depth  # one pixel normalised by itself would be 0
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level > 1 else []
            layers.append(nn.Conv2d(widths[level - 1], widths[level], 4, 2, 1, bias=not normed))
            self.down.append(nn.Sequential(*layers, *([batch_norm(widths[level])] * normed)))
        for level in range(depth, 0, -1):
            before = widths[level] * (1 if level == depth else 2)  # 2: with the skip connection
            after, last = widths[level - 1], level == 1
            layers = [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=last)]
            layers.append(nn.Tanh() if last else batch_norm(after))
            self.up.append(nn.Sequential(*layers, *([nn.Dropout(0.5)] * (level > 5))))

    def forward(self, image: Tensor) -> Tensor:
        """Return an image of the same shape, in [-1, 1]."""
        levels = []
        for layer in self.down:
            image = layer(image)
            levels.append(image)
        image = self.up[0](levels.pop())
        for layer in self.up[1:]:
            image = layer(torch.cat([image, levels.pop()], 1))
        return image


def cross_entropy(scores: Tensor, label: float) -> Tensor:
    """Return the mean binary cross-entropy of scores whose label is the same."""
    return binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


RIVALS = [Pix2Pix]
