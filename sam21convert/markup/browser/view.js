// A canvas that is as sharp as the screen, in which places are fractions of the picture.

export class View {
  #paint;

  constructor(canvas, paint) {
    this.canvas = canvas;
    this.#paint = paint;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  fit(width, height) {
    this.canvas.style.setProperty("--ratio", `${width / height}`);
    this.draw();
  }

  draw() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(devicePixelRatio, 2);
    const width = Math.round(clientWidth * scale), height = Math.round(clientHeight * scale);
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    this.#paint(pen, width, height, scale);
  }

  // Where a pointer is, from 0 to 1 each way.
  place(event) {
    const edge = this.canvas.getBoundingClientRect();
    const inside = (value) => Math.min(Math.max(value, 0), 1);
    return {
      x: inside((event.clientX - edge.left) / edge.width),
      y: inside((event.clientY - edge.top) / edge.height),
    };
  }
}
