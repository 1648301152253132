// Pointers and keys on a picture become points, boxes and moves of a cursor.

const STEP = 1 / 40, SMALL_STEP = 1 / 400;
const DRAG = 5; // pixels of the screen before a click becomes a box
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// state: { tool, cursor, drag }, shared by all views. on: { point, box, redraw, moved }.
export function listen(view, state, on) {
  const { canvas } = view;
  let from = null;

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { ...view.place(event), left: event.clientX, top: event.clientY };
    state.cursor = null;
    if (event.pointerType === "mouse" || state.tool === "box") canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!from || (event.pointerType !== "mouse" && state.tool !== "box")) return;
    const far = Math.hypot(event.clientX - from.left, event.clientY - from.top);
    if (!state.drag && far < DRAG) return;
    const { x, y } = view.place(event);
    state.drag = [from.x, from.y, x, y];
    on.redraw();
  });

  canvas.addEventListener("pointerup", (event) => {
    if (!from) return;
    const { drag } = state;
    const far = Math.hypot(event.clientX - from.left, event.clientY - from.top);
    const { x, y } = from;
    from = state.drag = null;
    if (drag) on.box(...drag);
    else if (far < 2 * DRAG) state.tool === "box" ? on.corner() : on.point(x, y, event.shiftKey);
  });

  canvas.addEventListener("pointercancel", () => {
    from = state.drag = null;
    on.redraw();
  });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    const cursor = state.cursor ?? { x: 0.5, y: 0.5 };
    const enters = event.key === "Enter" || event.key === " ";
    if (arrow || enters) state.cursor = cursor;
    if (arrow) {
      const step = event.shiftKey ? SMALL_STEP : STEP;
      cursor.x = Math.min(Math.max(cursor.x + arrow[0] * step, 0), 1);
      cursor.y = Math.min(Math.max(cursor.y + arrow[1] * step, 0), 1);
      if (state.drag) state.drag.splice(2, 2, cursor.x, cursor.y);
      on.moved();
    } else if (enters) {
      if (state.tool !== "box") on.point(cursor.x, cursor.y, event.shiftKey);
      else if (!state.drag) {
        state.drag = [cursor.x, cursor.y, cursor.x, cursor.y];
        on.begun();
      } else {
        const { drag } = state;
        state.drag = null;
        on.box(...drag);
      }
    } else if (event.key === "Escape") {
      state.drag = state.cursor = null;
    } else return;
    event.preventDefault();
    on.redraw();
  });

  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) state.cursor ??= { x: 0.5, y: 0.5 };
    on.redraw();
  });

  canvas.addEventListener("blur", () => {
    if (!from) state.drag = null;
    state.cursor = null;
    on.redraw();
  });
}
