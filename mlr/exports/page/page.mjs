/** The page: opens a photograph, moves dots, reads the sliders, and lets the worker compute. */

import { $, compare } from "../../io/page.mjs";

const PREVIEW = 1024; // pixels of the longer side of the picture that is shown
const [LIVE, SMALL] = [480, 240]; // of video frames, and of those in which the face is looked for
const MOST_PIXELS = 64e6; // of a photograph: four bytes each, several times
const REGION_NAMES = ["mouth", "eyes", "brows", "lower", "upper"];

const header = JSON.parse($("#header").textContent);
const [picture, before, after, dots] = [".picture", ".before", ".after", ".dots"].map($);
const state = {
  name: "", // of the photograph
  faces: [], // eyes [[x, y], [x, y]] in pixels of the preview, and how each fits
  chosen: 0, // index of a face
  turn: 0, // photographs opened
  broken: null, // why the model cannot be used
  style: null, // null: automatic
  live: null, // the camera in use: its stream, its video, and the recorder if a clip is recorded
};

// --- the worker ---

const waiting = new Map(); // what to do with answers, by id
let lastId = 0;
let worker = null;

function startWorker() {
  worker = new Worker(URL.createObjectURL(new Blob([$("#engine").textContent])));
  worker.onmessage = ({ data: { id, answer, problem } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (problem) reject(new Error(problem));
    else resolve(answer);
  };
  worker.onerror = (event) => say(`This should not happen: ${event.message}`, "problem");
  return ask("load", { header, arrays: $("#arrays").textContent.trim() });
}

/** Return a promise of the worker's answer; what is transferred is gone here. */
function ask(task, argument, transferred = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++lastId, { resolve, reject });
    worker.postMessage({ id: lastId, task, argument }, transferred);
  });
}

/** Return a function that runs a task, again if it was called meanwhile, never twice at once. */
function latest(task) {
  let [running, again] = [null, false];
  return () => {
    again = true;
    running ??= (async () => {
      while (again) {
        again = false;
        await task();
      }
    })()
      .catch(fail)
      .finally(() => {
        running = null;
      });
    return running;
  };
}

// --- messages ---

function say(text, kind = "") {
  const status = $(".status");
  status.textContent = text;
  status.className = `status ${kind}`;
}

const fail = (error) => say(error.message, "problem");

/** Say how the chosen face fits. */
function sayFit() {
  const { fit } = state.faces[state.chosen] ?? {};
  const name = state.faces.length > 1 ? `Face ${state.chosen + 1}` : "The face";
  if (!state.faces.length) say("No face. Add one, and put the dots on its eyes.");
  else if (!fit) say("");
  else if (fit.unlike) {
    say(
      `${name} does not fit: it is not like the faces this model has learnt from, and stays as ` +
        "it is. Put the dots on the eyes, or try another photograph.",
      "problem",
    );
  } else if (fit.shown > 0.5)
    say(`${name} looks ${fit.expression} already, so less of that is added.`);
  else if (fit.part) say(`${name} fits in part; elsewhere the change fades out.`);
  else say(`${name} fits well. Drag the dots if they are not on the eyes.`);
}

// --- the photograph ---

async function open(file) {
  if (!file) return;
  if (state.broken) throw state.broken;
  stopCamera();
  const turn = ++state.turn;
  say("Looking for faces…", "busy");
  const image = await decoded(file);
  if (turn !== state.turn) return; // another one was opened meanwhile
  const photo = pixelsOf(image, document.createElement("canvas"), 1);
  const preview = pixelsOf(
    image,
    before,
    Math.min(1, PREVIEW / Math.max(image.width, image.height)),
  );
  image.close();
  [after.width, after.height] = [preview.width, preview.height];
  after
    .getContext("2d")
    .putImageData(new ImageData(preview.data, preview.width, preview.height), 0, 0);
  Object.assign(state, { name: file.name || "pasted", faces: [], chosen: 0 });
  $(".empty").hidden = true;
  picture.hidden = $(".bar").hidden = false;
  drawFaces();
  const eyes = await ask("open", { photo, preview }, [photo.data.buffer]);
  if (turn !== state.turn) return;
  state.faces = eyes.map((each) => ({ eyes: each, fit: null }));
  drawFaces();
  for (let index = 0; index < eyes.length && turn === state.turn; index++) await place(index, true);
  if (turn !== state.turn) return;
  await change();
  sayFit();
}

