/** The keys of this screen, on `?`. */
import { signal } from '@preact/signals';
import { useMemo } from 'preact/hooks';
import { Dialog } from '../parts/overlay.js';
import { allKeys, type Key, useKeys } from './keys.js';

const isOpen = signal(false);

export function openHelp(): void {
  isOpen.value = true;
}

const close = () => void (isOpen.value = false);

export function Help() {
  const keys = useMemo(() => [{ keys: '?', about: 'show the keys', run: openHelp }], []);
  useKeys(keys);
  if (!isOpen.value) return null;
  // Those of the frame are declared first, so they are the last ones.
  const all = allKeys.value.flat();
  const own = all.filter(({ keys: k }) => !isOfFrame(k));
  return (
    <Dialog title="Keys" onClose={close} class="help">
      <div class="help-columns">
        {own.length > 0 && <Keys title="This screen" list={own} />}
        <Keys title="Everywhere" list={[...all.filter(({ keys: k }) => isOfFrame(k)), ESCAPE]} />
      </div>
    </Dialog>
  );
}

const ESCAPE = { keys: 'Escape', about: 'close what is open' };

function isOfFrame(keys: string): boolean {
  return keys === '?' || keys === '/' || keys.startsWith('g ');
}

function Keys({ title, list }: { title: string; list: readonly Pick<Key, 'keys' | 'about'>[] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl class="keys">
        {list.map(({ keys, about }) => (
          <div key={keys + about}>
            <dt>
              {wordsOf(keys).map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{about}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

const NAMES: Readonly<Record<string, string>> = {
  ' ': 'Space',
  Escape: 'Esc',
  ArrowUp: '↑',
  ArrowDown: '↓',
  ArrowLeft: '←',
  ArrowRight: '→',
};

function wordsOf(keys: string): string[] {
  return (keys === ' ' ? [' '] : keys.split(' ')).map((one) => NAMES[one] ?? one);
}
