"""Following faces through a clip, with smooth paths and bridged gaps.

Detected eyes jitter from one video frame to the next, and so would the change of a face. Therefore
the path of each eye is smoothed by a parabola through the video frames before and after (Savitzky
and Golay 1964, with Gaussian weights), which does not lag behind steady motion. Smoothing shifts an
eye by at most `LARGEST_SHIFT`. The map from the crop back to the video frame is linear in the eyes,
so its angle, scale and shift are smooth as well. At a cut, tracks end and new ones start without
fading.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from mlr.io.images import Pixels
from mlr.photo.detect import Detector
from mlr.photo.eyes import Eyes

# In video frames:
AHEAD = 14  # read before one is returned
BRIDGED = 8  # longest gap without detection in a track
FADE = AHEAD - BRIDGED  # length of the fade of a change in and out
SEARCH = 12  # between searches of the whole video frame
LEAST = 3  # with a detected face
SIGMA = 3.0  # standard deviation of the weights that smooth a path

CUT = 0.12  # of the data range: mean difference of consecutive video frames at a cut
SPACING = 8  # pixels between the pixels that are compared
LARGEST_SHIFT = 0.01  # of an eye by smoothing, in eye distances


@dataclass(frozen=True)
class TrackedFace:
    """A face in one video frame, with its eyes on smoothed paths."""

    eyes: Eyes
    fade: float = 1.0  # factor of the strength; below 1 where a face appears or disappears
    track: int = 0  # the same number for the same face


class Track:
    """The detections of one face in the video frames of a clip."""

    def __init__(self, index: int, eyes: Eyes, shot: int, number: int) -> None:
        self.first, self.shot, self.number = index, shot, number
        self.cut = False  # whether the shot that began with the video frame `shot` has ended
        self.count = 0
        self.found: dict[int, Eyes] = {}  # of recent video frames, by index
        self.add(index, eyes)

    def add(self, index: int, eyes: Eyes) -> None:
        """Add the eyes in a later video frame."""
        self.last, self.latest = index, eyes
        self.count += 1
        self.found[index] = eyes
        self.found = {n: e for n, e in self.found.items() if n >= index - 2 * AHEAD}

    def alive(self, read: int) -> bool:
        """Return whether the gap since the last detection can be bridged."""
        return not self.cut and read - self.last <= BRIDGED

    def at(self, index: int, read: int) -> TrackedFace | None:
        """Return the face in a video frame, or None; ``read`` is the last video frame read."""
        alive = self.alive(read)
        if not self.first <= index <= (read if alive else self.last):
            return None
        if self.count < min(LEAST, read - self.shot + 1):
            return None
        fade_in = 1.0 if self.first == self.shot else (index - self.first + 1) / FADE
        fade_out = 1.0 if alive or self.cut else (self.last - index + 1) / FADE
        fade = min(1.0, fade_in, fade_out)
        return TrackedFace(self._smoothed(index), fade * fade * (3 - 2 * fade), self.number)

    def _smoothed(self, index: int) -> Eyes:
        """Return the eyes on their smoothed paths."""
        frames = np.array(list(self.found)) - index
        eyes = np.array([(eyes.left, eyes.right) for eyes in self.found.values()])
        found = np.array([np.interp(0, frames, eye) for eye in eyes.T])
        root = np.exp(-((frames / SIGMA) ** 2) / 4)[:, None]  # of the weights
        powers = frames[:, None] ** np.arange(min(3, len(frames)))
        path = np.linalg.lstsq(root * powers, root * eyes, rcond=None)[0][0]
        steps, largest = path - found, LARGEST_SHIFT * abs(found[1] - found[0])
        steps *= np.minimum(1, largest / np.maximum(np.abs(steps), 1e-9))
        left, right = (found + steps).tolist()
        return Eyes(left, right)


def follow(
    frames: Iterable[Pixels],
    detector: Detector,
    select: Callable[[Sequence[Eyes]], Sequence[Eyes]] | None = None,
) -> Iterator[tuple[Pixels, list[TrackedFace]]]:
    """Yield the video frames of a clip, (height, width, 1 or 3), with the faces in them.

    `AHEAD` video frames are kept in memory. Every `SEARCH`-th one is searched for new faces, all
    are searched for known ones. ``select`` selects the detected faces to follow; while one of them
    is followed, there is no search for others. By default all faces are followed.
    """
    tracks: list[Track] = []
    buffer: deque[Pixels] = deque()
    numbers = count()
    read, shot = -1, 0
    for read, frame in enumerate(frames):
        if buffer and is_cut(buffer[-1], frame):
            shot = read
            for track in tracks:
                track.cut = True
        tracks = [track for track in tracks if read - track.last <= AHEAD]
        alive = _extend(tracks, read, frame, detector)
        if (read - shot) % SEARCH == 0 and (select is None or not alive):
            faces = detector.find(frame)
            selected = faces if select is None else select(faces)
            tracks += _start(alive, read, selected, shot, numbers)
        buffer.append(frame)
        if len(buffer) > AHEAD:
            yield _with_faces(buffer.popleft(), tracks, read - AHEAD, read)
    for index in range(read - len(buffer) + 1, read + 1):
        yield _with_faces(buffer.popleft(), tracks, index, read)


def is_cut(before: Pixels, after: Pixels) -> bool:
    """Return whether there is a cut between two video frames."""
    few = np.s_[::SPACING, ::SPACING]
    difference = np.abs(before[few].astype(np.float32) - after[few])
    return float(difference.mean()) > CUT * np.iinfo(after.dtype).max


def _extend(tracks: Sequence[Track], index: int, frame: Pixels, detector: Detector) -> list[Track]:
    """Search a video frame for known faces; return the tracks that are alive."""
    alive = [track for track in tracks if track.alive(index - 1)]
    here: list[Eyes] = []
    for track in alive:
        eyes = detector.find_again(frame, track.latest)
        if eyes is not None and not any(_same(eyes, other) for other in here):
            track.add(index, eyes)
            here.append(eyes)
    return alive


def _start(
    alive: Sequence[Track], index: int, faces: Sequence[Eyes], shot: int, numbers: Iterator[int]
) -> list[Track]:
    """Return tracks of new faces; extend tracks of known faces that were not found again."""
    new: list[Track] = []
    for eyes in faces:
        near = next((t for t in (*alive, *new) if _same(t.latest, eyes)), None)
        if near is None:
            new.append(Track(index, eyes, shot, next(numbers)))
        elif near.last < index:
            near.add(index, eyes)
    return new


def _same(a: Eyes, b: Eyes) -> bool:
    """Return whether two detections can be the same face: two faces never overlap by half."""
    return abs(a.middle - b.middle) < max(a.distance, b.distance)


def _with_faces(
    frame: Pixels, tracks: Sequence[Track], index: int, read: int
) -> tuple[Pixels, list[TrackedFace]]:
    faces = [face for track in tracks if (face := track.at(index, read)) is not None]
    return frame, [face for face in faces if face.eyes.lie_within(*frame.shape[:2])]
