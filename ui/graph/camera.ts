/** What part of the drawing is seen: by mouse, wheel and keys. Nothing else moves it, but the focus that must be seen. */
import type { Box } from '../../src/ui/graph/geometry.js';

const ZOOM = { least: 0.2, most: 2.5 };
/** Pixels to the border when something is brought into view. */
const BORDER = 24;

export class Camera {
  readonly #svg: SVGSVGElement;
  readonly #scene: SVGGElement;
  #x = 0;
  #y = 0;
  #k = 1;
  #drag: { readonly pointer: number; readonly x: number; readonly y: number } | undefined;
  /** The pointer was moved since it went down: no click. */
  dragged = false;

  constructor(svg: SVGSVGElement, scene: SVGGElement, signal: AbortSignal) {
    this.#svg = svg;
    this.#scene = scene;
    svg.addEventListener('wheel', (event) => this.#wheel(event), { signal, passive: false });
    svg.addEventListener('pointerdown', (event) => this.#down(event), { signal });
    svg.addEventListener('pointermove', (event) => this.#move(event), { signal });
    for (const name of ['pointerup', 'pointercancel'] as const)
      svg.addEventListener(name, () => (this.#drag = undefined), { signal });
  }

  reset(): void {
    [this.#x, this.#y, this.#k] = [0, 0, 1];
    this.#apply();
  }

  pan(dx: number, dy: number): void {
    this.#x += dx;
    this.#y += dy;
    this.#apply();
  }

  /** @param at of the svg element, what stays where it is; its middle if not given */
  zoom(factor: number, at?: { readonly x: number; readonly y: number }): void {
    const { x, y } = at ?? { x: this.#svg.clientWidth / 2, y: this.#svg.clientHeight / 2 };
    const k = Math.min(ZOOM.most, Math.max(ZOOM.least, this.#k * factor));
    this.#x = x - ((x - this.#x) * k) / this.#k;
    this.#y = y - ((y - this.#y) * k) / this.#k;
    this.#k = k;
    this.#apply();
  }

  /** Moves as little as possible until a box is seen. */
  show({ x, y, w, h }: Box): void {
    const shift = (from: number, size: number, offset: number, room: number) => {
      const [start, end] = [from * this.#k + offset, (from + size) * this.#k + offset];
      if (start < BORDER) return BORDER - start;
      return end > room - BORDER ? Math.max(BORDER - start, room - BORDER - end) : 0;
    };
    this.pan(shift(x, w, this.#x, this.#svg.clientWidth), shift(y, h, this.#y, this.#svg.clientHeight));
  }

  #apply(): void {
    this.#scene.setAttribute(
      'transform',
      `translate(${this.#x.toFixed(1)} ${this.#y.toFixed(1)}) scale(${this.#k.toFixed(3)})`,
    );
  }

  #wheel(event: WheelEvent): void {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 18 : event.deltaMode === 2 ? 400 : 1;
    if (event.ctrlKey || event.metaKey) {
      const { left, top } = this.#svg.getBoundingClientRect();
      this.zoom(Math.exp((-event.deltaY * unit) / 300), { x: event.clientX - left, y: event.clientY - top });
    } else if (event.shiftKey && event.deltaX === 0) this.pan(-event.deltaY * unit, 0);
    else this.pan(-event.deltaX * unit, -event.deltaY * unit);
  }

  #down(event: PointerEvent): void {
    this.dragged = false;
    if (event.button !== 0) return;
    this.#drag = { pointer: event.pointerId, x: event.clientX, y: event.clientY };
  }

  #move(event: PointerEvent): void {
    const drag = this.#drag;
    if (!drag || drag.pointer !== event.pointerId) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!this.dragged && Math.hypot(dx, dy) < 4) return;
    if (!this.dragged) this.#svg.setPointerCapture(event.pointerId);
    this.dragged = true;
    this.#drag = { ...drag, x: event.clientX, y: event.clientY };
    this.pan(dx, dy);
  }
}
