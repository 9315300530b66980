/** The report: shows the pictures of a pair, and sorts and filters the list of pairs. */

import { $, compare } from "../io/page.mjs";

const pictures = JSON.parse($("#pictures").textContent);
const body = $("#pairs");
const rows = [...body.rows];
const [viewer, large, four] = [".viewer", ".large", ".four"].map($);
const names = ["input", "output", "target", `error ×${four.dataset.gain}`];
let current = null; // row of the chosen pair
let enlarged = 0; // which of its pictures the dialog shows

/** Return a button with a picture and text. */
function pictureButton(image, text) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(Object.assign(document.createElement("img"), { alt: "" }, image), text);
  return button;
}

// --- choosing a pair ---

const shown = () => [...body.rows].filter((row) => !row.hidden && row.dataset.id in pictures);

function choose(row) {
  current?.removeAttribute("aria-current");
  current = row;
  row.setAttribute("aria-current", "true");
  viewer.hidden = false;
  viewer.querySelector("h2").textContent = row.dataset.title;
  four.replaceChildren(
    ...pictures[row.dataset.id].map((file, index) => {
      const button = pictureButton({ src: file }, names[index]);
      button.setAttribute("aria-haspopup", "dialog");
      button.title = "Enlarge";
      button.addEventListener("click", () => {
        enlarge(index);
        large.showModal();
      });
      return button;
    }),
  );
  showSides();
}

/** Show the two pictures that are compared. */
function showSides() {
  const files = pictures[current.dataset.id];
  const sides = $(".which").value.split(" ");
  ["before", "after"].forEach((side, index) =>
    Object.assign($(`.picture .${side}`), { src: files[sides[index]], alt: names[sides[index]] }),
  );
  $(".sides .left").textContent = names[sides[0]];
  $(".sides .right").textContent = names[sides[1]];
}

function step(by) {
  const list = shown();
  const index = list.indexOf(current);
  const row = list[(index + by + list.length) % list.length];
  if (row) choose(row);
}

compare($(".picture"));
$(".which").addEventListener("change", showSides);
$(".previous").addEventListener("click", () => step(-1));
$(".next").addEventListener("click", () => step(1));
body.addEventListener("click", (event) => {
  const button = event.target.closest(".name");
  if (!button) return;
  choose(button.closest("tr"));
  if (matchMedia("(max-width: 62rem)").matches) viewer.scrollIntoView({ block: "start" });
});

// --- one picture, as large as the screen ---

function enlarge(index) {
  const files = pictures[current.dataset.id];
  enlarged = (index + files.length) % files.length;
  Object.assign(large.querySelector("img"), { src: files[enlarged], alt: names[enlarged] });
  large.querySelector("p").textContent = `${names[enlarged]}: ${current.dataset.title}`;
}

$(".back").addEventListener("click", () => enlarge(enlarged - 1));
$(".on").addEventListener("click", () => enlarge(enlarged + 1));
$(".close").addEventListener("click", () => large.close());
large.addEventListener("click", ({ target }) => {
  if (target === large || target.matches("img")) large.close(); // large: outside of its content
});
large.addEventListener("keydown", ({ key }) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (by) enlarge(enlarged + by);
});

// --- sorting and filtering ---

const valueOf = (row, column) => row.cells[column].dataset.value;
const text = new Intl.Collator("en", { numeric: true });

function compared(a, b, column, sign) {
  const [x, y] = [valueOf(a, column), valueOf(b, column)];
  if (column < 2) return sign * text.compare(x, y);
  const [p, q] = [Number(x), Number(y)];
  if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q); // last
  return p === q ? 0 : sign * (p < q ? -1 : 1); // the difference of infinities is NaN
}

document.querySelectorAll(".list th").forEach((head, column, heads) => {
  head.firstElementChild.addEventListener("click", () => {
    const ascending = head.ariaSort === "descending" || (!head.ariaSort && column < 2);
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    rows.sort((a, b) => compared(a, b, column, ascending ? 1 : -1));
    body.append(...rows);
  });
});

$(".filter").addEventListener("change", ({ target: { value } }) => {
  for (const row of rows) row.hidden = value !== "" && valueOf(row, 1) !== value;
  const list = shown();
  if (list.length && !list.includes(current)) choose(list[0]);
});

// --- pictures in the list, when they come into view ---

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      target.querySelector("img").src = pictures[target.dataset.id][1];
    }
  },
  { rootMargin: "300px" },
);

for (const row of rows) {
  if (!(row.dataset.id in pictures)) continue;
  const [cell] = row.cells;
  const button = pictureButton({ className: "thumbnail" }, cell.textContent);
  button.className = "name";
  cell.replaceChildren(button);
  seen.observe(row);
}
if (shown().length) choose(shown()[0]);
