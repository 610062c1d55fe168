// Draws a cloud twice under one camera: WebGL points, turned, moved and enlarged in the browser without the server.
const FIELD = Math.PI / 6; // of view, from top to bottom
const MARGIN = 1.05; // around the sphere about the part
const LARGEST = 64; // pixels of a point
const LEAST_ZOOM = 0.2, MOST_ZOOM = 40;
const REACH = 8; // pixels around the pointer in which a point is looked for, at least
const KEY_TURN = Math.PI / 24, KEY_SHIFT = 0.1;
const SHADER = `#version 300 es
uniform mat4 camera;
uniform float size;
in vec4 place; // x, y, z from 0 to 1, and the score
in vec4 colour; // alpha 0: left out
out vec3 shade;
void main() {
  gl_Position = colour.a > 0.0 ? camera * vec4(place.xyz * 2.0 - 1.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size;
  shade = colour.rgb;
}`;
const PAINT = `#version 300 es
precision mediump float;
uniform float rounded;
in vec3 shade;
out vec4 pixel;
void main() {
  if (rounded > 0.0 && length(gl_PointCoord - 0.5) > 0.5) discard;
  pixel = vec4(shade, 1.0);
}`;

const dot = (one, other) => one[0] * other[0] + one[1] * other[1] + one[2] * other[2];
const times = (one, number) => one.map((value) => value * number);
const plus = (one, other) => one.map((value, axis) => value + other[axis]);
const cross = (one, other) => [0, 1, 2].map(
  (axis) => one[(axis + 1) % 3] * other[(axis + 2) % 3] - one[(axis + 2) % 3] * other[(axis + 1) % 3]
);
const unit = (one) => times(one, 1 / Math.hypot(...one));

/** Turns `one` about a unit `axis` (Rodrigues' formula). */
function turned(one, axis, angle) {
  const along = times(axis, dot(axis, one) * (1 - Math.cos(angle)));
  return plus(plus(times(one, Math.cos(angle)), times(cross(axis, one), Math.sin(angle))), along);
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, SHADER], [gl.FRAGMENT_SHADER, PAINT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  return made;
}

/** Bytes of a cloud (see dashboards/figures.py): places and scores, colours on the left, colours on the right. */
function arrays(data) {
  const bytes = Uint8Array.from(atob(data.content), (letter) => letter.charCodeAt(0));
  const count = data.count;
  return {
    places: new Uint16Array(bytes.buffer, 0, 4 * count),
    colours: [bytes.subarray(8 * count, 12 * count), bytes.subarray(12 * count, 16 * count)],
  };
}