/** Return a file decoded, unless it is damaged or too large. */
async function decoded(file) {
  const url = URL.createObjectURL(file);
  const known = new Image(); // knows the size before anything is decoded
  known.src = url;
  try {
    await new Promise((resolve, reject) =>
      Object.assign(known, { onload: resolve, onerror: reject }),
    );
    const pixels = known.naturalWidth * known.naturalHeight;
    if (pixels <= MOST_PIXELS) return await createImageBitmap(file);
    throw new RangeError(
      `This picture has ${Math.round(pixels / 1e6)} megapixels; up to ` +
        `${MOST_PIXELS / 1e6} can be opened here. Make it smaller first.`,
    );
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new Error(
      `${file.name || "This"} cannot be opened as a picture: it is damaged, or of a ` +
        "kind that this browser does not know. PNG and JPEG always work.",
    );
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Draw an image on a canvas, scaled and maybe mirrored, and return {height, width, data}. */
function pixelsOf(image, canvas, scale, mirrored = false) {
  const [width, height] = [image.width, image.height].map((side) =>
    Math.max(1, Math.round(side * scale)),
  );
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("There is not enough memory for this picture.");
  context.imageSmoothingQuality = "high";
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(image, 0, 0, width, height);
  return { width, height, data: context.getImageData(0, 0, width, height).data };
}

// --- the camera ---

const REFUSED = {
  NotAllowedError:
    "The camera is not allowed. Allow it for this page in the browser, and try again.",
  NotFoundError: "No camera was found. Connect one, and try again.",
  NotReadableError: "The camera cannot be read. Maybe another program uses it.",
};

/** Show the camera's picture, with the face changed, until it is stopped. */
async function startCamera() {
  if (state.broken) throw state.broken;
  stopCamera();
  const turn = ++state.turn;
  say("Starting the camera…", "busy");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
  const video = Object.assign(document.createElement("video"), {
    muted: true,
    playsInline: true,
    srcObject: stream,
  });
  state.live = { stream, video };
  if (turn !== state.turn) return stopCamera(); // a photograph was opened meanwhile
  stream.getTracks()[0].addEventListener("ended", () => {
    if (state.live?.stream !== stream) return;
    stopCamera();
    say("The camera has stopped.", "problem");
  });
  await video.play();
  await showFrames(state.live);
}

/** Show frames of the camera, always the newest one, while it is in use. */
async function showFrames(live) {
  const canvases = [0, 1].map(() => document.createElement("canvas"));
  let [first, shown, since, last] = [true, 0, performance.now(), -1];
  while (state.live === live) {
    await new Promise(requestAnimationFrame);
    const { video } = live;
    if (!video.videoWidth || video.currentTime === last) continue;
    last = video.currentTime;
    const frame = await createImageBitmap(video);
    const [photo, small] = [LIVE, SMALL].map((side, n) =>
      pixelsOf(frame, canvases[n], Math.min(1, side / Math.max(frame.width, frame.height)), true),
    );
    frame.close();
    const { data, faces } = await ask("frame", { photo, small, wanted: wanted(), first }, [
      small.data.buffer,
    ]);
    if (state.live !== live) return;
    const { width, height } = photo;
    for (const [canvas, pixels] of [
      [before, photo.data],
      [after, data],
    ]) {
      if (canvas.width !== width || canvas.height !== height)
        Object.assign(canvas, { width, height });
      canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
    }
    Object.assign(state, { name: "camera", faces, chosen: 0 });
    if (first) showLive(true);
    picture.dataset.changes = Number(picture.dataset.changes ?? 0) + 1;
    $(".save").disabled = !faces.length;
    sayLive();
    first = false;
    shown++;
    const seconds = (performance.now() - since) / 1000;
    if (seconds < 1) continue;
    picture.dataset.rate = (shown / seconds).toFixed(1);
    $(".rate").textContent = `${Math.round(shown / seconds)} frames a second`;
    [shown, since] = [0, performance.now()];
  }
}

/** Show the controls of the camera, or those of a photograph. */
function showLive(live) {
  $(".empty").hidden = true;
  picture.hidden = false;
  dots.replaceChildren();
  $(".bar").hidden = live;
  $(".live").hidden = !live;
}

/** Say how the face fits, only when this changes: not all readers of the screen want it twice. */
function sayLive() {
  const [face] = state.faces;
  const text = !face
    ? "No face fits. Look into the camera from the front, in good light."
    : face.fit.part
      ? "The face fits in part; elsewhere the change fades out."
      : "The face fits well.";
  if ($(".status").textContent !== text) say(text);
}

/** Stop the camera; its last frame stays as a photograph. */
function stopCamera() {
  const { live } = state;
  if (!live) return;
  if (live.recorder) record();
  state.live = null;
  for (const track of live.stream.getTracks()) track.stop();
  if ($(".live").hidden) return; // before the first frame
  showLive(false);
  drawFaces();
  sayFit();
}

/** Return the type of the clips that the browser records, if it does. */
function clipType() {
  const types = window.MediaRecorder ? ["video/webm", "video/mp4"] : [];
  return types.find((type) => MediaRecorder.isTypeSupported(type));
}

/** Begin to record a clip, or save it. */
function record() {
  const { live } = state;
  const recording = !live.recorder;
  $(".record").textContent = recording ? "Save the clip" : "Record a clip";
  $(".record").setAttribute("aria-pressed", String(recording));
  if (!recording) {
    live.recorder.stop();
    live.recorder = null;
    return;
  }
  const mimeType = clipType();
  const recorder = new MediaRecorder(after.captureStream(), { mimeType });
  const [parts, name] = [[], `camera-${mixName(wanted().shares)}.${mimeType.slice(6)}`];
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  recorder.addEventListener("stop", () => {
    for (const track of recorder.stream.getTracks()) track.stop();
    download(new Blob(parts, { type: mimeType }), name);
  });
  recorder.start();
  live.recorder = recorder;
}

// --- faces ---

/** Register a face by its eyes. */
async function place(index, all) {
  const face = state.faces[index];
  face.fit = null;
  face.fit = await ask("place", { index, eyes: face.eyes, all });
}

/** Show the buttons and dots of all faces. */
function drawFaces() {
  state.chosen = Math.max(0, Math.min(state.chosen, state.faces.length - 1));
  const many = state.faces.length > 1;
  $(".faces").hidden = !many;
  $(".faces").replaceChildren(
    ...state.faces.map((_, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `Face ${index + 1}`;
      button.setAttribute("aria-pressed", String(index === state.chosen));
      button.addEventListener("click", () => choose(index));
      return button;
    }),
  );
  dots.replaceChildren(
    ...state.faces.flatMap((_, index) =>
      ["Left", "Right"].map((side, eye) => newDot(index, eye, side, many)),
    ),
  );
  moveDots();
  $(".remove").disabled = $(".save").disabled = !state.faces.length;
}

function newDot(index, eye, side, many) {
  const dot = document.createElement("button");
  dot.type = "button";
  dot.className = index === state.chosen ? "dot" : "dot other";
  dot.title = `${side} eye${many ? ` of face ${index + 1}` : ""}`;
  dot.setAttribute("aria-label", `${dot.title}: drag it, or use the arrow keys`);
  let grip = null; // from the pointer to the eye
  const at = ({ clientX, clientY }) => {
    const box = picture.getBoundingClientRect();
    const scale = before.width / box.width;
    return [(clientX - box.left) * scale, (clientY - box.top) * scale];
  };
  dot.addEventListener("pointerdown", (event) => {
    dot.setPointerCapture(event.pointerId);
    const [x, y] = at(event);
    const [left, top] = state.faces[index].eyes[eye];
    grip = [left - x, top - y];
    if (index !== state.chosen) state.chosen = index;
  });
  dot.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [x, y] = at(event);
    moveEye(index, eye, [x + grip[0], y + grip[1]]);
    follow();
  });
  for (const end of ["pointerup", "pointercancel"]) {
    dot.addEventListener(end, () => {
      if (grip) settle(index);
      grip = null;
    });
  }
  dot.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
      event.key
    ];
    if (!way) return;
    event.preventDefault();
    const step = event.shiftKey ? 10 : 1;
    const [x, y] = state.faces[index].eyes[eye];
    moveEye(index, eye, [x + step * way[0], y + step * way[1]]);
    state.chosen = index;
    settle(index);
  });
  return dot;
}

