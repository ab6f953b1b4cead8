// Draws points: with WebGL all of them in one go, else one by one. Our own, because Plotly's WebGL needs eval, which the
// site's Content-Security-Policy forbids.
const VERTEX = `
attribute float x, y, group, lit;
uniform vec2 centre, scale;
uniform float size, only, alpha;
uniform vec3 colours[12];
varying vec4 colour;
void main() {
  vec2 at = (vec2(x, y) * 2. - 1. - centre) * scale;
  gl_Position = lit == only ? vec4(at, 0., 1.) : vec4(9., 9., 9., 1.);
  gl_PointSize = size;
  colour = vec4(colours[int(group)], alpha);
}`;
const FRAGMENT = `
precision mediump float;
varying vec4 colour;
uniform float soft;
void main() {
  float far = length(gl_PointCoord - .5) * 2.;
  float inside = 1. - smoothstep(1. - soft, 1., far);
  gl_FragColor = vec4(colour.rgb, 1.) * colour.a * inside;
}`;

// `passes` say which points ("only": 1 for those that are lit), and their size in pixels, alpha and colours.
export function layerOn(canvas, points) {
  const gl = canvas.getContext("webgl", { antialias: false });
  return gl ? new WebGL(gl, points) : new Plain(canvas.getContext("2d"), points);
}

class WebGL {
  constructor(gl, points) {
    Object.assign(this, { gl, n: points.n, program: program(gl) });
    gl.useProgram(this.program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.set("x", points.rawX, gl.UNSIGNED_SHORT, true);
    this.set("y", points.rawY, gl.UNSIGNED_SHORT, true);
  }

  set(name, values, type = this.gl.UNSIGNED_BYTE, normalised = false) {
    const { gl } = this;
    const at = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, 1, type, normalised, 0, 0);
  }

  draw(view, passes) {
    const { gl } = this;
    const at = (name) => gl.getUniformLocation(this.program, name);
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(at("centre"), view.x, view.y);
    gl.uniform2f(at("scale"), (2 * view.unit) / view.width, (2 * view.unit) / view.height);
    for (const { only, size, alpha, colours } of passes) {
      gl.uniform1f(at("only"), only);
      gl.uniform1f(at("size"), size * devicePixelRatio);
      gl.uniform1f(at("alpha"), alpha);
      gl.uniform1f(at("soft"), Math.min(1, 2.5 / (size * devicePixelRatio)));
      gl.uniform3fv(at("colours"), colours.flatMap((colour) => colour.map((part) => part / 255)));
      gl.drawArrays(gl.POINTS, 0, this.n);
    }
  }
}

function program(gl) {
  const made = gl.createProgram();
  for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "WebGL does not work here.");
  return made;
}

class Plain {
  constructor(context, points) {
    Object.assign(this, { context, points });
  }

  set(name, values) {
    this[name] = values;
  }

  draw(view, passes) {
    const { context, points } = this;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    for (const { only, size, alpha, colours } of passes) {
      context.globalAlpha = alpha;
      const styles = colours.map((colour) => `rgb(${colour})`);
      for (let i = 0; i < points.n; i++) {
        if (this.lit[i] !== only) continue;
        const [left, top] = view.toScreen(points.x[i], points.y[i]);
        context.fillStyle = styles[this.group[i]];
        context.fillRect(left - size / 2, top - size / 2, size, size);
      }
    }
  }
}
