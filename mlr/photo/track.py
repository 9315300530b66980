"""Following faces through a clip: detected in every frame, smoothed over time, gaps bridged.

Detected eyes jitter from frame to frame, and a change composited there would jitter on a face that
does not. So the path of each eye is smoothed by a parabola through the frames before and after
(Savitzky and Golay 1964, with Gaussian weights), which follows a face that moves steadily; one that
moves faster is never left behind by more than `FARTHEST`. The map from the crop back to the frame
is linear in the two eyes, so that this smooths its angle, scale and shift alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlr.io.images import Pixels
from mlr.photo.detect import Detector
from mlr.photo.eyes import Eyes

AHEAD = 14  # frames that are read before a frame is returned
BRIDGED = 8  # consecutive frames in which a face may be missed
FADE = AHEAD - BRIDGED  # frames over which a change fades in and out with its face
SEARCH = 12  # frames from one search of the whole picture to the next
LEAST = 3  # frames in which a face must be found to be believed
SIGMA = 3.0  # standard deviation of the weights that smooth the path, in frames
FARTHEST = 0.01  # largest shift of an eye by smoothing, in eye distances


@dataclass(frozen=True)
class TrackedFace:
    """A face in one frame.

    Attributes
    ----------
    eyes : Eyes
        On their smoothed paths.
    fade : float
        How much of the change to apply: 1, or less where the face appears or disappears.
    """

    eyes: Eyes
    fade: float = 1.0


class Track:
    """One face through the frames of a clip, from the frame in which it was found first."""

    def __init__(self, index: int, eyes: Eyes) -> None:
        self.first = index
        self.count = 0
        self.found: dict[int, Eyes] = {}  # by frame
        self.add(index, eyes)

    def add(self, index: int, eyes: Eyes) -> None:
        """Add the eyes in a further frame, and forget frames long past."""
        self.last, self.latest = index, eyes
        self.count += 1
        self.found[index] = eyes
        self.found = {n: e for n, e in self.found.items() if n >= index - 2 * AHEAD}

    def alive(self, read: int) -> bool:
        """Return whether the face may be found again, frame ``read`` being the last one read."""
        return read - self.last <= BRIDGED

    def at(self, index: int, read: int) -> TrackedFace | None:
        """Return the face in a frame, None if it is not there; ``read`` is the last frame read."""
        end = read if self.alive(read) else self.last
        if not self.first <= index <= end or self.count < min(LEAST, read + 1):
            return None
        fade_in = 1.0 if self.first == 0 else (index - self.first + 1) / FADE
        fade_out = 1.0 if self.alive(read) else (self.last - index + 1) / FADE
        fade = min(1.0, fade_in, fade_out)
        return TrackedFace(self._smoothed(index), fade * fade * (3 - 2 * fade))

    def _smoothed(self, index: int) -> Eyes:
        """Return the eyes on their smoothed paths."""
        here = self._interpolated(index)
        frames = np.array(list(self.found)) - index
        eyes = np.array([(eyes.left, eyes.right) for eyes in self.found.values()])
        root = np.exp(-((frames / SIGMA) ** 2) / 4)[:, None]  # of the weights
        powers = frames[:, None] ** np.arange(min(3, len(frames)))
        path = np.linalg.lstsq(root * powers, root * eyes, rcond=None)[0][0]
        steps = path - (here.left, here.right)
        steps *= np.minimum(1, FARTHEST * here.distance / np.maximum(np.abs(steps), 1e-9))
        left, right = here.left + complex(steps[0]), here.right + complex(steps[1])
        return Eyes(left, right, here.confidence)

    def _interpolated(self, index: int) -> Eyes:
        """Return the eyes as found, or interpolated between the frames before and after."""
        before = max((n for n in self.found if n <= index), default=min(self.found))
        after = min((n for n in self.found if n >= index), default=before)
        a, b = self.found[before], self.found[after]
        part = (index - before) / (after - before) if after > before else 0.0
        left, right = (x + part * (y - x) for x, y in ((a.left, b.left), (a.right, b.right)))
        return Eyes(left, right, a.confidence)


def follow(
    frames: Iterable[Pixels],
    detector: Detector,
    wanted: Callable[[Sequence[Eyes]], Sequence[Eyes]] | None = None,
) -> Iterator[tuple[Pixels, list[TrackedFace]]]:
    """Yield the frames of a clip with the faces in them.

    Parameters
    ----------
    frames : iterable of ndarray of uint8, shape (height, width, 1 or 3)
        `AHEAD` of them are in memory at once.
    detector : Detector
        Searches the whole of every `SEARCH`-th frame, and all frames for known faces.
    wanted : function of a sequence of Eyes, optional
        Returns which of the faces found in a frame to follow; others are not looked for as long as
        one is followed. By default all are followed.
    """
    tracks: list[Track] = []
    waiting: deque[Pixels] = deque()
    read = -1
    for read, frame in enumerate(frames):
        tracks = [track for track in tracks if read - track.last <= AHEAD]
        alive = _found_again(tracks, read, frame, detector)
        if read % SEARCH == 0 and (wanted is None or not alive):
            faces = detector.find(frame)
            tracks += _found_first(alive, read, faces if wanted is None else wanted(faces))
        waiting.append(frame)
        if len(waiting) > AHEAD:
            yield _with_faces(waiting.popleft(), tracks, read - AHEAD, read)
    for index in range(read - len(waiting) + 1, read + 1):
        yield _with_faces(waiting.popleft(), tracks, index, read)


def _found_again(
    tracks: Sequence[Track], index: int, frame: Pixels, detector: Detector
) -> list[Track]:
    """Look for known faces in a frame, extend their tracks, and return those still alive."""
    alive = [track for track in tracks if track.alive(index - 1)]
    here: list[Eyes] = []
    for track in alive:
        eyes = detector.find_again(frame, track.latest)
        if eyes is not None and not any(_same(eyes, other) for other in here):
            track.add(index, eyes)
            here.append(eyes)
    return alive


def _found_first(alive: Sequence[Track], index: int, faces: Sequence[Eyes]) -> list[Track]:
    """Return new tracks of the faces in a frame that are on none; extend those of the others."""
    new: list[Track] = []
    for eyes in faces:
        near = next((t for t in (*alive, *new) if _same(t.latest, eyes)), None)
        if near is None:
            new.append(Track(index, eyes))
        elif near.last < index:
            near.add(index, eyes)
    return new


def _same(a: Eyes, b: Eyes) -> bool:
    """Return whether two pairs of eyes can be of one face: faces do not overlap by half."""
    return abs(a.middle - b.middle) < max(a.distance, b.distance)


def _with_faces(
    frame: Pixels, tracks: Sequence[Track], index: int, read: int
) -> tuple[Pixels, list[TrackedFace]]:
    faces = [face for track in tracks if (face := track.at(index, read)) is not None]
    return frame, [face for face in faces if face.eyes.lie_within(*frame.shape[:2])]