function moveEye(index, eye, [x, y]) {
  state.faces[index].eyes[eye] = [
    Math.min(Math.max(x, 0), before.width),
    Math.min(Math.max(y, 0), before.height),
  ];
  moveDots();
}

/** Put the dots where the eyes are. */
function moveDots() {
  [...dots.children].forEach((dot, number) => {
    const [x, y] = state.faces[number >> 1].eyes[number & 1];
    dot.style.left = `${(100 * x) / before.width}%`;
    dot.style.top = `${(100 * y) / before.height}%`;
  });
}

/** While a dot is dragged: one start, which is quick. */
const follow = latest(async () => {
  await place(state.chosen, false);
  await change();
});

/** Where a dot is left: the full search. */
const settleChosen = latest(async () => {
  say("Looking at the face…", "busy");
  try {
    await place(state.chosen, true);
  } finally {
    await change();
  }
  sayFit();
});

function settle(index) {
  state.chosen = index;
  highlight();
  settleChosen();
}

function highlight() {
  [...dots.children].forEach((dot, number) =>
    dot.classList.toggle("other", number >> 1 !== state.chosen),
  );
  [...$(".faces").children].forEach((button, index) =>
    button.setAttribute("aria-pressed", String(index === state.chosen)),
  );
}

function choose(index) {
  state.chosen = index;
  highlight();
  sayFit();
}

