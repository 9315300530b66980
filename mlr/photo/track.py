"""Following faces through a clip: found in every frame, steadied over time, gaps bridged.

A detector's eyes tremble from one frame to the next, and a change put back there would tremble on
a face that does not. So the path of each eye is smoothed by a parabola through the frames before
and after (Savitzky and Golay 1964, with Gaussian weights), which follows a face that moves
steadily; one that moves faster is never left behind by more than `FARTHEST`. The map from the crop
back to the frame is linear in the two eyes, so that this smooths its angle, scale and shift alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlr.photo.eyes import Eyes

Pixels = npt.NDArray[Any]

AHEAD = 14  # frames that wait in memory until those after them have been looked at
BRIDGED = 8  # frames in a row in which a face may be missed
FADE = AHEAD - BRIDGED  # frames over which a change comes and goes with its face
SEARCH = 12  # frames from one search of the whole picture to the next
LEAST = 3  # frames in which a face must be found to be believed
SIGMA = 3.0  # frames that the path is smoothed over, as the standard deviation of the weights
FARTHEST = 0.01  # eye distances by which an eye is moved at most


@dataclass(frozen=True)
class Seen:
    """A face in one frame.

    Attributes
    ----------
    eyes : Eyes
        Steadied.
    share : float
        How much of the change to put there: 1, or less where the face comes or goes.
    """

    eyes: Eyes
    share: float = 1.0


class Finder(Protocol):
    """What finds faces: `mlr.photo.detector.Detector`."""

    def find(self, pixels: Pixels) -> list[Eyes]:
        """Return all faces of a frame."""

    def again(self, pixels: Pixels, eyes: Eyes) -> Eyes | None:
        """Return the face that was at these eyes a moment ago, or None if it is not there."""


class Track:
    """One face through the frames of a clip.

    Parameters
    ----------
    number : int
        The frame in which it was found first.
    eyes : Eyes
        Where.
    """

    def __init__(self, number: int, eyes: Eyes) -> None:
        self.first = number
        self.count = 0
        self.found: dict[int, Eyes] = {}
        self.add(number, eyes)

    def add(self, number: int, eyes: Eyes) -> None:
        """Note where the face is in a further frame, and forget what no longer matters."""
        self.last, self.latest = number, eyes
        self.count += 1
        self.found[number] = eyes
        self.found = {n: e for n, e in self.found.items() if n >= number - 2 * AHEAD}

    def alive(self, known: int) -> bool:
        """Tell whether the face may be found again after frame ``known``."""
        return known - self.last <= BRIDGED

    def at(self, number: int, known: int) -> Seen | None:
        """Return the face in a frame, given all those up to frame ``known``; None if it is gone."""
        gone = self.last if not self.alive(known) else known
        if not self.first <= number <= gone or self.count < min(LEAST, known + 1):
            return None
        come = 1.0 if self.first == 0 else (number - self.first + 1) / FADE
        go = 1.0 if self.alive(known) else (self.last - number + 1) / FADE
        share = min(1.0, come, go)
        return Seen(self._steadied(number), share * share * (3 - 2 * share))

    def _steadied(self, number: int) -> Eyes:
        """Return the eyes on their smoothed path."""
        here = self._place(number)
        frames = np.array(list(self.found)) - number
        eyes = np.array([(eyes.left, eyes.right) for eyes in self.found.values()])
        root = np.exp(-((frames / SIGMA) ** 2) / 4)[:, None]  # of the weights
        powers = frames[:, None] ** np.arange(min(3, len(frames)))
        path = np.linalg.lstsq(root * powers, root * eyes, rcond=None)[0][0]
        steps = path - (here.left, here.right)
        steps *= np.minimum(1, FARTHEST * here.distance / np.maximum(np.abs(steps), 1e-9))
        left, right = here.left + complex(steps[0]), here.right + complex(steps[1])
        return Eyes(left, right, here.confidence)

    def _place(self, number: int) -> Eyes:
        """Return where the face was found, or lay between the frames in which it was."""
        before = max((n for n in self.found if n <= number), default=min(self.found))
        after = min((n for n in self.found if n >= number), default=before)
        a, b = self.found[before], self.found[after]
        part = (number - before) / (after - before) if after > before else 0.0
        left, right = (x + part * (y - x) for x, y in ((a.left, b.left), (a.right, b.right)))
        return Eyes(left, right, a.confidence)


def follow(
    frames: Iterable[Pixels], finder: Finder, *, several: bool = True
) -> Iterator[tuple[Pixels, list[Seen]]]:
    """Yield the frames of a clip with the faces in them.

    Parameters
    ----------
    frames : iterable of ndarray of uint8, shape (height, width, 1 or 3)
        `AHEAD` of them are in memory at once.
    finder : Finder
        The whole of every `SEARCH`-th frame is searched, and known faces are looked for in all.
    several : bool
        Look for further faces while one is followed.
    """
    tracks: list[Track] = []
    waiting: deque[Pixels] = deque()
    known = -1
    for known, frame in enumerate(frames):
        _look(tracks, known, frame, finder, several)
        waiting.append(frame)
        if len(waiting) > AHEAD:
            yield _with_faces(waiting.popleft(), tracks, known - AHEAD, known)
    for number in range(known - len(waiting) + 1, known + 1):
        yield _with_faces(waiting.popleft(), tracks, number, known)


def _look(tracks: list[Track], number: int, frame: Pixels, finder: Finder, several: bool) -> None:
    """Note where the faces of a frame are, in their tracks and in new ones."""
    tracks[:] = [track for track in tracks if number - track.last <= AHEAD]
    alive = [track for track in tracks if track.alive(number - 1)]
    here: list[Eyes] = []
    for track in alive:
        eyes = finder.again(frame, track.latest)
        if eyes is not None and not any(_same(eyes, other) for other in here):
            track.add(number, eyes)
            here.append(eyes)
    if number % SEARCH or (alive and not several):
        return
    for eyes in finder.find(frame):
        near = next((track for track in alive if _same(track.latest, eyes)), None)
        if near is None:
            alive.append(Track(number, eyes))
            tracks.append(alive[-1])
        elif near.last < number:
            near.add(number, eyes)


def _same(a: Eyes, b: Eyes) -> bool:
    """Tell whether two places can be of one face: faces do not overlap by half."""
    return abs(a.middle - b.middle) < max(a.distance, b.distance)


def _with_faces(
    frame: Pixels, tracks: list[Track], number: int, known: int
) -> tuple[Pixels, list[Seen]]:
    seen = [face for track in tracks if (face := track.at(number, known)) is not None]
    height, width = frame.shape[:2]
    return frame, [face for face in seen if face.eyes.lie_within(height, width)]
