/**
 * What runs in a worker of the browser: it keeps the model, a photograph and its faces, and answers
 * messages {id, task, argument} with {id, answer} or {id, problem}.
 */

import { Model, Problem } from "./model.mjs";
import { PhotoFace, scaling } from "./photo.mjs";
import { guessFaces } from "./detect.mjs";
import { encodePng } from "./png.mjs";

const SEARCH = 8; // video frames between searches of the whole frame for a face
const FAINT = 0.02; // trust below which a followed face is lost
const FITS_WELL = 0.6; // trust from which a face is not said to fit in part

/** Tasks of a page; points are in pixels of the preview. */
export class Engine {
  /** Read the model. */
  load({ header, arrays }) {
    this.model = new Model(header, arrays);
    this.faces = [];
  }

  /**
   * Keep a photograph and a smaller copy of it, the preview; return a guess of the eyes in there.
   *
   * @param {{photo: object, preview: object}} argument {height, width, data} each
   */
  open({ photo, preview }) {
    Object.assign(this, { photo, preview, faces: [] });
    return guessFaces(this.model, preview);
  }

  /**
   * Register a face by its eyes, or remove it; return how it fits.
   *
   * @param {{index: number, eyes: ?number[][], all: boolean}} argument without eyes it is removed;
   *   from one start only, unless all
   */
  place({ index, eyes, all }) {
    if (!eyes) {
      this.faces.splice(index, 1);
      return null;
    }
    this.faces[index] = null;
    const toPhoto = scaling(this.photo.width / this.preview.width);
    const face = new PhotoFace(
      this.model,
      this.photo,
      eyes.map((eye) => toPhoto.of(eye)),
      { all },
    );
    this.faces[index] = face;
    return described(face);
  }

  /**
   * Follow the face of the video frame before, or search for one; change it.
   *
   * @param {{photo: object, small: object, wanted: object, first: boolean}} argument the frame, a
   *   smaller copy in which the face is looked for, and whether it is the first one
   * @returns {{data: Uint8ClampedArray, faces: object[]}} eyes and fit of the face, if there is one
   */
  frame({ photo, small, wanted, first }) {
    let face = first ? undefined : this.faces[0];
    if (face) face = seen(() => face.next(small));
    this.searched = first || face ? SEARCH : this.searched + 1;
    if (!face && this.searched >= SEARCH) {
      this.searched = 0;
      const [eyes] = guessFaces(this.model, small);
      face = seen(() => new PhotoFace(this.model, small, eyes));
    }
    Object.assign(this, { photo, preview: photo, faces: face ? [face] : [] });
    const data = this.change(wanted);
    const toPhoto = scaling(photo.width / small.width);
    return { data, faces: this.faces.map((each) => ({ eyes: each.eyes.map((eye) => toPhoto.of(eye)), fit: described(each) })) };
  }

  /** Return the pixels of the preview with all faces changed, as wanted in Model.change. */
  change(wanted) {
    return this.changed(this.preview, wanted);
  }

  /** Return a PNG file of the photograph with all faces changed, and texts in it. */
  save({ wanted, texts }) {
    const data = this.changed(this.photo, wanted);
    return encodePng({ ...this.photo, data }, texts);
  }

  changed(photo, wanted) {
    const result = photo.data.slice();
    if (wanted.strength) {
      for (const face of this.faces)
        if (face && !face.fit.unlike) face.composite(photo, result, wanted);
    }
    return result;
  }
}

const mostTrust = ({ fit }) => fit.trust.data.reduce((most, each) => Math.max(most, each), 0);

/** Return how a face fits, without its fields. */
function described(face) {
  const { value, expression, shown, unlike } = face.fit;
  return { value, expression, shown, unlike, part: mostTrust(face) < FITS_WELL };
}

/** Return a face of a video frame, or undefined if none is seen there. */
function seen(make) {
  try {
    const face = make();
    return mostTrust(face) > FAINT ? face : undefined;
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

/** Answer the messages that a worker gets. */
export function serve(scope) {
  const engine = new Engine();
  scope.onmessage = async ({ data: { id, task, argument } }) => {
    try {
      scope.postMessage({ id, answer: await engine[task](argument) });
    } catch (error) {
      const problem =
        error instanceof Problem
          ? error.message
          : error instanceof RangeError
            ? "There is not enough memory for this picture."
            : `This should not happen: ${error.message}`;
      scope.postMessage({ id, problem });
    }
  };
}
