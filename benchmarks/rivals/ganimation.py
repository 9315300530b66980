"""GANimation (Pumarola, Agudo, Martinez, Sanfeliu and Moreno-Noguer, ECCV 2018): with attention.

The generator returns colours and an attention mask, the share of the input to keep. Its critic
(Wasserstein, with gradient penalty) also estimates the strength of the expression. Pairs are not
used.

Two things differ from the paper. Its expression vector holds the intensities of action units, which
are not annotated here: ours holds one number, 0 for neutral and 1 for the target. And the squared
error of the estimate is weighted 160, the paper's 4000 over its mini-batch of 25, as in the
authors' program, where it is divided.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from benchmarks.rivals.adversarial import (
    Adversarial,
    HeadedCritic,
    as_signed,
    convolution,
    flipped,
    frozen,
    gradient_penalty,
    initialised,
    residual_body,
)

EXPRESSION_WEIGHT, CYCLE_WEIGHT, PENALTY_WEIGHT = 160, 10, 10
ATTENTION_WEIGHT, SMOOTHNESS_WEIGHT = 0.1, 1e-5  # of the mask's size and of its steps
NOISE = 0.1  # of the wanted strengths
CRITIC_STEPS = 5  # updates of the critic for one of the generator


class GANimation(Adversarial):
    """Unpaired translation by colours and an attention mask."""

    name, key = "GANimation", "ganimation"
    batches: ClassVar = {"smoke": 4, "small": 8, "paper": 25}
    learning_rate = 1e-4
    decay_from = 2 / 3  # the last 10 of 30 epochs

    def build(self, channels: int, height: int, width: int) -> None:
        """Make a generator that takes the expression as a further channel, and a critic."""
        self.generator = initialised(Painter(channels, self.width))
        self.critic = initialised(HeadedCritic(channels, height, width, self.width, 1))

    def train_step(self, faces: Tensor) -> dict[str, Tensor]:
        """Update the critic, and every fifth time the generator."""
        chosen = self.drawn(len(faces))
        real = flipped(as_signed(faces[chosen]))
        strength = (chosen >= len(faces) // 2).float()[:, None]
        noise = torch.rand_like(strength).mul(2).sub(1).mul(NOISE)
        wanted = strength[torch.randperm(len(strength))] + noise
        turned = self.step % CRITIC_STEPS == CRITIC_STEPS - 1
        with torch.set_grad_enabled(turned):
            fake, mask = self.generator(real, wanted)

        seen, estimate = self.critic(real)
        made, _ = self.critic(fake.detach())
        wasserstein = made.mean() - seen.mean()
        expression = mse_loss(estimate, strength)
        penalty = gradient_penalty(self.critic, real, fake.detach())
        self.update(1, wasserstein + EXPRESSION_WEIGHT * expression + PENALTY_WEIGHT * penalty)
        losses = {"critic": wasserstein, "expression": expression, "penalty": penalty}
        if turned:
            with frozen(self.critic):
                made, estimate = self.critic(fake)
            adversarial, expression = -made.mean(), mse_loss(estimate, wanted)
            again, mask_back = self.generator(fake, strength)
            cycle = l1_loss(again, real)
            attention = size(mask) + size(mask_back)
            steps = roughness(mask) + roughness(mask_back)
            self.update(
                0,
                adversarial
                + EXPRESSION_WEIGHT * expression
                + CYCLE_WEIGHT * cycle
                + ATTENTION_WEIGHT * attention
                + SMOOTHNESS_WEIGHT * steps,
            )
            losses |= {
                "adversarial": adversarial,
                "expression of outputs": expression,
                "cycle": cycle,
                "attention": attention,
            }
        return losses

    def translate(self, image: Tensor) -> Tensor:
        """Turn images into the target expression at its full strength."""
        return self.generator(image, torch.ones(len(image), 1))[0]


class Painter(nn.Module):
    """Generator with two last layers: colours C and the attention mask A."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = residual_body(channels + 1, width, 6, reflect=False)
        self.colour = convolution(width, channels, 7, reflect=False)
        self.attention = convolution(width, 1, 7, reflect=False)

    def forward(self, images: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1 - A) C + A image, and A: shape (N, 1, height, width), in [0, 1]."""
        plane = strength[:, :, None, None].expand(-1, -1, *images.shape[2:])
        features = self.body(torch.cat([images, plane], 1))
        mask = self.attention(features).sigmoid()
        return (1 - mask) * self.colour(features).tanh() + mask * images, mask


def size(mask: Tensor) -> Tensor:
    """Return the mean l2 norm of the masks, relative to a mask of ones."""
    return mask.square().mean(dim=(1, 2, 3)).sqrt().mean()


def roughness(mask: Tensor) -> Tensor:
    """Return the sum of squared differences of neighbouring pixels, averaged over the batch."""
    return (mask.diff(dim=2).square().sum() + mask.diff(dim=3).square().sum()) / len(mask)


RIVALS = [GANimation]
