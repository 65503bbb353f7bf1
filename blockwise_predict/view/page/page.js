"use strict";

// The page around neuroglancer. What is shown is scene.json; what changes comes from `events`.

const ROOT = new URL(".", location.href).href.replace(/\/$/, "");
const NARROW = matchMedia("(max-width: 600px)").matches;
const FILL = 0.9;
const element = (id) => document.getElementById(id);

let scene, viewer;
let revision = 0;
let doneAtRefresh = null;
let doneNow = null;

start().catch((error) => {
  const problem = element("problem");
  problem.textContent = `The page could not be loaded: ${error.message}. Is predict still running?`;
  problem.hidden = false;
});

async function start() {
  const response = await fetch("scene.json");
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  scene = await response.json();
  element("title").textContent = scene.title;
  element("title").title = scene.title;
  document.title = `${scene.title}: predict view`;
  const frame = element("viewer");
  // With a state in its URL, it does not look for a server of its own to have it from.
  frame.src = "v/neuroglancer/#!{}";
  await new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  viewer = frame.contentWindow.viewer;
  window.neuroglancer = viewer;
  viewer.state.restoreState(initialState(frame));
  element("refresh").addEventListener("click", refresh);
  element("show-command").addEventListener("click", toggleCommand);
  element("copy").addEventListener("click", copyCommand);
  viewer.state.changed.add(debounced(updateCommand, 300));
  listen();
}

// Chunks that take long to compute are requested by this machine's other name: a browser opens only
// six connections to each, and raw data must not wait for them.
function computedRoot() {
  const other = { "127.0.0.1": "localhost", localhost: "127.0.0.1" }[location.hostname];
  if (other === undefined) return ROOT;
  const url = new URL(ROOT);
  url.hostname = other;
  return url.href.replace(/\/$/, "");
}

function initialState(frame) {
  const text = JSON.stringify(scene.state)
    .replaceAll("{origin}", ROOT)
    .replaceAll("{computed}", computedRoot());
  const state = JSON.parse(text);
  if (NARROW) {
    state.layout = "xy";
    delete state.selectedLayer;
  }
  const whole = NARROW || state.layout === "xy";
  const side = state.selectedLayer === undefined ? 0 : 300;
  const width = (frame.clientWidth - side) * (whole ? FILL : FILL / 2);
  const height = (frame.clientHeight - 60) * (whole ? FILL : FILL / 2);
  const [x, y] = scene.extent;
  state.crossSectionScale ??= Math.max(x / width, y / height);
  return state;
}

function listen() {
  const events = new EventSource("events");
  events.onmessage = (event) => show(JSON.parse(event.data));
  events.onerror = () => show({ facts: [["", "predict has ended"]] });
}

function show(status) {
  const facts = element("facts");
  facts.replaceChildren(...status.facts.map(([name, value]) => fact(name, value)));
  const progress = element("progress");
  progress.hidden = status.progress === undefined;
  if (status.progress !== undefined) {
    const { done, failed, total } = status.progress;
    element("bar").style.width = `${(100 * done) / total}%`;
    element("bar-failed").style.width = `${(100 * failed) / total}%`;
    doneNow = done + failed;
    doneAtRefresh ??= doneNow;
    const fresh = doneNow - doneAtRefresh;
    element("refresh").hidden = false;
    element("refresh").textContent = fresh ? `Refresh (${fresh} new)` : "Refresh";
  }
  element("show-command").hidden = !scene.command;
}

function fact(name, value) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const description = document.createElement("dd");
  term.textContent = name;
  description.textContent = value;
  row.append(term, description);
  return row;
}

// Read again what may have changed: neuroglancer caches chunks by their URL.
function refresh() {
  revision += 1;
  doneAtRefresh = doneNow;
  let text = JSON.stringify(viewer.state.toJSON());
  for (const name of scene.changing) {
    text = text.replaceAll(new RegExp(`/data/${name}(@\\d+)?/`, "g"), `/data/${name}@${revision}/`);
  }
  viewer.state.reset();
  viewer.state.restoreState(JSON.parse(text));
}

function toggleCommand() {
  const hidden = !element("command").hidden;
  element("command").hidden = hidden;
  element("show-command").setAttribute("aria-expanded", String(!hidden));
  updateCommand();
}

async function updateCommand() {
  if (element("command").hidden) return;
  const { center, size } = boxOnScreen();
  const response = await fetch(`command?center=${center.join(",")}&size=${size.join(",")}`);
  element("command-text").textContent = await response.text();
}

// Centre and size in nm, x y z, of what the panels show; 0 for an axis that none of them shows.
function boxOnScreen() {
  const { dimensions, position, crossSectionScale = 1 } = viewer.state.toJSON();
  const names = Object.keys(dimensions);
  const center = ["x", "y", "z"].map((name) => position[names.indexOf(name)] ?? 0);
  const size = [0, 0, 0];
  for (const panel of viewer.display.panels) {
    const shown = panel.sliceView?.projectionParameters?.value;
    if (shown === undefined) continue;
    for (const axis of [0, 1, 2]) {
      size[axis] = Math.max(size[axis], pixelsAlong(axis, shown) * crossSectionScale);
    }
  }
  return { center, size };
}

// Pixels of a panel along an axis of the data; 0 for the one that it looks along. The rows of a view
// matrix (stored by columns) are the directions to the right, down and away.
function pixelsAlong(axis, { viewMatrix, width, height }) {
  const column = [0, 1, 2].map((row) => Math.abs(viewMatrix[4 * axis + row]));
  return [width, height, 0][column.indexOf(Math.max(...column))];
}

async function copyCommand() {
  const button = element("copy");
  try {
    await navigator.clipboard.writeText(element("command-text").textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(element("command-text"));
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function debounced(call, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
}
