"""StarGAN (Choi, Choi, Kim, Ha, Kim and Choo, CVPR 2018): one generator for all expressions.

The generator gets the wanted expression; its critic (Wasserstein, with gradient penalty) also
classifies the expression. Images turned into another expression and back must stay (weighted 10).
There are two domains, neutral and the target. Pairs are not used: mini-batches are drawn from all
faces.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, one_hot

from benchmarks.rivals.adversarial import (
    Adversarial,
    HeadedCritic,
    as_signed,
    convolution,
    flipped,
    frozen,
    gradient_penalty,
    residual_body,
)

DOMAINS = 2  # neutral, target
CLASS_WEIGHT, CYCLE_WEIGHT, PENALTY_WEIGHT = 1, 10, 10
CRITIC_STEPS = 5  # updates of the critic for one of the generator


class StarGAN(Adversarial):
    """Unpaired translation between expressions by one generator."""

    name, key = "StarGAN", "stargan"
    batches: ClassVar = {"smoke": 4, "small": 8, "paper": 16}
    learning_rate = 1e-4

    def build(self, channels: int, height: int, width: int) -> None:
        """Make a generator that takes the expression as further channels, and a critic."""
        self.generator = nn.Sequential(
            residual_body(channels + DOMAINS, self.width, 6, reflect=False),
            convolution(self.width, channels, 7, reflect=False),
            nn.Tanh(),
        )
        self.critic = HeadedCritic(channels, height, width, self.width, DOMAINS)

    def train_step(self, faces: Tensor) -> dict[str, Tensor]:
        """Update the critic, and every fifth time the generator."""
        chosen = self.drawn(len(faces))
        real = flipped(as_signed(faces[chosen]))
        domain = (chosen >= len(faces) // 2).long()
        wanted = domain[torch.randperm(len(domain))]
        turned = self.step % CRITIC_STEPS == CRITIC_STEPS - 1
        with torch.set_grad_enabled(turned):
            fake = self.make(real, wanted)

        seen, named = self.critic(real)
        made, _ = self.critic(fake.detach())
        wasserstein = made.mean() - seen.mean()
        naming = cross_entropy(named, domain)
        penalty = gradient_penalty(self.critic, real, fake.detach())
        self.update(1, wasserstein + CLASS_WEIGHT * naming + PENALTY_WEIGHT * penalty)
        losses = {"critic": wasserstein, "class": naming, "penalty": penalty}
        if turned:
            with frozen(self.critic):
                made, named = self.critic(fake)
            adversarial, naming = -made.mean(), cross_entropy(named, wanted)
            cycle = l1_loss(self.make(fake, domain), real)
            self.update(0, adversarial + CLASS_WEIGHT * naming + CYCLE_WEIGHT * cycle)
            losses |= {"adversarial": adversarial, "class of outputs": naming, "cycle": cycle}
        return losses

    def make(self, images: Tensor, domain: Tensor) -> Tensor:
        """Return images turned into the expressions ``domain``, shape (N,)."""
        labels = one_hot(domain, DOMAINS).float()[:, :, None, None]
        return self.generator(torch.cat([images, labels.expand(-1, -1, *images.shape[2:])], 1))

    def translate(self, image: Tensor) -> Tensor:
        """Turn images into the target domain."""
        return self.make(image, torch.ones(len(image), dtype=torch.long))


RIVALS = [StarGAN]