function addFace() {
  const [width, height] = [before.width, before.height];
  const shift = 0.04 * width * state.faces.length;
  const side = Math.min(width, height) / 2;
  const eyes = [-0.18, 0.18].map((x) => [
    width / 2 + x * side + (shift % (width / 4)),
    height * 0.4,
  ]);
  state.faces.push({ eyes, fit: null });
  state.chosen = state.faces.length - 1;
  drawFaces();
  settleChosen();
}

async function removeFace() {
  const index = state.chosen;
  state.faces.splice(index, 1);
  drawFaces();
  await ask("place", { index, eyes: null }).catch(fail);
  await change();
  sayFit();
}

// --- what is wanted ---

/** Return what the sliders say. */
function wanted() {
  const shares = Object.fromEntries(
    header.expressions.map((name, index) => [
      name,
      header.expressions.length > 1 ? Number($(`#share${index}`).value) : 1,
    ]),
  );
  return {
    shares,
    strength: Number($("#strength").value),
    style: state.style,
    regions: [...document.querySelectorAll(".chip input:checked")].map(({ value }) => value),
  };
}

/** Change the preview as the sliders say. */
const change = latest(async () => {
  if (picture.hidden || state.live) return; // the next video frame will be changed
  const [width, height] = [before.width, before.height];
  const data = await ask("change", wanted());
  if (data.length !== 4 * width * height) return; // another photograph by now
  after.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  picture.dataset.changes = Number(picture.dataset.changes ?? 0) + 1;
});

/** Return the name of a mix, as the program gives it: "happy-0.6-surprised-0.4". */
function mixName(shares) {
  const parts = Object.entries(shares)
    .filter(([, share]) => share)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  if (parts.length === 1 && parts[0][1] === 1) return parts[0][0];
  return parts.map(([name, share]) => `${name}-${share}`).join("-") || "unchanged";
}

