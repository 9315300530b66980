/**
 * What runs in a worker of the browser: it keeps the model, a photograph and its faces, and answers
 * messages {id, task, argument} with {id, answer} or {id, problem}.
 */

import { Model, Problem } from "./model.mjs";
import { PhotoFace, scaling } from "./photo.mjs";
import { guessFaces } from "./detect.mjs";
import { encodePng } from "./png.mjs";

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
    const { value, expression, shown, unlike, trust } = face.fit;
    const part = trust.data.reduce((most, each) => Math.max(most, each), 0) < FITS_WELL;
    return { value, expression, shown, unlike, part };
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
