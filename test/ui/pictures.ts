/**
 * What screens look like, compared loosely: pictures are made so small that texts are grey, and numbers that change from
 * run to run make no difference, while a list that lies over another does.
 *   UI_SHOTS=write   writes test/ui/shots anew
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import type { Test } from 'tap';
import { root } from '../netns/shell.js';
import type { UiPage } from './browser.js';

const SHOTS = join(root, 'test/ui/shots');
const SIZE = { width: 80, height: 50 };
/** Of 255, the mean over all pixels and colors. */
const MOST_DIFFERENCE = 6;
/** Bytes of a stored picture. */
const LARGEST = 10_000;

/** Runs in a blank page: a picture made small, and its colors. */
const SHRINK = `(async ({ url, width, height }) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, width, height);
  return { url: canvas.toDataURL('image/png'), colors: [...context.getImageData(0, 0, width, height).data] };
})`;

export class Pictures {
  private constructor(readonly page: Page) {}

  static async start(browser: Browser): Promise<Pictures> {
    return new Pictures(await browser.newPage());
  }

  /** Fails the test if the page does not look as it is stored. */
  async compare(t: Test, ui: UiPage, name: string): Promise<void> {
    const now = await this.#shrink(await ui.page.screenshot({ animations: 'disabled' }));
    const file = join(SHOTS, `${name}.png`);
    if (process.env['UI_SHOTS'] === 'write') {
      mkdirSync(SHOTS, { recursive: true });
      if (now.png.length > LARGEST) throw new Error(`${name} has ${now.png.length} bytes`);
      writeFileSync(file, now.png);
    }
    if (!existsSync(file)) {
      t.fail(`there is no picture of ${name}: UI_SHOTS=write makes it`);
      return;
    }
    const { colors } = await this.#shrink(readFileSync(file));
    const sum = colors.reduce((all, color, n) => all + Math.abs(color - (now.colors[n] ?? 0)), 0);
    const mean = sum / colors.length;
    if (mean > MOST_DIFFERENCE) await ui.shot(name);
    t.ok(mean <= MOST_DIFFERENCE, `${name} looks as it did: ${mean.toFixed(1)}`);
  }

  async #shrink(png: Buffer): Promise<{ png: Buffer; colors: number[] }> {
    const given = JSON.stringify({ url: `data:image/png;base64,${png.toString('base64')}`, ...SIZE });
    const made = (await this.page.evaluate(`${SHRINK}(${given})`)) as { url: string; colors: number[] };
    return { png: Buffer.from(made.url.split(',')[1] as string, 'base64'), colors: made.colors };
  }
}