async function save() {
  say("Making the picture…", "busy");
  const asked = wanted();
  const expression = mixName(asked.shares);
  const record = { ...header.record, expression, strength: asked.strength };
  if (asked.style !== null) record.style = asked.style;
  if (asked.regions.length) record.region = asked.regions;
  const texts = { Software: record.software, Comment: JSON.stringify(record) };
  const file = await ask("save", { wanted: asked, texts });
  download(file, `${state.name.replace(/\.[^.]*$/, "")}-${expression}.png`);
}

/** Let the browser save a file. */
function download(file, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(file), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`Saved as ${name}.`);
}

// --- controls ---

/** Return a labelled slider of an expression. */
function shareSlider(name, index) {
  const row = document.createElement("div");
  row.className = "slide";
  const id = `share${index}`;
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: name });
  const output = document.createElement("output");
  output.htmlFor = id;
  const input = Object.assign(document.createElement("input"), {
    type: "range",
    id,
    min: 0,
    max: 1,
    step: 0.05,
    value: index ? 0 : 1,
  });
  row.append(label, output, input);
  return row;
}

function regionChip(name) {
  const chip = document.createElement("label");
  chip.className = "chip";
  const input = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
  const text = Object.assign(document.createElement("span"), {
    className: "button",
    textContent: name,
  });
  chip.append(input, text);
  return chip;
}

/** Write the numbers beside the sliders. */
function showNumbers() {
  for (const input of document.querySelectorAll(".slide input")) {
    const automatic = input.id === "style" && state.style === null;
    const text = automatic
      ? "automatic"
      : Number(input.value).toFixed(input.id === "style" ? 1 : 2);
    input.parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

function build() {
  const { expressions, looks } = header;
  const many = expressions.length > 1;
  $(".shares").append(
    ...(many
      ? expressions.map(shareSlider)
      : [Object.assign(document.createElement("p"), { textContent: expressions[0] })]),
  );
  $(".regions .chips").append(...REGION_NAMES.map(regionChip));
  $(".slide.style").hidden = !looks.some(({ explained }) => explained > 0);
  $("#style").value = Math.round(10 * looks[0].style) / 10;
  const panel = $(".panel");
  panel.addEventListener("submit", (event) => event.preventDefault());
  panel.addEventListener("input", ({ target }) => {
    if (target.id === "style") state.style = Number(target.value);
    showNumbers();
    change();
  });
  $(".automatic").addEventListener("click", () => {
    state.style = null;
    $("#style").value = Math.round(10 * looks[0].style) / 10;
    showNumbers();
    change();
  });
  compare(picture);
  $(".showing").addEventListener("change", ({ target }) => {
    dots.hidden = !target.checked;
  });
  $(".add").addEventListener("click", addFace);
  $(".remove").addEventListener("click", removeFace);
  $(".save").addEventListener("click", () => save().catch(fail));
  for (const button of document.querySelectorAll(".choose")) {
    button.addEventListener("click", () => $(".file").click());
  }
  for (const button of document.querySelectorAll(".camera")) {
    button.hidden = !navigator.mediaDevices; // only in a page from this machine or by https
    button.addEventListener("click", () => startCamera().catch(fail));
  }
  $(".stop").addEventListener("click", stopCamera);
  $(".record").hidden = !clipType();
  $(".record").addEventListener("click", record);
  $(".file").addEventListener("change", ({ target }) => {
    open(target.files[0]).catch(fail);
    target.value = "";
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    const file = [...clipboardData.files].find(({ type }) => type.startsWith("image/"));
    open(file).catch(fail);
  });
  for (const type of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", type === "dragover");
      if (type === "drop") open(event.dataTransfer.files[0]).catch(fail);
    });
  }
  showNumbers();
}

build();
startWorker().then(
  () => {
    document.body.dataset.ready = "yes";
  },
  (error) => {
    state.broken = error;
    fail(error);
  },
);
