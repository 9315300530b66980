/** What the scripts of all pages share. */

export const $ = (selector) => document.querySelector(selector);

/** Let the slider over two pictures move the edge between them. */
export function compare(picture) {
  const slider = picture.querySelector(".compare");
  const move = () => picture.style.setProperty("--at", `${slider.value}%`);
  slider.addEventListener("input", move);
  move();
}
