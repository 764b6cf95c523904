// Draws, moves and removes boxes over the first frame. The value is the request's own text: "x0,y0,x1,y1; ...".
const holder = element.querySelector(".picture"), img = element.querySelector("img"), svg = element.querySelector("svg");
const none = element.querySelector(".none"), tools = element.querySelector(".tools");
const SVG = "http://www.w3.org/2000/svg";
let boxes = [], drawn = null;

const size = () => [Number(props.width) || 1, Number(props.height) || 1];
const text = () => boxes.map((box) => box.map(Math.round).join(",")).join("; ");

function read() {
  const [width, height] = size();
  boxes = String(props.value || "").split(";").map((part) => part.split(",").map(Number))
    .filter((box) => box.length === 4 && box.every(Number.isFinite))
    .map((box) => (Math.max(...box) <= 1 ? box.map((side, index) => side * (index % 2 ? height : width)) : box));
}

function node(name, facts, inside) {
  const made = document.createElementNS(SVG, name);
  for (const fact in facts) made.setAttribute(fact, facts[fact]);
  if (inside !== undefined) made.textContent = inside;
  return made;
}

function draw() {
  const [width, height] = size(), unit = Math.max(width, height) / 100;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const shown = drawn ? [...boxes, drawn] : boxes;
  svg.replaceChildren(...shown.map(([x0, y0, x1, y1], index) => {
    const group = node("g", { class: `box b${index % 4}` });
    group.append(node("rect", { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0),
      rx: unit, tabindex: 0, role: "button", "data-index": index,
      "aria-label": `box of person ${index + 1}: arrow keys move it, with Shift they change its size, Delete removes it` }));
    group.append(node("text", { x: Math.min(x0, x1) + unit * 1.5, y: Math.min(y0, y1) + unit * 6.5, "font-size": unit * 6 }, index + 1));
    return group;
  }));
}

function tell() {
  props.value = text();
  trigger("input");
  draw();
}

function point(event) {
  const area = svg.getBoundingClientRect(), [width, height] = size();
  const part = (value, length) => Math.min(1, Math.max(0, value / length));
  return [part(event.clientX - area.left, area.width) * width, part(event.clientY - area.top, area.height) * height];
}

svg.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  svg.setPointerCapture(event.pointerId);
  const [x, y] = point(event);
  drawn = [x, y, x, y];
  draw();
});
svg.addEventListener("pointermove", (event) => {
  if (!drawn) return;
  [drawn[2], drawn[3]] = point(event);
  draw();
});
svg.addEventListener("pointerup", (event) => {
  if (!drawn) return;
  const [x, y] = point(event), [width, height] = size();
  const box = [Math.min(drawn[0], x), Math.min(drawn[1], y), Math.max(drawn[0], x), Math.max(drawn[1], y)];
  drawn = null;
  if (box[2] - box[0] < width / 50 || box[3] - box[1] < height / 50) { draw(); return; } // a click, no box
  boxes.push(box);
  tell();
});
svg.addEventListener("pointercancel", () => { drawn = null; draw(); });

svg.addEventListener("keydown", (event) => {
  const index = Number(event.target.dataset?.index);
  if (!Number.isInteger(index) || !boxes[index]) return;
  const [width, height] = size(), step = Math.max(width, height) / 100, box = boxes[index];
  const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  if (way && event.shiftKey) {
    box[2] = Math.min(width, Math.max(box[0] + step, box[2] + way[0]));
    box[3] = Math.min(height, Math.max(box[1] + step, box[3] + way[1]));
  } else if (way) {
    const across = Math.min(width - box[2], Math.max(-box[0], way[0])), down = Math.min(height - box[3], Math.max(-box[1], way[1]));
    boxes[index] = [box[0] + across, box[1] + down, box[2] + across, box[3] + down];
  } else if (event.key === "Delete" || event.key === "Backspace") boxes.splice(index, 1);
  else return;
  event.preventDefault();
  tell();
  svg.querySelector(`[data-index="${Math.min(index, boxes.length - 1)}"]`)?.focus();
});

tools.addEventListener("click", (event) => {
  const [width, height] = size();
  const what = event.target.closest("[data-do]")?.dataset.do;
  if (what === "add") boxes.push([width * 0.3, height * 0.2, width * 0.7, height * 0.8]);
  else if (what === "undo") boxes.pop();
  else if (what === "clear") boxes = [];
  else return;
  tell();
});

function follow() {
  const there = Boolean(props.src);
  holder.hidden = tools.hidden = !there;
  none.hidden = there;
  if (there && img.getAttribute("src") !== props.src) img.src = props.src;
  if (props.value !== text()) read();
  draw();
}
watch(["value", "src", "width", "height"], follow);
follow();
