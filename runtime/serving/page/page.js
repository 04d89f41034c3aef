// The page at /: asks for images, paints their rows as they come, and plots the load.

const at = (id) => document.getElementById(id);
const MINUTE = 60;
let models = [], running = null, drawable = false, before = null;
const history = { live: [], waiting: [], rate: [], occupancy: [] };

function headers(more = {}) {
  const key = at("key").value;
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

function say(text, bad = false) {
  at("said").textContent = text;
  at("said").classList.toggle("bad", bad);
}

async function problem(response) {
  try { return (await response.json()).detail; } catch { return `The service answered ${response.status}.`; }
}

// The form -----------------------------------------------------------------------------------------------------------

function setButtons() {
  at("cancel").disabled = !running;
  at("draw").disabled = at("next").disabled = Boolean(running) || !drawable;
}

async function loadModels() {
  let response;
  try {
    response = await fetch("/v1/models", { headers: headers() });
  } catch {
    return say("The service is not reached.", true);  // watch() tries again
  }
  if (response.status === 401) {
    at("key-label").hidden = false;
    say("This service needs an API key.");
    return;
  }
  if (!response.ok) return say(await problem(response), true);
  const found = await response.json();
  models = found.models;
  at("n").max = found.limits.n;
  at("n").value = Math.min(at("n").value, found.limits.n);
  at("model").replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  say("");
  choose();
}

const chosen = () => models.find((model) => model.name === at("model").value);

function choose() {
  const model = chosen(), unknown = [];
  drawable = false;
  setButtons();
  if (!model) return;
  at("conditions").replaceChildren(...model.conditions.flatMap((condition) => {
    if (condition.kind !== "class") { unknown.push(condition.name); return []; }
    const label = document.createElement("label"), select = document.createElement("select");
    select.name = condition.name;
    const several = Array.from({ length: condition.levels }, (_, k) => new Option(String(k), String(k)));
    select.append(new Option("one after the other", ""), ...several);
    label.append(condition.name.charAt(0).toUpperCase() + condition.name.slice(1), " ", select);
    return [label];
  }));
  at("top-p-label").hidden = !model.filters;
  drawable = unknown.length === 0;
  setButtons();
  if (unknown.length) say(`This model needs ${unknown.join(", ")}, which only POST /v1/images takes.`, true);
}

function order() {
  const model = chosen(), n = at("n").valueAsNumber;
  const conditions = {};
  for (const select of at("conditions").querySelectorAll("select")) {
    const levels = select.options.length - 1;
    const each = Array.from({ length: n }, (_, k) => k % levels);
    conditions[select.name] = select.value === "" ? each : Number(select.value);
  }
  const asked = { model: model.name, n, conditions, temperature: at("temperature").valueAsNumber, stream: true };
  if (model.filters && at("top-p").valueAsNumber < 1) asked.top_p = at("top-p").valueAsNumber;
  return JSON.stringify(asked).replace(/^\{/, `{"seed":${BigInt(at("seed").value)},`);  // of up to 64 bits
}

// Pictures -----------------------------------------------------------------------------------------------------------

function makeTiles(start) {
  const last = start.stages[start.stages.length - 1];
  const tiles = Array.from({ length: start.n }, (_, k) => {
    const canvas = document.createElement("canvas");
    canvas.width = last.shape[1];
    canvas.height = last.shape[0];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Picture ${k + 1} of ${start.n}`);
    return canvas;
  });
  at("tiles").replaceChildren(...tiles);
  return tiles;
}

function paint(canvas, row, pixels, stage) {
  if (canvas.width !== stage.shape[1] || canvas.height !== stage.shape[0]) {
    canvas.width = stage.shape[1];
    canvas.height = stage.shape[0];
  }
  const context = canvas.getContext("2d"), line = context.createImageData(pixels.length, 1);
  pixels.forEach((pixel, j) => {
    const grey = (value) => stage.levels === null ? (value + 1) * 127.5 : value * 255 / Math.max(stage.levels - 1, 1);
    const [red, green, blue] = Array.isArray(pixel) ? [pixel[0], pixel[1] ?? pixel[0], pixel[2] ?? pixel[0]]
      : [pixel, pixel, pixel];
    line.data.set([grey(red), grey(green), grey(blue), 255], 4 * j);
  });
  context.putImageData(line, 0, row);
}

async function show(canvas, png) {
  const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.classList.add("smooth");
  canvas.getContext("2d").drawImage(picture, 0, 0);
}

// Server-sent events of a POST, which EventSource cannot make.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").filter((line) => !line.startsWith(":"))
        .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (fields.event) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}

async function draw() {
  const began = performance.now();
  running = new AbortController();
  setButtons();
  at("progress").value = 0;
  say("Waiting …");
  try {
    const response = await fetch("/v1/images", { method: "POST", body: order(), signal: running.signal,
      headers: headers({ "content-type": "application/json", accept: "text/event-stream" }) });
    if (!response.ok) return say(await problem(response), true);
    let tiles = [], stages = [], rows = 0, all = 1;
    for await (const [name, data] of eventsOf(response)) {
      if (name === "start") {
        ({ stages } = data);
        tiles = makeTiles(data);
        all = stages.reduce((sum, stage) => sum + stage.shape[0], 0) * data.n;
      } else if (name === "row") {
        if (!rows) say("Drawing …");
        paint(tiles[data.image], data.row, data.pixels, stages[data.stage]);
        at("progress").value = ++rows / all;
      } else if (name === "image") {
        await show(tiles[data.image], data.png);
      } else if (name === "error") {
        say(data.detail, true);
      } else if (name === "end") {
        say(`${data.n} ${data.n > 1 ? "pictures" : "picture"} in ${((performance.now() - began) / 1000).toFixed(2)} s`);
      }
    }
  } catch (error) {
    const cancelled = error.name === "AbortError";
    say(cancelled ? "Cancelled." : "The connection was lost.", !cancelled);
  } finally {
    running = null;
    setButtons();
  }
}

// Load ---------------------------------------------------------------------------------------------------------------

function plot(id, values, most) {
  const canvas = at(id), context = canvas.getContext("2d"), { width, height } = canvas;
  const style = getComputedStyle(document.documentElement);
  const x = (k) => width - (values.length - 1 - k) * width / (MINUTE - 1);
  const y = (value) => height - 3 - (height - 8) * Math.min(value / most, 1);
  context.clearRect(0, 0, width, height);
  context.beginPath();
  values.forEach((value, k) => context.lineTo(x(k), y(value)));
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 2.5;
  context.lineJoin = "round";
  context.stroke();
  context.lineTo(width, height);
  context.lineTo(x(0), height);
  context.globalAlpha = 0.14;
  context.fillStyle = style.getPropertyValue("--accent");
  context.fill();
  context.globalAlpha = 1;
}

function add(id, value, shown, most) {
  const values = history[id];
  values.push(value);
  if (values.length > MINUTE) values.shift();
  at(`${id}-is`).textContent = shown;
  plot(id, values, Math.max(most, ...values));
}

async function watch() {
  try {
    const response = await fetch("/v1/stats", { headers: headers() });
    if (!response.ok) throw new Error(String(response.status));
    const found = await response.json(), stages = Object.values(found.models).flat();
    const sum = (name) => stages.reduce((total, stage) => total + stage[name], 0);
    const images = Object.values(found.models).reduce((total, each) => total + each[each.length - 1].images, 0);
    const now = { time: performance.now(), images, rows: sum("rows"), slots: sum("slot_rows") };
    at("phase").textContent = found.phase;
    add("live", sum("live"), `${sum("live")} of ${sum("slots")}`, sum("slots"));
    add("waiting", sum("waiting_images"), sum("waiting_images"), 8);
    if (before) {
      const rate = Math.max(now.images - before.images, 0) / ((now.time - before.time) / 1000);
      const slots = now.slots - before.slots, share = slots > 0 ? (now.rows - before.rows) / slots : 0;
      add("rate", rate, rate.toFixed(1), 4);
      add("occupancy", share, slots > 0 ? `${Math.round(100 * share)} %` : "idle", 1);
    }
    before = now;
    if (!models.length) await loadModels();
  } catch {
    at("phase").textContent = at("key-label").hidden ? "not reached" : "locked";
  }
}

// Start --------------------------------------------------------------------------------------------------------------

for (const name of ["temperature", "top-p"]) {
  at(name).addEventListener("input", () => { at(`${name}-is`).textContent = at(name).valueAsNumber.toFixed(2); });
}
at("model").addEventListener("change", choose);
at("key").addEventListener("change", loadModels);
at("ask").addEventListener("submit", (event) => { event.preventDefault(); if (!running) draw(); });
at("next").addEventListener("click", () => {
  if (running || !at("ask").reportValidity()) return;
  at("seed").value = String((BigInt(at("seed").value) + 1n) % (1n << 64n));
  draw();
});
at("cancel").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
setButtons();
await loadModels();
await watch();
setInterval(() => { if (!document.hidden) watch(); }, 1000);
