"""Networks, losses and training within a budget of time, for the adversarial rivals.

A method defines its networks in `Adversarial.build` and a step in `Adversarial.train_step`. Inside
the networks intensities lie in [-1, 1] and images are (N, channels, height, width) in float32.

PyTorch runs in one thread, enough for networks so small. The same seed then gives the same bits,
interrupted or not, if the training is limited by steps: a budget makes the learning rate depend on
time.
"""

from __future__ import annotations

import hashlib
import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rivals.base import Images, Outputs, Rival, State
from mlr.errors import MlrError, OptionError
from mlr.io.files import replacing

#: Channels after the first layer of every network, for each scale; 64 is that of all four papers.
WIDTHS = {"smoke": 8, "small": 16, "paper": 64}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SAVE_EVERY = 60.0  # seconds of processor time between checkpoints
REHEARSED = 10  # steps; every fifth is one of the generator, too
DIVISOR = 16  # every side must be a multiple of it, for the networks halve it up to four times


class Adversarial(Rival):
    """A generator trained against a critic.

    Parameters
    ----------
    budget : float
        Seconds of processor time for training, earlier runs included.
    folder : path, optional
        Folder of checkpoints, one for each method, scale, seed and set of images: `fit` goes on
        from there. None keeps none.
    seed : int
        Of the initial weights and all random numbers.
    scale : {"smoke", "small", "paper"}
        Width of the networks and size of a mini-batch; depth, losses and optimiser are always the
        paper's.
    steps : int, optional
        Number of steps at most.

    Attributes
    ----------
    history : list of (int, dict of str to float)
        Losses of each step, unweighted.
    step, seconds, cpu_seconds : int, float, float
        Steps done, elapsed time and processor time.
    generator, critic : nn.Module
        The networks; a method may have more than one in each.
    """

    family = "gan"
    batches: dict[str, int]  # images in a mini-batch for each scale
    learning_rate: float
    decay_from = 0.5  # part of the training after which the learning rate falls, linearly, to 0
    generator: nn.Module
    critic: nn.Module

    def __init__(
        self,
        budget: float = 1200.0,
        folder: str | Path | None = None,
        seed: int = 0,
        scale: str = "small",
        steps: int | None = None,
    ) -> None:
        if scale not in WIDTHS:
            raise OptionError(f"no scale {scale!r}; there is: {', '.join(WIDTHS)}")
        self.budget, self.seed, self.scale = budget, seed, scale
        self.folder = None if folder is None else Path(folder)
        self.width, self.batch = WIDTHS[scale], self.batches[scale]
        self.steps = math.inf if steps is None else steps
        self.history: list[tuple[int, dict[str, float]]] = []
        self.step = 0
        self.seconds = self.cpu_seconds = 0.0

    @abstractmethod
    def build(self, channels: int, height: int, width: int) -> None:
        """Set `generator` and `critic`, with fresh weights, for images of a shape."""

    @abstractmethod
    def train_step(self, faces: Tensor) -> dict[str, Tensor]:
        """Take one step and return its losses.

        Parameters
        ----------
        faces : Tensor of uint8, shape (2 N, channels, height, width)
            The N inputs, then the N targets of the same subjects. A method for unpaired images must
            not use this order.
        """

    @abstractmethod
    def translate(self, image: Tensor) -> Tensor:
        """Return the target expression of images in [-1, 1]."""

    @property
    def translator(self) -> nn.Module:
        """The part of `generator` that `translate` needs."""
        return self.generator

    def fit(self, inputs: Images, targets: Images, **setting: Any) -> None:
        """Train until the budget or the steps are used up, from a checkpoint if there is one.

        Parameters
        ----------
        inputs, targets : ndarray of uint8, shape (pairs, height, width, channels)
            Sides are multiples of 16.

        Raises
        ------
        OptionError
            If a side is no multiple of 16.
        MlrError
            If a checkpoint cannot be read or written, or the losses are no longer finite.
        """
        faces = torch.from_numpy(np.concatenate([inputs, targets])).permute(0, 3, 1, 2)
        faces = faces.contiguous()
        checkpoint = self._checkpoint(faces)
        if any(side % DIVISOR for side in faces.shape[2:]):
            height, width = faces.shape[2:]
            raise OptionError(
                f"{self.name} works on multiples of {DIVISOR} px, not {width}x{height}"
            )
        with one_thread(), seeded(self.seed), torch.device(DEVICE):
            self.build(*faces.shape[1:])
            self._optimisers = [
                torch.optim.Adam(
                    module.parameters(), self.learning_rate, betas=(0.5, 0.999), fused=True
                )
                for module in (self.generator, self.critic)
            ]
            self.history, self.step, self.seconds, self.cpu_seconds = [], 0, 0.0, 0.0
            self._train(faces.to(DEVICE), checkpoint)

    def predict(self, inputs: Images) -> Outputs:
        """Return the outputs, one image at a time."""
        images = torch.from_numpy(np.ascontiguousarray(inputs)).permute(0, 3, 1, 2).to(DEVICE)
        with torch.no_grad(), one_thread(), seeded(self.seed), torch.device(DEVICE):  # for noise
            outputs = [self.translate(as_signed(image[None])) for image in images]
        pixels = torch.cat(outputs).add(1).div(2)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def state(self) -> State:
        """Return the weights that `predict` needs."""
        weights = self.translator.state_dict()
        return {name.replace(".", "_"): weight.cpu().numpy() for name, weight in weights.items()}

    def training(self) -> dict[str, Any]:
        """Return a description of the training for the report."""
        return {
            "budget": self.budget,
            "scale": self.scale,
            "width": self.width,
            "batch": self.batch,
            "steps": self.step,
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE,
            "torch": torch.__version__,
        }

    def rehearsal(self) -> Adversarial:
        """Return a copy whose `fit` needs the same memory, but little time."""
        return type(self)(seed=self.seed, scale=self.scale, steps=REHEARSED)

    def drawn(self, images: int, stream: int = 0) -> Tensor:
        """Return the indices of this step's mini-batch: every image once an epoch, shuffled.

        They depend on the step alone, so checkpoints need not store them.

        Parameters
        ----------
        images : int
            Number of images to draw from.
        stream : int
            Different streams are independent.
        """
        positions = np.arange(self.step * self.batch, (self.step + 1) * self.batch)
        order = {
            epoch: np.random.default_rng([self.seed, stream, epoch]).permutation(images)
            for epoch in set(positions // images)
        }
        return torch.tensor([order[at // images][at % images] for at in positions])

    def update(self, part: int, loss: Tensor) -> None:
        """Take a step of an optimiser: 0 for the generator, 1 for the critic."""
        optimiser = self._optimisers[part]
        for group in optimiser.param_groups:
            group["lr"] = self.learning_rate * self._decay()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def _decay(self) -> float:
        """Return the factor of the learning rate: 1 at first, then linearly down to 0."""
        progress = max(self.cpu_seconds / self.budget, self.step / self.steps)
        return min(1.0, (1 - progress) / (1 - self.decay_from))

    def _train(self, faces: Tensor, checkpoint: Path | None) -> None:
        if checkpoint and checkpoint.exists():
            self._resume(checkpoint)
        began, cpu_began = time.monotonic() - self.seconds, time.process_time() - self.cpu_seconds
        saved, saved_step = self.cpu_seconds, self.step
        while self.step < self.steps and self.cpu_seconds < self.budget:
            losses = {name: loss.item() for name, loss in self.train_step(faces).items()}
            if not all(map(math.isfinite, losses.values())):
                raise MlrError(f"{self.name}: its losses are no longer finite at step {self.step}")
            self.history.append((self.step, losses))
            self.step += 1
            if checkpoint and self.cpu_seconds - saved > SAVE_EVERY:
                self._save_checkpoint(checkpoint)
                saved, saved_step = self.cpu_seconds, self.step
            self.seconds = time.monotonic() - began
            self.cpu_seconds = time.process_time() - cpu_began
        if checkpoint and saved_step < self.step:
            self._save_checkpoint(checkpoint)

    def _checkpoint(self, faces: Tensor) -> Path | None:
        """Return the path of the checkpoint of this training."""
        if self.folder is None:
            return None
        what = f"{self.key} {self.scale} {self.seed} {tuple(faces.shape)}".encode()
        digest = hashlib.sha256(what + faces.numpy().tobytes()).hexdigest()[:12]
        return self.folder / f"{self.key}-{self.scale}-{digest}.pt"

    def _save_checkpoint(self, path: Path) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "history": self.history,
            "random": torch.get_rng_state(),
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
        }
        with replacing(path, force=True, durable=True) as file:
            torch.save(state, file)

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True, map_location=DEVICE)
            self.generator.load_state_dict(state["generator"])
            self.critic.load_state_dict(state["critic"])
            for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            torch.set_rng_state(state["random"].cpu())
            for name in ("history", "step", "seconds", "cpu_seconds"):
                setattr(self, name, state[name])
        except Exception as error:  # a damaged file makes PyTorch raise any kind
            raise MlrError(f"{path}: is no checkpoint of {self.name}; remove it") from error


class PatchCritic(nn.Sequential):
    """PatchGAN of Isola et al. 2017: a score for each patch of 70 x 70 pixels.

    ``width`` is the number of channels of the first layer; ``norm`` makes a normalisation for a
    number of channels.
    """

    def __init__(self, channels: int, width: int, norm: type[nn.Module]) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for times, stride in ((2, 2), (4, 2), (8, 1)):
            before = width * times // 2
            layers += [
                nn.Conv2d(before, width * times, 4, stride, 1),
                norm(width * times),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class HeadedCritic(nn.Module):
    """Critic of StarGAN and GANimation: a score for each patch, and guesses for the whole image.

    ``first`` is the number of channels of the first layer; each of up to six layers halves the
    sides and doubles the channels.
    """

    def __init__(self, channels: int, height: int, width: int, first: int, guesses: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        depth = 0
        while depth < 6 and min(height, width) >= 4 and height % 2 == width % 2 == 0:
            after = first * 2**depth
            layers += [nn.Conv2d(channels, after, 4, 2, 1), nn.LeakyReLU(0.01)]
            channels, height, width, depth = after, height // 2, width // 2, depth + 1
        self.body = nn.Sequential(*layers)
        self.score = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.guess = nn.Conv2d(channels, guesses, (height, width), bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (N, 1, h, w) and guesses (N, guesses)."""
        features = self.body(images)
        return self.score(features), self.guess(features).flatten(1)


class Residual(nn.Module):
    """Two 3 x 3 convolutions, added to their input (He et al. 2016)."""

    def __init__(self, channels: int, *, reflect: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, 3, reflect=reflect),
            instance_norm(channels, reflect=reflect),
            nn.ReLU(),
            convolution(channels, channels, 3, reflect=reflect),
            instance_norm(channels, reflect=reflect),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return features + self.body(features)


def residual_body(channels: int, width: int, blocks: int, *, reflect: bool) -> nn.Sequential:
    """Return the generator of Johnson et al. 2016 without its last layer.

    A 7 x 7 convolution to ``width`` channels, two halvings, residual blocks and two doublings of
    the sides. ``reflect`` chooses the variant of CycleGAN: reflected borders, 3 x 3 kernels where
    the side changes, no scale in the normalisation. Otherwise it is that of StarGAN and GANimation:
    zeros, 4 x 4, scaled.
    """
    layers = [
        convolution(channels, width, 7, reflect=reflect),
        instance_norm(width, reflect=reflect),
        nn.ReLU(),
    ]
    kernel = 3 if reflect else 4
    for before in (width, 2 * width):
        layers += [
            nn.Conv2d(before, 2 * before, kernel, 2, 1, bias=reflect),
            instance_norm(2 * before, reflect=reflect),
            nn.ReLU(),
        ]
    layers += [Residual(4 * width, reflect=reflect) for _ in range(blocks)]
    for after in (2 * width, width):
        layers += [
            nn.ConvTranspose2d(
                2 * after, after, kernel, 2, 1, output_padding=int(reflect), bias=reflect
            ),
            instance_norm(after, reflect=reflect),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def convolution(before: int, after: int, kernel: int, *, reflect: bool) -> nn.Conv2d:
    """Return a convolution that keeps the sides."""
    mode = "reflect" if reflect else "zeros"
    return nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=reflect, padding_mode=mode)


def instance_norm(channels: int, *, reflect: bool) -> nn.InstanceNorm2d:
    """Return the normalisation of each image by itself, scaled unless for CycleGAN."""
    return nn.InstanceNorm2d(channels, affine=not reflect)


def initialised(module: nn.Module) -> nn.Module:
    """Return a network with weights drawn from N(0, 0.02), as DCGAN does."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, (nn.BatchNorm2d, nn.InstanceNorm2d)) and part.affine:
            nn.init.normal_(part.weight, 1, 0.02)
            nn.init.zeros_(part.bias)
    return module


def count(module: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def as_signed(pixels: Tensor) -> Tensor:
    """Return 8-bit intensities as float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def flipped(images: Tensor) -> Tensor:
    """Return images, each flipped left to right with probability 1/2."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(flip, images.flip(-1), images)


def jittered(images: Tensor) -> Tensor:
    """Return images enlarged by 286 / 256, cropped at random, and flipped with probability 1/2.

    All images of a batch are treated alike.
    """
    height, width = images.shape[2:]
    larger = [round(side * 286 / 256) for side in (height, width)]
    enlarged = nn.functional.interpolate(images, larger, mode="bicubic", align_corners=False)
    top, left = (
        int(torch.randint(there - wanted + 1, ()))
        for there, wanted in zip(larger, (height, width), strict=True)
    )
    cropped = enlarged[:, :, top : top + height, left : left + width].clamp(-1, 1)
    return cropped.flip(-1) if torch.rand(()) < 0.5 else cropped


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return the gradient penalty between real and fake images (Gulrajani et al. 2017)."""
    share = torch.rand(len(real), 1, 1, 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between)[0].sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Pass gradients through a network without computing gradients of its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed, and restore PyTorch's own random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