class Viewer {
  constructor(parent) {
    this.canvas = element("canvas", { tabIndex: 0, role: "application" });
    this.titles = [element("span"), element("span")];
    this.scale = element("div", { className: "scale" });
    this.hint = element("div", { className: "hint", hidden: true });
    this.alert = element("p", { className: "alert", role: "alert", hidden: true });
    this.pane = element("div", { className: "pane" }, [this.canvas, this.hint, this.alert]);
    this.root = element("div", { className: "clouds" }, [
      element("div", { className: "titles" }, this.titles), this.pane, this.scale,
    ]);
    parent.append(this.root);
    this.start();
    this.held = new Map(); // pointers that are down, and where
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.tell(this.data.text.lost);
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.tell("");
      this.start();
      this.upload();
      this.draw();
    });
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, (event) => this.held.delete(event.pointerId));
    }
    this.canvas.addEventListener("pointerleave", () => { this.hint.hidden = true; });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.enlarge(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.place(event));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.pane);
  }

  start() {
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: false });
    if (!gl) return this.canvas.remove(); // no events without a picture
    this.program = program(gl);
    this.buffers = [gl.createBuffer(), gl.createBuffer(), gl.createBuffer()];
  }

  show(data) {
    this.data = data;
    this.arrays = arrays(data);
    this.radius = 0.01;
    const { places } = this.arrays;
    for (let at = 0; at < places.length; at += 4) {
      const [x, y, z] = [places[at], places[at + 1], places[at + 2]].map((value) => value / 32767.5 - 1);
      this.radius = Math.max(this.radius, Math.hypot(x, y, z));
    }
    this.titles.forEach((title, side) => { title.textContent = data.titles[side]; });
    this.canvas.setAttribute("aria-label", data.text.label);
    this.pane.style.background = data.background;
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => data.limits[0] + share * (data.limits[1] - data.limits[0]));
    this.scale.replaceChildren(
      element("i", { style: `background: linear-gradient(90deg, ${data.scale.join(", ")})` }),
      element("div", {}, ticks.map((value) => element("span", { textContent: value.toFixed(3) }))),
    );
    this.hint.hidden = true;
    if (!this.gl) return this.tell(data.text.missing);
    this.upload();
    if (JSON.stringify(data.view) === JSON.stringify(this.view)) this.draw();
    else this.reset();
  }

  tell(trouble) {
    Object.assign(this.alert, { textContent: trouble, hidden: !trouble });
  }

  upload() {
    const { gl, buffers } = this;
    [this.arrays.places, ...this.arrays.colours].forEach((content, at) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[at]);
      gl.bufferData(gl.ARRAY_BUFFER, content, gl.STATIC_DRAW);
    });
  }

  /** The camera of the viewpoint that the page names. */
  reset() {
    this.view = this.data.view;
    this.back = unit(this.view.eye);
    this.right = unit(cross(this.view.up, this.back));
    this.shift = [0, 0];
    this.zoom = 1;
    this.changed();
  }

  changed() {
    this.hint.hidden = true; // it told of what was under the pointer before
    this.draw();
  }

  turn(across, down) {
    const up = cross(this.back, this.right);
    this.back = turned(this.back, up, -across);
    this.right = unit(turned(this.right, up, -across));
    this.back = unit(turned(this.back, this.right, -down));
    this.changed();
  }

  /** Enlarges about a place of the scene, from -1 to 1, which stays where it is. */
  enlarge(factor, [x, y] = [0, 0]) {
    const zoom = Math.min(Math.max(this.zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    const ratio = zoom / this.zoom;
    this.zoom = zoom;
    this.slide(x + (this.shift[0] - x) * ratio - this.shift[0], y + (this.shift[1] - y) * ratio - this.shift[1]);
  }

  /** Moves what is seen; the scene is 2 wide and 2 high. */
  slide(across, up) {
    this.shift = [this.shift[0] + across, this.shift[1] + up];
    this.changed();
  }

  /** Where in its scene a pointer is, and in which. */
  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const [width, height] = this.scene();
    const side = event.clientX - left < width ? 0 : 1;
    return [(event.clientX - left - side * width) / width * 2 - 1, 1 - (event.clientY - top) / height * 2, side];
  }

  /** Side of a point in pixels of the screen. */
  pointSize() {
    return Math.min(Math.max(this.data.pointSize * this.zoom * (window.devicePixelRatio || 1), 1), LARGEST);
  }

  /** Width and height of one of the two scenes in pixels of the page. */
  scene() {
    return [this.pane.clientWidth / 2, this.pane.clientHeight];
  }

  distance() {
    const [width, height] = this.scene();
    return MARGIN * this.radius / Math.sin(FIELD / 2) / Math.min(1, width / height);
  }

  /** Column-major matrix from places (-1 to 1) to the scene. */
  camera() {
    const [width, height] = this.scene();
    const distance = this.distance();
    const focal = this.zoom / Math.tan(FIELD / 2);
    const up = cross(this.back, this.right);
    const [near, far] = [distance - 2 * this.radius, distance + 2 * this.radius];
    const depth = [...times(this.back, -1), distance];
    const slope = (far + near) / (far - near);
    // What is shifted is shifted on the screen: the division by the depth takes the factor out again.
    const rows = [
      plus([...times(this.right, focal * height / width), 0], times(depth, this.shift[0])),
      plus([...times(up, focal), 0], times(depth, this.shift[1])),
      plus(times(depth, slope), [0, 0, 0, -2 * far * near / (far - near)]),
      depth,
    ];
    return [0, 1, 2, 3].flatMap((column) => rows.map((row) => row[column]));
  }

  draw() {
    if (!this.gl || this.gl.isContextLost() || !this.data || this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const { gl, canvas } = this;
    const [width, height] = this.scene();
    if (!width || !height) return;
    const dense = window.devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * dense), Math.round(height * dense)];
    if (canvas.width !== 2 * wide || canvas.height !== high) Object.assign(canvas, { width: 2 * wide, height: high });
    const size = this.pointSize();
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.program, "camera"), false, this.camera());
    gl.uniform1f(gl.getUniformLocation(this.program, "size"), size);
    gl.uniform1f(gl.getUniformLocation(this.program, "rounded"), size > 3.5 ? 1 : 0);
    const [place, colour] = ["place", "colour"].map((name) => gl.getAttribLocation(this.program, name));
    gl.enableVertexAttribArray(place);
    gl.enableVertexAttribArray(colour);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[0]);
    gl.vertexAttribPointer(place, 4, gl.UNSIGNED_SHORT, true, 0, 0);
    gl.enable(gl.SCISSOR_TEST); // the squares of points reach over the viewport
    for (const side of [0, 1]) {
      gl.viewport(side * wide, 0, wide, high);
      gl.scissor(side * wide, 0, wide, high);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[1 + side]);
      gl.vertexAttribPointer(colour, 4, gl.UNSIGNED_BYTE, true, 0, 0);
      gl.drawArrays(gl.POINTS, 0, this.data.count);
    }
    canvas.dataset.name = this.data.name;
    canvas.dataset.eye = this.back.map((value) => value.toFixed(4)).join(" ");
    canvas.dataset.zoom = this.zoom.toFixed(3);
    canvas.dataset.shift = this.shift.map((value) => value.toFixed(3)).join(" ");
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.held.set(event.pointerId, { x: event.clientX, y: event.clientY, slides: event.button !== 0 || event.shiftKey });
    this.hint.hidden = true;
  }

  move(event) {
    const before = this.held.get(event.pointerId);
    if (!before) return this.held.size ? undefined : this.point(event);
    const others = [...this.held].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    const now = { ...before, x: event.clientX, y: event.clientY };
    this.held.set(event.pointerId, now);
    const [width, height] = this.scene();
    const [across, down] = [now.x - before.x, now.y - before.y];
    if (others.length) { // two fingers: the one that moves pulls and enlarges
      const apart = ({ x, y }) => Math.max(1, Math.hypot(x - others[0].x, y - others[0].y));
      this.enlarge(apart(now) / apart(before));
      this.slide(across / width, -down / height);
    } else if (now.slides) this.slide(2 * across / width, -2 * down / height);
    else this.turn(across / height * Math.PI, down / height * Math.PI);
  }

  key(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow && event.shiftKey) this.slide(arrow[0] * KEY_SHIFT, -arrow[1] * KEY_SHIFT);
    else if (arrow) this.turn(arrow[0] * KEY_TURN, arrow[1] * KEY_TURN);
    else if (event.key === "+" || event.key === "=") this.enlarge(1.2);
    else if (event.key === "-") this.enlarge(1 / 1.2);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }

  /** Tells the score of the nearest point under the pointer. */
  point(event) {
    if (!this.data) return;
    const [x, y, side] = this.place(event);
    const [width, height] = this.scene();
    const matrix = this.camera();
    const { places, colours } = this.arrays;
    const shown = colours[side];
    const reach = Math.max(REACH, this.pointSize() / (window.devicePixelRatio || 1) / 2);
    let found = -1, nearest = Infinity;
    for (let at = 0; at < places.length; at += 4) {
      if (!shown[at + 3]) continue;
      const px = places[at] / 32767.5 - 1, py = places[at + 1] / 32767.5 - 1, pz = places[at + 2] / 32767.5 - 1;
      const depth = matrix[3] * px + matrix[7] * py + matrix[11] * pz + matrix[15];
      if (depth >= nearest) continue;
      const dx = (matrix[0] * px + matrix[4] * py + matrix[8] * pz + matrix[12]) / depth - x;
      const dy = (matrix[1] * px + matrix[5] * py + matrix[9] * pz + matrix[13]) / depth - y;
      if (Math.hypot(dx * width / 2, dy * height / 2) < reach) [found, nearest] = [at, depth];
    }
    this.hint.hidden = found < 0;
    if (found < 0) return;
    const { left, top } = this.canvas.getBoundingClientRect();
    this.hint.textContent = `${this.data.text.score} ${(places[found + 3] / 65535).toFixed(3)}`;
    this.hint.style.left = `${Math.min(event.clientX - left + 12, 2 * width - 110)}px`;
    this.hint.style.top = `${Math.max(event.clientY - top - 30, 0)}px`;
  }

  dispose() {
    this.observer.disconnect();
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

const viewers = new WeakMap();

export default function ({ data, parentElement }) {
  if (!viewers.has(parentElement)) viewers.set(parentElement, new Viewer(parentElement));
  const viewer = viewers.get(parentElement);
  viewer.show(data);
  // Browsers hold few WebGL contexts. Streamlit calls this when the page is left, and for a run that another overtook.
  return () => setTimeout(() => { if (!viewer.root.isConnected) viewer.dispose(); }, 1000);
}
